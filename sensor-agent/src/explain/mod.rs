//! Which rule decides about a client, why, and in which order rules are asked: an image and what is known beside it to words.
//!
//! The image is what the kernel has (of the running agent, or pinned) or what a file compiles to; the decision itself is
//! [`sensor_core::policy::image::explain`]. Nothing here reads a map.

mod question;
mod steps;
mod view;
mod words;

pub use question::{ExplainQuery, Transport};
pub use steps::{Asked, Beside, Clocks, packets};
pub use view::{EXPLAIN_SCHEMA, ExplainStep, ExplainView, ExplainedPacket, ExplainedVerdict};

/// Says that other connections of the client are under a verdict.
#[must_use]
pub fn other_flows(count: usize) -> Option<String> {
    (count > 0).then(|| {
        format!("{count} connections of this client are under a verdict of their own: name one with --client-port")
    })
}
