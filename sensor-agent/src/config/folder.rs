//! The catalogue's folder on disk to a [`Catalogue`], again and again.
//!
//! Reads every document ([`EXTENSIONS_TEXT`]) below the folder (hidden entries aside, symlinks followed: a ConfigMap mounts
//! `orders.yaml -> ..data/orders.yaml` and swaps `..data`), the binding file `catalogue.yaml` at its top, or a single file.
//! What was good stays good: a document that is refused or disappears is replaced by its last good bytes, with a note; only moving
//! it to `retired/` retires it. Bounds: [`DOCUMENTS_MAX`], [`FOLDER_BYTES_MAX`], [`DEPTH_MAX`], [`ENTRIES_MAX`].

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use sensor_core::{
    catalogue::{
        Catalogue, DocumentError, EXTENSIONS_TEXT, Severity, is_document_name,
        limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX},
    },
    digest::Digest,
};

/// All documents of a folder together, bytes.
const FOLDER_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Folders in folders.
const DEPTH_MAX: usize = 8;
use super::plain_file;

/// Files and folders looked at, documents or not.
const ENTRIES_MAX: usize = 20_000;
/// Names of the binding file.
const BINDING_NAMES: [&str; 2] = ["catalogue.yaml", "catalogue.yml"];

/// A folder of API documents, with what was last good of it.
#[derive(Debug)]
pub struct CatalogueFolder {
    path: PathBuf,
    fingerprint: Option<u64>,
    good: BTreeMap<String, Vec<u8>>,
    good_binding: Option<(String, Vec<u8>)>,
}

/// What a load gave.
#[derive(Debug)]
pub struct Loaded {
    /// Ready for use.
    pub catalogue: Catalogue,
    /// Problems of documents, those replaced by their last good bytes included.
    pub errors: Vec<DocumentError>,
    /// What else is worth a line: documents kept, gone, or left out.
    pub notes: Vec<String>,
}

/// The folder cannot be read at all; what is in use stays.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Not there, or not readable.
    #[error(
        "catalogue {path}: {source}; give a folder of API documents ({EXTENSIONS_TEXT}) or one such file"
    )]
    Read {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Beyond a bound.
    #[error(
        "catalogue {path}: over the limit of {max} {what}; give a folder that holds API documents only"
    )]
    TooMuch {
        /// The folder.
        path: PathBuf,
        /// Files, folders in folders, bytes, ...
        what: &'static str,
        /// The bound.
        max: u64,
    },
}

