//! The table of endpoints: slots that are reused, an index by (service, method, template), and candidates that make room.

use std::hash::BuildHasher;

use super::{
    endpoint::{Declared, Endpoint, Standing},
    service::{Service, ServiceId},
    table::{EndpointId, Inventory},
};
use crate::{catalogue::Catalogue, http::Method, shape::Shape, time::UnixNs};

/// What makes an endpoint one, whatever its parameters are called. Until its host is proven, an operation is told apart by
/// the hash of that host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) service: ServiceId,
    /// Zero where the host is proven, or none was sent.
    pub(super) folded_host: u32,
    pub(super) method: &'a Method,
    pub(super) template: &'a str,
}

impl<'a> Key<'a> {
    fn of(endpoint: &'a Endpoint) -> Self {
        Self {
            service: endpoint.service,
            folded_host: endpoint.folded_host,
            method: &endpoint.method,
            template: &endpoint.template,
        }
    }

    /// As one value, to be compared and hashed.
    fn identity(&self) -> (ServiceId, u32, &'a str, Shape<'a>) {
        (self.service, self.folded_host, self.method.as_str(), Shape(self.template))
    }
}

impl Inventory {
    /// The endpoint behind an index.
    pub(super) fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id.0 as usize)?.as_deref()
    }

    /// The service of an endpoint.
    pub(super) fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.0 as usize)
    }

    fn key_hash(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key.identity())
    }

    /// The endpoint of a key.
    pub(super) fn find(&self, key: &Key<'_>) -> Option<EndpointId> {
        let hash = self.key_hash(key);
        let id = self.index.find(hash, |id| {
            self.endpoint(EndpointId(*id))
                .is_some_and(|it| Key::of(it).identity() == key.identity())
        })?;
        Some(EndpointId(*id))
    }

    /// Moves what was asked under a host to its service: it was counted at the listener before the host was proven.
    pub(super) fn move_folded(
        &mut self,
        from: ServiceId,
        to: ServiceId,
        host: u32,
        catalogue: &Catalogue,
    ) {
        let moved: Vec<EndpointId> = (0_u32..)
            .zip(&self.endpoints)
            .filter(|(_, entry)| {
                entry.as_ref().is_some_and(|it| it.folded_host == host && it.service == from)
            })
            .map(|(slot, _)| EndpointId(slot))
            .collect();
        for id in moved {
            if let Some(mut endpoint) = self.take(id) {
                if endpoint.standing == Standing::Endpoint {
                    self.removed.push(self.stored_key(&endpoint));
                }
                self.move_requests(from, to, endpoint.observed);
                endpoint.service = to;
                endpoint.folded_host = 0;
                let id = self.merge_or_put(endpoint);
                self.redeclare(id, catalogue);
                self.renew_pinned(id);
            }
        }
    }

    fn move_requests(&mut self, from: ServiceId, to: ServiceId, count: u64) {
        if let Some(service) = self.services.get_mut(from.0 as usize) {
            service.requests = service.requests.saturating_sub(count);
        }
        if let Some(service) = self.services.get_mut(to.0 as usize) {
            service.requests = service.requests.saturating_add(count);
        }
    }

    /// Adds an endpoint as a candidate; `None` when a bound is reached.
    pub(super) fn insert(&mut self, key: &Key<'_>, declared: Declared) -> Option<EndpointId> {
        let Key { service, folded_host, method, template } = *key;
        let limits = self.limits;
        if self.candidates_live >= limits.candidates || self.index.len() >= limits.endpoints {
            self.evict_candidate();
        }
        let undeclared = declared.is_undeclared();
        let owner = self.services.get_mut(service.0 as usize)?;
        if self.index.len() >= limits.endpoints
            || (undeclared
                && (self.undeclared >= limits.endpoints_undeclared
                    || owner.undeclared >= limits.endpoints_per_service))
        {
            return None;
        }
        if undeclared {
            owner.undeclared += 1;
            self.undeclared += 1;
        }
        let template_hash = self.path_hash(template.as_bytes());
        let mut endpoint = Box::new(Endpoint::new(
            service,
            method.clone(),
            template.into(),
            template_hash,
            declared,
        ));
        endpoint.folded_host = folded_host;
        let id = self.put(endpoint);
        self.candidates.push_back(id);
        self.candidates_live += 1;
        if self.candidates.len() > 2 * limits.candidates {
            let mut kept = std::mem::take(&mut self.candidates);
            kept.retain(|id| self.is_candidate(*id));
            self.candidates = kept;
        }
        Some(id)
    }

    /// Puts an endpoint into a free slot and into the index.
    pub(super) fn put(&mut self, endpoint: Box<Endpoint>) -> EndpointId {
        let hash = self.key_hash(&Key::of(&endpoint));
        let slot = if let Some(slot) = self.free.pop() {
            if let Some(entry) = self.endpoints.get_mut(slot as usize) {
                *entry = Some(endpoint);
            }
            slot
        } else {
            self.endpoints.push(Some(endpoint));
            u32::try_from(self.endpoints.len() - 1).unwrap_or(u32::MAX)
        };
        let (endpoints, hasher) = (&self.endpoints, &self.hasher);
        self.index.insert_unique(hash, slot, |id| match endpoints.get(*id as usize) {
            Some(Some(it)) => hasher.hash_one(Key::of(it).identity()),
            _ => 0,
        });
        EndpointId(slot)
    }

    /// Takes an endpoint out of the table.
    pub(super) fn take(&mut self, id: EndpointId) -> Option<Box<Endpoint>> {
        let endpoint = self.endpoint(id)?;
        let hash = self.key_hash(&Key::of(endpoint));
        if let Ok(entry) = self.index.find_entry(hash, |slot| *slot == id.0) {
            entry.remove();
        }
        let endpoint = self.endpoints.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        self.sketch_bytes = self.sketch_bytes.saturating_sub(endpoint.heap_bytes());
        if endpoint.standing == Standing::Candidate {
            self.candidates_live -= 1;
        }
        self.count_undeclared(endpoint.service, endpoint.declared, Counting::Out);
        Some(endpoint)
    }

    fn count_undeclared(&mut self, service: ServiceId, declared: Declared, counting: Counting) {
        if !declared.is_undeclared() {
            return;
        }
        let Some(service) = self.services.get_mut(service.0 as usize) else { return };
        let step = |count: usize| match counting {
            Counting::In => count + 1,
            Counting::Out => count.saturating_sub(1),
        };
        service.undeclared = step(service.undeclared);
        self.undeclared = step(self.undeclared);
    }

    pub(super) fn is_candidate(&self, id: EndpointId) -> bool {
        self.endpoint(id).is_some_and(|endpoint| endpoint.standing == Standing::Candidate)
    }

    /// Lets the oldest candidate go; its exchanges stay counted as probing.
    pub(super) fn evict_candidate(&mut self) {
        while let Some(id) = self.candidates.pop_front() {
            if self.is_candidate(id) {
                self.take(id);
                self.losses.candidates_evicted += 1;
                return;
            }
        }
    }

    /// Puts an endpoint back under its (new) key; one that is there already takes its evidence.
    pub(super) fn merge_or_put(&mut self, endpoint: Box<Endpoint>) -> EndpointId {
        if let Some(there) = self.find(&Key::of(&endpoint))
            && let Some(entry) = self.endpoints.get_mut(there.0 as usize).and_then(Option::as_mut)
        {
            let before = entry.heap_bytes();
            if entry.standing == Standing::Candidate && endpoint.standing == Standing::Endpoint {
                entry.standing = Standing::Endpoint;
                self.candidates_live -= 1;
                self.totals.probing = self.totals.probing.saturating_sub(entry.observed);
                self.totals.endpoints += entry.observed;
            } else if entry.standing == Standing::Endpoint
                && endpoint.standing == Standing::Candidate
            {
                self.totals.probing = self.totals.probing.saturating_sub(endpoint.observed);
                self.totals.endpoints += endpoint.observed;
            }
            entry.absorb(*endpoint, &self.limits, self.window_ns);
            self.sketch_bytes = (self.sketch_bytes + entry.heap_bytes()).saturating_sub(before);
            return there;
        }
        self.sketch_bytes += endpoint.heap_bytes();
        if endpoint.standing == Standing::Candidate {
            self.candidates_live += 1;
        }
        self.count_undeclared(endpoint.service, endpoint.declared, Counting::In);
        let candidate = endpoint.standing == Standing::Candidate;
        let id = self.put(endpoint);
        if candidate {
            self.candidates.push_back(id);
        }
        id
    }

    /// Lets undeclared endpoints go that were silent for longer than retention.
    pub(super) fn retire(&mut self, now: UnixNs) {
        let days_ns = self.limits.retention_days.saturating_mul(24 * 3600 * 1_000_000_000);
        let end = UnixNs(now.0.saturating_sub(days_ns));
        let old: Vec<EndpointId> = (0_u32..)
            .zip(&self.endpoints)
            .filter(|(_, entry)| {
                // Nearly all were called since: what holds for the others is asked last.
                entry.as_ref().is_some_and(|it| {
                    it.last < end
                        && self.holds(it, now).declaration(it.declared.kind).is_undeclared()
                })
            })
            .map(|(slot, _)| EndpointId(slot))
            .collect();
        if old.is_empty() {
            return;
        }
        self.cache.clear();
        for id in old {
            if let Some(endpoint) = self.take(id) {
                self.removed.push(self.stored_key(&endpoint));
                self.losses.retired += 1;
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Counting {
    In,
    Out,
}
