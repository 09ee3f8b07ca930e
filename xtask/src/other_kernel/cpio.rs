//! Writes an initramfs: the `newc` format of cpio (Linux: Documentation/driver-api/early-userspace/buffer-format).
//!
//! No device nodes and no links: the kernel mounts devtmpfs, and files are few.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// An archive being written.
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
    folders: Vec<String>,
}

impl<W: Write> Archive<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, inode: 1, folders: vec![] }
    }

    /// Adds a folder and those above it, each once.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || self.folders.iter().any(|known| known == path) {
            return Ok(());
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent)?;
        }
        self.folders.push(path.to_owned());
        self.entry(path, FOLDER, &[])
    }

    /// Adds an executable file, its folders too.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent)?;
        }
        self.entry(path, FILE, bytes)
    }

    /// Writes the end.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        self.inode += 1;
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            write!(header, "{field:08x}").map_err(io::Error::other)?;
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        let zeros = [0_u8; 3];
        self.out.write_all(zeros.get(..(4 - length % 4) % 4).unwrap_or(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_starts_on_four_bytes() {
        let mut bytes = vec![];
        let mut archive = Archive::new(&mut bytes);
        archive.file("/bin/a", b"12345").expect("memory takes it");
        archive.file("bin/b", b"").expect("memory takes it");
        archive.finish().expect("memory takes it");
        let starts: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, w)| *w == b"070701")
            .map(|(at, _)| at)
            .collect();
        assert_eq!(starts.len(), 4, "bin, bin/a, bin/b and the end");
        assert!(starts.iter().all(|at| at % 4 == 0));
    }
}
