//! Tells whether files changed: names, sizes, inodes and times, links followed (a ConfigMap swaps a link).

use std::{
    fs::{self, Metadata},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Deepest folder below the given one.
const DEPTH_MAX: usize = 8;
/// Files that are looked at; further ones are left out, which the catalogue's own bound says.
const FILES_MAX: usize = 8_192;

/// All files below a folder, links followed, sorted. Hidden ones are left out (`..data` of a ConfigMap, `.git`).
pub(super) fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            // A link to nothing, or a file that goes away just now: as if it were not there.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_dir() && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if meta.is_file() && found.len() < FILES_MAX {
                found.push((path, meta));
            }
        }
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(found)
}

/// Of one file; 0 when it is not there.
pub(super) fn of_file(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| {
        let mut hasher = DefaultHasher::new();
        add(&mut hasher, path, &meta);
        hasher.finish()
    })
}

/// Of all files below a folder; 0 when it cannot be read.
pub(super) fn of_folder(folder: &Path) -> u64 {
    files(folder).map_or(0, |files| {
        let mut hasher = DefaultHasher::new();
        for (path, meta) in files {
            add(&mut hasher, &path, &meta);
        }
        hasher.finish()
    })
}

fn add(hasher: &mut DefaultHasher, path: &Path, meta: &Metadata) {
    path.hash(hasher);
    (meta.len(), meta.ino(), meta.dev(), meta.mtime(), meta.mtime_nsec()).hash(hasher);
}
