//! The live source: one thread polls the ring and hands what waits to the pipeline, round by round.
//!
//! Polling every 10 ms ([`Polling::default`]) costs a tenth of what a wake-up for each record does; while nothing comes the pause grows to
//! [`POLL_IDLE_MS`]. The programs force a wake-up when `wake_bytes` wait: the epoll instance is edge-triggered, so
//! only that ends a pause early. Nothing here may block; what does not fit into the ring is counted by the kernel.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use sensor_core::time::MonoNs;

use super::budget::{Budget, Sampling};
use crate::kernel::{self, Ring};

/// How the thread polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// Pause between rounds under load, milliseconds; 10 by default, at most [`POLL_IDLE_MS`].
    pub pause_ms: u16,
    /// Longest pause while nothing comes, until a round says another; [`POLL_IDLE_MS`], or [`POLL_DECIDING_MS`] where detectors decide.
    pub idle_ms: u16,
    /// Whether the sampling rate may move.
    pub sampling: Sampling,
}

impl Default for Polling {
    fn default() -> Self {
        Self { pause_ms: 10, idle_ms: POLL_IDLE_MS, sampling: Sampling::Adaptive }
    }
}

/// Longest pause while nothing comes.
pub const POLL_IDLE_MS: u16 = 100;
/// The same where a detector may decide about a flow: a verdict is wanted within 50 ms of the response.
pub const POLL_DECIDING_MS: u16 = 20;
/// Records handed over in one round, after which time and stop are looked at again.
const RECORDS_PER_ROUND_MAX: u32 = 8192;
/// How often the heartbeat is written.
const HEARTBEAT_NS: u64 = 1_000_000_000;
/// Rounds made after the stop, at most.
const LAST_ROUNDS_MAX: usize = 64;
/// Header of a record in the ring.
const RECORD_HEADER_BYTES: u64 = 8;

/// What waits in the ring, record by record.
#[derive(Debug)]
pub struct Round<'a> {
    ring: &'a mut Ring,
    /// When the round began.
    pub now: MonoNs,
    /// Longest pause while nothing comes, from this round on.
    pub idle_ms: u16,
    records: u32,
    bytes: u64,
}

impl Round<'_> {
    /// Hands the next record to `read`; `None` when the round is over.
    pub fn next_record<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        if self.records >= RECORDS_PER_ROUND_MAX {
            return None;
        }
        let record = self.ring.next_record()?;
        self.records += 1;
        self.bytes += record.len().next_multiple_of(8) as u64 + RECORD_HEADER_BYTES;
        Some(read(&record))
    }
}

/// What the thread counts; read by telemetry.
#[derive(Debug, Default)]
pub struct RingCounts {
    /// Rounds made.
    pub rounds: AtomicU64,
    /// Records handed over.
    pub records: AtomicU64,
    /// Most bytes found in one round.
    pub fill_bytes_max: AtomicU64,
    /// Times the sampling rate was halved.
    pub sampling_down: AtomicU64,
    /// Times it was doubled again.
    pub sampling_up: AtomicU64,
    /// Weight of a sample now.
    pub sample_weight: AtomicU32,
}

/// The running thread; dropping it makes a last round and waits for it.
#[derive(Debug)]
pub struct RingThread {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<RingCounts>,
}

