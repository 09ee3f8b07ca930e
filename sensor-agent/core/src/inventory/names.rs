//! Interned names (media types, query parameters, owners): each text once, referred to by 16 bits. Bounded; what does not
//! fit is not listed, and counted.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Reference to an interned name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NameId(u16);

/// A bounded set of names.
#[derive(Debug)]
pub(super) struct Names {
    ids: HashMap<Arc<str>, NameId, RandomState>,
    list: Vec<Arc<str>>,
    max: usize,
    /// Names that found no room.
    pub(super) refused: u64,
}

impl Names {
    /// Makes an empty set of at most `max` (and 65 535) names.
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(usize::from(u16::MAX));
        Self { ids: HashMap::default(), list: Vec::new(), max, refused: 0 }
    }

    /// The reference of a name, added when there is room.
    pub(super) fn intern(&mut self, name: &str) -> Option<NameId> {
        if let Some(id) = self.ids.get(name) {
            return Some(*id);
        }
        let id =
            u16::try_from(self.list.len()).ok().filter(|_| self.list.len() < self.max).map(NameId);
        let Some(id) = id else {
            self.refused += 1;
            return None;
        };
        let name: Arc<str> = name.into();
        self.list.push(Arc::clone(&name));
        self.ids.insert(name, id);
        Some(id)
    }

    /// The reference of a name that is known.
    pub(super) fn id(&self, name: &str) -> Option<NameId> {
        self.ids.get(name).copied()
    }

    /// The name behind a reference.
    pub(super) fn name(&self, id: NameId) -> Option<&Arc<str>> {
        self.list.get(usize::from(id.0))
    }
}

/// A small set of references, at most `max` as its owner says; a vector, since most have none or one.
#[derive(Clone, Debug, Default)]
pub(super) struct NameSet(Vec<NameId>);

impl NameSet {
    /// Whether one of them is this name; cheaper than interning it first.
    pub(super) fn has(&self, names: &Names, name: &str) -> bool {
        self.0.iter().any(|id| names.name(*id).is_some_and(|have| **have == *name))
    }

    /// Adds a name when there is room for it here and among the names.
    pub(super) fn add(&mut self, names: &mut Names, name: &str, max: usize) {
        if self.has(names, name) || self.0.len() >= max {
            return;
        }
        if let Some(id) = names.intern(name) {
            self.add_id(id, max);
        }
    }

    /// Adds a reference when there is room.
    pub(super) fn add_id(&mut self, id: NameId, max: usize) {
        if self.0.contains(&id) || self.0.len() >= max {
            return;
        }
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(self.0.len().max(1));
        }
        self.0.push(id);
    }

    /// Adds all of another set.
    pub(super) fn add_all(&mut self, other: &Self, max: usize) {
        for id in &other.0 {
            self.add_id(*id, max);
        }
    }

    /// Whether the reference is in it.
    pub(super) fn has_id(&self, id: NameId) -> bool {
        self.0.contains(&id)
    }

    /// Whether a test holds for any of the names.
    pub(super) fn any(&self, names: &Names, test: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|id| names.name(*id).is_some_and(|name| test(name)))
    }

    /// The names, sorted.
    pub(super) fn texts(&self, names: &Names) -> Vec<String> {
        let mut texts: Vec<String> =
            self.0.iter().filter_map(|id| names.name(*id)).map(ToString::to_string).collect();
        texts.sort_unstable();
        texts
    }
}
