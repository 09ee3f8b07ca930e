//! What operators say of endpoints while the agent runs: by command, with an entry in the audit log before and after, or by a changed file.

use std::sync::PoisonError;

use sensor_core::{
    inventory::{EndpointRow, Kind, NOWHERE, Overlay, RowFilter, Said, Word},
    state::DeclarationKind,
    time::UnixNs,
};
use sensor_proto::json::rfc3339;

use super::{
    changes::{action_of, who},
    live::{lock, wall_clock},
    status::Shared,
};
use crate::{
    audit::Version,
    control::{Change, ChangeView, OverlayWord, Peer},
    kernel,
    overlay::Book,
    reload::Changed,
    telemetry::events::{self, Emit as _},
};

/// Endpoints that a refusal names.
const NAMED_MAX: usize = 8;
/// Longest name of an owner, note or reason, in bytes.
const TEXT_BYTES_MAX: usize = 1_000;

impl Shared {
    /// Says something of an endpoint for a peer that may change things, or takes it back.
    pub(super) fn say(&self, change: &Change, peer: Peer) -> Result<ChangeView, String> {
        let shown = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner).policy.clone();
        let status = shown.unwrap_or_default();
        let version = Version {
            generation: status.generation,
            hash: status.hash.clone(),
            sha256: status.sha256.clone(),
        };
        let (who, action) = (who(peer, change.terms()), action_of(change));
        let reason = change.terms().reason.clone();
        let begun = self.begin(action, &who, reason.clone(), &version).map_err(|error| {
            format!("the audit log cannot be written, so nothing is changed: {error}")
        });
        let outcome = begun.and_then(|()| self.write(change, &who.to_string())).map(|diff| {
            let (before, after) = (version.clone(), version.clone());
            Changed { before, after, diff: vec![diff], notes: Vec::new() }
        });
        let noted = self.note(action, who, reason, [version.clone(), version], &outcome);
        Ok(self.answer(outcome?, noted, &status))
    }

    /// Reads the overlay's files again where somebody changed one.
    pub(super) fn look_at_overlay(&self) {
        self.take_over(&mut self.overlay.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn take_over(&self, book: &mut Book) {
        if book.look() {
            tell_problems(book);
            self.put_in_force(book);
        }
    }

    fn put_in_force(&self, book: &Book) {
        lock(&self.facts.live).pipeline.inventory_mut().set_overlay(book.overlay().clone());
    }

    /// Writes what is said and puts it in force; a line that says what changed.
    fn write(&self, change: &Change, by: &str) -> Result<String, String> {
        let now = wall_clock();
        let mut book = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        // What somebody wrote into the files holds, whatever becomes of this change.
        self.take_over(&mut book);
        let diff = match change {
            Change::InventoryAccept { id, owner, note, .. } => {
                let row = self.acceptable(id)?;
                let (owner, text) = (plain("owner", owner)?, plain("note", note)?);
                if owner.is_empty() {
                    return Err("an accepted endpoint has an owner".into());
                }
                let said = Said { owner, text, ..said_of(&row, by, now) };
                book.change(|overlay| say(overlay, Word::Accepted, said, now))?
            }
            Change::InventoryIgnore { id, until_unix_ns, terms } => {
                let row = self.row(id)?;
                let text = plain("reason", terms.reason.as_deref().unwrap_or_default())?;
                if text.is_empty() {
                    return Err("an ignored endpoint has a reason".into());
                }
                let until = until_unix_ns.map(UnixNs);
                if until.is_some_and(|until| until <= now) {
                    return Err("the time until which it is ignored is over already".into());
                }
                let said = Said { text, until, ..said_of(&row, by, now) };
                book.change(|overlay| say(overlay, Word::Ignored, said, now))?
            }
            Change::InventoryUndo { id, word, .. } => {
                let word = Word::from(*word);
                let shown = self.row(id).map(|row| said_of(&row, by, now)).ok();
                book.change(|overlay| take_back(overlay, word, shown.as_ref(), id))?
            }
            _ => return Err("is no change of the inventory".into()),
        };
        self.put_in_force(&book);
        Ok(diff)
    }

    /// The endpoint of an id, as it is shown now.
    fn row(&self, id: &str) -> Result<EndpointRow, String> {
        let mut live = lock(&self.facts.live);
        let now = kernel::now();
        live.refresh(now);
        let now = live.pipeline.unix(now);
        let mut found = None;
        live.pipeline.each_row(now, &RowFilter::default(), |row| {
            if row.id == id {
                found = Some(row);
            }
        });
        found.ok_or_else(|| format!("no endpoint has the id `{id}`"))
    }

    fn acceptable(&self, id: &str) -> Result<EndpointRow, String> {
        let row = self.row(id)?;
        match row.declaration {
            // As lines of a catalogue these would declare every path, or mean another one.
            _ if row.kind == Kind::Overflow || stands_for_many(&row) => {
                Err(format!("{} stands for many endpoints: there is nothing to accept", name(&row)))
            }
            _ if !row.method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') => {
                Err(format!("a catalogue has no method `{}`", row.method))
            }
            DeclarationKind::OlderOnly => Err(format!(
                "{} was removed from its document: only a current document declares it again",
                name(&row)
            )),
            DeclarationKind::Current if row.accepted.is_none() => {
                Err(format!("{} is declared by a document already", name(&row)))
            }
            _ => Ok(row),
        }
    }
}