impl CatalogueFolder {
    /// Names a folder (or a single file); nothing is read yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), fingerprint: None, good: BTreeMap::new(), good_binding: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether names, sizes or times differ from those of the last load: for polling. A folder that cannot be read has not changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        match self.files() {
            Ok(files) => Some(fingerprint(&files)) != self.fingerprint,
            Err(_) => false,
        }
    }

    /// Reads everything again.
    pub fn load(&mut self) -> Result<Loaded, FolderError> {
        let files = self.files()?;
        let mut notes = Vec::new();
        let Texts { mut documents, mut binding } = self.read_files(&files, &mut notes)?;
        self.keep_missing(&mut documents, &mut notes);
        if binding.is_none() && self.good_binding.is_some() {
            notes.push("the binding file is gone; the last good one stays in force".to_owned());
            binding.clone_from(&self.good_binding);
        }
        let (mut catalogue, mut errors) = load(&documents, binding.as_ref());
        if self.replace_refused(&errors, &mut documents, &mut binding, &mut notes) {
            let (second, again) = load(&documents, binding.as_ref());
            catalogue = second;
            let new = again.into_iter().filter(|error| !errors.contains(error)).collect::<Vec<_>>();
            errors.extend(new);
        }
        // Fragments count as good: documents refer to them.
        let refused = |name: &str| {
            errors.iter().any(|e| e.severity == Severity::Refused && e.document == name)
        };
        let good = documents
            .into_iter()
            .filter(|(name, _)| !refused(name) || self.good.contains_key(name));
        self.good = good.collect();
        self.good_binding =
            binding.filter(|(name, _)| !refused(name) || self.good_binding.is_some());
        self.fingerprint = Some(fingerprint(&files));
        Ok(Loaded { catalogue, errors, notes })
    }

    /// Puts the last good bytes in place of what was refused; says whether there was anything to replace.
    fn replace_refused(
        &self,
        errors: &[DocumentError],
        documents: &mut [(String, Vec<u8>)],
        binding: &mut Option<(String, Vec<u8>)>,
        notes: &mut Vec<String>,
    ) -> bool {
        let mut replaced = false;
        for error in errors.iter().filter(|error| error.severity == Severity::Refused) {
            if let Some(good) = self.good.get(&error.document)
                && let Some((_, bytes)) = documents
                    .iter_mut()
                    .find(|(name, bytes)| *name == error.document && bytes != good)
            {
                bytes.clone_from(good);
                notes.push(format!("{}: the last good one stays in force", error.document));
                replaced = true;
            }
            let is_binding = binding.as_ref().is_some_and(|(name, _)| *name == error.document);
            if is_binding && self.good_binding.is_some() && *binding != self.good_binding {
                binding.clone_from(&self.good_binding);
                notes.push(format!("{}: the last good one stays in force", error.document));
                replaced = true;
            }
        }
        replaced
    }

    /// A failed mount must not make a thousand zombies: what is gone stays in force, unless it was renamed or retired.
    fn keep_missing(&self, documents: &mut Vec<(String, Vec<u8>)>, notes: &mut Vec<String>) {
        let mut kept = Vec::new();
        for (name, bytes) in &self.good {
            let there = documents.iter().any(|(have, other)| {
                have == name
                    || other == bytes
                    || retired(have).any(|moved| ends_with_path(name, &moved))
            });
            if !there {
                notes.push(format!("{name} is gone; the last good one stays in force (move it to retired/ to retire it)"));
                kept.push((name.clone(), bytes.clone()));
            }
        }
        documents.extend(kept);
    }

    fn read_files(
        &self,
        files: &[FileEntry],
        notes: &mut Vec<String>,
    ) -> Result<Texts, FolderError> {
        let (mut documents, mut binding, mut total) = (Vec::new(), None, 0_u64);
        for file in files {
            let bytes = match read_bounded(&file.path) {
                Ok(bytes) => bytes,
                // Swapped away between listing and reading: the next poll sees what is there then.
                Err(error) => {
                    notes.push(format!("{}: {error}", file.name));
                    continue;
                }
            };
            total = total.saturating_add(bytes.len() as u64);
            if total > FOLDER_BYTES_MAX {
                return Err(self.too_much("bytes", FOLDER_BYTES_MAX));
            }
            if BINDING_NAMES.contains(&file.name.as_str()) && binding.is_none() {
                binding = Some((file.name.clone(), bytes));
            } else {
                documents.push((file.name.clone(), bytes));
            }
        }
        if documents.is_empty() {
            notes.push(format!("no document ({EXTENSIONS_TEXT}) in {}", self.path.display()));
        }
        Ok(Texts { documents, binding })
    }

    fn files(&self) -> Result<Vec<FileEntry>, FolderError> {
        let failed = |source| FolderError::Read { path: self.path.clone(), source };
        let metadata = fs::metadata(&self.path).map_err(failed)?;
        if metadata.is_file() {
            let name = self
                .path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            return Ok(vec![FileEntry::new(name, self.path.clone(), &metadata)]);
        }
        let mut files = Vec::new();
        let mut seen = 0;
        self.walk(&self.path, "", 0, &mut seen, &mut files)?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn walk(
        &self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        seen: &mut usize,
        files: &mut Vec<FileEntry>,
    ) -> Result<(), FolderError> {
        let failed = |source| FolderError::Read { path: folder.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            *seen += 1;
            if *seen > ENTRIES_MAX {
                return Err(self.too_much("files and folders", ENTRIES_MAX as u64));
            }
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            // Follows symlinks; one that leads nowhere is passed over.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            let relative =
                if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            if metadata.is_dir() {
                if depth + 1 >= DEPTH_MAX {
                    return Err(self.too_much("folders in folders", DEPTH_MAX as u64));
                }
                self.walk(&entry.path(), &relative, depth + 1, seen, files)?;
            } else if metadata.is_file() && is_document_name(name) {
                if files.len() >= DOCUMENTS_MAX {
                    return Err(self.too_much("documents", DOCUMENTS_MAX as u64));
                }
                files.push(FileEntry::new(relative, entry.path(), &metadata));
            }
        }
        Ok(())
    }

    fn too_much(&self, what: &'static str, max: u64) -> FolderError {
        FolderError::TooMuch { path: self.path.clone(), what, max }
    }
}

