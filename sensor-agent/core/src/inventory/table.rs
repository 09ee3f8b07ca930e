//! The inventory: one exchange in, counted at one endpoint, or at one of the counters beside.
//!
//! A request that was seen before costs one look-up in the path cache; a new one is split, matched against the
//! catalogue and templated. Every table is bounded by [`InventoryLimits`]; what finds no room is counted.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash, Hasher},
    net::SocketAddr,
};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use super::{
    cache::PathCache,
    egress::{Caller, EgressTable},
    endpoint::{Context, Declared, Endpoint, Proof, Standing},
    evidence::Outcome,
    host::{HOST_BYTES_MAX, HostName},
    listener::{Credentials, Listener},
    names::Names,
    owners::Owners,
    path::{Target, Templating, write_template},
    row::InventoryTotals,
    service::{Service, ServiceId, canonical},
    watch::Watch,
};
use crate::{
    catalogue::{Catalogue, ServiceView},
    http::{Exchange, Method},
    limits::{InventoryLimits, WINDOW_NS_DEFAULT},
    state::{DeclarationKind, Role},
    time::UnixNs,
};

/// Index of an endpoint in the running inventory; [`super::EndpointRow::id`] is what lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(super) u32);

/// Where one exchange was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// At an endpoint.
    Endpoint(EndpointId),
    /// At an operation whose existence is not proven.
    Probing,
    /// In the overflow row of its service.
    Overflow,
    /// CORS preflight.
    Preflight,
    /// CONNECT, `OPTIONS *`, or a target that is no path.
    NoOperation,
    /// Egress.
    Egress,
    /// Transit.
    Transit,
}

/// What the inventory could not keep, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryLosses {
    /// Exchanges counted in overflow rows because a bound of endpoints was reached.
    pub endpoints_full: u64,
    /// Candidates that made room for newer ones.
    pub candidates_evicted: u64,
    /// Exchanges of listeners beyond the bound.
    pub listeners_full: u64,
    /// Exchanges whose host name found no room as a service and were counted at the listener.
    pub hosts_full: u64,
    /// Clients that a full budget of sketches did not count.
    pub sketches_refused: u64,
    /// Names (media types, parameters, owners) that found no room.
    pub names_full: u64,
    /// Endpoints whose retention ended.
    pub retired: u64,
}

/// All that was seen.
#[derive(Debug)]
pub struct Inventory {
    pub(super) limits: InventoryLimits,
    pub(super) window_ns: u64,
    pub(super) client_key: [u64; 2],
    hasher: FixedState,
    pub(super) listeners: Vec<Listener>,
    listener_ids: HashMap<SocketAddr, u32, FixedState>,
    pub(super) services: Vec<Service>,
    pub(super) endpoints: Vec<Option<Box<Endpoint>>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    undeclared: usize,
    /// Unproven endpoints, oldest first; may name some that were proven or removed since.
    candidates: VecDeque<EndpointId>,
    candidates_live: usize,
    cache: PathCache,
    pub(super) egress: EgressTable,
    pub(super) owners: Owners,
    pub(super) media: Names,
    pub(super) query_names: Names,
    pub(super) hello_names: Names,
    pub(super) watch: Watch,
    pub(super) totals: InventoryTotals,
    pub(super) losses: InventoryLosses,
    pub(super) sketch_bytes: usize,
    catalogue_digest: u64,
    /// Endpoints that were proven since the last call of `take_discovered`.
    pub(super) discovered: Vec<EndpointId>,
    /// Keys of endpoints that are no more.
    pub(super) removed: Vec<String>,
    scratch: Vec<u8>,
}

impl Inventory {
    /// Makes an empty inventory. `key` is secret and lasts as long as the store: client sketches depend on it.
    #[must_use]
    pub fn new(limits: InventoryLimits, key: [u64; 2]) -> Self {
        let hasher = FixedState::with_seed(key[0] ^ key[1].rotate_left(32));
        Self {
            window_ns: WINDOW_NS_DEFAULT,
            client_key: key,
            listeners: Vec::new(),
            listener_ids: HashMap::with_hasher(hasher.clone()),
            services: Vec::new(),
            endpoints: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            undeclared: 0,
            candidates: VecDeque::new(),
            candidates_live: 0,
            cache: PathCache::new(limits.path_cache),
            egress: EgressTable::default(),
            owners: Owners::new(limits.owners),
            media: Names::new(4_096),
            query_names: Names::new(16_384),
            hello_names: Names::new(8_192),
            watch: Watch::default(),
            totals: InventoryTotals::default(),
            losses: InventoryLosses::default(),
            sketch_bytes: 0,
            catalogue_digest: UNREAD,
            discovered: Vec::new(),
            removed: Vec::new(),
            scratch: Vec::with_capacity(limits.template_bytes),
            hasher,
            limits,
        }
    }

