//! A service: a listener and one of its host names, or the listener itself for requests by address.
//!
//! A host name makes a service once a success proved it, or a document names it; until then, and beyond the bound, its
//! requests belong to the listener. So forged names on a server that refuses them make none. (Names that are answered
//! like any other name are told apart by the rules of proof that belong to discovery; this file is their place.)

use std::{net::SocketAddr, sync::Arc};

use super::evidence::ByClass;
use crate::{http::Method, time::UnixNs};

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

/// Stable identity of (service, method, template): the same in every run and on every host with this service.
pub(super) fn identity(address: SocketAddr, host: Option<&str>, method: &Method, template: &str) -> u64 {
    let text = format!("{address}\0{}\0{}\0{template}", host.unwrap_or_default(), method.as_str());
    crate::keyed_hash::siphash24([0, 0], text.as_bytes())
}
