//! High-water marks: the last sequence number written per (sensor, run), and how far the file was then.
//!
//! Kept beside the output as `<OUT>.marks.json`, replaced whole by rename. Bounds: [`RUNS_MAX`] runs; the one that was
//! heard of longest ago makes room.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Runs that are remembered.
const RUNS_MAX: usize = 65_536;
/// Longest sensor or boot id that is taken.
pub(super) const ID_BYTES_MAX: usize = 128;

/// The marks, and where they are kept.
#[derive(Debug)]
pub struct Marks {
    path: Option<PathBuf>,
    kept: Kept,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Bytes of the output that are covered by the marks.
    position: u64,
    /// Counts up with each batch: orders runs by when they were heard of.
    clock: u64,
    runs: HashMap<String, Run>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Run {
    sequence: u64,
    heard: u64,
}

/// Why marks cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MarksError {
    /// Not readable or writable.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not ours, or damaged.
    #[error("{}: {source}; move it away to start anew (events that come again are then written again)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

impl Marks {
    /// Marks that are not kept (output to a terminal or pipe).
    #[must_use]
    pub fn in_memory() -> Self {
        Self { path: None, kept: Kept::default() }
    }

    /// Reads the marks beside an output file.
    pub fn beside(output: &Path) -> Result<Self, MarksError> {
        let mut name = output.as_os_str().to_owned();
        name.push(".marks.json");
        let path = PathBuf::from(name);
        let kept = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| MarksError::Damaged { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(source) => return Err(MarksError::Io { path, source }),
        };
        Ok(Self { path: Some(path), kept })
    }

    /// How far the output was written when the marks were kept; `None` when nothing was kept yet.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        (self.kept.clock > 0).then_some(self.kept.position)
    }

    /// The last sequence number written of a run, 0 when it is new.
    #[must_use]
    pub fn last(&self, sensor_id: &str, boot_id: &str) -> u64 {
        self.kept.runs.get(&key(sensor_id, boot_id)).map_or(0, |run| run.sequence)
    }

    /// Moves a mark and keeps all of them.
    pub fn advance(
        &mut self,
        sensor_id: &str,
        boot_id: &str,
        sequence: u64,
        position: u64,
        sync: bool,
    ) -> Result<(), MarksError> {
        self.kept.clock += 1;
        let heard = self.kept.clock;
        self.kept.runs.insert(key(sensor_id, boot_id), Run { sequence, heard });
        if self.kept.runs.len() > RUNS_MAX
            && let Some(oldest) =
                self.kept.runs.iter().min_by_key(|(_, run)| run.heard).map(|(key, _)| key.clone())
        {
            self.kept.runs.remove(&oldest);
        }
        self.keep(position, sync)
    }

    /// Keeps the marks with a new position (after a rotation).
    pub fn keep(&mut self, position: u64, sync: bool) -> Result<(), MarksError> {
        self.kept.position = position;
        let Some(path) = &self.path else { return Ok(()) };
        let write = || -> io::Result<()> {
            let fresh = path.with_extension("json.new");
            let mut file = File::create(&fresh)?;
            serde_json::to_writer(&mut file, &self.kept)?;
            file.flush()?;
            if sync {
                file.sync_data()?;
            }
            fs::rename(&fresh, path)
        };
        write().map_err(|source| MarksError::Io { path: path.clone(), source })
    }
}

/// NUL cannot be in an id (checked on arrival).
fn key(sensor_id: &str, boot_id: &str) -> String {
    format!("{sensor_id}\0{boot_id}")
}
