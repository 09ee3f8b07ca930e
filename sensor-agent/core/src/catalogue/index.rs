//! Scopes to tries: which templates a service is asked against.
//!
//! Operations of one scope share a trie; scopes with the same operations share one trie too. A service is bound to
//! every scope that fits it (at most [`BOUND_MAX`]); fallback scopes only when nothing else fits.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;

use super::{
    binding::Scope,
    declare::ServiceView,
    host::{HostPattern, matches, normalise},
    limits::{BOUND_MAX, ENTRIES_MAX, WILDCARDS_MAX},
    template::Template,
    trie::{Entry, Inserted, Trie},
};
use crate::{http::Method, keyed_hash::siphash24};

/// One template to insert: prefix and path as text, and what it declares.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Insertion {
    pub(super) text: Rc<str>,
    pub(super) method: Method,
    pub(super) operation: u32,
    pub(super) retired: bool,
}

/// A scope's conditions beside its host, and its trie.
#[derive(Clone, Copy, Debug)]
struct Target {
    url_port: Option<u16>,
    port: Option<u16>,
    network: Option<IpNet>,
    fallback: bool,
    floating: Option<u32>,
    trie: u32,
}

/// Tries by scope.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Box<str>, Vec<Target>, RandomState>,
    wildcard: Vec<(Box<str>, Target)>,
    any: Vec<Target>,
    tries: Vec<Trie>,
}

/// The tries that a service is bound to, the more specific scope first, each once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    tries: [u32; BOUND_MAX],
    count: usize,
    /// Tries that found no room.
    pub(super) ignored: usize,
}

impl Bound {
    fn push(&mut self, trie: u32) {
        if self.tries.iter().take(self.count).any(|have| *have == trie) {
            return;
        }
        if let Some(slot) = self.tries.get_mut(self.count) {
            *slot = trie;
            self.count += 1;
        } else {
            self.ignored += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The same for the same tries, in whatever order; zero for none.
    pub(super) fn digest(&self) -> u64 {
        let mut tries = self.tries;
        let Some(tries) = tries.get_mut(..self.count).filter(|tries| !tries.is_empty()) else {
            return 0;
        };
        tries.sort_unstable();
        let bytes: Vec<u8> = tries.iter().flat_map(|trie| trie.to_le_bytes()).collect();
        siphash24([0, 0], &bytes) | 1
    }
}

/// Something worth a word about an insertion.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    /// Another operation holds the method at this template.
    Taken { operation: u32, by: u32 },
    /// The template is shown under another text, that of `first`.
    SameTemplate { operation: u32, first: u32 },
    /// No room for one more partial segment.
    PartialFull { operation: u32 },
}

/// The catalogue has too many of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    Entries,
    Wildcards,
}

impl Index {
    /// Builds all tries. Insertions of a scope are inserted in their order: the first text of a template is its name.
    pub(super) fn build(
        scopes: BTreeMap<Scope, Vec<Insertion>>,
        notes: &mut Vec<Note>,
    ) -> Result<Self, Overflow> {
        let mut index = Self::default();
        let mut known: HashMap<Vec<Insertion>, u32, RandomState> = HashMap::default();
        let mut entries = 0_usize;
        for (scope, insertions) in scopes {
            let trie = if let Some(trie) = known.get(&insertions) {
                *trie
            } else {
                entries = entries.saturating_add(insertions.len());
                if entries > ENTRIES_MAX {
                    return Err(Overflow::Entries);
                }
                let number = u32::try_from(index.tries.len()).unwrap_or(u32::MAX);
                index.tries.push(build_trie(&insertions, notes));
                known.insert(insertions, number);
                number
            };
            index.add_scope(scope, trie)?;
        }
        Ok(index)
    }

