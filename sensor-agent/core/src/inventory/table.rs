//! The inventory: one exchange in, counted at one endpoint, or at one of the counters beside.
//!
//! A request that was seen before costs one look-up in the path cache; a new one is split, matched against the
//! catalogue and templated. Every table is bounded by [`InventoryLimits`]; what finds no room is counted.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use super::{
    cache::PathCache,
    catch_all::{Given, Judged, rest_kind, rest_method},
    declared::UNREAD,
    discovered::Discovered,
    egress::{Caller, EgressTable},
    endpoint::{Context, Endpoint, Proof, Standing, client_hash},
    evidence::{Outcome, Redirects},
    exposure::{Origin, Way},
    host::{HOST_BYTES_MAX, HostName},
    learned::{Leaf, Segments},
    listener::{Credentials, Listener},
    names::Names,
    overlay::Overlay,
    owned::OwnerGlobs,
    owners::Owners,
    pace::Part,
    path::Target,
    pins::Pins,
    row::InventoryTotals,
    service::{Folding, Service, ServiceId, canonical},
    slots::Key,
    summary::Summary,
    watch::Watch,
};
use crate::{
    catalogue::Catalogue,
    http::{Exchange, Method},
    limits::{InventoryLimits, WINDOW_NS_DEFAULT},
    shape::NOWHERE,
    state::Role,
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
    /// Look-ups in the catalogue that took too many steps: the path counts as undeclared.
    pub lookups_given_up: u64,
    /// Segments that found no room among learned templates: their paths are known by shape alone.
    pub learned_full: u64,
    /// Requests of more names at one place of a path than are told apart: counted together, exactly.
    pub learned_rest: u64,
    /// Look-ups of a service that more documents name than are asked: the others count as silent about it.
    pub lookups_partial: u64,
}

/// All that was seen.
#[derive(Debug)]
pub struct Inventory {
    pub(super) limits: InventoryLimits,
    pub(super) window_ns: u64,
    pub(super) client_key: [u64; 2],
    /// The client counted last and its hash: the next one is often the same.
    pub(super) last_client: (IpAddr, u64),
    /// The part of the window that the exchange counted last lies in.
    part: Part,
    pub(super) hasher: FixedState,
    /// Who sent the exchange that is looked at.
    origin: Origin,
    pub(super) listeners: Vec<Listener>,
    pub(super) listener_ids: HashMap<SocketAddr, u32, FixedState>,
    pub(super) services: Vec<Service>,
    pub(super) services_free: Vec<ServiceId>,
    /// Something came that may show services to be one.
    pub(super) fold_due: bool,
    /// Ticks for which that can wait.
    pub(super) fold_later: usize,
    /// Services that took others in since declarations were read.
    pub(super) merged_into: Vec<ServiceId>,
    pub(super) endpoints: Vec<Option<Box<Endpoint>>>,
    pub(super) free: Vec<u32>,
    pub(super) index: HashTable<u32>,
    pub(super) undeclared: usize,
    /// Unproven endpoints, oldest first; may name some that were proven or removed since.
    pub(super) candidates: VecDeque<EndpointId>,
    pub(super) candidates_live: usize,
    pub(super) cache: PathCache,
    pub(super) egress: EgressTable,
    pub(super) owners: Owners,
    /// Names of owners of APIs, as catalogues have them.
    pub(super) api_owners: Names,
    pub(super) owner_globs: OwnerGlobs,
    pub(super) media: Names,
    pub(super) query_names: Names,
    pub(super) hello_names: Names,
    pub(super) watch: Watch,
    pub(super) totals: InventoryTotals,
    /// As of the last look at all endpoints.
    pub(super) summary: Summary,
    pub(super) losses: InventoryLosses,
    pub(super) sketch_bytes: usize,
    pub(super) catalogue_digest: u64,
    /// Endpoints that were proven since the last call of `take_discovered`.
    pub(super) discovered: Discovered,
    /// Keys of endpoints that are no more.
    pub(super) removed: Vec<String>,
    pub(super) scratch: Vec<u8>,
    /// Segments of the request that is looked at.
    pub(super) segments: Segments,
    /// Nodes of learned templates, of all services.
    pub(super) learned_nodes: usize,
    /// Requests that found all of them in use.
    pub(super) learned_full: u64,
    /// What operators said.
    pub(super) overlay: Overlay,
    /// Templates as operators want them.
    pub(super) pins: Arc<Pins>,
    /// A service whose templates are to be read anew before the next request.
    pub(super) learn_next: Option<ServiceId>,
}

