//! The overlay's folder: read, changed as a whole, written so that a crash leaves the old file or the new one.
//!
//! A file that cannot be read, or has wrong lines, is told; what is right in it holds, and commands change nothing until it is put right:
//! they would write it anew without what they could not read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sensor_core::inventory::{Overlay, Word};

use super::file;
use crate::config::{Stamp, open_plain};

/// The overlay's folder in that of a store.
#[must_use]
pub fn folder_of(store: &Path) -> PathBuf {
    store.join("overlay")
}

/// What operators said, with its files.
#[derive(Debug)]
pub struct Book {
    folder: PathBuf,
    overlay: Overlay,
    problems: Vec<String>,
    seen: Vec<Option<Stamp>>,
}

const WORDS: [Word; 2] = [Word::Accepted, Word::Ignored];

impl Book {
    /// Reads the files of a folder; those that are not there are empty.
    #[must_use]
    pub fn open(folder: PathBuf) -> Self {
        let mut book =
            Self { folder, overlay: Overlay::default(), problems: Vec::new(), seen: Vec::new() };
        book.read();
        book
    }

    /// What was said.
    #[must_use]
    pub const fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// What is wrong with the files.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Reads the files again where somebody changed one; whether that was so.
    pub fn look(&mut self) -> bool {
        let changed = self.stamps() != self.seen;
        if changed {
            self.read();
        }
        changed
    }

    /// Makes a change and writes it; nothing holds that is not on the disk.
    pub fn change<T>(
        &mut self,
        edit: impl FnOnce(&mut Overlay) -> Result<T, String>,
    ) -> Result<T, String> {
        self.look();
        if let Some(problem) = self.problems.first() {
            let folder = self.folder.display();
            return Err(format!("{folder}/{problem}; put that right first"));
        }
        let mut overlay = self.overlay.clone();
        let made = edit(&mut overlay)?;
        for word in WORDS {
            let text = file::write(&overlay, word);
            if text.len() as u64 > file::FILE_BYTES_MAX {
                // It could not be read again.
                let mib = file::FILE_BYTES_MAX >> 20;
                return Err(format!("{} would be larger than {mib} MiB", file::name(word)));
            }
            if text != file::write(&self.overlay, word) {
                self.write(file::name(word), &text).map_err(|error| {
                    format!("{}/{}: {error}", self.folder.display(), file::name(word))
                })?;
            }
        }
        self.overlay = overlay;
        self.seen = self.stamps();
        Ok(made)
    }

    fn read(&mut self) {
        let (mut overlay, mut problems) = (Overlay::default(), Vec::new());
        self.seen = self.stamps();
        for word in WORDS {
            match text(&self.folder.join(file::name(word))) {
                Ok(text) => problems.extend(file::read(&text, word, &mut overlay)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => problems.push(format!("{}: {error}", file::name(word))),
            }
        }
        (self.overlay, self.problems) = (overlay, problems);
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        WORDS.iter().map(|word| Stamp::of(&self.folder.join(file::name(*word)))).collect()
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let next = self.folder.join(format!(".{name}.next"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()
    }
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = open_plain(path)?;
    file.take(file::FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > file::FILE_BYTES_MAX {
        let max = file::FILE_BYTES_MAX;
        return Err(io::Error::other(format!("over the limit of {max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use sensor_core::inventory::Said;

    use super::*;

    fn said(path: &str) -> Said {
        Said {
            service: "x.example".into(),
            method: "GET".into(),
            path_template: path.into(),
            ..Said::default()
        }
    }

    fn say(book: &mut Book, path: &str) -> Result<(), String> {
        book.change(|overlay| {
            overlay.say(Word::Accepted, said(path)).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn what_was_said_is_there_again() {
        let store = tempfile::tempdir().unwrap();
        let folder = folder_of(store.path());
        let mut book = Book::open(folder.clone());
        assert!(book.overlay().is_empty() && book.problems().is_empty() && !folder.exists());
        say(&mut book, "/a").unwrap();
        assert!(!book.look(), "its own change is none");
        assert_eq!(Book::open(folder.clone()).overlay(), book.overlay());
        assert!(!folder.join("ignored.csv").exists(), "nothing to say");
        let refused = book.change(|overlay| {
            overlay.say(Word::Accepted, said("/b")).unwrap();
            Err::<(), _>("no".to_owned())
        });
        assert!(refused.is_err() && book.overlay().all(Word::Accepted).len() == 1);
    }

    #[test]
    fn files_that_somebody_else_writes_are_read_and_never_lost() {
        let store = tempfile::tempdir().unwrap();
        let folder = folder_of(store.path());
        let mut book = Book::open(folder.clone());
        say(&mut book, "/a").unwrap();
        let file = folder.join("accepted.csv");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}GET,x.example,/by-hand\nGET,x.example,no-path\n")).unwrap();
        assert!(book.look());
        assert_eq!(book.overlay().all(Word::Accepted).len(), 2);
        let error = say(&mut book, "/c").unwrap_err();
        assert!(error.contains("accepted.csv:5: ") && error.contains("first"), "{error}");
        fs::write(&file, format!("{text}GET,x.example,/by-hand\n")).unwrap();
        say(&mut book, "/c").unwrap();
        assert_eq!(Book::open(folder).overlay().all(Word::Accepted).len(), 3);
    }
}