/// Whether a row is that of paths which nothing shows to exist, or of all paths that go on behind the deepest segment.
fn stands_for_many(row: &EndpointRow) -> bool {
    row.path_template == NOWHERE || row.path_template.ends_with("/{rest}")
}

/// Tells what is wrong with the overlay's files.
pub(super) fn tell_problems(book: &Book) {
    for problem in book.problems() {
        events::OverlayRefused { problem }.emit();
    }
}

impl From<OverlayWord> for Word {
    fn from(word: OverlayWord) -> Self {
        match word {
            OverlayWord::Accepted => Self::Accepted,
            OverlayWord::Ignored => Self::Ignored,
        }
    }
}

/// Says it, and forgets what is over; a line that says what changed.
fn say(overlay: &mut Overlay, word: Word, said: Said, now: UnixNs) -> Result<String, String> {
    overlay.sweep(now);
    let text = format!("+ {}", line(word, &said));
    overlay.say(word, said).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Takes back what was said of an endpoint that is shown, or of one by its name; a line that says what changed.
fn take_back(
    overlay: &mut Overlay,
    word: Word,
    shown: Option<&Said>,
    name: &str,
) -> Result<String, String> {
    let found = shown.or_else(|| overlay.named(word, name)).cloned();
    let back = found
        .as_ref()
        .and_then(|said| overlay.take_back(word, &said.service, &said.method, &said.path_template));
    back.map(|said| format!("- {}", line(word, &said))).ok_or_else(|| {
        let name = shown.map_or_else(|| format!("`{name}`"), name_of);
        let all = overlay.all(word);
        let names: Vec<String> = all.iter().take(NAMED_MAX).map(|said| name_of(said)).collect();
        let others = match (&*names, all.len().saturating_sub(NAMED_MAX)) {
            ([], _) => "nothing is".to_owned(),
            (names, 0) => format!("these are: {}", names.join(", ")),
            (names, more) => format!("these are: {}, and {more} more", names.join(", ")),
        };
        format!("{name} is not {}; {others}", verb(word))
    })
}

fn name_of(said: &Said) -> String {
    format!("{} {}{}", said.method, said.service, said.path_template)
}

fn said_of(row: &EndpointRow, by: &str, since: UnixNs) -> Said {
    Said {
        service: row.service.clone(),
        method: row.method.clone(),
        path_template: row.path_template.clone(),
        by: by.to_owned(),
        since,
        ..Said::default()
    }
}

fn name(row: &EndpointRow) -> String {
    format!("{} {}{}", row.method, row.service, row.path_template)
}

const fn verb(word: Word) -> &'static str {
    match word {
        Word::Accepted => "accepted",
        Word::Ignored => "ignored",
    }
}

fn line(word: Word, said: &Said) -> String {
    let Said { service, method, path_template, owner, text, until, .. } = said;
    let owner = if owner.is_empty() { String::new() } else { format!(", owner {owner}") };
    let until = until.map(|until| rfc3339(until.0 / 1_000_000_000 * 1_000_000_000));
    let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
    let text = if text.is_empty() { String::new() } else { format!(": {text}") };
    format!("{} {method} {service}{path_template}{owner}{until}{text}", verb(word))
}

/// One line without control characters, within its bound.
fn plain(what: &str, text: &str) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX || text.contains(char::is_control) {
        return Err(format!("{what}: write one line of at most {TEXT_BYTES_MAX} bytes"));
    }
    Ok(text.trim().to_owned())
}