fn load(
    documents: &[(String, Vec<u8>)],
    binding: Option<&(String, Vec<u8>)>,
) -> (Catalogue, Vec<DocumentError>) {
    Catalogue::load(documents, binding.map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
}

/// Names and bytes of a folder.
struct Texts {
    documents: Vec<(String, Vec<u8>)>,
    binding: Option<(String, Vec<u8>)>,
}

/// A document's name, where it is, and what tells that it changed.
#[derive(Debug)]
struct FileEntry {
    name: String,
    path: PathBuf,
    bytes: u64,
    changed_ns: u128,
}

impl FileEntry {
    fn new(name: String, path: PathBuf, metadata: &fs::Metadata) -> Self {
        let changed =
            metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            name,
            path,
            bytes: metadata.len(),
            changed_ns: changed.map_or(0, |since| since.as_nanos()),
        }
    }
}

fn fingerprint(files: &[FileEntry]) -> u64 {
    let mut digest = Digest::default();
    for file in files {
        digest.field(file.name.as_bytes());
        digest.field(&file.bytes.to_le_bytes());
        digest.field(&file.changed_ns.to_le_bytes());
        // A swapped symlink with the same size and time: another target.
        let target = fs::canonicalize(&file.path).unwrap_or_default();
        digest.field(target.as_os_str().as_encoded_bytes());
    }
    digest.value()
}

/// The names that a document may have had outside of a folder `retired/`, one for each such folder.
fn retired(name: &str) -> impl Iterator<Item = String> {
    let folders = name.match_indices("retired/");
    let folders = folders.filter(|(at, _)| *at == 0 || name.as_bytes().get(at - 1) == Some(&b'/'));
    folders.filter_map(|(at, folder)| {
        Some(format!("{}{}", name.get(..at)?, name.get(at + folder.len()..)?))
    })
}

