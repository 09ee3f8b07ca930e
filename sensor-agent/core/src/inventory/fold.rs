//! Which services are one: the same API under several host names, at several addresses, or both.
//!
//! Of one port are merged: what the same documents name; what one owner (unit, container) serves under the same name or by address;
//! and what answers the same operations ([`SHARED_MIN`], half of the smaller one's) on one listener, under a common name,
//! or by address, unless as many are answered by the one and absent at the other (virtual hosts). Health checks, metrics, pages and
//! `/` are everywhere and show nothing. What is merged stays so. What shows too little to be a service of its own is shown as the one that its
//! listener has, for as long as that is so (`shown`): requests by address, and names that add nothing, forged ones among them.
//! A pure function of what was counted. Bound: [`COMPARED_MAX`] services of a port are compared by what they answer.

use std::{net::SocketAddr, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::{
    endpoint::{Endpoint, Proof},
    names::NameId,
    path::example_path,
    row::Kind,
    service::{ServiceId, binding_of_name, with_view},
    table::Inventory,
};
use crate::{
    catalogue::Catalogue,
    http::Method,
    keyed_hash::siphash24,
    shape::{NOWHERE, Shape},
    time::UnixNs,
};

/// Operations that two must both answer to be one, that one must answer alone to be two, or that a name must have of its own.
pub(super) const SHARED_MIN: usize = 3;
/// Services of one port that are compared with each other.
const COMPARED_MAX: usize = 512;

pub(super) type Operations = HashSet<u64, FixedState>;

/// What is known of one service, or of several that are one.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: ServiceId,
    pub(super) address: SocketAddr,
    pub(super) host: Option<Arc<str>>,
    pub(super) names: Vec<Arc<str>>,
    pub(super) listeners: Vec<u32>,
    pub(super) binding: Option<u64>,
    pub(super) requests: u64,
    /// All that it answers.
    pub(super) served: Operations,
    /// Of that, what tells an API from another.
    api: Operations,
    /// What it answers as absent.
    absent: Operations,
    /// As method and path, to ask documents.
    asked: Vec<(Method, String, u64)>,
    owners: Vec<NameId>,
    restored: bool,
}

impl Part {
    /// Others are named after the first in this order.
    fn rank(&self) -> (bool, bool, bool, SocketAddr, Option<&str>) {
        let named = self.host.is_some();
        (!self.restored, self.binding.is_none(), !named, self.address, self.host.as_deref())
    }

    fn has_one_of(&self, other: &Self) -> bool {
        self.names.iter().any(|name| other.names.contains(name))
    }

    fn is_on(&self, other: &Self) -> bool {
        self.listeners.iter().any(|listener| other.listeners.contains(listener))
    }

    /// Whether each has enough that is absent at the other.
    fn is_contested(&self, other: &Self) -> bool {
        let only = |a: &Self, b: &Self| {
            let found = a.served.iter().filter(|it| b.absent.contains(*it));
            found.filter(|it| !b.served.contains(*it)).count()
        };
        only(self, other) + only(other, self) >= SHARED_MIN
    }

    fn absorb(&mut self, other: Self) {
        self.served.extend(other.served);
        self.api.extend(other.api);
        self.absent.extend(other.absent);
        self.asked.extend(other.asked);
        self.names.extend(other.names);
        self.listeners.extend(other.listeners);
        self.owners.extend(other.owners);
        self.binding = self.binding.or(other.binding);
        self.requests += other.requests;
    }
}

impl Inventory {
    /// Makes one of what turned out to be one, where anything new came since it was asked last.
    pub fn fold(&mut self, catalogue: &Catalogue) {
        if !std::mem::take(&mut self.fold_due) {
            return;
        }
        let mut by_port: HashMap<u16, Vec<Part>, FixedState> = HashMap::default();
        for part in self.parts(catalogue) {
            by_port.entry(part.address.port()).or_default().push(part);
        }
        let mut parts = Vec::new();
        for (_, mut of_port) in by_port {
            of_port.sort_by(|a, b| a.rank().cmp(&b.rank()));
            self.fold_port(of_port, catalogue, &mut parts);
        }
        parts.sort_by(|a, b| a.rank().cmp(&b.rank()));
        self.show(&parts, catalogue);
    }

    fn fold_port(&mut self, of_port: Vec<Part>, catalogue: &Catalogue, out: &mut Vec<Part>) {
        let (mut kept, mut rest): (Vec<Part>, Vec<Part>) = (Vec::new(), of_port);
        loop {
            let before = rest.len();
            for part in rest {
                let compared = kept.len().min(COMPARED_MAX);
                let into = kept
                    .iter_mut()
                    .take(compared)
                    .find(|into| self.is_same(into, &part, catalogue));
                match into {
                    Some(into) => {
                        self.merge_services(part.id, into.id);
                        into.absorb(part);
                    }
                    None => kept.push(part),
                }
            }
            // What was merged answers more: another one may be the same now.
            if kept.len() == before {
                break;
            }
            rest = std::mem::take(&mut kept);
        }
        out.extend(kept);
    }

