//! `coverage`: how many connections of each listener could be read.

use anyhow::Result;

use crate::commands::{Exit, output, place::Place, render, view};

/// Lists how many connections of each listener could be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent coverage
  sensor-agent coverage --json | jq '.coverage[] | select(.tls > 0).listener'")]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    place: Place,
    /// Print JSON (sensor.coverage/v1: the `coverage` of sensor.inventory/v1)
    #[arg(long)]
    json: bool,
}

/// Prints the coverage.
pub(in crate::commands) fn run(args: &Args) -> Result<Exit> {
    let view = view::inventory(&args.place)?;
    if args.json {
        let coverage = &view.coverage;
        let json = serde_json::json!({ "schema": "sensor.coverage/v1", "coverage": coverage });
        output::print_json(&json)?;
    } else {
        output::print(&render::coverage(&view))?;
    }
    Ok(Exit::Done)
}
