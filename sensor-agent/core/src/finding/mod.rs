//! Stage 8, finding: an exchange at its endpoint to findings, and to verdicts on its flow or client.
//!
//! Detectors are given to the pipeline; built in are the policy's limits on requests by forwarded address and credential. What one decides goes to the kernel's tables by the shell.

mod detector;
mod requests;

pub use detector::{Consequence, Detector, FlowVerdict, Sentence, Subject};
pub use requests::{RequestHits, RequestLimits};
