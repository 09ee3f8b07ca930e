//! Appends entries: one write and one `fdatasync` each; rotates with the chain carried over.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    chain::{self, Hash},
    entry::{Action, Change, Dropped, Entry, LINE_BYTES_MAX, Version},
};

/// A file that grew over this is closed and the next one begun.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files that are kept, the current one included; the oldest make room.
pub const FILES_MAX: usize = 16;

const CURRENT: &str = "audit.jsonl";
const OLDER: &str = "audit-";
/// The file that takes the place of the current one.
const NEXT: &str = "audit.jsonl.next";

/// The log cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("audit log {}: {source}", path.display())]
pub struct AuditError {
    /// The file or its folder.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The folder of the log of a store.
#[must_use]
pub fn folder_of(store: &Path) -> PathBuf {
    store.join("audit")
}

/// The log of a running agent.
#[derive(Debug)]
pub struct AuditLog {
    folder: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    number: u64,
    head: Hash,
    failed: Option<String>,
}

impl AuditLog {
    /// Opens or makes the log in a folder. A line that a crash tore is cut off, and an entry says so.
    pub fn open(folder: &Path, now_unix_ns: u64) -> Result<Self, AuditError> {
        Self::open_with(folder, now_unix_ns, FILE_BYTES_MAX)
    }

    pub(super) fn open_with(
        folder: &Path,
        now_unix_ns: u64,
        bytes_max: u64,
    ) -> Result<Self, AuditError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| AuditError { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        let path = folder.join(CURRENT);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        let mut bytes = file.metadata().map_err(failed(&path))?.len();
        let tail = read_tail(&mut file, bytes).map_err(failed(&path))?;
        let whole = memchr::memrchr(b'\n', &tail).map_or(0, |at| at + 1);
        let torn = (tail.len() - whole) as u64;
        if torn > 0 {
            bytes -= torn;
            file.set_len(bytes).map_err(failed(&path))?;
        }
        let mut last = last_line(tail.get(..whole).unwrap_or_default());
        if last.is_none()
            && let Some(older) = older_files(folder).map_err(failed(folder))?.last()
        {
            let mut file = File::open(older).map_err(failed(older))?;
            let bytes = file.metadata().map_err(failed(older))?.len();
            last = last_line(&read_tail(&mut file, bytes).map_err(failed(older))?);
        }
        let (number, head) = last.unwrap_or_default();
        let mut log =
            Self { folder: folder.into(), file, bytes, bytes_max, number, head, failed: None };
        if torn > 0 {
            let mut change = Change::by_agent(Action::Recover, Version::default());
            change.diff.push(format!("{torn} bytes of a torn line at the end were cut off"));
            log.append(change, now_unix_ns)?;
        }
        Ok(log)
    }

    /// Writes an entry; it is on the disk when this returns.
    pub fn append(&mut self, change: Change, now_unix_ns: u64) -> Result<Entry, AuditError> {
        let outcome = self.write(change, now_unix_ns);
        self.failed = outcome.as_ref().err().map(ToString::to_string);
        if outcome.is_ok() && self.bytes > self.bytes_max {
            // The entry is on the disk: a next file that cannot be begun is tried again after the next one.
            self.failed = self.rotate(now_unix_ns).err().map(|error| error.to_string());
        }
        outcome.map_err(|source| AuditError { path: self.folder.join(CURRENT), source })
    }

    /// Hash of the last entry; zeros when there is none.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.head
    }

    /// Number of the last entry.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Why the last entry could not be written, or no next file begun, if so.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    fn write(&mut self, change: Change, now_unix_ns: u64) -> io::Result<Entry> {
        let mut entry = Entry::new(change, self.number + 1, now_unix_ns, self.head.to_string());
        let (line, hash) = chain::seal(&serde_json::to_string(&entry)?);
        if line.len() > LINE_BYTES_MAX {
            return Err(io::Error::other(format!("an entry of {} bytes is too long", line.len())));
        }
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line would tear the chain: the next one starts where this one did.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.number += 1;
        self.head = hash;
        entry.hash = hash.to_string();
        Ok(entry)
    }

    fn rotate(&mut self, now_unix_ns: u64) -> io::Result<()> {
        let (current, next) = (self.folder.join(CURRENT), self.folder.join(NEXT));
        // The next file first: without room for one this one goes on. A crash may have left one, empty.
        ignore_missing(fs::remove_file(&next))?;
        let file =
            OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&next)?;
        // Missing when an earlier try came no further than this.
        ignore_missing(fs::rename(
            &current,
            self.folder.join(format!("{OLDER}{:020}.jsonl", self.number)),
        ))?;
        fs::rename(&next, &current)?;
        self.file = file;
        self.bytes = 0;
        let older = older_files(&self.folder)?;
        let Some((last, rest)) =
            older.get(..(older.len() + 1).saturating_sub(FILES_MAX)).and_then(<[_]>::split_last)
        else {
            return Ok(());
        };
        // The entry first: a crash between the two leaves a file too many, not a hole.
        let mut file = File::open(last)?;
        let bytes = file.metadata()?.len();
        if let Some((until, hash)) = last_line(&read_tail(&mut file, bytes)?) {
            let mut change = Change::by_agent(Action::Rotate, Version::default());
            change.dropped = Some(Dropped { until, hash: hash.to_string() });
            self.write(change, now_unix_ns)?;
        }
        for path in rest.iter().chain([last]) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// All files of the log, oldest first.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = older_files(folder)?;
    files.extend(Some(folder.join(CURRENT)).filter(|path| path.exists()));
    Ok(files)
}

/// Files that were closed, oldest first: their names hold the number of their last entry.
fn older_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut older = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(OLDER) && name.ends_with(".jsonl") {
            older.push(path);
        }
    }
    older.sort();
    Ok(older)
}

fn read_tail(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(bytes.saturating_sub(2 * LINE_BYTES_MAX as u64)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail)
}

/// Number and hash of the last line. One that was tampered with is followed by its true hash: `verify` finds it.
fn last_line(tail: &[u8]) -> Option<(u64, Hash)> {
    let tail = tail.strip_suffix(b"\n")?;
    let start = memchr::memrchr(b'\n', tail).map_or(0, |at| at + 1);
    let line = std::str::from_utf8(tail.get(start..)?).ok()?;
    let entry: Entry = serde_json::from_str(line).ok()?;
    let (hash, _) = chain::hashes(line)?;
    Some((entry.number, hash))
}
