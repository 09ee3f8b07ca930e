//! `catalogue coverage`: what of each API document is used, from the running agent or its store.

use anyhow::Result;
use sensor_core::inventory::{CatalogueCoverageView, DocumentRow};

use super::super::{Exit, output, output::grouped, place::Place, view};

/// Lists what of each document is used, unused, shadow and zombie, and how it is bound.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent catalogue coverage
  sensor-agent catalogue coverage --json | jq '.documents[] | select(.percent < 50)'
  sensor-agent replay demo.pcap --catalogue ./openapi --emit coverage

USED are operations called in the window, SHADOW endpoints that nobody declared at the services that the document is about, ZOMBIE \
endpoints of it that should be gone and are called. Without a running agent the store is read; which it was is said on standard error.")]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// Print JSON, whose version is its field `schema`
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of --json and exit
    #[arg(long)]
    schema: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    if args.schema {
        output::print_json(&schemars::schema_for!(CatalogueCoverageView))?;
        return Ok(Exit::Done);
    }
    let view = view::catalogue_coverage(&args.place)?;
    if args.json {
        output::print_json(&view)?;
    } else {
        output::print(&text(&view))?;
    }
    Ok(Exit::Done)
}

/// The documents as a table, with their bindings, and the services that have none.
fn text(view: &CatalogueCoverageView) -> String {
    if view.documents.is_empty() {
        return "No API documents; give the agent some: `sensor-agent run --catalogue FOLDER`, or `catalogue:` in its configuration.\n".into();
    }
    let rows: Vec<_> = view.documents.iter().map(cells).collect();
    let header =
        ["DOCUMENT", "DECLARED", "USED", "UNUSED", "SHADOW", "ZOMBIE", "PERCENT", "BOUND TO"];
    let mut text = output::table(&header, &rows);
    text.push('\n');
    for row in &view.documents {
        let bound =
            if row.bound_to.is_empty() { "nothing".into() } else { row.bound_to.join(", ") };
        let line = format!("{}: bound to {bound} ({})", row.document, row.reason);
        text.extend([&*output::clean(&line), "\n"]);
    }
    if view.undocumented_total > 0 {
        let named: Vec<_> = view.undocumented.iter().take(10).map(|row| &*row.service).collect();
        let more = view.undocumented_total.saturating_sub(named.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let line = format!("No document is about: {}{more}", named.join(", "));
        text.extend(["\n", &*output::clean(&line), "\n"]);
    }
    text
}

fn cells(row: &DocumentRow) -> Vec<String> {
    let age = if row.retired { " (older version)" } else { "" };
    vec![
        format!("{}{age}", row.document),
        grouped(row.declared),
        grouped(row.used),
        grouped(row.unused),
        grouped(row.shadow),
        grouped(row.zombie),
        row.percent.map_or_else(|| "-".into(), |percent| format!("{percent:.1}")),
        row.bound_to.first().cloned().unwrap_or_else(|| "nothing".into()),
    ]
}
