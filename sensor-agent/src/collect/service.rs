//! The gRPC service: one writer behind a lock, batches written in the order in which they come.
//!
//! Bounds: a message of [`MESSAGE_BYTES_MAX`], [`STREAMS_MAX`] streams a connection, acknowledgements in a channel of 16.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use sensor_proto::v1::{
    Ack, EventBatch,
    sensor_ingest_server::{SensorIngest, SensorIngestServer},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::marks::{ID_BYTES_MAX, Marks, MarksError};
use crate::sink::{Position, Rotated, Writer};

const MESSAGE_BYTES_MAX: usize = 8 << 20;
const STREAMS_MAX: u32 = 16;

/// When an acknowledgement is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the system has the bytes: survives the end of the collector.
    Written,
    /// When the disk has them: survives the end of the machine.
    Synced,
}

/// What was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CollectorCounts {
    /// Batches.
    pub batches: u64,
    /// Events written.
    pub written: u64,
    /// Events that had been written before.
    pub duplicates: u64,
    /// Numbers that were skipped by a sender: lost on the way, or the collector's marks were removed.
    pub missing: u64,
}

/// Writes batches once.
#[derive(Debug)]
pub struct Collector {
    state: Mutex<State>,
    durability: Durability,
}

#[derive(Debug)]
struct State {
    writer: Writer,
    marks: Marks,
    counts: CollectorCounts,
}

/// Why a batch was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("sensor_id and boot_id must be 1 to {ID_BYTES_MAX} bytes without control characters")]
    Identity,
    #[error("sequence numbers begin at 1 and may not overflow")]
    Sequence,
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
    #[error("cannot keep marks: {0}")]
    Marks(#[from] MarksError),
}

impl Collector {
    /// Writes behind the marks: what a crash left beyond them is cut off.
    pub fn new(mut writer: Writer, marks: Marks, durability: Durability) -> std::io::Result<Self> {
        if let Some(position) = marks.position() {
            writer.cut_to(Position(position))?;
        }
        Ok(Self {
            state: Mutex::new(State { writer, marks, counts: CollectorCounts::default() }),
            durability,
        })
    }

    /// What was received so far.
    pub fn counts(&self) -> CollectorCounts {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    /// Writes what is new of a batch; the number up to which everything is written.
    pub(super) fn take(&self, batch: &EventBatch) -> Result<u64, Refused> {
        let id_ok = |id: &str| {
            !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control)
        };
        if !id_ok(&batch.sensor_id) || !id_ok(&batch.boot_id) {
            return Err(Refused::Identity);
        }
        let next =
            batch.first_sequence.checked_add(batch.events.len() as u64).ok_or(Refused::Sequence)?;
        if batch.first_sequence == 0 {
            return Err(Refused::Sequence);
        }
        let sync = self.durability == Durability::Synced;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { writer, marks, counts } = &mut *state;
        let last = marks.last(&batch.sensor_id, &batch.boot_id);
        let known = last
            .saturating_add(1)
            .saturating_sub(batch.first_sequence)
            .min(batch.events.len() as u64);
        counts.batches += 1;
        counts.duplicates += known;
        if next <= last.saturating_add(1) {
            return Ok(last);
        }
        let skip = usize::try_from(known).unwrap_or(batch.events.len());
        if writer.make_room(batch, skip)? == Rotated::Yes {
            marks.keep(0, sync)?;
        }
        writer.write(batch, skip)?;
        if sync {
            writer.sync()?;
        }
        marks.advance(&batch.sensor_id, &batch.boot_id, next - 1, writer.position().0, sync)?;
        counts.missing += batch.first_sequence.saturating_sub(last.saturating_add(1));
        counts.written += batch.events.len() as u64 - known;
        Ok(next - 1)
    }
}

/// The service over a shared collector.
#[derive(Debug)]
struct Ingest(Arc<Collector>);

#[tonic::async_trait]
impl SensorIngest for Ingest {
    type StreamStream = ReceiverStream<Result<Ack, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<EventBatch>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let collector = Arc::clone(&self.0);
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                // Writing blocks this worker; the runtime has others, and order matters more here than speed.
                let answer =
                    collector.take(&batch).map(|sequence| Ack { sequence }).map_err(|refused| {
                        match refused {
                            Refused::Identity | Refused::Sequence => {
                                Status::invalid_argument(refused.to_string())
                            }
                            Refused::Write(_) | Refused::Marks(_) => {
                                Status::unavailable(refused.to_string())
                            }
                        }
                    });
                let refused = answer.is_err();
                if sender.send(answer).await.is_err() || refused {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Serves until `stop` is done; streams that are open then are cut (their senders come again).
pub async fn serve(
    listener: TcpListener,
    collector: Arc<Collector>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let service =
        SensorIngestServer::new(Ingest(collector)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(30)))
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::select! {
        served = serving => served,
        () = stop => Ok(()),
    }
}
