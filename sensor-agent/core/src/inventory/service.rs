//! A service: a listener and one of its host names, or the listener itself for requests by address.
//!
//! A host name makes a service once a success proved it, or a document names it; until then, and beyond the bound, its
//! requests belong to the listener. So forged names on a server that refuses them make none. (Names that are answered
//! like any other name are told apart by the rules of proof that belong to discovery; this file is their place.)

use std::{net::SocketAddr, sync::Arc};

use super::{
    evidence::{ByClass, Outcome},
    host::HostName,
    learned::Learned,
    listener::Listener,
    table::Inventory,
};
use crate::{
    catalogue::{Catalogue, ServiceView},
    http::Method,
    time::UnixNs,
};

/// Index of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServiceId(pub(super) u32);

/// A listener with a host name, or without.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) listener: u32,
    pub(super) host: Option<Arc<str>>,
    /// As shown.
    pub(super) name: Arc<str>,
    /// Undeclared endpoints that are in the table, proven or not.
    pub(super) undeclared: usize,
    pub(super) requests: u64,
    /// Declared operations were answered here: the documents are about this service.
    pub(super) serves_declared: bool,
    pub(super) overflow: Overflow,
    /// What its traffic teaches about templates.
    pub(super) learned: Learned,
}

/// Requests beyond a bound, counted without their paths.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overflow {
    pub(super) weighted: ByClass,
    pub(super) observed: u64,
    pub(super) first: UnixNs,
    pub(super) last: UnixNs,
}

impl Service {
    pub(super) fn new(listener: u32, address: SocketAddr, host: Option<&str>) -> Self {
        Self {
            listener,
            host: host.map(Into::into),
            name: display_name(address, host),
            undeclared: 0,
            requests: 0,
            serves_declared: false,
            overflow: Overflow::default(),
            learned: Learned::new(),
        }
    }
}

impl Overflow {
    pub(super) fn add(&mut self, status: Option<u16>, weight: u64, now: UnixNs) {
        if self.observed == 0 {
            self.first = now;
        }
        self.weighted.add(status, weight);
        self.observed += 1;
        self.first = self.first.min(now);
        self.last = self.last.max(now);
    }
}

/// `host`, with the port where it is not 80 or 443; `address:port` without a host.
fn display_name(address: SocketAddr, host: Option<&str>) -> Arc<str> {
    match (host, address.port()) {
        (None, _) => address.to_string().into(),
        (Some(host), 80 | 443) => host.into(),
        (Some(host), port) => format!("{host}:{port}").into(),
    }
}

/// The same address in one spelling: IPv4 is never v4-mapped.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Stable identity of (service, method, template): the same in every run and on every host with this service, whatever
/// the parameters are called.
pub(super) fn identity(
    address: SocketAddr,
    host: Option<&str>,
    method: &Method,
    template: &str,
) -> u64 {
    let shape = without_names(template);
    let text = format!("{address}\0{}\0{}\0{shape}", host.unwrap_or_default(), method.as_str());
    crate::keyed_hash::siphash24([0, 0], text.as_bytes())
}

/// As [`identity`] was once, with the names of parameters: records of that time are found by it.
pub(super) fn named_identity(
    address: SocketAddr,
    host: Option<&str>,
    method: &Method,
    template: &str,
) -> u64 {
    let text = format!("{address}\0{}\0{}\0{template}", host.unwrap_or_default(), method.as_str());
    crate::keyed_hash::siphash24([0, 0], text.as_bytes())
}

/// A template whose parameters have no names: the same operation under another name keeps its identity.
fn without_names(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut name = false;
    for c in template.chars() {
        name &= c != '}';
        if !name {
            out.push(c);
        }
        name |= c == '{';
    }
    out
}

/// Whether the service found for a host is the one it will keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folding {
    /// It is.
    Final,
    /// The host name is not proven: a success gives it a service of its own.
    Provisional,
}

impl Inventory {
    /// The listener of an address, made when there is room.
    pub(super) fn listener_id(&mut self, address: SocketAddr) -> Option<u32> {
        let address = canonical(address);
        if let Some(id) = self.listener_ids.get(&address) {
            return Some(*id);
        }
        if self.listeners.len() >= self.limits.listeners
            || self.services.len() >= self.limits.services
        {
            return None;
        }
        let id = u32::try_from(self.listeners.len()).ok()?;
        self.listeners.push(Listener::new(address));
        self.listener_ids.insert(address, id);
        self.add_service(id, None);
        Some(id)
    }

    /// Makes a service; the listener's own is its first.
    pub(super) fn add_service(&mut self, listener: u32, host: Option<&str>) -> ServiceId {
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
    pub(super) fn known_service(&self, listener: u32, host: Option<&str>) -> Option<ServiceId> {
        let services = &self.listeners.get(listener as usize)?.services;
        services.iter().find(|(name, _)| name.as_deref() == host).map(|(_, id)| *id)
    }

    pub(super) fn service_for(
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
        let Some(entry) = self.listeners.get(listener as usize) else {
            return (own, Folding::Final);
        };
        if outcome != Outcome::Success && !is_named(catalogue, name, entry.address) {
            return (own, Folding::Provisional);
        }
        if entry.hosts >= self.limits.hosts_per_listener
            || self.services.len() >= self.limits.services
        {
            self.losses.hosts_full += 1;
            return (own, Folding::Final);
        }
        let id = self.add_service(listener, Some(name));
        self.move_folded(own, id, self.template_hash(name), catalogue);
        (id, Folding::Final)
    }

    /// The service for a stored record, made when there is room.
    pub(super) fn restored_service(
        &mut self,
        address: SocketAddr,
        host: Option<&str>,
    ) -> Option<ServiceId> {
        let listener = self.listener_id(address)?;
        if let Some(id) = self.known_service(listener, host) {
            return Some(id);
        }
        let entry = self.listeners.get(listener as usize)?;
        if entry.hosts >= self.limits.hosts_per_listener
            || self.services.len() >= self.limits.services
        {
            return None;
        }
        Some(self.add_service(listener, host))
    }
}

/// Calls `f` with the view that the catalogue takes of a service.
pub(super) fn with_view<T>(
    address: SocketAddr,
    host: Option<&str>,
    f: impl FnOnce(&ServiceView<'_>) -> T,
) -> T {
    let one = [host.unwrap_or_default()];
    let hosts = if host.is_some() { &one[..] } else { &[] };
    f(&ServiceView { hosts, address: Some(address.ip()), port: address.port() })
}

/// Whether a document names this host, and not any host.
pub(super) fn is_named(catalogue: &Catalogue, host: &str, address: SocketAddr) -> bool {
    let named = |host| with_view(address, Some(host), |view| catalogue.names(view));
    !catalogue.is_empty() && named(host) && !named(NO_HOST)
}

/// A host that no document names (RFC 2606).
const NO_HOST: &str = "no-such-host.invalid";
