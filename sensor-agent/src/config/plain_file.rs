//! Opens plain files only: a pipe that nobody writes to would hold whoever opens it, and a device may never end. And tells whether
//! one that is watched changed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Opens a file for reading if it is a plain one; never waits for somebody else.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Without waiting a pipe opens at once; it is asked what it is only afterwards, so that nobody can swap it in between.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a plain file"));
    }
    Ok(file)
}

/// What tells that a file changed: inode, size, time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u64, u64, i64, i64);

impl Stamp {
    /// That of a file as it is now; `None` for one that cannot be looked at.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self(found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_without_a_writer_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("made");
        let refused = |path: &Path| open(path).expect_err("refused").to_string();
        assert_eq!(refused(&pipe), "is not a plain file");
        assert_eq!(refused(Path::new("/dev/zero")), "is not a plain file");
        assert_eq!(refused(folder.path()), "is a folder");
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "x").expect("written");
        assert_eq!(io::read_to_string(open(&plain).expect("opened")).expect("read"), "x");
    }
}
