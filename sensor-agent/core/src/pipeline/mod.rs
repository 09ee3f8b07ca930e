//! Composes the stages: samples or segments in, inventory and events out.
//!
//! [`Pipeline`] is what the shell drives: one call a record, one a tick. It does no I/O, reads no clock, and keeps at
//! most [`EVENTS_PENDING_MAX`](crate::limits::EVENTS_PENDING_MAX) events until they are taken.

mod counts;
mod drive;
mod stages;
#[cfg(test)]
mod tests;

pub use counts::{PipelineCounter, PipelineCounts};
pub use drive::{Pipeline, Placing};
pub use stages::{ExchangeEvents, Settings};
