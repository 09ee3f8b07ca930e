//! What all changes have in common: their terms, the way to the agent, and how what came of them is shown; and the small verbs.

use anyhow::Result;
use sensor_proto::json::rfc3339;

use super::session::ssh_connection;
use crate::{
    commands::{Exit, place::Place, tell},
    control::{Change, ChangeView, Terms},
};

/// Options of every change.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    place: Place,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Only when this generation is in force: nobody else changed it meanwhile
    #[arg(long, value_name = "N")]
    if_generation: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Keeps what was applied with --confirm.
#[derive(Debug, clap::Args)]
pub(super) struct ConfirmArgs {
    #[command(flatten)]
    common: Common,
}

/// Takes back what was applied with --confirm.
#[derive(Debug, clap::Args)]
pub(super) struct RevertArgs {
    #[command(flatten)]
    common: Common,
}

/// Removes a rule that was added.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sudo sensor-agent policy remove bad-client --reason CHG0012346"
)]
pub(super) struct RemoveArgs {
    /// Id of the rule
    id: String,
    #[command(flatten)]
    common: Common,
}

/// Lets a rule that the guard stopped do again what it says.
#[derive(Debug, clap::Args)]
pub(super) struct RearmArgs {
    /// Id of the rule
    id: String,
    #[command(flatten)]
    common: Common,
}

/// `policy confirm`
pub(super) fn confirm(args: &ConfirmArgs) -> Result<Exit> {
    send(&args.common, &Change::PolicyConfirm { terms: args.common.terms(false) }, &[])
}

/// `policy revert`
pub(super) fn revert(args: &RevertArgs) -> Result<Exit> {
    send(&args.common, &Change::PolicyRevert { terms: args.common.terms(false) }, &[])
}

/// `policy remove`
pub(super) fn remove(args: &RemoveArgs) -> Result<Exit> {
    let change = Change::PolicyRemove { id: args.id.clone(), terms: args.common.terms(false) };
    send(&args.common, &change, &[])
}

/// `policy rearm`
pub(super) fn rearm(args: &RearmArgs) -> Result<Exit> {
    let change = Change::PolicyRearm { id: args.id.clone(), terms: args.common.terms(false) };
    send(&args.common, &change, &[])
}

impl Common {
    /// As the agent takes them. The ssh connection goes along: its peer is protected while a policy is provisional.
    pub(super) fn terms(&self, force: bool) -> Terms {
        Terms {
            reason: self.reason.clone(),
            if_generation: self.if_generation,
            force,
            ssh: ssh_connection(),
        }
    }
}

/// Has the agent make a change and shows what came of it.
pub(super) fn send(common: &Common, change: &Change, body: &[u8]) -> Result<Exit> {
    tell::change(&common.place.resolve()?.socket, change, body, common.json, text)
}

fn text(view: &ChangeView) -> String {
    let policy = match view.generation {
        0 => "no policy is in force".to_owned(),
        generation => format!("generation {generation} ({})", view.hash),
    };
    let mut out = tell::lines(view) + &policy + ", " + &tell::audit_entry(view);
    if let Some(provisional) = &view.provisional {
        out.extend([format!(
            "provisional until {}: keep it with `policy confirm`, else generation {} is in force again\n",
            rfc3339(provisional.until_unix_ns / 1_000_000_000 * 1_000_000_000),
            provisional.back_to_generation
        )]);
    }
    out
}
