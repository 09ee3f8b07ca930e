//! All sinks of a run: each event is shared to every queue; each sink is one task.

use std::{io, sync::Arc, time::Duration};

use sensor_proto::v1::Event;
use tokio::task::JoinHandle;

use super::{
    file, grpc,
    queue::{Identity, Queue, QueueCounts},
    spec::{SinkSpec, Target},
    writer::{Rotation, Writer},
};

/// The sinks; made inside the runtime, fed from any thread.
#[derive(Debug, Default)]
pub struct Sinks {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    name: String,
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

/// One sink as `status` and the metrics show it.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct SinkStatus {
    /// As configured, options left out.
    pub sink: String,
    /// Numbered and taken.
    pub accepted: u64,
    /// Written or acknowledged.
    pub acknowledged: u64,
    /// Dropped: the queue was full.
    pub dropped: u64,
    /// Waiting or on their way.
    pub waiting_events: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

/// A sink that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink}: {source}; check that the folder is there and may be written")]
pub struct OpenError {
    sink: String,
    source: io::Error,
}

/// Sinks whose files are open; nothing runs yet.
#[derive(Debug, Default)]
pub struct Prepared {
    sinks: Vec<(SinkSpec, Option<Writer>)>,
}

impl Prepared {
    /// Opens what must be writable now: files. Receivers are connected to later, in the background.
    pub fn open(specs: &[SinkSpec]) -> Result<Self, OpenError> {
        let sinks = specs.iter().map(|spec| {
            let writer = match &spec.target {
                Target::Stdout => Some(Writer::stdout(spec.format)),
                Target::File { path, rotate_bytes, keep } => {
                    let rotation = Rotation { bytes: *rotate_bytes, keep: *keep };
                    let writer = Writer::file(path, spec.format, rotation);
                    Some(writer.map_err(|source| OpenError { sink: spec.to_string(), source })?)
                }
                Target::Grpc { .. } => None,
            };
            Ok((spec.clone(), writer))
        });
        Ok(Self { sinks: sinks.collect::<Result<_, _>>()? })
    }

    /// Starts a task for each; inside the runtime.
    #[must_use]
    pub fn start(self, who: &Identity) -> Sinks {
        let open = self.sinks.into_iter().map(|(spec, writer)| {
            let queue = Arc::new(Queue::new(spec.limits));
            let name = spec.to_string();
            let task = match writer {
                Some(writer) => {
                    tokio::spawn(file::run(name.clone(), Arc::clone(&queue), who.clone(), writer))
                }
                None => tokio::spawn(grpc::run(name.clone(), Arc::clone(&queue), who.clone())),
            };
            Open { name, queue, task }
        });
        Sinks { open: open.collect() }
    }
}

impl Sinks {
    /// Opens and starts.
    pub fn open(specs: &[SinkSpec], who: &Identity) -> Result<Self, OpenError> {
        Ok(Prepared::open(specs)?.start(who))
    }

    /// The queues, for the thread that feeds them.
    #[must_use]
    pub fn feed(&self) -> Feed {
        Feed { queues: self.open.iter().map(|sink| Arc::clone(&sink.queue)).collect() }
    }

    /// What each sink did so far.
    #[must_use]
    pub fn status(&self) -> Vec<SinkStatus> {
        self.gauge().status()
    }

    /// Reads the same from other threads, also after the sinks were closed.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge {
            sinks: self
                .open
                .iter()
                .map(|sink| (sink.name.clone(), Arc::clone(&sink.queue)))
                .collect(),
        }
    }

    /// Refuses further events and waits until all sinks are drained or the deadline has passed; the events that
    /// were left are counted in the result.
    pub async fn close(self, deadline: Duration) -> Vec<SinkStatus> {
        for sink in &self.open {
            sink.queue.close();
        }
        let end = tokio::time::Instant::now() + deadline;
        let mut left = Vec::with_capacity(self.open.len());
        for mut sink in self.open {
            if tokio::time::timeout_at(end, &mut sink.task).await.is_err() {
                sink.task.abort();
            }
            left.push(status(&sink.name, sink.queue.counts()));
        }
        left
    }
}

/// Reads what the sinks did.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    sinks: Vec<(String, Arc<Queue>)>,
}

impl Gauge {
    /// What each sink did so far.
    #[must_use]
    pub fn status(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(|(name, queue)| status(name, queue.counts())).collect()
    }
}

/// Hands events to every queue; never waits.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    queues: Vec<Arc<Queue>>,
}

impl Feed {
    /// Whether anything would take an event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Offers one event to every sink.
    pub fn offer(&self, event: Event) {
        let event = Arc::new(event);
        for queue in &self.queues {
            queue.offer(&event);
        }
    }
}

fn status(name: &str, counts: QueueCounts) -> SinkStatus {
    SinkStatus {
        sink: name.into(),
        accepted: counts.accepted,
        acknowledged: counts.acknowledged,
        dropped: counts.dropped,
        waiting_events: counts.waiting_events as u64,
        waiting_bytes: counts.waiting_bytes as u64,
    }
}
