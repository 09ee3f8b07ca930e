//! Stage 8, finding: an exchange at its endpoint to findings, and to verdicts on its flow or client.
//!
//! Detectors are given to the pipeline; none is built in. What one decides goes to the kernel's tables by the shell.

mod detector;

pub use detector::{Consequence, Detector, FlowVerdict, Sentence, Subject};