    fn add_scope(&mut self, scope: Scope, trie: u32) -> Result<(), Overflow> {
        let Scope { host, url_port, port, network, fallback, floating } = scope;
        let target = Target { url_port, port, network, fallback, floating, trie };
        match host {
            HostPattern::Exact(name) => self.exact.entry(name).or_default().push(target),
            HostPattern::Wildcard(pattern) => self.wildcard.push((pattern, target)),
            HostPattern::Any => self.any.push(target),
        }
        if self.wildcard.len() > WILDCARDS_MAX { Err(Overflow::Wildcards) } else { Ok(()) }
    }

    /// Documents that evidence may bind, each with its trie, in their order.
    pub(super) fn floating(&self) -> impl Iterator<Item = (u32, u32)> {
        self.any.iter().filter_map(|target| target.floating.map(|it| (it, target.trie)))
    }

    pub(super) fn trie(&self, number: u32) -> Option<&Trie> {
        self.tries.get(usize::try_from(number).ok()?)
    }

    /// The tries that a service is bound to; not those of the `others`, documents that evidence says are about other services.
    pub(super) fn bind(&self, service: &ServiceView<'_>, others: &[u32]) -> Bound {
        let mut bound = Bound { tries: [0; BOUND_MAX], count: 0, ignored: 0 };
        for fallback in [false, true] {
            for raw in service.hosts {
                let (host, port) = normalise(raw);
                let exact = self.exact.get(&*host).map_or(&[][..], Vec::as_slice);
                add(&mut bound, exact.iter(), service, port, fallback);
                let wildcard = self
                    .wildcard
                    .iter()
                    .filter(|(pattern, _)| matches(pattern, &host))
                    .map(|(_, target)| target);
                add(&mut bound, wildcard, service, port, fallback);
            }
            let url_port = service.hosts.iter().find_map(|raw| normalise(raw).1);
            let about_others =
                |target: &&Target| target.floating.is_some_and(|it| others.contains(&it));
            let any = self.any.iter().filter(|target| !about_others(target));
            add(&mut bound, any, service, url_port, fallback);
            if !bound.is_empty() {
                break;
            }
        }
        bound
    }

    pub(super) fn tries<'i>(&'i self, bound: &Bound) -> impl Iterator<Item = &'i Trie> + use<'i> {
        let (tries, count) = (bound.tries, bound.count);
        tries.into_iter().take(count).filter_map(|trie| self.trie(trie))
    }
}

/// Adds the targets that fit. Where some name a port that fits, those that name another do not.
fn add<'t>(
    bound: &mut Bound,
    targets: impl Iterator<Item = &'t Target> + Clone,
    service: &ServiceView<'_>,
    url_port: Option<u16>,
    fallback: bool,
) {
    let fits = |target: &&Target| {
        target.fallback == fallback
            && target.port.is_none_or(|port| port == service.port)
            && target.network.is_none_or(|network| {
                service.address.is_some_and(|address| contains(&network, address))
            })
    };
    let same_port = |port: u16| Some(port) == url_port || port == service.port;
    let named = targets.clone().filter(fits).any(|target| target.url_port.is_some_and(same_port));
    for target in targets.filter(fits) {
        if !named || target.url_port.is_none_or(same_port) {
            bound.push(target.trie);
        }
    }
}

fn contains(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address.to_canonical())
}

fn build_trie(insertions: &[Insertion], notes: &mut Vec<Note>) -> Trie {
    let mut trie = Trie::default();
    for insertion in insertions {
        let operation = insertion.operation;
        // Checked before: a text that is no template does not come here.
        let Ok(template) = Template::parse(&insertion.text) else { continue };
        let entry = Entry { operation, retired: insertion.retired };
        match trie.insert(&template, &insertion.text, &insertion.method, entry) {
            Inserted::New => {}
            Inserted::Renamed(first) => notes.push(Note::SameTemplate { operation, first }),
            Inserted::Taken(by) => notes.push(Note::Taken { operation, by }),
            Inserted::PartialFull => notes.push(Note::PartialFull { operation }),
        }
    }
    trie
}
