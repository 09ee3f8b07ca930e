//! `inventory show ENDPOINT`: all that is known of one endpoint, in words or as JSON.

use anyhow::Result;
use sensor_core::{
    inventory::{EndpointRow, StateChange},
    time::UnixNs,
};
use serde::Serialize;

use super::{facts, find::Named};
use crate::commands::{Exit, output, place::Place, view};

/// Shows all that is known of one endpoint: evidence, callers, history.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent inventory show 4f3c                              by the beginning of its id
  sensor-agent inventory show GET orders.example/users/17       by a request to it
  sensor-agent inventory show 'GET orders.example/users/{id}'   by its template
  sensor-agent inventory show 4f3c --json | jq .endpoint.callers")]
pub(super) struct Args {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    place: Place,
    /// Print JSON (sensor.endpoint/v1: a row of sensor.inventory/v1)
    #[arg(long)]
    json: bool,
}

/// Version of the published JSON.
const SCHEMA: &str = "sensor.endpoint/v1";

#[derive(Serialize)]
struct Shown<'a> {
    schema: &'static str,
    time_unix_ns: UnixNs,
    endpoint: &'a EndpointRow,
    history: &'a [StateChange],
}

/// Prints the endpoint.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let view = view::inventory(&args.place)?;
    let row = args.named.find(&view)?;
    let history = view::history(&args.place, Some(&row.id))?;
    let history = history.endpoints.first().map_or(&[][..], |known| &known.changes);
    if args.json {
        let time_unix_ns = view.time_unix_ns;
        output::print_json(&Shown { schema: SCHEMA, time_unix_ns, endpoint: row, history })?;
    } else {
        output::print(&(facts::endpoint(row) + &facts::history(history)))?;
    }
    Ok(Exit::Done)
}
