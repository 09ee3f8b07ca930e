//! The bounded queue of one sink: events are numbered when they are accepted and stay until they are acknowledged.
//!
//! Bounds: [`Limits::events`] and [`Limits::bytes`] (encoded size), over what waits and what is on its way. Full:
//! the newest is dropped and counted. A reader that reconnects starts again at the first one not acknowledged.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prost::Message as _;
use sensor_proto::v1::{Event, EventBatch};
use tokio::sync::Notify;

/// Bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events that wait or are on their way.
    pub events: usize,
    /// Their encoded bytes.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 65_536, bytes: 16 << 20 }
    }
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Identity of the installation.
    pub sensor_id: String,
    /// Identity of this run.
    pub boot_id: String,
    /// Name of the host.
    pub host_name: String,
}

/// Totals and levels of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Numbered and taken.
    pub accepted: u64,
    /// Refused because the queue was full or closed.
    pub dropped: u64,
    /// Written or acknowledged.
    pub acknowledged: u64,
    /// Waiting or on their way.
    pub waiting_events: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
}

/// The queue; one writer (the pipeline), one reader (the sink).
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    state: Mutex<State>,
    /// Woken when events come in and when the queue is closed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<(Arc<Event>, usize)>,
    counts: QueueCounts,
    closed: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), changed: Notify::new() }
    }

    /// Takes an event, or drops and counts it when there is no room.
    pub fn offer(&self, event: &Arc<Event>) {
        let bytes = event.encoded_len();
        let mut state = self.lock();
        let fits = state.events.len() < self.limits.events
            && state.counts.waiting_bytes + bytes <= self.limits.bytes;
        if !fits || state.closed {
            state.counts.dropped += 1;
            return;
        }
        state.counts.accepted += 1;
        state.counts.waiting_bytes += bytes;
        state.events.push_back((Arc::clone(event), bytes));
        drop(state);
        self.changed.notify_one();
    }

    /// A batch of at most `events` and about `bytes` from sequence number `from` on (which must not be
    /// acknowledged yet); `None` when nothing waits there.
    #[must_use]
    pub fn batch(
        &self,
        who: &Identity,
        from: u64,
        events: usize,
        bytes: usize,
    ) -> Option<EventBatch> {
        let state = self.lock();
        let skip = usize::try_from(from.checked_sub(state.first_sequence())?).ok()?;
        let mut room = bytes;
        let taken: Vec<Event> = state
            .events
            .iter()
            .skip(skip)
            .take(events)
            .take_while(|(_, size)| {
                let first = room == bytes;
                let fits = *size <= room;
                room = room.saturating_sub(*size);
                fits || first
            })
            .map(|(event, _)| Event::clone(event))
            .collect();
        (!taken.is_empty()).then(|| EventBatch {
            sensor_id: who.sensor_id.clone(),
            boot_id: who.boot_id.clone(),
            host_name: who.host_name.clone(),
            first_sequence: from,
            events: taken,
            dropped_events: state.counts.dropped,
        })
    }

    /// Lets go of everything up to and including `sequence`; numbers never given are ignored.
    pub fn acknowledge(&self, sequence: u64) {
        let mut state = self.lock();
        while state.first_sequence() <= sequence
            && let Some((_, bytes)) = state.events.pop_front()
        {
            state.counts.waiting_bytes -= bytes;
            state.counts.acknowledged += 1;
        }
    }

    /// The first number that is not acknowledged.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.lock().first_sequence()
    }

    /// The number the next accepted event will get.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.lock().counts.accepted + 1
    }

    /// Refuses further events; the reader drains what is there.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until something came in or the queue was closed (can wake for nothing).
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Totals and levels.
    #[must_use]
    pub fn counts(&self) -> QueueCounts {
        let state = self.lock();
        QueueCounts { waiting_events: state.events.len(), ..state.counts }
    }

    /// A panic of the other side leaves the state whole: every change is finished before the lock goes.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn first_sequence(&self) -> u64 {
        self.counts.acknowledged + 1
    }
}
