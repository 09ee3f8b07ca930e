//! The gRPC sink: a stream of batches out, acknowledgements back, reconnecting with exponential back-off and jitter.
//!
//! Bounds: [`WINDOW_BATCHES`] batches on their way; the queue's own limits hold everything not acknowledged. After a
//! reconnect everything not acknowledged is sent again under the same numbers.

use std::{sync::Arc, time::Duration};

use sensor_proto::v1::{Ack, EventBatch, sensor_ingest_client::SensorIngestClient};
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Endpoint};

use super::queue::{Identity, Queue};
use crate::telemetry::events::{self, Emit as _};

const BATCH_EVENTS: usize = 512;
/// Well below the 4 MiB that a gRPC receiver takes by default.
const BATCH_BYTES: usize = 1 << 20;
const WINDOW_BATCHES: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No acknowledgement for this long while batches are on their way: the connection is given up.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("cannot connect: {}", innermost(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("{}", said(.0))]
    Refused(#[from] Status),
    #[error("the receiver closed the stream")]
    Closed,
    #[error("no acknowledgement for {} s", ACK_TIMEOUT.as_secs())]
    Silent,
}

/// Sends until the queue is closed and everything is acknowledged.
pub(super) async fn run(url: String, queue: Arc<Queue>, who: Identity) {
    let mut backoff = BACKOFF_MIN;
    while !(queue.is_closed() && queue.counts().waiting_events == 0) {
        let before = queue.first_sequence();
        let Err(error) = connection(&url, &queue, &who).await else { return };
        if queue.first_sequence() > before {
            backoff = BACKOFF_MIN;
        }
        let wait = jittered(backoff);
        events::SinkFailed { sink: &url, error: &error, retry: wait }.emit();
        time::sleep(wait).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One connection; `Ok` when the queue is closed and empty.
async fn connection(url: &str, queue: &Queue, who: &Identity) -> Result<(), Ended> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .tcp_nodelay(true);
    let mut client = SensorIngestClient::new(endpoint.connect().await?);
    let (sender, receiver) = mpsc::channel(WINDOW_BATCHES);
    let opened = time::timeout(CONNECT_TIMEOUT, client.stream(ReceiverStream::new(receiver)));
    let acks = opened.await.map_err(|_| Ended::Silent)??.into_inner();
    events::SinkConnected { sink: url }.emit();
    pump(queue, who, sender, acks).await
}

/// Sends what waits and takes acknowledgements, with at most [`WINDOW_BATCHES`] on their way.
async fn pump(
    queue: &Queue,
    who: &Identity,
    sender: mpsc::Sender<EventBatch>,
    mut acks: Streaming<Ack>,
) -> Result<(), Ended> {
    let mut next = queue.first_sequence();
    // Last sequence number of each batch on its way, in order.
    let mut sent = std::collections::VecDeque::with_capacity(WINDOW_BATCHES);
    loop {
        while sent.len() < WINDOW_BATCHES
            && let Some(batch) = queue.batch(who, next, BATCH_EVENTS, BATCH_BYTES)
        {
            next += batch.events.len() as u64;
            sent.push_back(next - 1);
            sender.send(batch).await.map_err(|_| Ended::Closed)?;
        }
        if queue.is_closed() && queue.counts().waiting_events == 0 {
            return Ok(());
        }
        tokio::select! {
            // Acknowledgements first: they make room.
            biased;
            ack = acks.message() => {
                let sequence = ack?.ok_or(Ended::Closed)?.sequence;
                // A receiver cannot acknowledge what was not sent.
                queue.acknowledge(sequence.min(next - 1));
                while sent.front().is_some_and(|last| *last <= sequence) {
                    sent.pop_front();
                }
            }
            () = queue.changed(), if sent.len() < WINDOW_BATCHES => {}
            () = time::sleep(ACK_TIMEOUT), if !sent.is_empty() => return Err(Ended::Silent),
        }
    }
}

/// The cause at the bottom ("connection refused"): the layers above only say "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// What the receiver said, or that the connection broke (which has no code of its own).
fn said(status: &Status) -> String {
    match status.code() {
        tonic::Code::Unknown | tonic::Code::Cancelled => "the connection was lost".into(),
        code => format!("the receiver answered {code:?}: {}", status.message()),
    }
}

/// Between half and all of `backoff`: many sensors must not come back in step.
fn jittered(backoff: Duration) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(backoff) % 1_000;
    backoff / 2 + backoff / 2 * u32::try_from(random).unwrap_or(0) / 1_000
}
