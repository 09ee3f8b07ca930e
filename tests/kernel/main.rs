//! Kernel tier: real kernel, real packets, real servers and clients in network namespaces.
//!
//! Needs root; without it every test says so and passes as skipped.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod agreement;
mod attach;
mod commands;
mod counts;
mod coverage;
mod documents;
mod drops;
mod enforcement;
mod explain;
mod forwarding;
mod golden;
mod guard;
mod laboratory;
mod limits;
mod model;
mod operators;
mod owners;
mod pins;
mod policy;
mod privacy;
mod reload;
mod requests;
mod reset;
mod room;
mod safety;
mod sources;
mod switch;
mod upstream;
mod watched;
