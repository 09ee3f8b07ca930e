//! Userspace agent of the API sensor: the I/O shell around `sensor-core`.
//!
//! `commands` has one file per verb, `run` is the wiring of the live sensor; everything that decides lives in the core.

pub mod audit;
pub mod collect;
pub mod commands;
pub mod config;
pub mod control;
#[cfg(target_os = "linux")]
pub mod drops;
pub mod explain;
#[cfg(target_os = "linux")]
pub mod kernel;
pub mod overlay;
#[cfg(target_os = "linux")]
pub mod reload;
mod restore;
#[cfg(target_os = "linux")]
pub mod run;
pub mod sink;
pub mod source;
pub mod store;
pub mod telemetry;
