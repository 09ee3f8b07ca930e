//! The receiver of `sensor.v1.SensorIngest`: writes, then acknowledges, each event once.
//!
//! An acknowledgement means: the system has the event (it survives the end of the collector, and with `--fsync`
//! that of the machine). What is written and the marks of what is written move together: after a crash the file is
//! cut back to its mark, the rest was not acknowledged and comes again.

mod marks;
mod service;
#[cfg(test)]
mod tests;

pub use marks::{Marks, MarksError};
pub use service::{Collector, CollectorCounts, Durability, serve};
