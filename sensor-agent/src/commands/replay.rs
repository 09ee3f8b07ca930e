//! `replay FILE`: the pipeline over a capture.

use anyhow::Result;

use super::{Exit, Prerequisite};

/// Runs the pipeline over a capture file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Capture to read
    file: std::path::PathBuf,
}

/// Reads the capture.
pub(super) fn run(args: &Args) -> Result<Exit> {
    Err(Prerequisite::new(format!("{}: no reader is built in yet", args.file.display())).into())
}
