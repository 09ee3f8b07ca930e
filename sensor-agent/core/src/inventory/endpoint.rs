//! One endpoint: (service, method, path template) and what was seen of it.
//!
//! About 400 bytes, and a template, one caller and one latency bucket on the heap; what can grow is bounded by
//! [`InventoryLimits`] for itself and by `sketch_bytes` for all.

use std::{net::IpAddr, sync::Arc};

use super::{
    answers::{Answer, Proofs},
    clients::{Added, ClientSketch},
    egress::Caller,
    evidence::{ByClass, Outcome, Times},
    exposure::Origin,
    kind::Sights,
    latency::LatencySketch,
    life::{Announced, Dating, Link},
    listener::{Credentials, FewHashes},
    more::More,
    names::{NameId, NameSet, Names},
    owned::ApiOwner,
    owners::Owners,
    pace::{Part, part_ns},
    path::{Target, Templating, write_template},
    query,
    reach::Reach,
    service::ServiceId,
};
use crate::{
    http::{AuthScheme, Exchange, Method},
    keyed_hash::siphash24,
    limits::{InventoryLimits, MISSING_VALUES_MIN},
    state::{DeclarationKind, State},
    time::UnixNs,
};

/// What the catalogue says about an endpoint, kept so that rows need no look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) kind: DeclarationKind,
    pub(super) deprecated: bool,
    /// Zero: none.
    pub(super) sunset: UnixNs,
    pub(super) owner: Option<ApiOwner>,
}

impl Declared {
    /// Nothing but how it stands.
    pub(super) const fn bare(kind: DeclarationKind) -> Self {
        Self { kind, deprecated: false, sunset: UnixNs(0), owner: None }
    }

    pub(super) const fn is_undeclared(self) -> bool {
        self.kind.is_undeclared()
    }
}

/// Whether an operation was proven to exist by a success that was not a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Success,
    NotYet,
}

/// Whether an entry of the table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its existence is neither declared nor proven by a success; may make room for others.
    Candidate,
    /// It is an endpoint.
    Endpoint,
}

/// An endpoint and its evidence.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) service: ServiceId,
    pub(super) method: Method,
    pub(super) template: Arc<str>,
    pub(super) template_hash: u32,
    pub(super) declared: Declared,
    pub(super) proof: Proof,
    pub(super) standing: Standing,
    pub(super) first: UnixNs,
    pub(super) last: UnixNs,
    pub(super) times: Times,
    pub(super) weighted: ByClass,
    pub(super) observed: u64,
    pub(super) sampled: bool,
    pub(super) dirty: bool,
    /// Told as an event with this state.
    pub(super) told: Option<State>,
    pub(super) latency: LatencySketch,
    pub(super) clients: ClientSketch,
    pub(super) callers: Vec<Caller>,
    pub(super) client_owners: NameSet,
    pub(super) owner: Option<NameId>,
    /// Bits by [`AuthScheme`].
    pub(super) auth: u16,
    pub(super) request_types: NameSet,
    pub(super) response_types: NameSet,
    pub(super) query_names: NameSet,
    /// Calls answered as absent since the last other answer, and distinct paths among them.
    pub(super) absent_calls: u32,
    pub(super) absent_paths: FewHashes<MISSING_VALUES_MIN>,
    /// Last redirect's location.
    pub(super) redirect: u32,
    /// Successes that are not known to be catch-all.
    pub(super) proofs: Proofs,
    /// What its responses announce.
    pub(super) announced: Option<Box<Announced>>,
    /// Last redirect and last refusal.
    pub(super) redirected_as: Option<Answer>,
    pub(super) refused_as: Option<Answer>,
    /// What its successes were, and who called.
    pub(super) sights: Sights,
    /// Credentials states in which it was refused.
    pub(super) refused_in: u8,
    /// It answered 401 or 403: credentials mean something here.
    pub(super) denied: bool,
    /// It counted what has a template of its own now.
    pub(super) split: bool,
    /// From where it was called.
    pub(super) reach: Reach,
    /// What only some endpoints have.
    pub(super) more: Option<Box<More>>,
    /// Hash of the unproven host that a candidate was asked under; zero without.
    pub(super) folded_host: u32,
}

/// What one observation needs beside the exchange.
pub(super) struct Context<'a> {
    pub(super) limits: &'a InventoryLimits,
    pub(super) owners: &'a mut Owners,
    pub(super) media: &'a mut Names,
    pub(super) query_names: &'a mut Names,
    pub(super) origin: Origin,
    pub(super) window_ns: u64,
    /// The part of the window that the exchange lies in.
    pub(super) part: Part,
    /// Keyed hash of the client's address.
    pub(super) client_hash: u64,
    pub(super) sketch_bytes: &'a mut usize,
    pub(super) sketches_refused: &'a mut u64,
}

