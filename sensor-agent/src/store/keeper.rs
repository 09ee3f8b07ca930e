//! The agent's side of the store: opens it, writes from a thread of its own, survives a disk that is full.
//!
//! Bound: [`QUEUE`] batches wait; while they do, the pipeline keeps its changes and offers them again later. A
//! failed batch is tried again with the next one; after [`FAILURES_MAX`] the store is opened anew.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use super::{
    database::{Batch, Contents, OpenError, Store, StoreError},
    identity::InstallationIdentity,
};
use crate::telemetry::{
    Own,
    events::{self, Emit as _},
};

const QUEUE: usize = 2;
const FAILURES_MAX: u32 = 3;

/// The store as `status` shows it.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct StoreStatus {
    /// The file.
    pub path: PathBuf,
    /// Last durable commit, nanoseconds since 1970; 0 = none yet.
    pub committed_unix_ns: u64,
    /// What the last try said, if it failed.
    pub error: Option<String>,
    /// Where a store lies that could not be read.
    pub set_aside: Option<PathBuf>,
}

/// What is sent to the thread: a batch and its time.
struct Job {
    batch: Batch,
    now_unix_nano: u64,
}

/// The store of a running agent.
#[derive(Debug)]
pub struct Keeper {
    sender: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    status: Arc<Mutex<StoreStatus>>,
}

/// A store that is open; its thread does not run yet.
#[derive(Debug)]
pub struct Opened {
    store: Store,
    folder: PathBuf,
    status: StoreStatus,
    /// What is in it.
    pub contents: Contents,
    /// Who this installation is.
    pub identity: InstallationIdentity,
}

impl Opened {
    /// Opens the store in `folder` (before capabilities are dropped: the folder may be somebody else's).
    pub fn open(folder: &Path, now_unix_nano: u64) -> Result<Self, OpenError> {
        let random = || {
            InstallationIdentity::random()
                .map_err(|source| OpenError::Io { path: "/dev/urandom".into(), source })
        };
        let (store, aside) = Store::open(folder, now_unix_nano)?;
        let mut status = StoreStatus { path: store.path().into(), ..StoreStatus::default() };
        if let Some(aside) = aside {
            events::StoreSetAside { path: store.path(), aside: &aside.to, error: &aside.error }
                .emit();
            status.set_aside = Some(aside.to);
        }
        let identity = store.identity(&random()?, now_unix_nano)?;
        let contents = store.load()?;
        Own::StoreRecordsSkipped.add(contents.skipped);
        Ok(Self { store, folder: folder.into(), status, contents, identity })
    }

    /// Starts the writing thread.
    pub fn start(self) -> std::io::Result<(Keeper, Contents)> {
        let status = Arc::new(Mutex::new(self.status));
        let (sender, receiver) = sync_channel(QUEUE);
        let writer = Writer {
            store: Some(self.store),
            folder: self.folder,
            failures: 0,
            pending: Batch::default(),
            status: Arc::clone(&status),
        };
        let thread = std::thread::Builder::new()
            .name("sensor-store".into())
            .spawn(move || writer.run(&receiver))?;
        Ok((Keeper { sender: Some(sender), thread: Some(thread), status }, self.contents))
    }
}

impl Keeper {
    /// Offers a batch; gives it back when the writer is busy (a slow disk), to be offered again later.
    #[must_use]
    pub fn offer(&self, batch: Batch, now_unix_nano: u64) -> Option<Batch> {
        let Some(sender) = &self.sender else { return Some(batch) };
        match sender.try_send(Job { batch, now_unix_nano }) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job.batch),
        }
    }

    /// Writes a last batch, waiting for those before it, and closes the store.
    pub fn close(mut self, batch: Batch, now_unix_nano: u64) -> StoreStatus {
        if let Some(sender) = self.sender.take() {
            // The thread only ends when the sender is gone: it takes this one.
            drop(sender.send(Job { batch, now_unix_nano }));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.status()
    }

    /// As shown.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For readers on other threads.
    #[must_use]
    pub fn shared_status(&self) -> Arc<Mutex<StoreStatus>> {
        Arc::clone(&self.status)
    }
}

struct Writer {
    store: Option<Store>,
    folder: PathBuf,
    failures: u32,
    /// What is not on the disk yet.
    pending: Batch,
    status: Arc<Mutex<StoreStatus>>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            self.pending.merge(job.batch);
            self.commit(job.now_unix_nano);
        }
    }

    fn commit(&mut self, now_unix_nano: u64) {
        if self.pending.is_empty() {
            return;
        }
        if self.store.is_none() {
            self.reopen(now_unix_nano);
        }
        let Some(store) = &self.store else { return };
        match store.write(&self.pending) {
            Ok(()) => {
                Own::StoreCommits.count();
                self.failures = 0;
                self.pending = Batch::default();
                self.tell(|status| {
                    status.committed_unix_ns = now_unix_nano;
                    status.error = None;
                });
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &StoreError) {
        events::StoreFailed { error }.emit();
        let text = error.to_string();
        self.tell(|status| status.error = Some(text));
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            // After an I/O error redb refuses everything until it is opened again.
            self.store = None;
            self.failures = 0;
        }
    }

    fn reopen(&mut self, now_unix_nano: u64) {
        match Store::open(&self.folder, now_unix_nano) {
            Ok((store, aside)) => {
                if let Some(aside) = aside {
                    events::StoreSetAside {
                        path: store.path(),
                        aside: &aside.to,
                        error: &aside.error,
                    }
                    .emit();
                    self.tell(|status| status.set_aside = Some(aside.to.clone()));
                }
                self.store = Some(store);
            }
            Err(error) => {
                events::StoreFailed { error: &error }.emit();
                let text = error.to_string();
                self.tell(|status| status.error = Some(text));
            }
        }
    }

    fn tell(&self, change: impl FnOnce(&mut StoreStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
