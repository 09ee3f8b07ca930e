//! `inventory`: the endpoints, and what this host calls elsewhere.

use anyhow::Result;
use sensor_core::inventory::InventoryView;

use super::{diff, filter::FilterArgs, say, show};
use crate::commands::{
    Exit, output,
    render::{self, Rows},
    shown::Shown,
    view,
};

/// Lists the endpoints that were seen, their state, and what this host calls elsewhere.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  sensor-agent inventory                          endpoints, then calls to other hosts
  sensor-agent inventory --state shadow           what nobody declared
  sensor-agent inventory --state zombie --json    what should be gone, for other tools
  sensor-agent inventory --service '*.shop.example' --since 24h --sort requests
  sensor-agent inventory --exposure public --sort risk
  sensor-agent inventory show GET orders.example/users/{user_id}
  sensor-agent inventory diff --since 24h
  sudo sensor-agent inventory accept 4f3c --owner team-orders
  sudo sensor-agent inventory ignore 4f3c --reason 'load test' --expires 7d
  sensor-agent inventory --schema                 the JSON Schema of --json

Without a running agent the store is read; which of the two it was is said on standard error. With a filter, \
exit code 1 when no endpoint fits."
)]
pub(in crate::commands) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show pages, files and unproven probes too
    #[arg(long, short = 'a')]
    all: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Shows all that is known of one endpoint
    Show(show::Args),
    /// Lists what changed since a time: new, gone, another state
    Diff(diff::Args),
    /// Takes one that nobody declared into the catalogue, with an owner
    Accept(say::AcceptArgs),
    /// Shows one no more, for a time or for good
    Ignore(say::IgnoreArgs),
}

/// Prints the inventory, or runs the verb.
pub(in crate::commands) fn run(args: &Args) -> Result<Exit> {
    match &args.verb {
        None => list(args),
        Some(Verb::Show(args)) => show::run(args),
        Some(Verb::Diff(args)) => diff::run(args),
        Some(Verb::Accept(args)) => say::accept(args),
        Some(Verb::Ignore(args)) => say::ignore(args),
    }
}

fn list(args: &Args) -> Result<Exit> {
    if args.shown.schema {
        output::print_json(&schemars::schema_for!(InventoryView))?;
        return Ok(Exit::Done);
    }
    let mut view = view::inventory(&args.shown.place)?;
    let (filter, chooses) = (args.filter.at(view.time_unix_ns), args.filter.chooses());
    let all = view.endpoints.len();
    view.endpoints.retain(|row| filter.wants(row));
    filter.sort(&mut view.endpoints);
    let rows = if args.all || args.filter.names_rows() { Rows::All } else { Rows::Api };
    if args.shown.json {
        output::print_json(&view)?;
    } else if chooses {
        output::print(&render::chosen(&view, rows, all))?;
    } else {
        output::print(&render::inventory(&view, rows))?;
    }
    Ok(if chooses && view.endpoints.is_empty() { Exit::Negative } else { Exit::Done })
}