impl Endpoint {
    pub(super) fn new(
        service: ServiceId,
        method: Method,
        template: Arc<str>,
        hash: u32,
        declared: Declared,
    ) -> Self {
        Self {
            service,
            method,
            template,
            template_hash: hash,
            declared,
            proof: Proof::NotYet,
            standing: Standing::Candidate,
            first: UnixNs(u64::MAX),
            last: UnixNs(0),
            times: Times::default(),
            weighted: ByClass::default(),
            observed: 0,
            sampled: false,
            dirty: false,
            told: None,
            latency: LatencySketch::default(),
            clients: ClientSketch::default(),
            callers: Vec::new(),
            client_owners: NameSet::default(),
            owner: None,
            auth: 0,
            request_types: NameSet::default(),
            response_types: NameSet::default(),
            query_names: NameSet::default(),
            absent_calls: 0,
            absent_paths: FewHashes::default(),
            redirect: 0,
            proofs: Proofs::default(),
            announced: None,
            redirected_as: None,
            refused_as: None,
            sights: Sights::default(),
            refused_in: 0,
            denied: false,
            split: false,
            reach: Reach::Nobody,
            more: None,
            folded_host: 0,
        }
    }

    /// Counts one exchange.
    pub(super) fn observe(
        &mut self,
        exchange: &Exchange,
        outcome: Outcome,
        query: &[u8],
        context: &mut Context<'_>,
    ) {
        let now = exchange.time;
        let count = exchange.weight.max(1).into();
        self.note_reach(context.origin.exposure, count, now);
        self.note_pace(now, count, context.part);
        self.first = self.first.min(now);
        self.last = self.last.max(now);
        self.times.note(outcome, now);
        if outcome == Outcome::Success {
            self.proof = Proof::Success;
        }
        self.weighted.add(exchange.status, u64::from(exchange.weight.max(1)));
        self.observed += 1;
        self.sampled |= exchange.weight > 1;
        self.dirty = true;
        self.denied |= matches!(exchange.status, Some(401 | 403));
        self.auth |= 1 << exchange.request.auth as u16;
        if exchange.request.client_certificate {
            self.auth |= 1 << AuthScheme::ClientCertificate as u16;
        }
        self.sights.note(exchange, outcome);
        if !self.announced.as_deref_mut().is_some_and(|known| known.is_said_again(exchange)) {
            let found = Announced::of(exchange, |location| link(location, context.limits));
            if found.is_some() || self.announced.is_some() {
                Announced::note(&mut self.announced, found, outcome, Dating::of(exchange));
            }
        }
        self.note_leaving(exchange, outcome, context);
        self.observe_sketches(exchange, context);
        self.observe_names(exchange, query, context);
        match outcome {
            Outcome::Refused => self.refused_in |= Credentials::of(exchange.request.auth).bit(),
            // What an upgrade to https answers to is served there: not missing.
            // Of a redirect, its listener knows whether anything is sent there.
            Outcome::Absent
            | Outcome::Moved
            | Outcome::Upgrade
            | Outcome::NotModified
            | Outcome::Redirect => {}
            _ => self.note_present(),
        }
    }

    /// Notes an answer that says that it is there.
    pub(super) fn note_present(&mut self) {
        self.absent_calls = 0;
        self.absent_paths.clear();
    }

    fn observe_sketches(&mut self, exchange: &Exchange, context: &mut Context<'_>) {
        let may_grow = *context.sketch_bytes < context.limits.sketch_bytes;
        if let Some(ns) = exchange.latency_ns {
            *context.sketch_bytes += self.latency.add(ns, exchange.weight.max(1), may_grow);
        }
        let before = self.clients.heap_bytes();
        match self.clients.add(context.client_hash, may_grow) {
            Added::New => {
                *context.sketch_bytes += self.clients.heap_bytes().saturating_sub(before);
                self.add_caller(context.origin.address, context.limits.callers);
            }
            Added::Refused => *context.sketches_refused += 1,
            Added::Known => {}
        }
        if let Some(owner) = context.owners.id(exchange.client_hint.cgroup_id)
            && !self.client_owners.has_id(owner)
        {
            self.client_owners.add_id(owner, context.limits.client_owners);
        }
        if let Some(owner) = context.owners.id(exchange.server_hint.cgroup_id) {
            self.owner = Some(owner);
        }
    }

    fn add_caller(&mut self, address: IpAddr, max: usize) {
        let caller = Caller::Address(address.to_canonical());
        if self.callers.len() < max && !self.callers.contains(&caller) {
            if self.callers.len() == self.callers.capacity() {
                self.callers.reserve_exact(self.callers.len().max(1));
            }
            self.callers.push(caller);
        }
    }

