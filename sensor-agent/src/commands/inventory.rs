//! `inventory` and `coverage`: what the running agent knows, or what the store holds when none runs.

use anyhow::Result;
use sensor_core::{
    inventory::{EndpointRow, InventoryView},
    state::State,
};

use super::{
    Exit, output,
    place::Place,
    render::{self, Rows},
    shown::Shown,
    view,
};

/// Lists the endpoints that were seen, their state, and what this host calls elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent inventory                        endpoints, then calls to other hosts
  sensor-agent inventory --state shadow         what nobody declared
  sensor-agent inventory --state zombie --json  what should be gone, for other tools
  sensor-agent inventory --schema               the JSON Schema of --json

Without a running agent the store is read; which of the two it was is said on standard error. With --state, exit code 1 when no
endpoint has it.")]
pub(super) struct Args {
    #[command(flatten)]
    shown: Shown,
    /// Only endpoints in this state; the first word of it will do (shadow, zombie)
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Show pages, files and unproven probes too
    #[arg(long, short = 'a')]
    all: bool,
}

/// Lists how many connections of each listener could be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent coverage
  sensor-agent coverage --json | jq '.coverage[] | select(.tls > 0).listener'")]
pub(super) struct CoverageArgs {
    #[command(flatten)]
    place: Place,
    /// Print JSON (the `coverage` of sensor.inventory/v1)
    #[arg(long)]
    json: bool,
}

/// Prints the inventory.
pub(super) fn run(args: &Args) -> Result<Exit> {
    if args.shown.schema {
        output::print_json(&schemars::schema_for!(InventoryView))?;
        return Ok(Exit::Done);
    }
    let wanted = args.state.as_deref().map(states).transpose()?;
    let mut view = view::inventory(&args.shown.place)?;
    if let Some(wanted) = &wanted {
        view.endpoints.retain(|row: &EndpointRow| wanted.contains(&row.state));
    }
    let rows = if args.all || wanted.is_some() { Rows::All } else { Rows::Api };
    if args.shown.json {
        output::print_json(&view)?;
    } else if wanted.is_some() {
        output::print(&render::endpoints(&view, rows))?;
    } else {
        output::print(&render::inventory(&view, rows))?;
    }
    Ok(if wanted.is_some() && view.endpoints.is_empty() { Exit::Negative } else { Exit::Done })
}

/// Prints the coverage.
pub(super) fn coverage(args: &CoverageArgs) -> Result<Exit> {
    let view = view::inventory(&args.place)?;
    if args.json {
        let schema = &view.schema;
        output::print_json(&serde_json::json!({ "schema": schema, "coverage": view.coverage }))?;
    } else {
        output::print(&render::coverage(&view))?;
    }
    Ok(Exit::Done)
}

/// All states that a word means: itself, or those that begin with it.
fn states(word: &str) -> Result<Vec<State>, super::Prerequisite> {
    let means = |state: &&State| {
        let rest = state.as_str().strip_prefix(word);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let found: Vec<_> = State::ALL.iter().filter(means).copied().collect();
    if found.is_empty() || word.is_empty() {
        let all: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
        return Err(super::Prerequisite::new(format!(
            "`{word}` is no state: write one of {}",
            all.join(", ")
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_the_states_that_begin_with_it() {
        let names = |word| {
            states(word)
                .map(|states| states.iter().map(|state| state.as_str()).collect::<Vec<_>>())
                .ok()
        };
        assert_eq!(names("shadow"), Some(vec!["shadow-host", "shadow-path", "shadow-method"]));
        assert_eq!(names("declared"), Some(vec!["declared"]));
        assert_eq!(names("deprecated"), Some(vec!["deprecated"]));
        assert_eq!((names("shad"), names(""), names("x")), (None, None, None));
    }
}
