//! An array map as memory: the kernel's own pages, read and written without a system call for each value.
//!
//! Only atomically: programs on other CPUs read the same words. The length is the map's, fixed for its life. This file holds
//! the `unsafe` of it, one operation a block.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use nix::libc;

/// The values of an array map with `BPF_F_MMAPABLE`.
#[derive(Debug)]
pub(crate) struct Mapped {
    at: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: the memory is reached through atomics only, which any thread may use at any time.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the first `bytes` bytes of a map's values; they must not be more than the map has.
    pub(crate) fn new(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        // SAFETY: no address is asked for, so nothing that is mapped already is touched.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { at, bytes })
    }

    /// The map's words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `bytes` long and lives as long as `self`; every bit pattern is a value, and
        // nobody reaches this memory but through atomics (of this or of half this size, as the hardware allows).
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.bytes / 8) }
    }

    /// The map's half words.
    pub(crate) fn halves(&self) -> &[AtomicU32] {
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.bytes / 4) }
    }

    /// Writes words from the start on. Nobody may be reading them yet.
    pub(crate) fn fill<'a>(&self, words: impl Iterator<Item = &'a u64>) {
        for (to, from) in self.words().iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing borrows any more.
        let _unmapped = unsafe { libc::munmap(self.at.as_ptr(), self.bytes) };
    }
}
