//! The file of pinned templates on disk to [`Pins`], and again when it changes.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sensor_core::{
    inventory::{Pins, PinsErrors},
    limits::PINS_BYTES_MAX,
};

use super::plain_file::{self, Stamp};

/// Why the file is not used.
#[derive(Debug, thiserror::Error)]
pub enum PinsFileError {
    /// Not there, or not readable.
    #[error("templates {path}: {source}; deploy/templates.example.yaml shows the format")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Mistakes in it.
    #[error("{0}")]
    Invalid(#[from] PinsErrors),
}

/// A file that is watched.
#[derive(Debug)]
pub struct PinsFile {
    path: PathBuf,
    seen: Option<Stamp>,
}

impl PinsFile {
    /// Names a file; nothing is read yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seen: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is another one than was read last; one that cannot be looked at has not changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        let now = Stamp::of(&self.path);
        now.is_some() && now != self.seen
    }

    /// Reads it.
    pub fn load(&mut self) -> Result<Pins, PinsFileError> {
        self.seen = Stamp::of(&self.path);
        let failed = |source| PinsFileError::Read { path: self.path.clone(), source };
        let file = plain_file::open(&self.path).map_err(failed)?;
        let mut bytes = Vec::new();
        // One byte more than it may have: then it is refused for its size.
        file.take(PINS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Pins::read(&self.path.display().to_string(), &bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_wrong_one_told_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("templates.yaml");
        let mut file = PinsFile::new(&path);
        assert!(!file.changed());
        assert!(file.load().unwrap_err().to_string().contains("templates.example.yaml"));
        std::fs::write(&path, "version: 1\ntemplates:\n  - pin: ['/a/{b}']\n").unwrap();
        assert!(file.changed());
        assert_eq!(file.load().unwrap().len(), 1);
        assert!(!file.changed());
        std::fs::write(&path, "version: 1\ntemplates:\n  - pin: ['a']\n").unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("templates.yaml:3: `a` does not begin with /"), "{error}");
    }

    #[test]
    fn the_example_is_valid() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/templates.example.yaml");
        assert!(!PinsFile::new(path).load().unwrap().is_empty());
    }
}
