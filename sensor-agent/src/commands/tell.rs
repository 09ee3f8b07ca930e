//! Has the running agent make a change, and shows what came of it: what a change of the policy and one of the inventory have in common.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Exit, Prerequisite, output};
use crate::control::{AskError, Change, ChangeView, tell};

/// Sends a change; prints its view as JSON, or as the lines that `text` makes of it. A refusal is a negative answer.
pub(super) fn change(
    socket: &Path,
    change: &Change,
    body: &[u8],
    json: bool,
    text: impl FnOnce(&ChangeView) -> String,
) -> Result<Exit> {
    let view: ChangeView = match tell(socket, change, body) {
        Ok(value) => serde_json::from_value(value).context("the agent is of another version")?,
        Err(AskError::Refused(why)) => {
            if json {
                output::print_json(&serde_json::json!({ "refused": why }))?;
            } else {
                output::note(&format!("refused: {}", output::clean_lines(&why)));
            }
            return Ok(Exit::Negative);
        }
        Err(error) => return Err(Prerequisite::new(error.to_string()).into()),
    };
    if json {
        output::print_json(&view)?;
    } else {
        output::print(&text(&view))?;
    }
    Ok(Exit::Done)
}

/// What changed, a line each, and what else is worth one.
pub(super) fn lines(view: &ChangeView) -> String {
    let mut out = String::new();
    for line in &view.diff {
        out.extend([&*output::clean(line), "\n"]);
    }
    for note in &view.notes {
        out.extend(["note: ", &output::clean(note), "\n"]);
    }
    out
}

/// The entry of the audit log that a change made.
pub(super) fn audit_entry(view: &ChangeView) -> String {
    let head = view.audit.head.get(..16).unwrap_or_default();
    format!("audit entry {} ({head})\n", view.audit.entries)
}
