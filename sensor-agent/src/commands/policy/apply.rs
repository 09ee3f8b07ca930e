//! `policy apply FILE`: puts a document in force through the agent.

use std::path::PathBuf;

use anyhow::Result;

use super::change::{Common, send};
use crate::{
    commands::{Exit, Prerequisite},
    config::{Span, read_policy_text},
    control::Change,
};

/// Puts a policy file in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo sensor-agent policy apply policy.yaml --confirm 60s --reason CHG0012345
  sudo sensor-agent policy confirm

With --confirm the policy is on trial: the agent goes back to the one before when the time is over. What is applied takes the place of the configured policy file until that file changes: the last change wins. \
Exit code 1 when the agent refuses, 2 when none runs or you may not change anything.")]
pub(super) struct Args {
    /// Policy file (YAML)
    file: PathBuf,
    /// On trial for this time: reverted by itself unless `policy confirm` comes
    #[arg(long, value_name = "TIME")]
    confirm: Option<Span>,
    /// Also when a rule would hit everybody, the host itself or what keeps it manageable
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let (text, _) =
        read_policy_text(&args.file).map_err(|error| Prerequisite::new(error.to_string()))?;
    // List files are looked for beside it: the agent has another working folder.
    let file = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    let change = Change::PolicyApply {
        file: file.display().to_string(),
        body_bytes: text.len() as u64,
        confirm_ms: args
            .confirm
            .map(|Span(time)| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        terms: args.common.terms(args.force),
    };
    send(&args.common, &change, &text)
}
