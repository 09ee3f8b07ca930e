//! What was changed by command, kept over a restart: `changes.json` and `applied.yaml` in the folder `policy` of the store.
//!
//! Written whole, to a new file that takes the place of the old one, and on the disk before a change is said to be done. What
//! cannot be read is set aside and told. Bounds: those of [`Layers`](super::layers::Layers) and of a policy file.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::layers::Stopped;

const CHANGES: &str = "changes.json";
const APPLIED: &str = "applied.yaml";
const FORMAT: u32 = 1;
/// Far more than [`ADDED_RULES_MAX`](super::layers::ADDED_RULES_MAX) rules take.
const CHANGES_BYTES_MAX: u64 = 64 << 20;

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) format: u32,
    /// Last generation that was given.
    pub(super) generation: u64,
    /// Hash of the policy that had it.
    pub(super) hash: String,
    /// The document that took the place of the policy file.
    pub(super) applied: Option<KeptApplied>,
    /// Rules added by command.
    pub(super) added: Vec<KeptRule>,
    /// Rules that the guard stopped.
    pub(super) stopped: BTreeMap<String, Stopped>,
    /// A policy was provisional: who reads this after a start knows that the agent ended before it was confirmed.
    pub(super) provisional: bool,
}

/// A document that was applied by command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptApplied {
    /// Where it was read.
    pub(super) file: String,
    pub(super) unix_ns: u64,
    pub(super) by: String,
    /// SHA-256 of its text.
    pub(super) sha256: String,
    /// Rules that somebody forced: they are meant as they are.
    #[serde(default)]
    pub(super) forced: Vec<String>,
    /// SHA-256 of the policy file that it took the place of; another one means that the file changed later.
    pub(super) over: String,
}

/// A rule added by command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptRule {
    pub(super) text: String,
    pub(super) unix_ns: u64,
    pub(super) by: String,
    pub(super) reason: Option<String>,
    /// Somebody forced it.
    #[serde(default)]
    pub(super) forced: bool,
}

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    folder: PathBuf,
}

impl Keep {
    /// Names the folder `policy` of a store.
    pub(super) fn of(store: &Path) -> Self {
        Self { folder: store.join("policy") }
    }

    /// What was kept; the text says what could not be read and where it lies now.
    pub(super) fn load(&self) -> (Kept, Option<String>) {
        let path = self.folder.join(CHANGES);
        let aside = self.folder.join("changes.json.unreadable");
        let read = read(&path, CHANGES_BYTES_MAX).and_then(|bytes| {
            let kept: Kept = serde_json::from_slice(&bytes)?;
            if kept.format == FORMAT {
                Ok(kept)
            } else {
                Err(io::Error::other(format!("format {} is not known", kept.format)))
            }
        });
        match read {
            Ok(kept) => (kept, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Nothing was changed since: what cannot be read is still what was in force.
                let told = aside.exists().then(|| {
                    format!(
                        "what was changed by command could not be read and is not in force; it lies at {}",
                        aside.display()
                    )
                });
                (Kept::default(), told)
            }
            Err(error) => {
                let moved = fs::rename(&path, &aside);
                let place = if moved.is_ok() { aside } else { path };
                let told = format!(
                    "what was changed by command cannot be read and is not in force: {error}; it lies at {}",
                    place.display()
                );
                (Kept::default(), Some(told))
            }
        }
    }

    /// Writes everything.
    pub(super) fn save(&self, kept: &Kept) -> io::Result<()> {
        let kept = Kept { format: FORMAT, ..kept.clone() };
        self.write(CHANGES, &serde_json::to_vec_pretty(&kept)?)
    }

    /// The applied document.
    pub(super) fn applied(&self) -> io::Result<Vec<u8>> {
        read(&self.folder.join(APPLIED), sensor_core::policy::FILE_BYTES_MAX as u64)
    }

    /// Keeps an applied document.
    pub(super) fn save_applied(&self, text: &[u8]) -> io::Result<()> {
        self.write(APPLIED, text)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let new = self.folder.join(format!("{name}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()
    }
}

fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_broken_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::of(folder.path());
        assert_eq!(keep.load(), (Kept::default(), None));
        let rule = KeptRule { text: "x".into(), unix_ns: 7, ..KeptRule::default() };
        let kept = Kept { generation: 9, added: vec![rule], ..Kept::default() };
        keep.save(&kept).unwrap();
        keep.save_applied(b"version: 1\n").unwrap();
        assert_eq!(keep.load(), (Kept { format: FORMAT, ..kept }, None));
        assert_eq!(keep.applied().unwrap(), b"version: 1\n");
        fs::write(folder.path().join("policy/changes.json"), "{").unwrap();
        let (kept, told) = keep.load();
        assert!(kept == Kept::default() && told.unwrap().contains("changes.json.unreadable"));
    }
}
