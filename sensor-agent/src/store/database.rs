//! The tables and their transactions; knows nothing of what the records mean.
//!
//! Bounds: a value of [`VALUE_BYTES_MAX`]; [`HISTORY_MAX`] rows of each history (the oldest make room);
//! [`ASIDE_MAX`] stores that were set aside.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    panic,
    path::{Path, PathBuf},
};

use prost::Message as _;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition,
};
use sensor_proto::store::v1;

use super::identity::InstallationIdentity;

/// Name of the store in its folder.
const FILE: &str = "inventory.redb";
const VALUE_BYTES_MAX: usize = 1 << 20;
const HISTORY_MAX: usize = 10_000;
const ASIDE_MAX: usize = 4;
/// Of redb's own cache.
const CACHE_BYTES: usize = 8 << 20;
const FORMAT: u32 = 1;

const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
const ATTACHMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("attachments");
const LEDGERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("ledgers");
const IDENTITY_KEY: &[u8] = b"identity";

/// Tables of inventory records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Endpoints.
    Endpoints,
    /// What this host calls elsewhere.
    Egress,
    /// Services and listeners.
    Services,
    /// States that endpoints had.
    History,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Endpoints, Self::Egress, Self::Services, Self::History];

    const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Self::Endpoints => "endpoints",
            Self::Egress => "egress",
            Self::Services => "services",
            Self::History => "history",
        })
    }
}

/// A time of watching, kept to tell what silence proves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Start, nanoseconds since 1970.
    pub from: u64,
    /// Last time it was known to go on.
    pub to: u64,
    /// Heads lost in it.
    pub heads_lost: u64,
    /// Largest weight of a sample in it.
    pub weight_max: u32,
}

/// One record of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it belongs.
    pub table: Table,
    /// Its key there.
    pub key: String,
    /// Last request, nanoseconds since 1970.
    pub last_seen: u64,
    /// As the core serialises it.
    pub body: Vec<u8>,
}

/// Totals of a run's ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerTotals {
    /// Start of the run.
    pub from: u64,
    /// As of.
    pub to: u64,
    /// Stage, name, total.
    pub counts: Vec<(String, String, u64)>,
}

/// What one transaction writes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Records to write.
    pub put: Vec<Row>,
    /// Records to remove, before the others are written.
    pub remove: Vec<(Table, String)>,
    /// This run's attachment, over the one of the same start.
    pub attachment: Option<Attachment>,
    /// This run's ledger, over the one of the same start.
    pub ledger: Option<LedgerTotals>,
}

impl Batch {
    /// Lays a newer batch over this one; bounded by the number of records there are.
    pub fn merge(&mut self, newer: Self) {
        if !self.put.is_empty() || !self.remove.is_empty() {
            let put = newer.put.iter().map(|row| (row.table, row.key.clone()));
            let touched: HashSet<(Table, String)> =
                put.chain(newer.remove.iter().cloned()).collect();
            self.put.retain(|row| !touched.contains(&(row.table, row.key.clone())));
            self.remove.retain(|row| !touched.contains(row));
        }
        self.put.extend(newer.put);
        self.remove.extend(newer.remove);
        self.attachment = newer.attachment.or(self.attachment.take());
        self.ledger = newer.ledger.or(self.ledger.take());
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put.is_empty()
            && self.remove.is_empty()
            && self.attachment.is_none()
            && self.ledger.is_none()
    }
}

/// Everything in a store.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Bodies of records by table and key.
    pub records: Vec<(Table, String, Vec<u8>)>,
    /// Times of watching, oldest first.
    pub attachments: Vec<Attachment>,
    /// Records of an unknown layout, left alone.
    pub skipped: u64,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{}: in use by another process (a running agent?)", .0.display())]
    Busy(PathBuf),
    /// There is none.
    #[error("{}: there is no store", .0.display())]
    Absent(PathBuf),
    /// The folder or file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not readable as a store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// As redb says.
    #[error("store: {0}")]
    Redb(Box<redb::Error>),
    /// So damaged that redb gave up in the middle.
    #[error("store: damaged")]
    Damaged,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
}

/// A store that could not be read.
#[derive(Debug)]
pub(super) struct SetAside {
    pub(super) to: PathBuf,
    pub(super) error: StoreError,
}

impl Store {
    /// Opens a store for reading what an agent left; never makes one. An agent that was killed leaves one that its library has to mend first.
    pub fn open_existing(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        match fs::metadata(&path) {
            Ok(_) => Self::open_file(path, Existing::Must),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OpenError::Absent(path)),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    }

