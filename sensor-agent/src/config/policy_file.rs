//! The policy file on disk to a validated [`Policy`].
//!
//! `ttl` of a rule counts from the file's time of change. Bound: the core's `FILE_BYTES_MAX`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use sensor_core::{
    policy::{self, FILE_BYTES_MAX, Policy, PolicyErrors},
    time::UnixNs,
};

use super::{plain_file, resolved::Config, room::NoRoom};

/// Why a policy file is not used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// Not there, or not readable.
    #[error("policy {path}: {source}; deploy/policy.example.yaml shows the format")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A list file that it names is not there, or not readable.
    #[error("list {path} (named in line {line} of the policy): {source}")]
    List {
        /// The list file.
        path: PathBuf,
        /// Line of the policy.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// There is no room to read a list file; there may be later.
    #[error("{path}: {source}")]
    NoRoom {
        /// The list file.
        path: PathBuf,
        /// How much there is.
        source: NoRoom,
    },
    /// Mistakes in it, or in a list file.
    #[error(transparent)]
    Invalid(#[from] PolicyErrors),
}

impl PolicyFileError {
    /// Whether the same file may be used later, with nothing of it changed.
    #[must_use]
    pub const fn is_for_the_moment(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }
}

/// Reads and checks a policy file, for an agent of this configuration.
pub fn read_policy(path: &Path, config: &Config) -> Result<Policy, PolicyFileError> {
    let (bytes, changed) = read_policy_text(path)?;
    Ok(policy::parse_with(&path.display().to_string(), &bytes, &config.demands(changed))?)
}

/// Reads a policy file without looking into it; with it, when it was changed. For who waits for a pipe as well, as commands do.
pub fn read_policy_text(path: &Path) -> Result<(Vec<u8>, UnixNs), PolicyFileError> {
    File::open(path)
        .and_then(read)
        .map_err(|source| PolicyFileError::Read { path: path.to_owned(), source })
}

/// The same for an agent, which must wait for nobody: of plain files only.
pub fn read_watched_policy(path: &Path) -> Result<(Vec<u8>, UnixNs), PolicyFileError> {
    plain_file::open(path)
        .and_then(read)
        .map_err(|source| PolicyFileError::Read { path: path.to_owned(), source })
}

fn read(file: File) -> io::Result<(Vec<u8>, UnixNs)> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
    }
    let changed = unix_ns(metadata.modified().unwrap_or(UNIX_EPOCH));
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, changed))
}

/// A point in time as the core has it; 0 before 1970.
#[must_use]
pub fn unix_ns(time: SystemTime) -> UnixNs {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNs(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