impl RingThread {
    /// Starts polling; `on_round` is called for each round, also an empty one (time passes for the pipeline).
    pub fn spawn(
        ring: Ring,
        polling: Polling,
        on_round: impl FnMut(&mut Round<'_>) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let counts = Arc::new(RingCounts::default());
        let mut poller = Poller::new(ring, polling, &stop, Arc::clone(&counts))?;
        let thread = std::thread::Builder::new()
            .name("sensor-ring".into())
            .spawn(move || poller.run(on_round))?;
        Ok(Self { stop, thread: Some(thread), counts })
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> Arc<RingCounts> {
        Arc::clone(&self.counts)
    }
}

impl Drop for RingThread {
    fn drop(&mut self) {
        if self.stop.write(1).is_err() {
            return;
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Poller {
    ring: Ring,
    pause_ms: u16,
    idle_ms: u16,
    budget: Budget,
    epoll: Epoll,
    counts: Arc<RingCounts>,
    heartbeat: Option<MonoNs>,
}

const TOKEN_RING: u64 = 0;
const TOKEN_STOP: u64 = 1;

impl Poller {
    fn new(
        ring: Ring,
        polling: Polling,
        stop: &EventFd,
        counts: Arc<RingCounts>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            ring.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TOKEN_RING),
        )?;
        epoll.add(stop.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_STOP))?;
        let (threshold, weight) = ring.sampling();
        counts.sample_weight.store(weight, Ordering::Relaxed);
        let budget = Budget::new(polling.sampling, threshold, weight, ring.bytes());
        let pause_ms = polling.pause_ms.clamp(1, POLL_IDLE_MS);
        let idle_ms = polling.idle_ms.clamp(pause_ms, POLL_IDLE_MS);
        Ok(Self { ring, pause_ms, idle_ms, budget, epoll, counts, heartbeat: None })
    }

    fn run(&mut self, mut on_round: impl FnMut(&mut Round<'_>)) {
        let mut pause = self.pause_ms;
        while !self.wait(pause) {
            let records = self.round(&mut on_round);
            pause = match records {
                0 => pause.max(1).saturating_mul(2).min(self.idle_ms),
                RECORDS_PER_ROUND_MAX => 0,
                _ => self.pause_ms,
            };
        }
        for _ in 0..LAST_ROUNDS_MAX {
            if self.round(&mut on_round) == 0 {
                break;
            }
        }
    }

    /// Waits; `true` when it is time to stop.
    fn wait(&self, pause_ms: u16) -> bool {
        let mut events = [EpollEvent::empty(); 2];
        // An interrupted wait is a short one.
        let ready = self.epoll.wait(&mut events, EpollTimeout::from(pause_ms)).unwrap_or(0);
        events.iter().take(ready).any(|event| event.data() == TOKEN_STOP)
    }

    fn round(&mut self, on_round: &mut impl FnMut(&mut Round<'_>)) -> u32 {
        let now = kernel::now();
        let idle_ms = self.idle_ms;
        let mut round = Round { ring: &mut self.ring, now, idle_ms, records: 0, bytes: 0 };
        on_round(&mut round);
        let (records, bytes, idle_ms) = (round.records, round.bytes, round.idle_ms);
        self.idle_ms = idle_ms.clamp(self.pause_ms, POLL_IDLE_MS);
        self.counts.rounds.fetch_add(1, Ordering::Relaxed);
        self.counts.records.fetch_add(u64::from(records), Ordering::Relaxed);
        self.counts.fill_bytes_max.fetch_max(bytes, Ordering::Relaxed);
        self.adjust_sampling(now, bytes);
        self.beat(now);
        records
    }

    fn adjust_sampling(&mut self, now: MonoNs, bytes: u64) {
        let before = self.budget.step();
        let Some((threshold, weight)) = self.budget.after_round(now, bytes) else { return };
        let moved = if self.budget.step() > before {
            &self.counts.sampling_down
        } else {
            &self.counts.sampling_up
        };
        moved.fetch_add(1, Ordering::Relaxed);
        self.counts.sample_weight.store(weight, Ordering::Relaxed);
        if let Err(error) = self.ring.write_sampling(threshold, weight) {
            tracing::warn!(%error, "the sampling rate could not be written");
        }
    }

    fn beat(&mut self, now: MonoNs) {
        if self.heartbeat.is_some_and(|last| now.since(last) < HEARTBEAT_NS) {
            return;
        }
        self.heartbeat = Some(now);
        if let Err(error) = self.ring.write_heartbeat(now) {
            tracing::warn!(%error, "the heartbeat could not be written");
        }
    }
}
