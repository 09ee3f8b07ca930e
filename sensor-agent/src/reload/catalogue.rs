//! A folder of API documents to a [`Catalogue`]; the last good version of each document stays.
//!
//! A document that is broken or gone does not take its endpoints with it: a failed mount must not make a thousand
//! zombies. It is said, and a restart of the agent forgets it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use sensor_core::catalogue::{Catalogue, Severity};

use super::fingerprint;

/// Name of the file that binds documents to services.
const BINDING_FILE: &str = "catalogue.yaml";
/// One byte above the core's bound is read, so that it can say that a document is too large.
const DOCUMENT_BYTES_MAX: u64 = (64 << 20) + 1;

/// A folder of documents and what was last read from it.
#[derive(Debug)]
pub struct CatalogueFolder {
    folder: PathBuf,
    seen: u64,
    good: BTreeMap<String, Vec<u8>>,
}

/// What a read gave.
#[derive(Debug)]
pub struct Loaded {
    /// To be used from now on.
    pub catalogue: Catalogue,
    /// Refused documents and warnings, one line each.
    pub errors: Vec<String>,
    /// What each document is bound to.
    pub bindings: Vec<String>,
}

impl CatalogueFolder {
    /// Names the folder; nothing is read yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), seen: 0, good: BTreeMap::new() }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether something changed since the last read.
    #[must_use]
    pub fn changed(&self) -> bool {
        fingerprint::of_folder(&self.folder) != self.seen
    }

    /// Reads everything.
    pub fn load(&mut self) -> io::Result<Loaded> {
        self.seen = fingerprint::of_folder(&self.folder);
        let mut errors = Vec::new();
        let mut documents = BTreeMap::new();
        let mut binding = None;
        for (path, _) in fingerprint::files(&self.folder)? {
            let name = path.strip_prefix(&self.folder).unwrap_or(&path).display().to_string();
            let wanted = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
            if !wanted {
                continue;
            }
            match read(&path) {
                Ok(bytes) if name == BINDING_FILE => binding = Some(bytes),
                Ok(bytes) => {
                    documents.insert(name, bytes);
                }
                Err(error) => errors.push(format!("{name}: {error}")),
            }
        }
        for (name, bytes) in &self.good {
            if !documents.contains_key(name) {
                errors.push(format!("{name}: gone from the folder, its last version is still used; restart the agent to forget it"));
                documents.insert(name.clone(), bytes.clone());
            }
        }
        Ok(self.build(documents, binding.as_deref(), errors))
    }

    fn build(&mut self, mut documents: BTreeMap<String, Vec<u8>>, binding: Option<&[u8]>, mut errors: Vec<String>) -> Loaded {
        let binding = binding.map(|bytes| (BINDING_FILE, bytes));
        let as_list = |documents: &BTreeMap<String, Vec<u8>>| -> Vec<(String, Vec<u8>)> {
            documents.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
        };
        let (mut catalogue, problems) = Catalogue::load(&as_list(&documents), binding);
        let mut refused: Vec<&str> = Vec::new();
        for problem in &problems {
            errors.push(problem.to_string());
            if problem.severity == Severity::Refused && !refused.contains(&problem.document.as_str()) {
                refused.push(&problem.document);
            }
        }
        let mut replaced = false;
        for name in refused {
            match self.good.get(name) {
                Some(bytes) => {
                    errors.push(format!("{name}: its last good version is still used"));
                    documents.insert(name.into(), bytes.clone());
                    replaced = true;
                }
                None => {
                    documents.remove(name);
                }
            }
        }
        if replaced {
            catalogue = Catalogue::load(&as_list(&documents), binding).0;
        }
        self.good = documents;
        let bindings = catalogue
            .bindings()
            .iter()
            .map(|row| format!("{}: {} ({})", row.document, row.scopes.join(", "), row.reason.text()))
            .collect();
        Loaded { catalogue, errors, bindings }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths:\n  /a:\n    get: {responses: {'200': {description: ok}}}\n";

    #[test]
    fn the_last_good_version_of_a_broken_or_missing_document_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.yaml");
        fs::write(&path, GOOD).unwrap();
        fs::write(folder.path().join("README.md"), "no document").unwrap();
        let mut catalogue = CatalogueFolder::new(folder.path());
        assert!(catalogue.changed());
        let first = catalogue.load().unwrap();
        assert_eq!((first.catalogue.operations().len(), first.errors.len()), (1, 0), "{:?}", first.errors);
        assert!(!catalogue.changed());
        fs::write(&path, "openapi: [").unwrap();
        assert!(catalogue.changed());
        let broken = catalogue.load().unwrap();
        assert_eq!(broken.catalogue.operations().len(), 1);
        assert!(broken.errors.iter().any(|error| error.contains("last good version")), "{:?}", broken.errors);
        fs::remove_file(&path).unwrap();
        let gone = catalogue.load().unwrap();
        assert_eq!(gone.catalogue.operations().len(), 1);
        assert!(gone.errors.iter().any(|error| error.contains("gone from the folder")), "{:?}", gone.errors);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_a_bad_first_document_is_left_out() {
        assert!(CatalogueFolder::new(Path::new("/nowhere")).load().is_err());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bad.json"), "{").unwrap();
        let loaded = CatalogueFolder::new(folder.path()).load().unwrap();
        assert!(loaded.catalogue.is_empty() && loaded.errors.len() == 1, "{:?}", loaded.errors);
    }
}
