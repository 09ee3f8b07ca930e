//! `policy export`: what is in force, as a policy file.

use anyhow::{Context as _, Result};

use crate::{
    commands::{Exit, Prerequisite, output, place::Place},
    control::{PolicyText, Question, ask},
};

/// Prints what is in force as a policy file, rules added by command included.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sudo sensor-agent policy export > policy.yaml")]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let text = in_force(&args.place)?;
    output::note(&format!("generation {}", text.generation));
    output::print(&text.text)?;
    Ok(Exit::Done)
}

/// What the agent has in force.
pub(super) fn in_force(place: &Place) -> Result<PolicyText> {
    let socket = place.resolve()?.socket;
    let value = ask(&socket, &Question::PolicyExport)
        .map_err(|error| Prerequisite::new(error.to_string()))?;
    serde_json::from_value(value).context("the agent is of another version")
}
