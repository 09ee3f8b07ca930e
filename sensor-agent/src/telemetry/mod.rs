//! What the agent says about itself: logs, counters, `/metrics`, `/healthz` and `/readyz`.

pub mod events;
pub mod http;
mod log;
mod metrics;
mod own;

pub use log::{LogFormat, init};
pub use own::Own;