    fn observe_names(&mut self, exchange: &Exchange, query: &[u8], context: &mut Context<'_>) {
        let max = context.limits.media_types;
        if let Some(media) = exchange.request.content_type.as_deref() {
            self.request_types.add(context.media, media, max);
        }
        if let Some(media) = exchange.response.content_type.as_deref() {
            self.response_types.add(context.media, media, max);
        }
        if !query.is_empty() {
            for name in query::names(query, context.limits.query_name_bytes) {
                // Known names first: they are nearly all.
                if !self.query_names.has(context.query_names, name) && query::is_plain(name) {
                    self.query_names.add(context.query_names, name, context.limits.query_names);
                }
            }
        }
    }

    /// Notes that a path was answered as absent.
    pub(super) fn note_absent(&mut self, path: u32) {
        self.absent_calls = self.absent_calls.saturating_add(1);
        self.absent_paths.add(path);
    }

    /// Heap bytes of what can grow.
    pub(super) fn heap_bytes(&self) -> usize {
        self.latency.heap_bytes() + self.clients.heap_bytes() + self.leaving_bytes()
    }

    /// Adds the evidence of another endpoint that turned out to be this one.
    pub(super) fn absorb(&mut self, mut other: Self, limits: &InventoryLimits, window_ns: u64) {
        self.merge_reach(&other.spread(), other.reach);
        self.merge_pace(&other, part_ns(window_ns));
        self.merge_leaving(other.more.as_deref_mut().and_then(|more| more.leaving.take()));
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        // The later redirect is the one that is asked about, with its place.
        if other.times.redirect > self.times.redirect {
            self.redirect = other.redirect;
            self.redirected_as = other.redirected_as;
        }
        self.times.merge(&other.times);
        self.weighted.merge(&other.weighted);
        self.observed += other.observed;
        self.sampled |= other.sampled;
        self.latency.merge(&other.latency);
        self.clients.merge(&other.clients);
        for caller in other.callers {
            if self.callers.len() < limits.callers && !self.callers.contains(&caller) {
                self.callers.push(caller);
            }
        }
        self.auth |= other.auth;
        self.owner = self.owner.or(other.owner);
        self.client_owners.add_all(&other.client_owners, limits.client_owners);
        self.request_types.add_all(&other.request_types, limits.media_types);
        self.response_types.add_all(&other.response_types, limits.media_types);
        self.query_names.add_all(&other.query_names, limits.query_names);
        if other.proof == Proof::Success {
            self.proof = Proof::Success;
        }
        self.proofs.merge(&other.proofs);
        Announced::merge(&mut self.announced, other.announced);
        self.sights.merge(other.sights);
        self.refused_as = self.refused_as.or(other.refused_as);
        self.refused_in |= other.refused_in;
        self.absent_calls = self.absent_calls.saturating_add(other.absent_calls);
        self.absent_paths.add_all(&other.absent_paths);
        self.denied |= other.denied;
        self.split |= other.split;
        self.told = self.told.or(other.told);
        self.dirty = true;
    }
}

/// A link with its path as a template by shape: values in it are not kept, nor who a URL says it is for.
fn link(location: &str, limits: &InventoryLimits) -> Link {
    let Target::Path { path, .. } = Target::parse(location.as_bytes()) else {
        return Link { origin: "".into(), path: "/".into() };
    };
    let mut out = Vec::new();
    let (bytes, segments) = (limits.template_bytes, limits.template_segments);
    write_template(path, Templating::Typed, bytes, segments, &mut out);
    let whole = location.split_once("://").filter(|(scheme, _)| !scheme.contains('/'));
    let origin = whole.map_or_else(String::new, |(scheme, rest)| {
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}")
    });
    Link { origin: origin.into(), path: std::str::from_utf8(&out).unwrap_or("/").into() }
}

/// Client address to the hash that sketches take.
pub(super) fn client_hash(key: [u64; 2], address: IpAddr) -> u64 {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    siphash24(key, &octets)
}

/// Names of the schemes whose bits are set.
pub(super) fn auth_names(bits: u16) -> Vec<String> {
    AUTH_SCHEMES
        .iter()
        .filter(|scheme| bits & (1 << **scheme as u16) != 0)
        .map(|scheme| auth_name(*scheme).to_owned())
        .collect()
}

/// The word for a scheme in rows and events.
pub(crate) const fn auth_name(scheme: AuthScheme) -> &'static str {
    scheme.as_str()
}

const AUTH_SCHEMES: [AuthScheme; 10] = AuthScheme::ALL;

/// Bits of names as stored; unknown ones are left out.
pub(super) fn auth_bits(names: &[String]) -> u16 {
    AUTH_SCHEMES
        .iter()
        .filter(|scheme| names.iter().any(|name| name == auth_name(**scheme)))
        .fold(0, |bits, scheme| bits | 1 << *scheme as u16)
}
