//! `policy diff FILE`: what would change if a file were applied. Exit code 1 when something would.

use std::path::PathBuf;

use anyhow::Result;
use sensor_core::{
    policy::{self, Difference, RuleChange},
    time::UnixNs,
};
use serde_json::json;

use super::export::in_force;
use crate::{
    commands::{Exit, Prerequisite, output, place::Place},
    config::read_policy,
};

/// Shows what would change if a file were applied: rules that are new (+), gone (-) or others (~).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  sensor-agent policy diff policy.yaml

Rules that were added by command stay when a file is applied, and are not shown. \
Exit code 0 when nothing would change, 1 when something would.")]
pub(super) struct Args {
    /// Policy file (YAML)
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let config = args.place.resolve()?;
    // List files are named as the agent names them: it has another working folder.
    let file = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    let after =
        read_policy(&file, &config).map_err(|error| Prerequisite::new(error.to_string()))?;
    let now = in_force(&args.place)?;
    let before = policy::parse("what is in force", now.text.as_bytes(), UnixNs(0))
        .map_err(|errors| anyhow::anyhow!("the agent's document cannot be read: {errors}"))?;
    let stays =
        |one: &Difference| one.change == RuleChange::Removed && now.added.contains(&one.rule);
    let differences = policy::diff(&before, &after);
    let lines: Vec<String> =
        differences.iter().filter(|one| !stays(one)).map(ToString::to_string).collect();
    if args.json {
        output::print_json(&json!({ "generation": now.generation, "diff": lines }))?;
    } else if lines.is_empty() {
        output::print(&format!(
            "nothing would change: generation {} has the same rules\n",
            now.generation
        ))?;
    } else {
        output::print(&(output::clean_lines(&lines.join("\n")) + "\n"))?;
    }
    Ok(if lines.is_empty() { Exit::Done } else { Exit::Negative })
}