    /// Sets the window W that activity and coverage speak of.
    pub fn set_window(&mut self, window_ns: u64) {
        self.window_ns = window_ns.max(1);
    }

    /// Names of owners of local sockets.
    pub fn owners_mut(&mut self) -> &mut Owners {
        &mut self.owners
    }

    /// Names of owners of local sockets.
    #[must_use]
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// What was counted, by where.
    #[must_use]
    pub fn totals(&self) -> InventoryTotals {
        self.totals
    }

    /// What found no room.
    #[must_use]
    pub fn losses(&self) -> InventoryLosses {
        let names_full = self.media.refused + self.query_names.refused + self.hello_names.refused;
        InventoryLosses { names_full: names_full + self.owners.names.refused, ..self.losses }
    }

    /// Number of endpoints in the table, candidates included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Counts one exchange. Time is the exchange's own.
    pub fn observe(&mut self, exchange: &Exchange, role: Role, catalogue: &Catalogue) -> Observed {
        self.totals.exchanges += 1;
        match role {
            Role::Transit => {
                self.totals.transit += 1;
                return Observed::Transit;
            }
            Role::Client => {
                self.observe_egress(exchange);
                return Observed::Egress;
            }
            Role::Server => {}
        }
        if exchange.request.preflight {
            self.totals.preflight += 1;
            return Observed::Preflight;
        }
        let (path, query) = match Target::parse(&exchange.target) {
            Target::Path { path, query } if exchange.method != Method::Connect => (path, query),
            _ => {
                self.totals.no_operation += 1;
                return Observed::NoOperation;
            }
        };
        if catalogue.digest() != self.catalogue_digest {
            self.reload(catalogue);
        }
        let outcome = Outcome::of(exchange, path);
        let hash = self.request_hash(exchange, path);
        if let Some(id) = self.cache.find(hash)
            && self.count_known(id, exchange, outcome, path, query)
        {
            return Observed::Endpoint(id);
        }
        self.observe_new(exchange, outcome, path, query, hash, catalogue)
    }

