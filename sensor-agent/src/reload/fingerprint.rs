//! Tells whether a file changed: size, inode and time, links followed (a ConfigMap swaps a link).

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

/// Of one file; 0 when it is not there.
pub(super) fn of_file(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| {
        let mut hasher = DefaultHasher::new();
        (meta.len(), meta.ino(), meta.dev(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
        hasher.finish()
    })
}
