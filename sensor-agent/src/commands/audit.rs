//! `audit list` and `audit verify`: read the log itself, with the agent alive or dead.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::{Exit, Prerequisite, output, place::Place};
use crate::{
    audit::{self, Entry, Hash},
    control::{Question, StatusView, ask},
};

/// Reads the audit log of policy changes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Lists the changes of the policy: when, who, what, why, and what came of it
    #[command(after_help = "Example:\n  sudo sensor-agent audit list --last 20")]
    List {
        #[command(flatten)]
        from: From,
        /// Only the last so many
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Print JSON, an array of entries
        #[arg(long)]
        json: bool,
    },
    /// Looks for entries that were changed, removed or moved
    #[command(after_help = "\
Example:
  sudo sensor-agent audit verify --head $(cat head.txt)   (a head hash that was sent upstream, or noted)

Without --head the log is compared with the head of the running agent, if one runs: only a head from elsewhere shows that the end \
was cut off or everything written anew while no agent ran. Exit code 1 when something does not fit.")]
    Verify {
        #[command(flatten)]
        from: From,
        /// A head hash (64 hex digits) that must be in the log
        #[arg(long, value_name = "HASH", value_parser = head)]
        head: Option<Hash>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the log is.
#[derive(Debug, clap::Args)]
struct From {
    #[command(flatten)]
    place: Place,
    /// Folder of the log, such as a copy [default: `audit` in the store]
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
}

fn head(text: &str) -> Result<Hash, String> {
    Hash::parse(text).ok_or_else(|| "write the 64 hex digits of a head hash".into())
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    match &args.verb {
        Verb::List { from, last, json } => list(from, *last, *json),
        Verb::Verify { from, head, json } => verify(from, *head, *json),
    }
}

fn folder(from: &From) -> Result<PathBuf> {
    match &from.log {
        Some(folder) => Ok(folder.clone()),
        None => Ok(audit::folder_of(&from.place.resolve()?.store)),
    }
}

fn unreadable(error: &audit::AuditError) -> anyhow::Error {
    if error.source.kind() == std::io::ErrorKind::NotFound {
        let place = error.path.display();
        let why = format!("{place}: no agent has kept a log there (--store, --log)");
        return Prerequisite::new(why).into();
    }
    Prerequisite::new(format!(
        "{error}; the log is root's, in the store of the agent (--store, --log)"
    ))
    .into()
}

fn list(from: &From, last: Option<usize>, json: bool) -> Result<Exit> {
    let mut entries = Vec::new();
    audit::entries(&folder(from)?, |entry| {
        entries.push(entry);
        // Only what is shown is held.
        if last.is_some_and(|last| entries.len() >= 2 * last.max(512)) {
            entries.drain(..entries.len() - last.unwrap_or(0));
        }
    })
    .map_err(|error| unreadable(&error))?;
    let skip = last.map_or(0, |last| entries.len().saturating_sub(last));
    let entries = entries.get(skip..).unwrap_or_default();
    if json {
        output::print_json(&entries)?;
    } else {
        output::print(&entries.iter().map(text).collect::<String>())?;
    }
    Ok(Exit::Done)
}

fn text(entry: &Entry) -> String {
    let second = entry.unix_ns / 1_000_000_000 * 1_000_000_000;
    let mut out = format!(
        "{} {} {} by {}: generation {} -> {}, {}{}\n",
        entry.number,
        sensor_proto::json::rfc3339(second),
        entry.action.as_str(),
        entry.who,
        entry.before.generation,
        entry.after.generation,
        entry.result,
        entry.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    );
    out = output::clean_lines(&out) + "\n";
    for line in &entry.diff {
        out.extend(["    ", &output::clean(line), "\n"]);
    }
    out
}

fn verify(from: &From, head: Option<Hash>, json: bool) -> Result<Exit> {
    let folder = folder(from)?;
    // The agent first: what it adds afterwards does no harm.
    let running = if head.is_none() && from.log.is_none() { running_head(from)? } else { None };
    let found = audit::verify(&folder, head.or(running)).map_err(|error| unreadable(&error))?;
    let against = match (head, running) {
        (Some(_), _) => "given",
        (None, Some(_)) => "agent",
        (None, None) => "none",
    };
    if json {
        output::print_json(&json!({ "holds": found.holds(), "against": against, "found": found }))?;
        return Ok(if found.holds() { Exit::Done } else { Exit::Negative });
    }
    for problem in &found.problems {
        output::note(&output::clean(problem));
    }
    match (found.head_found, against) {
        (Some(false), "given") => output::note(
            "the head is not in the log: the end was cut off, or the log was written anew, after it was sent",
        ),
        (Some(false), _) => output::note(
            "the head of the running agent is not in the log: it was changed behind the agent's back",
        ),
        (None, _) => output::note(
            "no head to compare with: a log that was cut at its end or written anew would look like this too (--head)",
        ),
        _ => {}
    }
    let verdict = if found.holds() { "holds" } else { "DOES NOT HOLD" };
    output::print(&if found.last == 0 {
        format!("{verdict}: no entries\n")
    } else {
        format!("{verdict}: entries {} to {}, head {}\n", found.first, found.last, found.head)
    })?;
    Ok(if found.holds() { Exit::Done } else { Exit::Negative })
}

/// Head of the running agent, if one answers.
fn running_head(from: &From) -> Result<Option<Hash>> {
    let socket = from.place.resolve()?.socket;
    let Ok(value) = ask(&socket, &Question::Status) else { return Ok(None) };
    let status: Option<StatusView> = serde_json::from_value(value).ok();
    Ok(status.and_then(|status| Hash::parse(&status.audit.head)))
}
