//! The file and stdout sinks: batches from the queue to a [`Writer`], retried while the disk is full.
//!
//! An event is acknowledged to the queue once the system has it; files are synced when the sink closes.

use std::{io, sync::Arc, time::Duration};

use super::{
    queue::{Identity, Queue},
    writer::Writer,
};
use crate::telemetry::events::{self, Emit as _};

const BATCH_EVENTS: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
/// How long an error (a full disk) is waited out before the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Writes until the queue is closed and empty; ends early when a reader of stdout went away.
pub(super) async fn run(name: String, queue: Arc<Queue>, who: Identity, mut writer: Writer) {
    loop {
        let from = queue.first_sequence();
        let Some(batch) = queue.batch(&who, from, BATCH_EVENTS, BATCH_BYTES) else {
            if queue.is_closed() {
                break;
            }
            queue.changed().await;
            continue;
        };
        let last = batch.first_sequence + batch.events.len() as u64 - 1;
        if let Err(error) = writer.make_room(&batch, 0) {
            // A folder that may not be written any more: the file grows on, which loses less than to stop.
            events::SinkFailed { sink: &name, error: &error, retry: Duration::ZERO }.emit();
        }
        let written = writer.write(&batch, 0);
        match written {
            Ok(()) => queue.acknowledge(last),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                events::SinkEnded { sink: &name, error: &error }.emit();
                queue.close();
                return;
            }
            Err(error) => {
                events::SinkFailed { sink: &name, error: &error, retry: RETRY }.emit();
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    if let Err(error) = writer.sync() {
        events::SinkEnded { sink: &name, error: &error }.emit();
    }
}