impl Inventory {
    /// Makes an empty inventory. `key` is secret and lasts as long as the store: client sketches depend on it.
    #[must_use]
    pub fn new(limits: InventoryLimits, key: [u64; 2]) -> Self {
        let hasher = FixedState::with_seed(key[0] ^ key[1].rotate_left(32));
        Self {
            window_ns: WINDOW_NS_DEFAULT,
            client_key: key,
            origin: Origin { address: UNSPECIFIED, exposure: None, way: Way::Unknown },
            last_client: (UNSPECIFIED, client_hash(key, UNSPECIFIED)),
            part: Part::of(UnixNs(0), WINDOW_NS_DEFAULT),
            listeners: Vec::new(),
            listener_ids: HashMap::with_hasher(hasher.clone()),
            services: Vec::new(),
            services_free: Vec::new(),
            fold_due: false,
            fold_later: 0,
            merged_into: Vec::new(),
            endpoints: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            undeclared: 0,
            candidates: VecDeque::new(),
            candidates_live: 0,
            cache: PathCache::new(limits.path_cache),
            egress: EgressTable::default(),
            owners: Owners::new(limits.owners),
            api_owners: Names::new(limits.owners),
            owner_globs: OwnerGlobs::default(),
            media: Names::new(4_096),
            query_names: Names::new(16_384),
            hello_names: Names::new(8_192),
            watch: Watch::default(),
            totals: InventoryTotals::default(),
            summary: Summary::default(),
            losses: InventoryLosses::default(),
            sketch_bytes: 0,
            catalogue_digest: UNREAD,
            discovered: Discovered::default(),
            removed: Vec::new(),
            scratch: Vec::with_capacity(limits.template_bytes),
            segments: Segments::default(),
            learned_nodes: 0,
            learned_full: 0,
            overlay: Overlay::default(),
            pins: Arc::default(),
            learn_next: None,
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
        let learned_full = self.services.iter().map(|service| service.learned.refused()).sum();
        InventoryLosses {
            names_full: names_full + self.owners.names.refused + self.api_owners.refused,
            learned_full,
            learned_rest: self.services.iter().map(|service| service.learned.rest()).sum(),
            ..self.losses
        }
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

    /// Counts one exchange of the client that the packets name. Time is the exchange's own.
    pub fn observe(&mut self, exchange: &Exchange, role: Role, catalogue: &Catalogue) -> Observed {
        self.observe_of(exchange, Origin::of(exchange), role, catalogue)
    }

    /// Counts one exchange of a client, which is another one than the packets name where a trusted proxy speaks for it.
    pub fn observe_of(
        &mut self,
        exchange: &Exchange,
        origin: Origin,
        role: Role,
        catalogue: &Catalogue,
    ) -> Observed {
        self.origin = origin;
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
        if let Some(service) = self.learn_next.take() {
            self.learn(service);
        }
        let outcome = Outcome::of(exchange, path);
        let hash = self.request_hash(exchange, path);
        if let Some((id, leaf)) = self.cache.find(hash)
            && self.count_known(id, exchange, outcome, path, query)
        {
            self.teach_known(id, leaf, hash, exchange, outcome, path);
            return Observed::Endpoint(id);
        }
        self.observe_new(exchange, outcome, path, query, hash, catalogue)
    }

    /// Hash of what is told apart of an answer.
    pub(super) fn parts_hash(&self, parts: &(u16, &[u8])) -> u32 {
        fold(self.hasher.hash_one(parts))
    }

    fn request_hash(&self, exchange: &Exchange, path: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        let server = exchange.server;
        match server.ip() {
            IpAddr::V4(ip) => hasher.write_u64(u64::from(ip.to_bits()) << 1 | 1),
            IpAddr::V6(ip) => hasher.write_u128(ip.to_bits()),
        }
        // Lengths keep the parts apart.
        let (host, method) =
            (exchange.host.as_deref().unwrap_or_default(), exchange.method.as_str());
        let lengths = (host.len() as u64) << 16 | (method.len() as u64) << 1;
        hasher.write_u64(
            lengths << 16 | u64::from(server.port()) << 1 | u64::from(is_grpc(exchange)),
        );
        hasher.write(host);
        hasher.write(method.as_bytes());
        hasher.write(path);
        hasher.finish()
    }

    pub(super) fn template_hash(&self, template: &str) -> u32 {
        self.path_hash(template.as_bytes())
    }

    pub(super) fn path_hash(&self, path: &[u8]) -> u32 {
        fold(self.hasher.hash_one(path))
    }

    /// Counts at an endpoint that exists; false when the id is stale.
    fn count_known(
        &mut self,
        id: EndpointId,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
        query: &[u8],
    ) -> bool {
        let Some(judged) = self.judge_known(id, exchange, outcome, path) else { return false };
        if self.endpoint(id).is_none() {
            return false;
        }
        self.totals.endpoints += 1;
        self.count(id, exchange, outcome, judged, path, query);
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
        let (mut declared, template) = self.declare(service, exchange, outcome, path, catalogue);
        let folded_host = match (host, folding) {
            (HostName::Name(name), Folding::Provisional) => self.template_hash(name),
            _ => 0,
        };
        let scratch = std::mem::take(&mut self.scratch);
        let mut text = template.text(&scratch);
        let judged = self.judge_new(service, exchange, outcome, declared, path, text);
        let rest = rest_method(&exchange.method);
        let mut method = &exchange.method;
        let key = |method, template| Key { service, folded_host, method, template };
        let mut known = self.find(&key(method, text));
        if self.belongs_to_rest(known, outcome, judged) {
            (method, text, declared.kind) = (&rest, NOWHERE, rest_kind(declared.kind));
            known = self.find(&key(method, text));
        }
        let id = known.or_else(|| self.insert(&key(method, text), declared));
        let is_rest = text == NOWHERE;
        if let (None, Some(id), false) = (known, id, is_rest) {
            self.note_split(id, &template);
        }
        self.scratch = scratch;
        let Some(id) = id else {
            if let Some(service) = self.services.get_mut(service.0 as usize) {
                service.overflow.add(
                    exchange.status,
                    u64::from(exchange.weight.max(1)),
                    exchange.time,
                );
            }
            self.losses.endpoints_full += 1;
            self.totals.overflow += 1;
            return Observed::Overflow;
        };
        self.count(id, exchange, outcome, judged, path, query);
        let leaf = if template.is_learned() && self.speaks(id, judged) {
            self.teach(service, exchange, outcome)
        } else {
            Leaf::NONE
        };
        let counted = self.settle(id);
        // What is answered like anything is looked at anew: it may be answered otherwise one day.
        if matches!(counted, Observed::Endpoint(_)) && folding == Folding::Final && !is_rest {
            self.cache.insert(hash, id, leaf);
        }
        counted
    }

    /// Adds an exchange's evidence to an endpoint and its listener.
    fn count(
        &mut self,
        id: EndpointId,
        exchange: &Exchange,
        outcome: Outcome,
        judged: Judged,
        path: &[u8],
        query: &[u8],
    ) {
        let path_hash = match outcome {
            Outcome::Absent | Outcome::Moved | Outcome::Redirect => self.path_hash(path),
            _ => 0,
        };
        let location = match (outcome, exchange.response.location.as_deref()) {
            (Outcome::Redirect, Some(location)) => self.path_hash(location.as_bytes()),
            _ => 0,
        };
        let Some(endpoint) = self.endpoints.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        let Some(service) = self.services.get_mut(endpoint.service.0 as usize) else { return };
        let Some(listener) = self.listeners.get_mut(service.listener as usize) else { return };
        let mut outcome = outcome;
        let mut redirects = Redirects::Particular;
        if outcome == Outcome::Redirect {
            listener.note_redirect(location, path_hash, self.limits.redirects);
            if listener.is_generic(location) {
                redirects = Redirects::Generic;
                // One that is sent there now and then keeps what it said before.
                if endpoint.times.redirect.0 > 0 && endpoint.redirect != location {
                    outcome = Outcome::Moved;
                }
            }
        }
        let client = self.origin.address;
        if self.last_client.0 != client {
            self.last_client = (client, client_hash(self.client_key, client));
        }
        if !self.part.is_of(exchange.time, self.window_ns) {
            self.part = Part::of(exchange.time, self.window_ns);
        }
        let mut context = Context {
            limits: &self.limits,
            owners: &mut self.owners,
            media: &mut self.media,
            query_names: &mut self.query_names,
            origin: self.origin,
            window_ns: self.window_ns,
            part: self.part,
            client_hash: self.last_client.1,
            sketch_bytes: &mut self.sketch_bytes,
            sketches_refused: &mut self.losses.sketches_refused,
        };
        endpoint.observe(exchange, outcome, query, &mut context);
        match outcome {
            Outcome::Success if judged.given == Given::Particular => {
                endpoint.proofs.add(judged.answer);
            }
            Outcome::Refused => endpoint.refused_as = judged.answer,
            Outcome::Redirect => endpoint.redirected_as = judged.answer,
            _ => {}
        }
        service.requests += 1;
        if outcome == Outcome::Success && !endpoint.declared.is_undeclared() {
            service.serves_declared = true;
        }
        if endpoint.owner.is_some() && endpoint.owner != listener.owner {
            listener.owner = endpoint.owner;
            self.fold_due = true;
        }
        match outcome {
            Outcome::Absent | Outcome::Moved => {
                endpoint.note_absent(path_hash);
                if exchange.status == Some(404) {
                    listener.note_absent(
                        Credentials::of(exchange.request.auth),
                        endpoint.template_hash,
                    );
                }
            }
            Outcome::Redirect => {
                endpoint.redirect = location;
                match redirects {
                    Redirects::Generic => endpoint.note_absent(path_hash),
                    Redirects::Particular => endpoint.note_present(),
                }
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
            self.fold_due = true;
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

const UNSPECIFIED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

pub(super) fn is_grpc(exchange: &Exchange) -> bool {
    exchange
        .request
        .content_type
        .as_deref()
        .is_some_and(|media| media.starts_with("application/grpc"))
}

fn fold(hash: u64) -> u32 {
    u32::try_from((hash ^ hash >> 32) & u64::from(u32::MAX)).unwrap_or(0)
}
