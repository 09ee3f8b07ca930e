//! The list files of a policy on disk to [`Lists`]; a file that did not change is not read again.
//!
//! Bounds: those of the core's `ListReader`; 64 KiB of a file in memory at a time; of all lists together the prefixes that a policy can have,
//! and the memory that there is room for.

use std::{
    collections::HashMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sensor_core::policy::{
    LIST_BYTES_MAX, LIST_MEMORY_MAX, List, ListReader, ListRef, Lists, Policy, PolicyError,
    PolicyErrors, image::PREFIXES_MAX,
};

use super::{
    plain_file,
    policy_file::{PolicyFileError, unix_ns},
    room::{NoRoom, Room},
};

const CHUNK_BYTES: usize = 64 * 1024;

/// List files as last read.
#[derive(Debug, Default)]
pub struct ListFiles {
    read: HashMap<ListRef, (u64, Arc<List>)>,
    /// Memory that is left, where that is known.
    room: Option<fn() -> Option<Room>>,
    /// Files that were last asked for: a file that was refused is read again only when it changed.
    watched: Watched,
}

/// Files that are looked at for changes, and what they looked like.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    files: Vec<ListRef>,
    seen: u64,
}

impl Watched {
    fn of(policy: &Policy) -> Self {
        let files = policy.rules.iter().flat_map(|rule| rule.lists.iter().cloned()).collect();
        Self { files, seen: 0 }.as_now()
    }

    /// The same files, as they look now.
    #[must_use]
    pub fn as_now(mut self) -> Self {
        self.seen = together(&self.files);
        self
    }

    /// Whether one of them changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        !self.files.is_empty() && together(&self.files) != self.seen
    }
}

impl ListFiles {
    /// Reads nothing that there is no room for.
    #[must_use]
    pub fn within(room: fn() -> Option<Room>) -> Self {
        Self { room: Some(room), ..Self::default() }
    }

    /// The lists that a policy names, those that changed read again. Nothing is forgotten on a mistake.
    pub fn load(&mut self, policy: &Policy) -> Result<Lists, PolicyFileError> {
        self.watched = Watched::of(policy);
        let mut lists = Lists::default();
        let (mut read, mut prefixes) = (HashMap::new(), 0);
        for name in policy.rules.iter().flat_map(|rule| &rule.lists) {
            let key = ListRef { line: 0, ..name.clone() };
            let seen = fingerprint(Path::new(&*name.path));
            let list = match read.get(&key).or_else(|| self.read.get(&key)) {
                Some((before, list)) if *before == seen && seen != 0 => Arc::clone(list),
                _ => Arc::new(read_list(name, self.room.and_then(|room| room()))?),
            };
            prefixes += list.len();
            if prefixes > PREFIXES_MAX {
                let message = format!(
                    "lists of more than {prefixes} prefixes are over the limit of {PREFIXES_MAX} for a policy"
                );
                return Err(PolicyErrors {
                    file: policy.file.clone(),
                    errors: vec![PolicyError {
                        line: Some(name.line),
                        field: "lists".into(),
                        message,
                    }],
                }
                .into());
            }
            lists.insert(name, Arc::clone(&list));
            read.insert(key, (seen, list));
        }
        self.read = read;
        Ok(lists)
    }

    /// Whether a file changed since they were last asked for.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.watched.changed()
    }

    /// What is looked at for changes.
    #[must_use]
    pub const fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Looks at these files for changes from now on: those that were asked for last are not in force.
    pub fn watch(&mut self, watched: Watched) {
        self.watched = watched;
    }
}

fn together(names: &[ListRef]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in names {
        fingerprint(Path::new(&*name.path)).hash(&mut hasher);
    }
    hasher.finish()
}

/// The lists that a policy names.
pub fn read_lists(policy: &Policy) -> Result<Lists, PolicyFileError> {
    ListFiles::default().load(policy)
}

fn read_list(name: &ListRef, room: Option<Room>) -> Result<List, PolicyFileError> {
    let path = Path::new(&*name.path);
    let failed = |source| PolicyFileError::List { path: path.to_owned(), line: name.line, source };
    let mut file = plain_file::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let refused = |message: String| {
        let error = PolicyError { line: None, field: String::new(), message };
        PolicyErrors { file: name.path.to_string(), errors: vec![error] }
    };
    if metadata.len() > LIST_BYTES_MAX {
        let message = format!(
            "{} bytes are over the limit of {LIST_BYTES_MAX} bytes for a list file",
            metadata.len()
        );
        return Err(refused(message).into());
    }
    // A short line of IPv6 takes half as much again.
    let needed = metadata.len().saturating_add(metadata.len() / 2).min(LIST_MEMORY_MAX);
    if let Some(room) = room.filter(|room| room.bytes < needed) {
        let source = NoRoom::to_read(needed, room);
        return Err(PolicyFileError::NoRoom { path: path.to_owned(), source });
    }
    let changed = unix_ns(metadata.modified().unwrap_or(UNIX_EPOCH));
    let mut reader = ListReader::new(name, &name.path, changed);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => {
                let mut list = reader.finish()?;
                list.about.read = unix_ns(SystemTime::now());
                return Ok(list);
            }
            Ok(len) => reader.read(chunk.get(..len).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Size, inode and time, links followed (a ConfigMap swaps a link); 0 when it is not there.
fn fingerprint(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| {
        let mut hasher = DefaultHasher::new();
        (meta.len(), meta.ino(), meta.dev(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_beside_the_policy_and_again_when_they_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("drop.txt");
        fs::write(&path, "192.0.2.1\n192.0.2.2 ; SBL1\n").expect("written");
        let policy = folder.path().join("policy.yaml");
        let text = "block:\n  - {id: a, lists: [{file: drop.txt}]}\n";
        fs::write(&policy, text).expect("written");
        let config = crate::config::Config::resolve(crate::config::Raw::default());
        let config = config.expect("the defaults are valid");
        let policy = super::super::read_policy(&policy, &config).expect("valid");
        let mut files = ListFiles::default();
        assert!(!files.changed(), "nothing was asked for");
        let lists = files.load(&policy).expect("read");
        assert_eq!(lists.iter().map(|(_, list)| list.len()).sum::<usize>(), 2);
        assert!(!files.changed());
        fs::write(&path, "192.0.2.1\n192.0.2.2\n192.0.2.3\n").expect("written");
        assert!(files.changed());
        fs::write(&path, "192.0.2.1\nx\n").expect("written");
        let error = files.load(&policy).expect_err("a bad line");
        assert!(!error.is_for_the_moment());
        let error = error.to_string();
        assert!(error.contains("drop.txt:2: `x` is not an address"), "{error}");
        let full: fn() -> Option<Room> = || Some(Room { bytes: 16, by: "this host's memory" });
        let error = ListFiles::within(full).load(&policy).expect_err("no room");
        assert!(error.is_for_the_moment(), "it is tried again by itself");
        let error = error.to_string();
        assert!(error.ends_with("drop.txt: may take 1 KiB of memory to read, and this host's memory leaves 0 KiB; raise the limit, or list less"), "{error}");
        fs::remove_file(&path).expect("removed");
        let error = files.load(&policy).expect_err("gone").to_string();
        assert!(error.contains("drop.txt (named in line 2 of the policy)"), "{error}");
    }
}
