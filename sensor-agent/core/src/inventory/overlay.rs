//! What operators said of endpoints: taken into the catalogue with an owner, or not to be shown until a time.
//!
//! An endpoint is its service's name, its method and its template without the names of parameters: exactly that one, so that
//! taking `/users/{id}` in declares no `/users/debug`, and nothing else of its service. Asked whenever a state is decided: what is said
//! holds at once, and so does its end. Bound: [`OVERLAY_ENTRIES_MAX`] of each word.

use std::collections::BTreeMap;

use super::{
    endpoint::Endpoint,
    facet::{OperatorRow, OwnerSource},
    row::EndpointRow,
    table::Inventory,
};
use crate::{
    keyed_hash::siphash24,
    limits::OVERLAY_ENTRIES_MAX,
    shape::Shape,
    state::{DeclarationKind, Operator},
    time::UnixNs,
};

/// What can be said of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// It is declared from now on.
    Accepted,
    /// It is not to be shown.
    Ignored,
}

/// An endpoint and what was said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Service, as rows show it.
    pub service: String,
    /// Request method.
    pub method: String,
    /// Path template.
    pub path_template: String,
    /// Whose it is, where it was accepted.
    pub owner: String,
    /// Note or reason.
    pub text: String,
    /// Who said it.
    pub by: String,
    /// When.
    pub since: UnixNs,
    /// Until when, where it was ignored for a time.
    pub until: Option<UnixNs>,
}

/// There is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the overlay holds {OVERLAY_ENTRIES_MAX} endpoints already; declare them in a document, or take some out"
)]
pub struct OverlayFull;

/// Everything that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    accepted: BTreeMap<u64, Said>,
    ignored: BTreeMap<u64, Said>,
}

impl Overlay {
    /// Says something of an endpoint, in place of what was said with that word before.
    pub fn say(&mut self, word: Word, said: Said) -> Result<(), OverlayFull> {
        let key = key(&said.service, &said.method, &said.path_template);
        let words = self.words_mut(word);
        if words.len() >= OVERLAY_ENTRIES_MAX && !words.contains_key(&key) {
            return Err(OverlayFull);
        }
        words.insert(key, said);
        Ok(())
    }

    /// Takes a word back; what it was.
    pub fn take_back(
        &mut self,
        word: Word,
        service: &str,
        method: &str,
        path_template: &str,
    ) -> Option<Said> {
        self.words_mut(word).remove(&key(service, method, path_template))
    }

    /// What was said of an endpoint that need not be there any more, by its `METHOD service/path`.
    #[must_use]
    pub fn named(&self, word: Word, name: &str) -> Option<&Said> {
        let (method, place) = name.split_once(' ')?;
        self.all(word).into_iter().find(|said| {
            let path = place.trim_start().strip_prefix(&*said.service);
            said.method.eq_ignore_ascii_case(method)
                && path.is_some_and(|path| Shape(path) == Shape(&said.path_template))
        })
    }

    /// Forgets what is over at a time; how many that were.
    pub fn sweep(&mut self, now: UnixNs) -> usize {
        let before = self.ignored.len();
        self.ignored.retain(|_, said| said.is_on(now));
        before - self.ignored.len()
    }

    /// What was said with a word, by service, path and method.
    #[must_use]
    pub fn all(&self, word: Word) -> Vec<&Said> {
        let words = match word {
            Word::Accepted => &self.accepted,
            Word::Ignored => &self.ignored,
        };
        let mut all: Vec<&Said> = words.values().collect();
        all.sort_by_key(|said| (&said.service, &said.path_template, &said.method));
        all
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.ignored.is_empty()
    }

    fn words_mut(&mut self, word: Word) -> &mut BTreeMap<u64, Said> {
        match word {
            Word::Accepted => &mut self.accepted,
            Word::Ignored => &mut self.ignored,
        }
    }
}

impl Said {
    fn is_on(&self, now: UnixNs) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn row(&self) -> OperatorRow {
        OperatorRow { note: self.text.clone(), by: self.by.clone(), expires_unix_ns: self.until }
    }
}

/// What holds of one endpoint at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holds<'o> {
    accepted: Option<&'o Said>,
    ignored: Option<&'o Said>,
}

impl Holds<'_> {
    /// Whether it was accepted with an owner.
    pub(super) fn names_owner(self) -> bool {
        self.accepted.is_some_and(|said| !said.owner.is_empty())
    }

    pub(super) const fn operator(self) -> Operator {
        if self.ignored.is_some() { Operator::Ignored } else { Operator::Nothing }
    }

    /// What the catalogue says, with what operators took into it.
    pub(super) const fn declaration(self, kind: DeclarationKind) -> DeclarationKind {
        match kind {
            DeclarationKind::Current | DeclarationKind::OlderOnly => kind,
            _ if self.accepted.is_some() => DeclarationKind::Current,
            _ => kind,
        }
    }

    /// A row with what was said; the owner that was named with it comes before all others.
    pub(super) fn told(self, mut row: EndpointRow) -> EndpointRow {
        row.accepted = self.accepted.map(Said::row);
        row.ignored = self.ignored.map(Said::row);
        if let Some(said) = self.accepted.filter(|said| !said.owner.is_empty()) {
            row.declared_owner = Some(said.owner.clone());
            row.declared_owner_source = Some(OwnerSource::Catalogue);
        }
        row
    }
}

impl Inventory {
    /// Puts what operators said in force.
    pub fn set_overlay(&mut self, overlay: Overlay) {
        self.overlay = overlay;
    }

    /// What holds of an endpoint.
    pub(super) fn holds(&self, endpoint: &Endpoint, now: UnixNs) -> Holds<'_> {
        if self.overlay.is_empty() {
            return Holds::default();
        }
        let Some(service) = self.service(self.shown_as(endpoint.service)) else {
            return Holds::default();
        };
        let key = key(&service.name, endpoint.method.as_str(), &endpoint.template);
        Holds {
            accepted: self.overlay.accepted.get(&key),
            ignored: self.overlay.ignored.get(&key).filter(|said| said.is_on(now)),
        }
    }
}

fn key(service: &str, method: &str, template: &str) -> u64 {
    let text = format!("{service}\0{method}\0{}", Shape(template).text());
    siphash24([0, 0], text.as_bytes())
}
