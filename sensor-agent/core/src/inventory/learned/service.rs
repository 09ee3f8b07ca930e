//! What one service taught, and when to read its templates anew.

use super::{
    decide,
    seed::{self, Values},
    segments::Segments,
    templates::Templates,
    trie::{METHODS, NODES_MAX, NONE, Trie},
};
use crate::http::Method;

/// Where a request was counted; good until something is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Leaf(u32);

impl Leaf {
    /// Counted nowhere.
    pub(in super::super) const NONE: Self = Self(NONE);

    pub(in super::super) const fn of(index: u32) -> Self {
        Self(index)
    }

    pub(in super::super) const fn index(self) -> u32 {
        self.0
    }
}

/// Requests of a service, and their templates.
#[derive(Debug)]
pub(in super::super) struct Learned {
    trie: Trie,
    templates: Templates,
    /// Those before, to tell what was split off from what is new.
    previous: Templates,
    requests: u64,
    /// Templates of an earlier run are in the trie that were not read yet.
    sown: bool,
    /// Requests at which the templates are read anew.
    due: u64,
}

impl Learned {
    pub(in super::super) fn new() -> Self {
        Self {
            trie: Trie::new(),
            templates: Templates::default(),
            previous: Templates::default(),
            requests: 0,
            sown: false,
            due: FIRST_DUE,
        }
    }

    /// Counts a request with these segments; `room` is how many nodes there may be.
    pub(in super::super) fn insert(
        &mut self,
        segments: &Segments,
        method: &Method,
        room: usize,
    ) -> Leaf {
        self.requests += 1;
        Leaf(self.trie.insert(segments, slot(method), room.min(NODES_MAX)))
    }

    /// Takes back a template that an earlier run learned, with what its parameters stood for; `room` is how many nodes there may be.
    pub(in super::super) fn sow(
        &mut self,
        template: &str,
        values: &[Values],
        (method, calls): (&Method, u64),
        room: usize,
    ) {
        if seed::sow(&mut self.trie, template, values, (slot(method), calls), room.min(NODES_MAX)) {
            self.sown = true;
        }
    }

    /// Whether templates were taken back that were not read yet; asked once.
    pub(in super::super) fn take_sown(&mut self) -> bool {
        std::mem::take(&mut self.sown)
    }

    /// Counts one more at a leaf; false when it has none.
    pub(in super::super) fn count(&mut self, leaf: Leaf, method: &Method) -> bool {
        if leaf == Leaf::NONE {
            return false;
        }
        self.requests += 1;
        self.trie.count(leaf.0, slot(method));
        true
    }

    /// Takes back what a template counted: its requests showed nothing.
    pub(in super::super) fn forget(&mut self, template: &str) {
        let mut segments = Segments::default();
        if segments.read(template.as_bytes(), SEGMENTS_MAX) {
            self.trie.forget(&segments);
        }
    }

    /// Adds what another host counted.
    pub(in super::super) fn merge(&mut self, other: &Self) {
        self.trie.merge(&other.trie);
        self.requests += other.requests;
        self.sown |= other.sown;
    }

    /// Whether leaves given out before are no more; asked once.
    pub(in super::super) fn take_evicted(&mut self) -> bool {
        std::mem::take(&mut self.trie.evicted)
    }

    /// Keeps fewer names from here on; false where fewer are not to be had.
    pub(in super::super) fn give_way(&mut self) -> bool {
        self.trie.give_way()
    }

    /// The templates.
    pub(in super::super) fn templates(&self) -> &Templates {
        &self.templates
    }

    /// The templates before those.
    pub(in super::super) fn previous(&self) -> &Templates {
        &self.previous
    }

    /// Nodes in use.
    pub(in super::super) fn nodes(&self) -> usize {
        self.trie.len()
    }

    /// Requests whose nodes found no room.
    pub(in super::super) fn refused(&self) -> u64 {
        self.trie.refused
    }

    /// Requests that are counted together with others at the bound of a node.
    pub(in super::super) fn rest(&self) -> u64 {
        self.trie.rest()
    }

    /// About how many names those are of.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, at least 0"
    )]
    pub(in super::super) fn rest_names(&self) -> u64 {
        self.trie.rest_names().round() as u64
    }

    /// All requests that are counted somewhere.
    #[cfg(test)]
    pub(super) fn counted(&self) -> u64 {
        self.trie.whole(super::trie::ROOT)
    }

    /// Whether enough was counted since the templates were read.
    pub(in super::super) fn is_due(&self) -> bool {
        self.requests >= self.due
    }

    /// Whether anything was counted that the templates do not know.
    pub(in super::super) fn is_behind(&self) -> bool {
        self.requests >= REQUESTS_MIN && self.due != next_due(self.requests)
    }

    /// Reads the templates anew; whether they changed.
    pub(in super::super) fn learn(&mut self) -> bool {
        self.due = next_due(self.requests);
        let templates = decide::templates(&self.trie);
        if templates.is_same_tree(&self.templates) {
            return false;
        }
        self.previous = std::mem::replace(&mut self.templates, templates);
        true
    }
}

fn next_due(requests: u64) -> u64 {
    requests + (requests / 2).max(FIRST_DUE)
}

/// Place of a method among those that are told apart.
const fn slot(method: &Method) -> usize {
    match method {
        Method::Get => 0,
        Method::Post => 1,
        Method::Put => 2,
        Method::Patch => 3,
        Method::Delete => 4,
        Method::Head => 5,
        Method::Options => 6,
        _ => METHODS - 1,
    }
}

/// Segments of a template that is forgotten.
const SEGMENTS_MAX: usize = 64;
/// Requests below which shapes alone decide.
const REQUESTS_MIN: u64 = 24;
/// Requests after which templates are read the first time while traffic goes on.
const FIRST_DUE: u64 = 64;