    fn request_hash(&self, exchange: &Exchange, path: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        exchange.server.hash(&mut hasher);
        exchange.host.as_deref().unwrap_or_default().hash(&mut hasher);
        exchange.method.as_str().hash(&mut hasher);
        is_grpc(exchange).hash(&mut hasher);
        path.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn template_hash(&self, template: &str) -> u32 {
        self.path_hash(template.as_bytes())
    }

    /// Makes the next exchange (or the next call of `set_catalogue`) read all declarations anew.
    pub(super) fn declare_anew(&mut self) {
        self.catalogue_digest = UNREAD;
    }

    /// Puts a catalogue in force: all declarations are read anew.
    pub fn set_catalogue(&mut self, catalogue: &Catalogue) {
        if catalogue.digest() != self.catalogue_digest {
            self.reload(catalogue);
        }
    }

    fn path_hash(&self, path: &[u8]) -> u32 {
        fold(self.hasher.hash_one(path))
    }

    /// Counts at an endpoint that exists; false when the id is stale.
    fn count_known(&mut self, id: EndpointId, exchange: &Exchange, outcome: Outcome, path: &[u8], query: &[u8]) -> bool {
        if self.endpoint(id).is_none() {
            return false;
        }
        self.totals.endpoints += 1;
        self.count(id, exchange, outcome, path, query);
        true
    }

    fn observe_new(
        &mut self,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
        query: &[u8],
        hash: u64,
        catalogue: &Catalogue,
    ) -> Observed {
        let Some(listener) = self.listener_id(exchange.server) else {
            self.losses.listeners_full += 1;
            self.totals.overflow += 1;
            return Observed::Overflow;
        };
        let mut buffer = [0; HOST_BYTES_MAX];
        let host = HostName::parse(exchange.host.as_deref(), &mut buffer);
        let (service, folding) = self.service_for(listener, host, outcome, catalogue);
        let (declared, template) = self.declare(service, exchange, path, catalogue);
        let scratch = std::mem::take(&mut self.scratch);
        let text = template.text(&scratch);
        let id = match self.find(service, &exchange.method, text) {
            Some(id) => Some(id),
            None => self
                .adopt(listener, service, &exchange.method, text, declared)
                .or_else(|| self.insert(service, &exchange.method, text, declared)),
        };
        self.scratch = scratch;
        let Some(id) = id else {
            if let Some(service) = self.services.get_mut(service.0 as usize) {
                service.overflow.add(exchange.status, u64::from(exchange.weight.max(1)), exchange.time);
            }
            self.losses.endpoints_full += 1;
            self.totals.overflow += 1;
            return Observed::Overflow;
        };
        self.count(id, exchange, outcome, path, query);
        let counted = self.settle(id);
        if matches!(counted, Observed::Endpoint(_)) && folding == Folding::Final {
            self.cache.insert(hash, id);
        }
        counted
    }

    /// Moves a candidate to the service of its host: it was counted at the listener before its host was proven.
    fn adopt(
        &mut self,
        listener: u32,
        service: ServiceId,
        method: &Method,
        template: &str,
        declared: Declared,
    ) -> Option<EndpointId> {
        let own = self.known_service(listener, None).filter(|own| *own != service)?;
        let id = self.find(own, method, template).filter(|id| self.is_candidate(*id))?;
        let mut endpoint = self.take(id)?;
        endpoint.service = service;
        endpoint.declared = declared;
        Some(self.merge_or_put(endpoint))
    }

    /// Adds an exchange's evidence to an endpoint and its listener.
    fn count(&mut self, id: EndpointId, exchange: &Exchange, outcome: Outcome, path: &[u8], query: &[u8]) {
        let path_hash = match outcome {
            Outcome::Absent | Outcome::Moved | Outcome::Redirect => self.path_hash(path),
            _ => 0,
        };
        let location = match (outcome, exchange.response.location.as_deref()) {
            (Outcome::Redirect, Some(location)) => self.path_hash(location.as_bytes()),
            _ => 0,
        };
        let Some(endpoint) = self.endpoints.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let mut context = Context {
            limits: &self.limits,
            owners: &mut self.owners,
            media: &mut self.media,
            query_names: &mut self.query_names,
            client_key: self.client_key,
            sketch_bytes: &mut self.sketch_bytes,
            sketches_refused: &mut self.losses.sketches_refused,
        };
        endpoint.observe(exchange, outcome, query, &mut context);
        let Some(service) = self.services.get_mut(endpoint.service.0 as usize) else { return };
        service.requests += 1;
        if outcome == Outcome::Success && !endpoint.declared.is_undeclared() {
            service.serves_declared = true;
        }
        let Some(listener) = self.listeners.get_mut(service.listener as usize) else { return };
        listener.owner = endpoint.owner.or(listener.owner);
        match outcome {
            Outcome::Absent | Outcome::Moved => {
                endpoint.note_absent(path_hash);
                if exchange.status == Some(404) {
                    listener.note_absent(Credentials::of(exchange.request.auth), endpoint.template_hash);
                }
            }
            Outcome::Redirect => {
                endpoint.redirect = location;
                listener.note_redirect(location, path_hash, self.limits.redirects);
            }
            _ => {}
        }
    }

    /// Books the exchange just counted: at an endpoint, or as probing until something proves that it exists.
    fn settle(&mut self, id: EndpointId) -> Observed {
        let Some(endpoint) = self.endpoints.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return Observed::Overflow;
        };
        if endpoint.proof == Proof::NotYet && endpoint.declared.is_undeclared() {
            self.totals.probing += 1;
            return Observed::Probing;
        }
        if endpoint.standing == Standing::Candidate {
            // The first exchange that proves it brings the earlier ones along.
            endpoint.standing = Standing::Endpoint;
            let earlier = endpoint.observed - 1;
            self.candidates_live -= 1;
            self.totals.probing = self.totals.probing.saturating_sub(earlier);
            self.totals.endpoints += earlier;
            self.discovered.push(id);
        }
        self.totals.endpoints += 1;
        Observed::Endpoint(id)
    }

