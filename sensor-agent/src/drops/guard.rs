//! The guard: a rule that hits more than a share of a service's clients is more likely a mistake than an attack, and falls back to monitor.
//!
//! Clients hit are counted from the kernel's table of drops, as far as the service once answered them: what comes from a forged address is
//! never answered, so no flood of listed sources disarms a blocklist. Clients that got through are counted from exchanges and TLS connections of the last one to two
//! minutes. Where the table is full or flows are sampled out, fewer clients are counted than there are, on either side: the guard is a
//! net, not a measure. Bound: rows of the table of drops.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use sensor_core::time::MonoNs;
use sensor_ebpf::abi::dynamic::{DropKey, DropReason, DropValue};

use super::recent::address;

/// When the guard steps in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardTerms {
    /// Share of a service's clients, above 0 and at most 1, where a rule has none of its own.
    pub max_share: f64,
    /// Clients hit at least: of three clients one is a third.
    pub min_clients: u64,
    /// Within this time.
    pub window_ns: u64,
}

impl Default for GuardTerms {
    fn default() -> Self {
        Self { max_share: 0.05, min_clients: 20, window_ns: 60_000_000_000 }
    }
}

/// A rule that the guard stops.
#[derive(Clone, Debug, PartialEq)]
pub struct Trip {
    /// Number of its hits.
    pub hits: u32,
    /// The service.
    pub service: SocketAddr,
    /// Clients that it hit.
    pub clients_hit: u64,
    /// Clients of the service altogether.
    pub clients: u64,
}

/// Looks for rules that hit too many. What a rule hit before it was stopped is not held against it again.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    terms: GuardTerms,
    /// When a rule was stopped last, by the number of its hits.
    stopped: HashMap<u32, MonoNs>,
}

impl Guard {
    /// With terms.
    #[must_use]
    pub fn new(terms: GuardTerms) -> Self {
        Self { terms, stopped: HashMap::new() }
    }

    /// Rules that hit too many clients of a service now, since the policy was `installed`. `own` is the share that a rule itself allows, by the number of its hits; `known` says whether
    /// the service ever answered a client, `others` estimates its clients that got through.
    #[must_use]
    pub fn trips(
        &mut self,
        now: MonoNs,
        rows: &[(DropKey, DropValue)],
        installed: MonoNs,
        own: impl Fn(u32) -> Option<f64>,
        known: impl Fn(SocketAddr, IpAddr) -> bool,
        mut others: impl FnMut(SocketAddr) -> u64,
    ) -> Vec<Trip> {
        let mut hit: HashMap<(u32, SocketAddr), HashSet<[u8; 16]>> = HashMap::new();
        // Networks of senders that may be forged are no clients: else a flood would switch off the limit that stops it.
        let by_rule = |key: &DropKey| {
            matches!(DropReason::of_word(key.reason), Some(DropReason::Block | DropReason::Limit))
        };
        for (key, value) in rows {
            let since = now.0.saturating_sub(self.terms.window_ns).max(installed.0);
            let since = self.stopped.get(&key.hits).map_or(since, |at| since.max(at.0 + 1));
            if by_rule(key) && value.last_ns >= since {
                let service = service(key, value);
                if known(service, address(key.client)) {
                    hit.entry((key.hits, service)).or_default().insert(key.client);
                }
            }
        }
        let mut trips: Vec<Trip> = hit
            .into_iter()
            .filter(|(_, clients)| clients.len() as u64 >= self.terms.min_clients)
            .map(|((hits, service), clients)| {
                let clients_hit = clients.len() as u64;
                Trip { hits, service, clients_hit, clients: clients_hit + others(service) }
            })
            .filter(|trip| trip.share() > own(trip.hits).unwrap_or(self.terms.max_share))
            .collect();
        trips.sort_by_key(|trip| (trip.hits, trip.service));
        trips.dedup_by_key(|trip| trip.hits);
        self.stopped.extend(trips.iter().map(|trip| (trip.hits, now)));
        trips
    }
}

impl Guard {
    /// A rule was stopped: what it hit until now is not held against the rule that takes its place.
    pub fn acted(&mut self, trip: &Trip, now: MonoNs) {
        self.stopped.insert(trip.hits, now);
    }
}

impl Trip {
    /// Share of the service's clients that the rule hit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of estimates")]
    pub fn share(&self) -> f64 {
        self.clients_hit as f64 / self.clients.max(1) as f64
    }
}

/// The end that is not the client's.
fn service(key: &DropKey, value: &DropValue) -> SocketAddr {
    let tuple = &value.tuple;
    let (ip, port) = if tuple.src == key.client {
        (tuple.dst, tuple.dst_port)
    } else {
        (tuple.src, tuple.src_port)
    };
    SocketAddr::new(address(ip), port)
}
