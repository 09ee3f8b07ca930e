//! Pure core of the sensor: samples in, exchanges, endpoints and events out.
//!
//! No I/O, no clock, no logging: time is an argument, counts are return values, every table has a bound in
//! [`limits`]. Stages use only stages above them: sample, flow, http, inventory, finding, event.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod catalogue;
mod counts;
pub mod csv;
pub mod digest;
pub mod event;
pub mod finding;
pub mod flow;
pub mod glob;
pub mod http;
pub mod inventory;
pub mod keyed_hash;
pub mod limits;
pub mod locality;
pub mod pipeline;
pub mod policy;
pub mod sample;
mod shape;
pub mod state;
pub mod time;
mod yaml;