    fn observe_egress(&mut self, exchange: &Exchange) {
        self.totals.egress += 1;
        let mut buffer = [0; HOST_BYTES_MAX];
        let server;
        let host = match HostName::parse(exchange.host.as_deref(), &mut buffer) {
            HostName::Name(name) => name,
            HostName::Listener => {
                server = canonical(exchange.server).to_string();
                &server
            }
        };
        let caller = match self.owners.id(exchange.client_hint.cgroup_id) {
            Some(owner) => Caller::Owner(owner),
            None => Caller::Address(exchange.client.ip().to_canonical()),
        };
        let weight = u64::from(exchange.weight.max(1));
        let limits = (self.limits.egress, self.limits.callers);
        self.egress.observe(host, &exchange.method, caller, weight, exchange.time, limits);
    }
}

/// Whether the service found for a host is the one it will keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folding {
    /// It is.
    Final,
    /// The host name is not proven: a success gives it a service of its own.
    Provisional,
}

/// Where the template of a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum TemplateText<'c> {
    Document(&'c str),
    /// In the scratch buffer.
    Typed,
}

impl TemplateText<'_> {
    fn text<'a>(&'a self, scratch: &'a [u8]) -> &'a str {
        match self {
            Self::Document(text) => text,
            // `write_template` writes ASCII only.
            Self::Typed => std::str::from_utf8(scratch).unwrap_or("/"),
        }
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

    /// The listener of an address, made when there is room.
    pub(super) fn listener_id(&mut self, address: SocketAddr) -> Option<u32> {
        let address = canonical(address);
        if let Some(id) = self.listener_ids.get(&address) {
            return Some(*id);
        }
        if self.listeners.len() >= self.limits.listeners || self.services.len() >= self.limits.services {
            return None;
        }
        let id = u32::try_from(self.listeners.len()).ok()?;
        self.listeners.push(Listener::new(address));
        self.listener_ids.insert(address, id);
        self.add_service(id, None);
        Some(id)
    }

    /// Makes a service; the listener's own is its first.
    fn add_service(&mut self, listener: u32, host: Option<&str>) -> ServiceId {
        let id = ServiceId(u32::try_from(self.services.len()).unwrap_or(u32::MAX));
        if let Some(entry) = self.listeners.get_mut(listener as usize) {
            let service = Service::new(listener, entry.address, host);
            entry.services.push((service.host.clone(), id));
            entry.hosts += usize::from(host.is_some());
            self.services.push(service);
        }
        id
    }

    /// The service of a listener with this host, when there is one.
    fn known_service(&self, listener: u32, host: Option<&str>) -> Option<ServiceId> {
        let services = &self.listeners.get(listener as usize)?.services;
        services.iter().find(|(name, _)| name.as_deref() == host).map(|(_, id)| *id)
    }

    fn service_for(
        &mut self,
        listener: u32,
        host: HostName<'_>,
        outcome: Outcome,
        catalogue: &Catalogue,
    ) -> (ServiceId, Folding) {
        let own = self.known_service(listener, None).unwrap_or(ServiceId(0));
        let HostName::Name(name) = host else { return (own, Folding::Final) };
        if let Some(id) = self.known_service(listener, Some(name)) {
            return (id, Folding::Final);
        }
        let Some(entry) = self.listeners.get(listener as usize) else { return (own, Folding::Final) };
        if outcome != Outcome::Success && !is_named(catalogue, name, entry.address) {
            return (own, Folding::Provisional);
        }
        if entry.hosts >= self.limits.hosts_per_listener || self.services.len() >= self.limits.services {
            self.losses.hosts_full += 1;
            return (own, Folding::Final);
        }
        (self.add_service(listener, Some(name)), Folding::Final)
    }

    /// The service for a stored record, made when there is room.
    pub(super) fn restored_service(&mut self, address: SocketAddr, host: Option<&str>) -> Option<ServiceId> {
        let listener = self.listener_id(address)?;
        if let Some(id) = self.known_service(listener, host) {
            return Some(id);
        }
        let entry = self.listeners.get(listener as usize)?;
        if entry.hosts >= self.limits.hosts_per_listener || self.services.len() >= self.limits.services {
            return None;
        }
        Some(self.add_service(listener, host))
    }

    /// What the catalogue says of a request, and the template to count it under.
    fn declare<'c>(
        &mut self,
        service: ServiceId,
        exchange: &Exchange,
        path: &[u8],
        catalogue: &'c Catalogue,
    ) -> (Declared, TemplateText<'c>) {
        let (declared, template) = self.ask(service, &exchange.method, path, catalogue);
        if let Some(template) = template {
            return (declared, TemplateText::Document(template));
        }
        let templating = if is_grpc(exchange) { Templating::Verbatim } else { Templating::Typed };
        let (bytes_max, segments_max) = (self.limits.template_bytes, self.limits.template_segments);
        write_template(path, templating, bytes_max, segments_max, &mut self.scratch);
        (declared, TemplateText::Typed)
    }

    fn ask<'c>(
        &self,
        service: ServiceId,
        method: &Method,
        path: &[u8],
        catalogue: &'c Catalogue,
    ) -> (Declared, Option<&'c str>) {
        let unknown = Declared { kind: DeclarationKind::NoCatalogue, deprecated: false, sunset: UnixNs(0) };
        if catalogue.is_empty() {
            return (unknown, None);
        }
        let Some(service) = self.service(service) else { return (unknown, None) };
        let Some(listener) = self.listeners.get(service.listener as usize) else { return (unknown, None) };
        let declaration = with_view(listener.address, service.host.as_deref(), |view| {
            catalogue.declare(view, method, path)
        });
        let declared = Declared {
            kind: declaration.kind,
            deprecated: declaration.lifecycle.deprecated,
            sunset: declaration.lifecycle.sunset.unwrap_or_default(),
        };
        // The bound of templates holds for documents too.
        let template = declaration.template.filter(|template| template.len() <= self.limits.template_bytes * 4);
        (declared, template)
    }

    fn key_hash(&self, service: ServiceId, method: &Method, template: &str) -> u64 {
        self.hasher.hash_one((service, method.as_str(), template))
    }

    pub(super) fn find(&self, service: ServiceId, method: &Method, template: &str) -> Option<EndpointId> {
        let hash = self.key_hash(service, method, template);
        let id = self.index.find(hash, |id| {
            self.endpoint(EndpointId(*id)).is_some_and(|endpoint| {
                endpoint.service == service && *endpoint.template == *template && endpoint.method == *method
            })
        })?;
        Some(EndpointId(*id))
    }

    /// Adds an endpoint as a candidate; `None` when a bound is reached.
    pub(super) fn insert(
        &mut self,
        service: ServiceId,
        method: &Method,
        template: &str,
        declared: Declared,
    ) -> Option<EndpointId> {
        let limits = self.limits;
        if self.candidates_live >= limits.candidates || self.index.len() >= limits.endpoints {
            self.evict_candidate();
        }
        let undeclared = declared.is_undeclared();
        let owner = self.services.get_mut(service.0 as usize)?;
        if self.index.len() >= limits.endpoints
            || (undeclared
                && (self.undeclared >= limits.endpoints_undeclared || owner.undeclared >= limits.endpoints_per_service))
        {
            return None;
        }
        if undeclared {
            owner.undeclared += 1;
            self.undeclared += 1;
        }
        let template_hash = self.path_hash(template.as_bytes());
        let endpoint = Box::new(Endpoint::new(service, method.clone(), template.into(), template_hash, declared));
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
    fn put(&mut self, endpoint: Box<Endpoint>) -> EndpointId {
        let hash = self.key_hash(endpoint.service, &endpoint.method, &endpoint.template);
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
            Some(Some(entry)) => hasher.hash_one((entry.service, entry.method.as_str(), &*entry.template)),
            _ => 0,
        });
        EndpointId(slot)
    }

    /// Takes an endpoint out of the table.
    pub(super) fn take(&mut self, id: EndpointId) -> Option<Box<Endpoint>> {
        let endpoint = self.endpoint(id)?;
        let hash = self.key_hash(endpoint.service, &endpoint.method, &endpoint.template);
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

    fn is_candidate(&self, id: EndpointId) -> bool {
        self.endpoint(id).is_some_and(|endpoint| endpoint.standing == Standing::Candidate)
    }

    /// Lets the oldest candidate go; its exchanges stay counted as probing.
    fn evict_candidate(&mut self) {
        while let Some(id) = self.candidates.pop_front() {
            if self.is_candidate(id) {
                self.take(id);
                self.losses.candidates_evicted += 1;
                return;
            }
        }
    }

    /// Reads all declarations anew: another catalogue is in force.
    fn reload(&mut self, catalogue: &Catalogue) {
        self.catalogue_digest = catalogue.digest();
        self.cache.clear();
        for service in &mut self.services {
            service.serves_declared = false;
        }
        for slot in 0..self.endpoints.len() {
            let Ok(slot) = u32::try_from(slot) else { break };
            self.redeclare(EndpointId(slot), catalogue);
        }
    }

    fn redeclare(&mut self, id: EndpointId, catalogue: &Catalogue) {
        let Some(endpoint) = self.endpoint(id) else { return };
        let (service, path) = (endpoint.service, super::path::example_path(&endpoint.template));
        let (declared, template) = self.ask(service, &endpoint.method, path.as_bytes(), catalogue);
        let renamed = template.filter(|template| *template != &*endpoint.template);
        if renamed.is_none() && declared == endpoint.declared {
            self.note_served_declared(id);
            return;
        }
        let Some(mut endpoint) = self.take(id) else { return };
        if let Some(template) = renamed {
            if endpoint.standing == Standing::Endpoint {
                self.removed.push(self.stored_key(&endpoint));
            }
            endpoint.template = template.into();
            endpoint.template_hash = self.path_hash(template.as_bytes());
        }
        endpoint.declared = declared;
        endpoint.dirty = true;
        let merged = self.merge_or_put(endpoint);
        self.note_served_declared(merged);
        let Some(entry) = self.endpoints.get_mut(merged.0 as usize).and_then(Option::as_mut) else { return };
        if entry.standing == Standing::Candidate && !entry.declared.is_undeclared() {
            entry.standing = Standing::Endpoint;
            self.candidates_live -= 1;
            self.totals.probing = self.totals.probing.saturating_sub(entry.observed);
            self.totals.endpoints += entry.observed;
            self.discovered.push(merged);
        }
    }

    /// Puts an endpoint back under its (new) key; one that is there already takes its evidence.
    pub(super) fn merge_or_put(&mut self, endpoint: Box<Endpoint>) -> EndpointId {
        if let Some(there) = self.find(endpoint.service, &endpoint.method, &endpoint.template)
            && let Some(entry) = self.endpoints.get_mut(there.0 as usize).and_then(Option::as_mut)
        {
            let before = entry.heap_bytes();
            if entry.standing == Standing::Candidate && endpoint.standing == Standing::Endpoint {
                entry.standing = Standing::Endpoint;
                self.candidates_live -= 1;
                self.totals.probing = self.totals.probing.saturating_sub(entry.observed);
                self.totals.endpoints += entry.observed;
            } else if entry.standing == Standing::Endpoint && endpoint.standing == Standing::Candidate {
                self.totals.probing = self.totals.probing.saturating_sub(endpoint.observed);
                self.totals.endpoints += endpoint.observed;
            }
            entry.absorb(*endpoint, &self.limits);
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

    fn note_served_declared(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoint(id) else { return };
        if endpoint.declared.is_undeclared() || endpoint.proof == Proof::NotYet {
            return;
        }
        let service = endpoint.service;
        if let Some(service) = self.services.get_mut(service.0 as usize) {
            service.serves_declared = true;
        }
    }

    /// Lets undeclared endpoints go that were silent for longer than retention.
    pub(super) fn retire(&mut self, now: UnixNs) {
        let days_ns = self.limits.retention_days.saturating_mul(24 * 3600 * 1_000_000_000);
        let end = UnixNs(now.0.saturating_sub(days_ns));
        let old: Vec<EndpointId> = (0_u32..)
            .zip(&self.endpoints)
            .filter(|(_, entry)| entry.as_ref().is_some_and(|it| it.declared.is_undeclared() && it.last < end))
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

/// Calls `f` with the view that the catalogue takes of a service.
pub(super) fn with_view<T>(address: SocketAddr, host: Option<&str>, f: impl FnOnce(&ServiceView<'_>) -> T) -> T {
    let one = [host.unwrap_or_default()];
    let hosts = if host.is_some() { &one[..] } else { &[] };
    f(&ServiceView { hosts, address: Some(address.ip()), port: address.port() })
}

/// Whether a document names this host, and not any host.
pub(super) fn is_named(catalogue: &Catalogue, host: &str, address: SocketAddr) -> bool {
    let named = |host| with_view(address, Some(host), |view| catalogue.names(view));
    !catalogue.is_empty() && named(host) && !named(NO_HOST)
}

/// No catalogue was read yet.
const UNREAD: u64 = u64::MAX;

/// A host that no document names (RFC 2606).
const NO_HOST: &str = "no-such-host.invalid";

fn is_grpc(exchange: &Exchange) -> bool {
    exchange.request.content_type.as_deref().is_some_and(|media| media.starts_with("application/grpc"))
}

fn fold(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}
