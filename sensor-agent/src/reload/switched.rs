//! Whether enforcement is switched off, kept in the store: the pins that hold it too are gone after a reboot, and after a run in mode observe.
//!
//! A file that is there or not: `policy/enforcement.off`. The running agent writes it, and so does the command that switches what is pinned,
//! because the agent may be dead.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use aya::maps::MapError;

use crate::kernel::Kernel;

/// The switch as the store has it.
#[derive(Debug)]
pub struct Switched {
    file: PathBuf,
    /// One writer at a time: what is kept is what the kernel had last.
    keeping: Mutex<()>,
}

/// What came of making kernel and store agree.
#[derive(Debug)]
pub struct Settled {
    /// Whether it is off, and since when.
    pub at_start: AtStart,
    /// Why the store does not have it.
    pub not_kept: Option<io::Error>,
}

/// What came of a look at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStart {
    /// On, and it was not off before.
    On,
    /// Off, as the kernel had it.
    StillOff,
    /// Off, because it was off when an earlier run ended that left nothing in the kernel.
    OffAgain,
}

impl Switched {
    /// Names the file in a store.
    #[must_use]
    pub fn of(store: &Path) -> Self {
        Self { file: store.join("policy/enforcement.off"), keeping: Mutex::default() }
    }

    /// Makes kernel and store agree at the start. What an earlier agent left in the kernel is newer than the file: it can be switched without
    /// an agent, by a version that does not know of the file. Fails where the kernel cannot be told.
    pub fn settle(&self, kernel: &Kernel) -> Result<Settled, MapError> {
        let found = kernel.takeover();
        let is_off = kernel.settings().enforcement_off != 0;
        let known = found.adopted || !found.others.is_empty();
        let at_start = at_start(is_off, known, self.is_off());
        if at_start == AtStart::OffAgain {
            kernel.set_enforcement(false)?;
        }
        Ok(Settled { at_start, not_kept: self.keep(kernel).err() })
    }

    /// Keeps what was switched without an agent, for the next one.
    pub fn keep_for_the_next(&self, off: bool) -> io::Result<()> {
        self.write(off)
    }

    /// Keeps what the kernel has now.
    pub fn keep(&self, kernel: &Kernel) -> io::Result<()> {
        let _one_at_a_time = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(kernel.settings().enforcement_off != 0)
    }

    /// Whether the next agent that finds nothing in the kernel begins switched off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.file.exists()
    }

    fn write(&self, off: bool) -> io::Result<()> {
        let Some(folder) = self.file.parent() else { return Ok(()) };
        if off == self.is_off() {
            return Ok(());
        }
        if off && !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            like_the_one_above(folder)?;
        }
        if off {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // The store may be a service user's, and who switches root.
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&self.file)?
                .sync_all()?;
        } else {
            fs::remove_file(&self.file)?;
        }
        File::open(folder)?.sync_all()
    }
}

/// Gives a new folder to the owner of the one it is in: an agent that is not root must be able to write to it.
fn like_the_one_above(folder: &Path) -> io::Result<()> {
    let Some(above) = folder.parent() else { return Ok(()) };
    let (above, own) = (fs::metadata(above)?, fs::metadata(folder)?);
    if (above.uid(), above.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    chown(folder, Some(above.uid()), Some(above.gid()))
}

const fn at_start(is_off: bool, known: bool, kept_off: bool) -> AtStart {
    match (is_off, known, kept_off) {
        (true, ..) => AtStart::StillOff,
        (false, false, true) => AtStart::OffAgain,
        (false, ..) => AtStart::On,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_switched_off_is_kept_until_it_is_switched_on() {
        let store = tempfile::tempdir().unwrap();
        let switched = Switched::of(store.path());
        for off in [false, true, true, false, false, true] {
            switched.write(off).unwrap();
            assert_eq!(Switched::of(store.path()).is_off(), off);
        }
        assert_eq!(at_start(false, false, false), AtStart::On);
        assert_eq!(at_start(false, false, true), AtStart::OffAgain);
        // Switched on with no agent alive: the kernel knows better.
        assert_eq!(at_start(false, true, true), AtStart::On);
        assert_eq!(at_start(true, true, false), AtStart::StillOff);
    }
}