/// Whether `name` is `moved`, or ends with it on a segment border.
fn ends_with_path(name: &str, moved: &str) -> bool {
    name.strip_suffix(moved).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// At most one byte more than a document may have: the core then refuses it by its size.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    plain_file::open(path)?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn document(path: &str) -> String {
        format!("openapi: 3.0.3\npaths:\n  {path}:\n    get: {{}}\n")
    }

    /// Writes a file with a time of its own, so that each write is a change.
    fn write(folder: &Path, name: &str, text: &str, step: u64) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + step)).unwrap();
    }

    fn paths(loaded: &Loaded) -> Vec<&str> {
        loaded.catalogue.operations().iter().map(|operation| &*operation.path).collect()
    }

    #[test]
    fn a_folder_is_read_with_its_folders_and_without_hidden_files() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", &document("/a"), 0);
        write(dir.path(), "sub/b.YML", &document("/b"), 0);
        write(dir.path(), ".hidden.yaml", &document("/hidden"), 0);
        write(dir.path(), "README.md", "text", 0);
        write(dir.path(), "catalogue.yaml", "documents: [{document: a.yaml, hosts: [x]}]", 0);
        let loaded = CatalogueFolder::new(dir.path()).load().unwrap();
        assert_eq!(paths(&loaded), ["/a", "/b"]);
        assert!(loaded.errors.is_empty() && loaded.notes.is_empty(), "{loaded:?}");
        assert_eq!(loaded.catalogue.bindings()[0].scopes, ["x"]);
    }

    #[test]
    fn a_bad_change_is_refused_whole_and_the_last_good_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", &document("/a"), 0);
        let mut folder = CatalogueFolder::new(dir.path());
        assert!(folder.changed());
        folder.load().unwrap();
        assert!(!folder.changed());
        for (step, bad) in [(1, "openapi: 3.0.0\npaths: 5\n"), (2, "{"), (3, "")] {
            write(dir.path(), "a.yaml", bad, step);
            assert!(folder.changed());
            let loaded = folder.load().unwrap();
            assert_eq!(paths(&loaded), ["/a"], "{bad}");
            assert_eq!(loaded.errors.len(), 1, "{loaded:?}");
            assert_eq!(loaded.notes, ["a.yaml: the last good one stays in force"]);
        }
        write(dir.path(), "a.yaml", &document("/new"), 4);
        assert_eq!(paths(&folder.load().unwrap()), ["/new"]);
    }

    #[test]
    fn every_folder_of_the_name_retires() {
        let check = |name: &str, expected: &[&str]| {
            assert_eq!(retired(name).collect::<Vec<_>>(), expected, "{name}");
        };
        check("retired/a.yaml", &["a.yaml"]);
        check("not-retired/x/retired/a.yaml", &["not-retired/x/a.yaml"]);
        check("retired/2020/retired/a.yaml", &["2020/retired/a.yaml", "retired/2020/a.yaml"]);
        check("unretired/a.yaml", &[]);
        check("a.yaml", &[]);
    }

    #[test]
    fn a_document_that_disappears_stays_until_it_is_retired() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", &document("/a"), 0);
        write(dir.path(), "b.yaml", &document("/b"), 0);
        let mut folder = CatalogueFolder::new(dir.path());
        folder.load().unwrap();
        fs::remove_file(dir.path().join("a.yaml")).unwrap();
        let loaded = folder.load().unwrap();
        assert_eq!(paths(&loaded), ["/a", "/b"]);
        assert_eq!(loaded.notes.len(), 1);
        write(dir.path(), "retired/a.yaml", &document("/a"), 1);
        let loaded = folder.load().unwrap();
        assert!(loaded.notes.is_empty(), "{loaded:?}");
        assert_eq!(
            loaded.catalogue.documents().iter().filter(|document| document.retired).count(),
            1
        );
        // Also beside where it was, and changed on the way.
        write(dir.path(), "x/c.yaml", &document("/c"), 1);
        folder.load().unwrap();
        fs::remove_file(dir.path().join("x/c.yaml")).unwrap();
        write(dir.path(), "x/retired/c.yaml", &document("/c2"), 2);
        let loaded = folder.load().unwrap();
        assert!(loaded.notes.is_empty(), "{loaded:?}");
        fs::remove_dir_all(dir.path().join("x")).unwrap();
        folder = CatalogueFolder::new(dir.path());
        folder.load().unwrap();
        // Renaming is not disappearing.
        fs::rename(dir.path().join("b.yaml"), dir.path().join("c.yaml")).unwrap();
        let loaded = folder.load().unwrap();
        assert!(loaded.notes.is_empty() && loaded.catalogue.documents().len() == 2, "{loaded:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_config_map_swap_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        for (version, path) in [("..v1", "/a"), ("..v2", "/b")] {
            write(dir.path(), &format!("{version}/api.yaml"), &document(path), 0);
        }
        let link = |version: &str| {
            let data = dir.path().join("..data");
            drop(fs::remove_file(&data));
            std::os::unix::fs::symlink(version, data).unwrap();
        };
        link("..v1");
        std::os::unix::fs::symlink("..data/api.yaml", dir.path().join("api.yaml")).unwrap();
        let mut folder = CatalogueFolder::new(dir.path());
        assert_eq!(paths(&folder.load().unwrap()), ["/a"]);
        assert!(!folder.changed());
        link("..v2");
        assert!(folder.changed());
        assert_eq!(paths(&folder.load().unwrap()), ["/b"]);
    }

    #[cfg(unix)]
    #[test]
    fn loops_pipes_and_broken_links_harm_nothing() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.yaml", &document("/a"), 0);
        std::os::unix::fs::symlink("nowhere.yaml", dir.path().join("broken.yaml")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(paths(&CatalogueFolder::new(dir.path()).load().unwrap()), ["/a"]);
        std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
        let error = CatalogueFolder::new(dir.path()).load().unwrap_err();
        assert!(error.to_string().contains("folders in folders"), "{error}");
    }

    #[test]
    fn a_single_file_is_a_catalogue_and_no_folder_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "api.json", r#"{"openapi":"3.1.0","paths":{"/a":{"get":{}}}}"#, 0);
        assert_eq!(
            paths(&CatalogueFolder::new(dir.path().join("api.json")).load().unwrap()),
            ["/a"]
        );
        let missing = CatalogueFolder::new(dir.path().join("none"));
        assert!(!missing.changed());
        let error = CatalogueFolder::new(dir.path().join("none")).load().unwrap_err().to_string();
        assert!(error.contains("none: ") && error.contains("give a folder"), "{error}");
    }
}