    /// Opens or makes the agent's store; one that cannot be read is set aside (the second value says so).
    pub(super) fn open(
        folder: &Path,
        now_unix_nano: u64,
    ) -> Result<(Self, Option<SetAside>), OpenError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| OpenError::Io { path: folder.into(), source })?;
        let path = folder.join(FILE);
        // redb checks its pages at the start, and still trusts some of what they say: a panic of its own is one more
        // way to say that the file is damaged.
        let opened = panic::catch_unwind(|| {
            let store = Self::open_file(path.clone(), Existing::May)?;
            store.load()?;
            Ok(store)
        });
        let error = match opened.unwrap_or(Err(OpenError::Store(StoreError::Damaged))) {
            Ok(store) => return Ok((store, None)),
            Err(OpenError::Store(error)) => error,
            Err(other) => return Err(other),
        };
        let to = folder.join(format!("{FILE}.{}", now_unix_nano / 1_000_000_000));
        fs::rename(&path, &to).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        remove_oldest_aside(folder);
        Ok((Self::open_file(path, Existing::May)?, Some(SetAside { to, error })))
    }

    fn open_file(path: PathBuf, existing: Existing) -> Result<Self, OpenError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        builder.set_check_integrity_on_open(true);
        let opened = match existing {
            Existing::Must => builder.open(&path),
            Existing::May => builder.create(&path),
        };
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::Busy(path.clone()),
            DatabaseError::Storage(redb::StorageError::Io(source))
                if source.kind() != io::ErrorKind::InvalidData
                    && source.kind() != io::ErrorKind::UnexpectedEof =>
            {
                OpenError::Io { path: path.clone(), source }
            }
            error => OpenError::Store(error.into()),
        })?;
        if existing == Existing::May {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        }
        Ok(Self { database, path })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the installation, made and kept when there is none.
    pub(super) fn identity(
        &self,
        fresh: &InstallationIdentity,
        now_unix_nano: u64,
    ) -> Result<InstallationIdentity, StoreError> {
        let write = self.database.begin_write()?;
        let identity = {
            let mut meta = write.open_table(META)?;
            let kept =
                meta.get(IDENTITY_KEY)?.and_then(|value| v1::Identity::decode(value.value()).ok());
            if let Some(identity) = kept.as_ref().and_then(InstallationIdentity::from_record) {
                return Ok(identity);
            }
            meta.insert(IDENTITY_KEY, fresh.to_record(now_unix_nano).encode_to_vec().as_slice())?;
            fresh.clone()
        };
        write.commit()?;
        Ok(identity)
    }

    /// Reads everything. Tables that are not there are empty.
    pub fn load(&self) -> Result<Contents, StoreError> {
        let read = self.database.begin_read()?;
        let mut contents = Contents::default();
        for table in Table::ALL {
            let Some(open) = there(read.open_table(table.definition()))? else { continue };
            for entry in open.iter()? {
                let (key, value) = entry?;
                match (v1::Record::decode(value.value()), std::str::from_utf8(key.value())) {
                    (Ok(record), Ok(key)) if record.format == FORMAT => {
                        contents.records.push((table, key.to_owned(), record.body));
                    }
                    _ => contents.skipped += 1,
                }
            }
        }
        if let Some(open) = there(read.open_table(ATTACHMENTS))? {
            for entry in open.iter()? {
                let Ok(row) = v1::Attachment::decode(entry?.1.value()) else {
                    contents.skipped += 1;
                    continue;
                };
                contents.attachments.push(Attachment {
                    from: row.from_unix_nano,
                    to: row.to_unix_nano,
                    heads_lost: row.heads_lost,
                    weight_max: row.weight_max,
                });
            }
        }
        Ok(contents)
    }

    /// Writes a batch in one durable transaction.
    pub(super) fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let written = panic::catch_unwind(panic::AssertUnwindSafe(|| self.write_all(batch)));
        written.unwrap_or(Err(StoreError::Damaged))
    }

    fn write_all(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        for table in Table::ALL {
            let mut open = write.open_table(table.definition())?;
            for (_, key) in batch.remove.iter().filter(|row| row.0 == table) {
                open.remove(key.as_bytes())?;
            }
            for row in batch
                .put
                .iter()
                .filter(|row| row.table == table && row.body.len() <= VALUE_BYTES_MAX)
            {
                let record = v1::Record {
                    format: FORMAT,
                    last_seen_unix_nano: row.last_seen,
                    body: row.body.clone(),
                };
                open.insert(row.key.as_bytes(), record.encode_to_vec().as_slice())?;
            }
        }
        if let Some(row) = &batch.attachment {
            let value = v1::Attachment {
                from_unix_nano: row.from,
                to_unix_nano: row.to,
                heads_lost: row.heads_lost,
                weight_max: row.weight_max,
                interfaces: Vec::new(),
            };
            keep(&write, ATTACHMENTS, row.from, &value.encode_to_vec())?;
        }
        if let Some(LedgerTotals { from, to, counts }) = &batch.ledger {
            let counts = counts.iter().map(|(stage, name, value)| v1::ledger::Count {
                stage: stage.clone(),
                name: name.clone(),
                value: *value,
            });
            let value =
                v1::Ledger { from_unix_nano: *from, to_unix_nano: *to, counts: counts.collect() };
            keep(&write, LEDGERS, *from, &value.encode_to_vec())?;
        }
        write.commit()?;
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Must,
    May,
}

/// A table that was never written is an empty one.
fn there<T>(opened: Result<T, redb::TableError>) -> Result<Option<T>, StoreError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes a row of a history and lets the oldest go.
fn keep(
    write: &redb::WriteTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
    key: u64,
    value: &[u8],
) -> Result<(), StoreError> {
    use redb::ReadableTableMetadata as _;
    let mut open = write.open_table(table)?;
    open.insert(key, value)?;
    while open.len()? > HISTORY_MAX as u64 {
        open.pop_first()?;
    }
    Ok(())
}

/// Keeps the newest [`ASIDE_MAX`] stores that were set aside; what cannot be removed stays.
fn remove_oldest_aside(folder: &Path) {
    let prefix = format!("{FILE}.");
    let mut aside: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .collect();
    aside.sort();
    for path in aside.iter().rev().skip(ASIDE_MAX) {
        drop(fs::remove_file(path));
    }
}
