//! How services are made one, and what a service without enough of its own is shown as; `fold` decides which.

use std::{cmp::Reverse, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{
    endpoint::Standing,
    fold::Part,
    learned::Learned,
    service::{ServiceId, is_named},
    table::{EndpointId, Inventory},
};
use crate::catalogue::Catalogue;

/// Host names that are kept of a service.
const NAMES_MAX: usize = 64;
/// Host names that a row lists.
pub(super) const HOSTS_MAX: usize = 16;
/// A name that no document has is listed from one in so many of the service's requests: forged ones are not.
const LISTED_SHARE: u64 = 1_000;

impl Inventory {
    /// Makes room for a name on a listener: the poorer half of those that no document has go back to the listener, and are
    /// made again when they are proven again. Whoever makes names up takes their place from nobody else for long.
    pub(super) fn let_hosts_go(
        &mut self,
        listener: u32,
        home: ServiceId,
        catalogue: &Catalogue,
    ) -> bool {
        let Some(entry) = self.listeners.get(listener as usize) else { return false };
        let address = entry.address;
        let mut poor: Vec<(u64, Arc<str>, ServiceId)> = Vec::new();
        for (name, id) in &entry.services {
            let (Some(name), Some(service)) = (name, self.service(*id)) else { continue };
            let alone = service.listeners.len() == 1 && service.names.len() == 1;
            if alone && !service.restored && !is_named(catalogue, name, address) {
                poor.push((service.requests, Arc::clone(name), *id));
            }
        }
        poor.sort_unstable();
        poor.truncate(poor.len().div_ceil(2));
        let from: Vec<ServiceId> = poor.iter().map(|(_, _, id)| *id).collect();
        for id in &from {
            if let Some(service) = self.services.get_mut(id.0 as usize) {
                service.names.clear();
            }
        }
        if let Some(entry) = self.listeners.get_mut(listener as usize) {
            entry.services.retain(|(_, id)| !from.contains(id));
            entry.hosts = entry.hosts.saturating_sub(from.len());
        }
        self.losses.hosts_full += from.len() as u64;
        for id in &from {
            self.merge_service(*id, home);
        }
        self.move_endpoints(&from, home);
        self.fold_due = true;
        !from.is_empty()
    }

    /// All of a service is another one's from now on.
    pub(super) fn merge_services(&mut self, from: ServiceId, into: ServiceId) {
        self.merge_service(from, into);
        self.move_endpoints(&[from], into);
    }

    fn merge_service(&mut self, from: ServiceId, into: ServiceId) {
        let Some(entry) = self.services.get_mut(from.0 as usize).filter(|_| from != into) else {
            return;
        };
        entry.gone = true;
        let learned = std::mem::replace(&mut entry.learned, Learned::new());
        let (names, listeners) =
            (std::mem::take(&mut entry.names), std::mem::take(&mut entry.listeners));
        let (overflow, requests) = (std::mem::take(&mut entry.overflow), entry.requests);
        let serves_declared = entry.serves_declared;
        for listener in &listeners {
            if let Some(listener) = self.listeners.get_mut(*listener as usize) {
                for (_, id) in listener.services.iter_mut().filter(|(_, id)| *id == from) {
                    *id = into;
                }
            }
        }
        let before = self.services.get(into.0 as usize).map_or(0, |it| it.learned.nodes());
        if let Some(it) = self.services.get_mut(into.0 as usize) {
            self.learned_nodes = self.learned_nodes.saturating_sub(learned.nodes());
            it.learned.merge(&learned);
            self.learned_nodes = (self.learned_nodes + it.learned.nodes()).saturating_sub(before);
            let new = names.into_iter().filter(|name| !it.names.contains(name)).collect::<Vec<_>>();
            it.names.extend(new.into_iter().take(NAMES_MAX.saturating_sub(it.names.len())));
            it.listeners.extend(listeners);
            it.listeners.sort_unstable();
            it.listeners.dedup();
            it.requests += requests;
            it.serves_declared |= serves_declared;
            it.overflow.merge(&overflow);
        }
        // The number is given away again: whoever was shown as this service is shown as what it became.
        for service in self.services.iter_mut().filter(|service| service.shown == from) {
            service.shown = into;
        }
        self.services_free.push(from);
        self.merged_into.push(into);
    }

    fn move_endpoints(&mut self, from: &[ServiceId], into: ServiceId) {
        for id in self.endpoints_where(|service| from.contains(&service)) {
            let Some(mut endpoint) = self.take(id) else { continue };
            if endpoint.standing == Standing::Endpoint {
                self.removed.push(self.stored_key(&endpoint));
            }
            endpoint.service = into;
            endpoint.dirty = true;
            let now = self.merge_or_put(endpoint);
            self.discovered.moved(id, now);
        }
        self.cache.clear();
    }

    fn endpoints_where(&self, of: impl Fn(ServiceId) -> bool) -> Vec<EndpointId> {
        (0_u32..)
            .zip(&self.endpoints)
            .filter(|(_, entry)| entry.as_ref().is_some_and(|it| of(it.service)))
            .map(|(slot, _)| EndpointId(slot))
            .collect()
    }

    /// Says of each service what it is shown as, and reads declarations anew where that is another one.
    pub(super) fn show(&mut self, parts: &[Part], catalogue: &Catalogue) {
        let mut shown: HashMap<ServiceId, ServiceId, FixedState> = HashMap::default();
        for listener in 0..self.listeners.len() {
            self.show_listener(listener, parts, catalogue, &mut shown);
        }
        Self::show_nameless(parts, &mut shown);
        let target = |mut id: ServiceId| {
            // Bounded: a chain is no longer than the ways in which one comes to be shown.
            for _ in 0..4 {
                id = shown.get(&id).copied().unwrap_or(id);
            }
            id
        };
        let mut changed = Vec::new();
        for part in parts {
            let to = target(part.id);
            let Some(entry) = self.services.get_mut(part.id.0 as usize) else { continue };
            if std::mem::replace(&mut entry.shown, to) != to {
                changed.push(part.id);
            }
        }
        self.list_hosts(parts);
        for id in &changed {
            let to = self.shown_as(*id);
            let Some(entry) = self.services.get_mut(id.0 as usize).filter(|_| to != *id) else {
                continue;
            };
            let learned = std::mem::replace(&mut entry.learned, Learned::new());
            if let Some(to) = self.services.get_mut(to.0 as usize) {
                to.learned.merge(&learned);
            }
        }
        self.learned_nodes = self.services.iter().map(|it| it.learned.nodes()).sum();
        changed.append(&mut self.merged_into);
        if changed.is_empty() {
            return;
        }
        self.cache.clear();
        for id in self.endpoints_where(|service| changed.contains(&service)) {
            self.redeclare(id, catalogue);
        }
    }

    /// What a listener's requests by address, and its names that add nothing, are shown as.
    fn show_listener(
        &self,
        listener: usize,
        parts: &[Part],
        catalogue: &Catalogue,
        shown: &mut HashMap<ServiceId, ServiceId, FixedState>,
    ) {
        let Some(entry) = self.listeners.get(listener) else { return };
        if entry.address.ip().is_unspecified() {
            // A recording that does not know addresses: only the names tell servers apart.
            return;
        }
        let mut here: Vec<&Part> = parts
            .iter()
            .filter(|part| entry.services.iter().any(|(_, id)| *id == part.id))
            .collect();
        here.sort_by_key(|part| part.id);
        here.dedup_by_key(|part| part.id);
        let named: Vec<&Part> = here.iter().copied().filter(|part| part.host.is_some()).collect();
        let own = |part: &&Part| {
            let others: Vec<&Part> =
                here.iter().copied().filter(|other| other.id != part.id).collect();
            self.is_of_its_own(part, &others, catalogue)
        };
        let own: Vec<&Part> = named.iter().copied().filter(own).collect();
        let declared: Vec<&Part> =
            own.iter().copied().filter(|part| part.binding.is_some()).collect();
        let main = match (&*declared, &*own) {
            ([one], _) | ([], [one]) => Some(*one),
            ([], []) => {
                named.iter().copied().min_by_key(|part| (Reverse(part.requests), part.host.clone()))
            }
            _ => None,
        };
        let home = self.known_service(u32::try_from(listener).unwrap_or(u32::MAX), None);
        for part in here {
            let is_own = own.iter().any(|it| it.id == part.id);
            let to = main.map(|main| main.id).or(home);
            if let Some(to) = to.filter(|to| !is_own && *to != part.id) {
                shown.entry(part.id).or_insert(to);
            }
        }
    }

    /// Listeners that were only asked by address: shown as the one service of that port that answers all the same.
    fn show_nameless(parts: &[Part], shown: &mut HashMap<ServiceId, ServiceId, FixedState>) {
        let mut served: HashMap<ServiceId, Vec<&Part>, FixedState> = HashMap::default();
        for part in parts {
            served.entry(shown.get(&part.id).copied().unwrap_or(part.id)).or_default().push(part);
        }
        let mut found = Vec::new();
        for part in parts.iter().filter(|part| part.host.is_none()) {
            if shown.contains_key(&part.id) || part.served.is_empty() {
                continue;
            }
            let fits = |candidate: &&Part| {
                candidate.host.is_some()
                    && !shown.contains_key(&candidate.id)
                    && candidate.address.port() == part.address.port()
                    && served.get(&candidate.id).is_some_and(|members| {
                        part.served.iter().all(|it| members.iter().any(|m| m.served.contains(it)))
                    })
            };
            let mut candidates = parts.iter().filter(fits);
            if let (Some(one), None) = (candidates.next(), candidates.next()) {
                found.push((part.id, one.id));
            }
        }
        shown.extend(found);
    }

    fn list_hosts(&mut self, parts: &[Part]) {
        let mut totals: HashMap<ServiceId, u64, FixedState> = HashMap::default();
        for part in parts {
            *totals.entry(self.shown_as(part.id)).or_default() += part.requests;
        }
        let mut hosts: HashMap<ServiceId, Vec<Arc<str>>, FixedState> = HashMap::default();
        for part in parts {
            let to = self.shown_as(part.id);
            let total = totals.get(&to).copied().unwrap_or_default();
            if to == part.id || part.requests.saturating_mul(LISTED_SHARE) >= total {
                hosts.entry(to).or_default().extend(part.names.iter().cloned());
            }
        }
        for (id, mut names) in hosts {
            names.sort_unstable();
            names.dedup();
            names.truncate(HOSTS_MAX);
            if let Some(service) = self.services.get_mut(id.0 as usize) {
                service.hosts = names;
            }
        }
    }
}
