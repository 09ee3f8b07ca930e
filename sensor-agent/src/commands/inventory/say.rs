//! `inventory accept` and `inventory ignore`: what an operator says of an endpoint, and taking it back.

use std::time::SystemTime;

use anyhow::Result;
use sensor_core::inventory::EndpointRow;

use super::{filter::When, find::Named};
use crate::{
    commands::{Exit, place::Place, tell, view},
    config::unix_ns,
    control::{Change, ChangeView, OverlayWord, Terms},
};

/// Takes an endpoint that nobody declared into the catalogue, with an owner.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo sensor-agent inventory accept 4f3c --owner team-orders --note 'documented with v2'
  sudo sensor-agent inventory accept GET orders.example/internal/jobs/17 --owner team-orders
  sudo sensor-agent inventory accept 4f3c --undo
  sudo sensor-agent inventory accept GET orders.example/jobs/{job_id} --undo   also when it is gone

Exactly this endpoint is declared from then on, no other one of its service. It is kept in overlay/accepted.csv in the folder of the store, whose \
lines are those of a list of endpoints: copied into the catalogue's folder, they declare the same for good. \
Root and the group `write_group` may do it; it is in the audit log.")]
pub(super) struct AcceptArgs {
    #[command(flatten)]
    named: Named,
    /// Whose it is: a team, a person, an address
    #[arg(long, value_name = "NAME", required_unless_present = "undo")]
    owner: Option<String>,
    /// What is worth knowing about it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Take it out again
    #[arg(long, conflicts_with_all = ["owner", "note"])]
    undo: bool,
    #[command(flatten)]
    common: Common,
}

/// Shows an endpoint no more, for a time or for good.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo sensor-agent inventory ignore 4f3c --reason 'load test' --expires 7d
  sudo sensor-agent inventory ignore GET orders.example/ping --reason 'probe of the balancer'
  sudo sensor-agent inventory ignore 4f3c --undo
  sudo sensor-agent inventory ignore GET orders.example/ping --undo   also when it is gone
  sensor-agent inventory --state ignored        what is ignored, until when

It is counted as before and has the state `ignored`, until it expires. Kept in overlay/ignored.csv in the folder of the store. \
Root and the group `write_group` may do it; it is in the audit log.")]
pub(super) struct IgnoreArgs {
    #[command(flatten)]
    named: Named,
    /// Why
    #[arg(long, value_name = "TEXT", required_unless_present = "undo")]
    reason: Option<String>,
    /// Until when: a length of time from now (12h, 30d) or RFC 3339 [default: for good]
    #[arg(long, value_name = "WHEN")]
    expires: Option<When>,
    /// Show it again
    #[arg(long, conflicts_with_all = ["reason", "expires"])]
    undo: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    place: Place,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Accepts.
pub(super) fn accept(args: &AcceptArgs) -> Result<Exit> {
    let terms = |reason: Option<String>| Terms { reason, ..Terms::default() };
    let meant = if args.undo { Meant::Said(OverlayWord::Accepted) } else { Meant::Shown };
    send(&args.common, &args.named, meant, |id| {
        if args.undo {
            let word = OverlayWord::Accepted;
            return Change::InventoryUndo { id, word, terms: terms(None) };
        }
        let (owner, note) = (args.owner.clone(), args.note.clone());
        Change::InventoryAccept {
            id,
            owner: owner.unwrap_or_default(),
            note: note.clone().unwrap_or_default(),
            terms: terms(note),
        }
    })
}

/// Ignores.
pub(super) fn ignore(args: &IgnoreArgs) -> Result<Exit> {
    let terms = Terms { reason: args.reason.clone(), ..Terms::default() };
    let until_unix_ns = args.expires.map(|when| when.after(unix_ns(SystemTime::now())).0);
    let meant = if args.undo { Meant::Said(OverlayWord::Ignored) } else { Meant::Shown };
    send(&args.common, &args.named, meant, |id| {
        if args.undo {
            return Change::InventoryUndo { id, word: OverlayWord::Ignored, terms };
        }
        Change::InventoryIgnore { id, until_unix_ns, terms }
    })
}

/// Which endpoint is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meant {
    /// One that is shown.
    Shown,
    /// One of which something was said, there or not.
    Said(OverlayWord),
}

/// Finds the endpoint, has the agent make the change, and shows what came of it.
fn send(
    common: &Common,
    named: &Named,
    meant: Meant,
    change: impl FnOnce(String) -> Change,
) -> Result<Exit> {
    let socket = common.place.resolve()?.socket;
    let told = view::from_agent(&socket)?;
    let is_said = |row: &&EndpointRow| match meant {
        Meant::Shown => true,
        Meant::Said(OverlayWord::Accepted) => row.accepted.is_some(),
        Meant::Said(OverlayWord::Ignored) => row.ignored.is_some(),
    };
    let id = match (named.find(&told), meant) {
        (Ok(row), _) if is_said(&row) => row.id.clone(),
        (Err(error), Meant::Shown) => return Err(error.into()),
        // The agent looks among what was said: the endpoint may be gone, or be another one's now.
        _ => named.text(),
    };
    let text = |view: &ChangeView| tell::lines(view) + &tell::audit_entry(view);
    tell::change(&socket, &change(id), &[], common.json, text)
}