    fn is_same(&self, a: &Part, b: &Part, catalogue: &Catalogue) -> bool {
        if let (Some(one), Some(other)) = (a.binding, b.binding) {
            return one == other;
        }
        let common_name = a.has_one_of(b);
        let (nameless_a, nameless_b) = (a.host.is_none(), b.host.is_none());
        let owned = a.owners.iter().any(|owner| b.owners.contains(owner));
        if owned && (common_name || (nameless_a && nameless_b)) {
            return true;
        }
        let comparable = a.is_on(b) || common_name || nameless_a || nameless_b;
        if !comparable || a.is_contested(b) {
            return false;
        }
        let shared = self.shared(a, b, catalogue).max(self.shared(b, a, catalogue));
        shared >= SHARED_MIN && shared * 2 >= a.api.len().min(b.api.len())
    }

    /// Operations of `b` that `a` answers too, or that its documents declare.
    fn shared(&self, a: &Part, b: &Part, catalogue: &Catalogue) -> usize {
        let declared = |hash: &u64| {
            a.binding.is_some()
                && b.asked.iter().any(|(method, path, asked)| {
                    asked == hash && self.is_declared_at(a.id, method, path, catalogue)
                })
        };
        b.api.iter().filter(|hash| a.api.contains(*hash) || declared(hash)).count()
    }

    /// Whether a document that names a service declares an operation of it; one for every host says nothing of this one.
    pub(super) fn is_declared_at(
        &self,
        service: ServiceId,
        method: &Method,
        path: &str,
        catalogue: &Catalogue,
    ) -> bool {
        let anchor = self.service(self.shown_as(service)).and_then(|service| self.anchor(service));
        let Some((address, host)) = anchor else { return false };
        with_view(address, host.as_deref(), |view| {
            catalogue.names_operation(view, method, path.as_bytes())
        })
    }

    /// Whether a part shows what others of its listener do not, and enough of it.
    pub(super) fn is_of_its_own(
        &self,
        part: &Part,
        others: &[&Part],
        catalogue: &Catalogue,
    ) -> bool {
        let elsewhere = |(method, path, hash): &&(Method, String, u64)| {
            others.iter().any(|other| {
                other.served.contains(hash)
                    || (other.binding.is_some()
                        && self.is_declared_at(other.id, method, path, catalogue))
            })
        };
        // One is enough where the listener answers that it is not there.
        let is_absent = |hash: &u64| others.iter().any(|other| other.absent.contains(hash));
        let own = || part.asked.iter().filter(|asked| !elsewhere(asked));
        part.binding.is_some()
            || own().any(|(_, _, hash)| is_absent(hash))
            || own().take(SHARED_MIN).count() >= SHARED_MIN
    }

    fn parts(&self, catalogue: &Catalogue) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut places: HashMap<ServiceId, usize, FixedState> = HashMap::default();
        for (id, service) in (0_u32..).map(ServiceId).zip(&self.services) {
            let Some((address, host)) = self.anchor(service).filter(|_| !service.gone) else {
                continue;
            };
            let named = |name: &Arc<str>| binding_of_name(catalogue, name, address);
            let owners = service.listeners.iter().filter_map(|at| self.listeners.get(*at as usize));
            places.insert(id, parts.len());
            parts.push(Part {
                id,
                address,
                host,
                names: service.names.clone(),
                listeners: service.listeners.clone(),
                binding: service.names.iter().find_map(named),
                requests: service.requests,
                served: Operations::default(),
                api: Operations::default(),
                absent: Operations::default(),
                asked: Vec::new(),
                owners: owners.filter_map(|listener| listener.owner).collect(),
                restored: service.restored,
            });
        }
        for endpoint in self.endpoints.iter().flatten().filter(|it| it.folded_host == 0) {
            let Some(part) = places.get(&endpoint.service).and_then(|at| parts.get_mut(*at)) else {
                continue;
            };
            self.note(endpoint, part);
        }
        parts
    }

    fn note(&self, endpoint: &Endpoint, part: &mut Part) {
        let method = endpoint.method.as_str();
        let shape = format!("{method} {}", Shape(&endpoint.template).text());
        let hash = siphash24([0, 0], shape.as_bytes());
        if endpoint.template.as_ref() == NOWHERE {
            return;
        }
        if endpoint.proof == Proof::NotYet || !self.is_proven(endpoint) {
            if endpoint.times.absent > UnixNs(0) {
                part.absent.insert(hash);
            }
            return;
        }
        if part.served.insert(hash) {
            let path = example_path(&endpoint.template);
            part.asked.push((endpoint.method.clone(), path.clone(), hash));
        }
        if Kind::of_endpoint(endpoint) == Kind::Api && endpoint.template.as_ref() != "/" {
            part.api.insert(hash);
        }
    }
}
