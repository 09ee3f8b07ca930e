//! `completions SHELL`: a completion script on standard output.

use anyhow::Result;
use clap::CommandFactory as _;

use super::{Cli, Exit, output};

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sensor-agent completions bash | sudo tee /etc/bash_completion.d/sensor-agent >/dev/null"
)]
pub(super) struct Args {
    /// Shell to complete for
    shell: clap_complete::Shell,
}

/// Writes the script.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sensor-agent", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
