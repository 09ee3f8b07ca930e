//! A service: listeners and host names that are one API, by what is known of them so far.
//!
//! Counted apart at first: each listener's requests by address, and each host name that a success proved or a document
//! names; until then, and beyond the bound, a name's requests belong to its listener. What turns out to be one is made
//! one, or shown as one, by `fold`.

use std::{net::SocketAddr, sync::Arc};

use super::{
    evidence::{ByClass, Outcome},
    host::HostName,
    learned::Learned,
    listener::Listener,
    shown::HOSTS_MAX,
    table::Inventory,
};
use crate::{
    catalogue::{Catalogue, ServiceView},
    http::Method,
    shape::Shape,
    time::UnixNs,
};

/// Index of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServiceId(pub(super) u32);

/// A listener with a host name, or without.
#[derive(Debug)]
pub(super) struct Service {
    /// The listener that it is named after.
    pub(super) listener: u32,
    /// All its listeners.
    pub(super) listeners: Vec<u32>,
    /// The host that it is named after.
    pub(super) host: Option<Arc<str>>,
    /// Hosts that were found to be the same, that one too.
    pub(super) names: Vec<Arc<str>>,
    /// Its name when it is shown by itself.
    pub(super) name: Arc<str>,
    /// The service that it is shown as.
    pub(super) shown: ServiceId,
    /// Hosts that are listed where it is shown.
    pub(super) hosts: Vec<Arc<str>>,
    /// It was in the store: others are named after it.
    pub(super) restored: bool,
    /// All that it had is another service's now.
    pub(super) gone: bool,
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
    pub(super) fn new(
        id: ServiceId,
        listener: u32,
        address: SocketAddr,
        host: Option<&str>,
    ) -> Self {
        let host: Option<Arc<str>> = host.map(Into::into);
        let names: Vec<Arc<str>> = host.iter().cloned().collect();
        Self {
            listener,
            listeners: vec![listener],
            name: display_name(address, host.as_deref()),
            shown: id,
            hosts: names.clone(),
            names,
            host,
            restored: false,
            gone: false,
            undeclared: 0,
            requests: 0,
            serves_declared: false,
            overflow: Overflow::default(),
            learned: Learned::new(),
        }
    }
}

impl Service {
    /// Names beside the one that it is named after, as stored.
    pub(super) fn other_names(&self) -> Vec<String> {
        let others = self.names.iter().filter(|name| Some(*name) != self.host.as_ref());
        others.take(HOSTS_MAX).map(ToString::to_string).collect()
    }
}

impl Overflow {
    pub(super) fn merge(&mut self, other: &Self) {
        if other.observed == 0 {
            return;
        }
        if self.observed == 0 {
            self.first = other.first;
        }
        self.weighted.merge(&other.weighted);
        self.observed += other.observed;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

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
    let shape = Shape(template).text();
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
        self.fold_due = true;
        Some(id)
    }

    /// Makes a service; the listener's own is its first.
    pub(super) fn add_service(&mut self, listener: u32, host: Option<&str>) -> ServiceId {
        let free = self.services_free.pop();
        let next = u32::try_from(self.services.len()).unwrap_or(u32::MAX);
        let id = free.unwrap_or(ServiceId(next));
        if let Some(entry) = self.listeners.get_mut(listener as usize) {
            let service = Service::new(id, listener, entry.address, host);
            entry.services.push((service.host.clone(), id));
            entry.hosts += usize::from(host.is_some());
            match self.services.get_mut(id.0 as usize) {
                Some(slot) => *slot = service,
                None => self.services.push(service),
            }
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
        let is_full = entry.hosts >= self.limits.hosts_per_listener
            || self.services.len() - self.services_free.len() >= self.limits.services;
        if is_full && !self.let_hosts_go(listener, own, catalogue) {
            self.losses.hosts_full += 1;
            return (own, Folding::Final);
        }
        let id = self.add_service(listener, Some(name));
        self.fold_due = true;
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
        self.fold_due = true;
        Some(self.add_service(listener, host))
    }

    /// Takes back the names that a service had when it was stored.
    pub(super) fn restore_names(&mut self, id: ServiceId, names: &[String]) {
        let Some(entry) = self.services.get_mut(id.0 as usize) else { return };
        let Some(listener) = self.listeners.get_mut(entry.listener as usize) else { return };
        for name in names.iter().take(HOSTS_MAX) {
            let name: Arc<str> = name.as_str().into();
            if entry.names.contains(&name) || entry.names.len() > HOSTS_MAX {
                continue;
            }
            if !listener.services.iter().any(|(known, _)| known.as_ref() == Some(&name)) {
                listener.services.push((Some(Arc::clone(&name)), id));
                listener.hosts += 1;
            }
            entry.names.push(name);
        }
    }

    /// The service that this one is shown as.
    pub(super) fn shown_as(&self, id: ServiceId) -> ServiceId {
        self.services.get(id.0 as usize).map_or(id, |service| service.shown)
    }

    /// Address and host that a service is named after.
    pub(super) fn anchor(&self, service: &Service) -> Option<(SocketAddr, Option<Arc<str>>)> {
        let listener = self.listeners.get(service.listener as usize)?;
        Some((listener.address, service.host.clone()))
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
    binding_of_name(catalogue, host, address).is_some()
}

/// The documents that name this host, and not any host.
pub(super) fn binding_of_name(
    catalogue: &Catalogue,
    host: &str,
    address: SocketAddr,
) -> Option<u64> {
    if catalogue.is_empty() {
        return None;
    }
    let binding = |host| with_view(address, Some(host), |view| catalogue.binding(view));
    Some(binding(host)).filter(|found| *found > 0 && *found != binding(NO_HOST))
}

/// A host that no document names (RFC 2606).
const NO_HOST: &str = "no-such-host.invalid";
