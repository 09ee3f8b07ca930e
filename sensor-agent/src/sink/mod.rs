//! Stage 10, sinks: events to bytes out, each behind a bounded queue of its own.
//!
//! Drop policy, the same everywhere: when a queue is full the newest event is dropped and counted; what was
//! accepted keeps its order and its number, so a receiver sees no hole. Nobody waits for a sink.

mod encode;
mod file;
mod grpc;
mod queue;
mod spec;
#[cfg(test)]
mod tests;
mod writer;

mod fan_out;

pub use encode::encode;
pub use fan_out::{Feed, Gauge, OpenError, Prepared, SinkStatus, Sinks};
pub use queue::{Identity, Limits, Queue};
pub use spec::{FileFormat, SinkError, SinkSpec};
pub use writer::{Position, Rotated, Rotation, Writer};
