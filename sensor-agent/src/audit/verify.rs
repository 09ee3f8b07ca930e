//! Reads the log and finds what does not fit: entries changed, removed or moved, and a head that is not there.
//!
//! Bounds: [`PROBLEMS_MAX`] problems are told; a line longer than [`LINE_BYTES_MAX`] is one.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    chain::{self, Hash},
    entry::{Dropped, Entry, LINE_BYTES_MAX},
    log::{AuditError, files},
};

/// Problems that are told; one is enough to distrust the log.
pub const PROBLEMS_MAX: usize = 20;

/// What a look at the whole log found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verified {
    /// Entries read.
    pub entries: u64,
    /// Number of the first one (more than 1 after rotation dropped older ones).
    pub first: u64,
    /// Number of the last one.
    pub last: u64,
    /// Hash of the last one.
    pub head: String,
    /// What does not fit, by file and line; empty = nothing.
    pub problems: Vec<String>,
    /// The head that was asked for is in the log; absent when none was given.
    pub head_found: Option<bool>,
}

impl Verified {
    /// Whether everything fits.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.problems.is_empty() && self.head_found != Some(false)
    }
}

/// Looks at every entry. `head` is a hash that was sent or noted elsewhere.
pub fn verify(folder: &Path, head: Option<Hash>) -> Result<Verified, AuditError> {
    let mut walk = Walk::default();
    walk.found.head_found = head.map(|head| head == Hash::default());
    let mut dropped: Vec<Dropped> = Vec::new();
    let mut first_previous = None;
    each_line(folder, |place, line| {
        let Some((entry, hash)) = walk.line(place, line) else { return };
        first_previous.get_or_insert(entry.previous.clone());
        dropped.extend(entry.dropped);
        if head == Some(hash) {
            walk.found.head_found = Some(true);
        }
    })?;
    let mut found = walk.found;
    if let Some(previous) = first_previous.filter(|_| found.first > 1) {
        let told = |one: &Dropped| one.until + 1 == found.first && one.hash == previous;
        if !dropped.iter().any(told) {
            found.problem(format!(
                "the log begins with entry {}: the entries before it were removed, and not by rotation",
                found.first
            ));
        }
    }
    Ok(found)
}

/// The entries in order; lines that are none are left out (`verify` tells of them).
pub fn entries(folder: &Path, mut give: impl FnMut(Entry)) -> Result<(), AuditError> {
    each_line(folder, |_, line| {
        if let Ok(entry) = serde_json::from_str(line) {
            give(entry);
        }
    })
}

#[derive(Default)]
struct Walk {
    found: Verified,
    previous: Option<(u64, Hash)>,
}

impl Walk {
    fn line(&mut self, place: &str, line: &str) -> Option<(Entry, Hash)> {
        let (Ok(entry), Some((hash, stated))) =
            (serde_json::from_str::<Entry>(line), chain::hashes(line))
        else {
            self.found.problem(format!("{place}: not an entry of the log"));
            return None;
        };
        if hash != stated {
            self.found.problem(format!("{place}: entry {} was changed", entry.number));
        }
        match self.previous {
            None => {
                self.found.first = entry.number;
                if entry.number == 1 && entry.previous != Hash::default().to_string() {
                    self.found.problem(format!("{place}: the first entry follows another one"));
                }
            }
            Some((number, _)) if number + 1 != entry.number => self.found.problem(format!(
                "{place}: entry {} follows entry {number}: entries were removed, added or moved",
                entry.number
            )),
            Some((number, hash)) if hash.to_string() != entry.previous => {
                self.found.problem(format!(
                    "{place}: entry {} does not follow the entry {number} that stands before it",
                    entry.number
                ));
            }
            Some(_) => {}
        }
        self.previous = Some((entry.number, hash));
        self.found.entries += 1;
        self.found.last = entry.number;
        self.found.head = hash.to_string();
        Some((entry, hash))
    }
}

impl Verified {
    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }
}

/// Gives each line with its place (`file:line`); one too long or not text is given as an empty one.
fn each_line(folder: &Path, mut give: impl FnMut(&str, &str)) -> Result<(), AuditError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| AuditError { path, source }
    };
    for path in files(folder).map_err(failed(folder))? {
        let mut file = BufReader::new(File::open(&path).map_err(failed(&path))?);
        for number in 1_u64.. {
            let mut line = Vec::new();
            let mut limited = (&mut file).take(LINE_BYTES_MAX as u64 + 1);
            if limited.read_until(b'\n', &mut line).map_err(failed(&path))? == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            give(&format!("{name}:{number}"), text.unwrap_or_default());
        }
    }
    Ok(())
}
