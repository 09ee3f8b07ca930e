//! Owners of local sockets: cgroup ids as the kernel gives them to names that the shell resolved.
//!
//! The core reads no files: the shell asks [`Owners::knows`], resolves, and calls [`Owners::set`]. Unknown is empty,
//! never wrong.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::names::{NameId, Names};
use crate::time::MonoNs;

/// What is known of a cgroup.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: Option<NameId>,
    ask_again: MonoNs,
}

/// Names of units and containers by cgroup id. Bounded; when full, all ids are forgotten and asked for again.
#[derive(Debug)]
pub struct Owners {
    by_cgroup: HashMap<u64, Known, RandomState>,
    pub(super) names: Names,
    /// The one that was asked for last: of a host's sockets most are of few owners.
    last: Option<(u64, Known)>,
    max: usize,
}

impl Owners {
    pub(super) fn new(max: usize) -> Self {
        Self { by_cgroup: HashMap::default(), names: Names::new(max), last: None, max }
    }

    /// Whether the cgroup was resolved, with success or without, and need not be asked for at `now`.
    #[must_use]
    pub fn knows(&mut self, cgroup_id: u64, now: MonoNs) -> bool {
        cgroup_id == 0 || self.known(cgroup_id).is_some_and(|known| now < known.ask_again)
    }

    fn known(&mut self, cgroup_id: u64) -> Option<Known> {
        if let Some((last, known)) = self.last
            && last == cgroup_id
        {
            return Some(known);
        }
        let known = self.by_cgroup.get(&cgroup_id).copied()?;
        self.last = Some((cgroup_id, known));
        Some(known)
    }

    /// Notes the name of a cgroup; `None` when it could not be resolved, or has none. It is good until `ask_again`.
    pub fn set(&mut self, cgroup_id: u64, name: Option<&str>, ask_again: MonoNs) {
        if self.by_cgroup.len() >= self.max {
            self.by_cgroup.clear();
        }
        let name = name.and_then(|name| self.names.intern(name));
        self.last = None;
        self.by_cgroup.insert(cgroup_id, Known { name, ask_again });
    }

    /// Forgets a cgroup that was removed: its id can be given again.
    pub fn forget(&mut self, cgroup_id: u64) {
        self.last = None;
        self.by_cgroup.remove(&cgroup_id);
    }

    /// The name of a cgroup's owner.
    #[must_use]
    pub fn name(&self, cgroup_id: u64) -> Option<Arc<str>> {
        self.names.name(self.id(cgroup_id)?).cloned()
    }

    pub(super) fn id(&self, cgroup_id: u64) -> Option<NameId> {
        if cgroup_id == 0 {
            return None;
        }
        match self.last {
            Some((last, known)) if last == cgroup_id => known.name,
            _ => self.by_cgroup.get(&cgroup_id)?.name,
        }
    }
}
