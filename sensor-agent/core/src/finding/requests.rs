//! Limits on requests by forwarded address or credential: charges each exchange, and decides about the connection that goes over.
//!
//! A connection on which several clients were seen, or from a source that mixes clients on its connections, is left alone: ending it would hit
//! others. There the limit only monitors, and counts what it would have done. A credential that the server refused is not counted (anyone can
//! make up as many as he likes); of credentials only a keyed hash is held. Flows that are sampled out are not charged.
//! Bounds: [`STATES_MAX`] clients, [`CONNECTIONS_MAX`] connections, [`SOURCES_MAX`] sources that mix; beyond, a client is not limited, a
//! connection counts as shared; both are counted.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::detector::{Consequence, Sentence, Subject};
use crate::{
    http::Exchange,
    keyed_hash::siphash24,
    limits::VERDICT_NS_MAX,
    policy::{Asked, LimitKey, Rate, RequestRule, RequestRules, RuleAction, mapped, masked},
    time::UnixNs,
};

/// Clients whose allowance is not whole, over all limits.
const STATES_MAX: usize = 131_072;
/// Connections whose clients are remembered.
const CONNECTIONS_MAX: usize = 65_536;
/// Sources that are known to mix clients.
const SOURCES_MAX: usize = 4_096;
/// A connection that was silent for so long is forgotten when there is no room.
const IDLE_NS: u64 = 120_000_000_000;
/// A source is taken to mix for this long after it did.
const MIXES_NS: u64 = 600_000_000_000;
/// Shortest verdict: packets on their way are still answered.
const VERDICT_NS_MIN: u64 = 1_000_000_000;
/// Tables that are full are swept at most this often.
const SWEEP_NS: u64 = 1_000_000_000;
/// Limits of one prefix that a request is charged by, at most.
const CHARGED_MAX: usize = 16;

/// What a limit did so far; survives policies by the rule's id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHits {
    /// Requests over the limit.
    pub over: u64,
    /// Of those, without consequence: the connection is shared, or the rule only monitors.
    pub would: u64,
    /// The last of them.
    pub last: UnixNs,
}

/// Counts and decides.
#[derive(Debug)]
pub struct RequestLimits {
    key: [u64; 2],
    rules: Arc<RequestRules>,
    /// By limit and client.
    states: HashMap<u64, Allowance, FixedState>,
    connections: HashMap<Connection, Carried, FixedState>,
    mixing: HashMap<IpAddr, UnixNs, FixedState>,
    hits: HashMap<Arc<str>, RequestHits, FixedState>,
    swept: UnixNs,
    unlimited: u64,
}

/// What a client used of a limit.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    /// When it is whole again, in the limit's own unit: nanoseconds times `count`.
    whole_at: u128,
    count: u64,
}

/// Client, server, and the number of the flow: ports come again.
type Connection = (SocketAddr, SocketAddr, u64);

/// Whom a connection carried, by kind of key.
#[derive(Debug, Default)]
struct Carried {
    first: [Option<u64>; 2],
    shared: [bool; 2],
    last: UnixNs,
}

impl RequestLimits {
    /// Without limits; `key` is the installation's.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        Self {
            key,
            rules: Arc::default(),
            states: HashMap::default(),
            connections: HashMap::default(),
            mixing: HashMap::default(),
            hits: HashMap::default(),
            swept: UnixNs(0),
            unlimited: 0,
        }
    }

    /// Puts other limits in force. Allowances of limits that stay the same stay as they are.
    pub fn set_rules(&mut self, rules: Arc<RequestRules>) {
        self.hits.retain(|id, _| rules.limits.iter().any(|limit| limit.rule == *id));
        self.rules = rules;
    }

    /// Whether there is anything to count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.limits.is_empty()
    }

    /// What a limit did so far.
    #[must_use]
    pub fn hits(&self, rule: &str) -> Option<RequestHits> {
        self.hits.get(rule).copied()
    }

    /// Requests that no room was left to charge.
    #[must_use]
    pub const fn unlimited(&self) -> u64 {
        self.unlimited
    }

    /// Charges an exchange of `client`, as far as it is known; gives each decision to `decide`.
    pub fn on_exchange(
        &mut self,
        exchange: &Exchange,
        client: IpAddr,
        mut decide: impl FnMut(Sentence, &Arc<str>),
    ) {
        if self.is_empty() {
            return;
        }
        let rules = Arc::clone(&self.rules);
        let hint = &exchange.client_hint;
        let ports = [hint.peer.map_or(0, |peer| peer.port()), exchange.server.port()];
        let asked = Asked { client, ports, ifindex: hint.ifindex, time: exchange.time };
        let shared = self.carries(exchange, client);
        let mut matched: Vec<(u8, &RequestRule)> = rules
            .limits
            .iter()
            .filter_map(|limit| Some((limit.meant.applies(&asked)?, limit)))
            .collect();
        if rules.allow.iter().any(|allow| allow.applies(&asked).is_some()) {
            // Charged nothing: else it would use up what it shares with others.
            return;
        }
        // Stable: rules of one prefix stay in the order of the file.
        matched.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
        let mut final_len = None;
        for (len, limit) in matched.into_iter().take(CHARGED_MAX) {
            if final_len.is_some_and(|found| len < found) {
                break;
            }
            let Some(who) = self.identity(limit.key, limit, exchange, client) else { continue };
            if limit.action != RuleAction::Monitor {
                final_len = Some(len);
            }
            let Some(wait_ns) = self.charge(limit, who, exchange.time) else { continue };
            let monitors = limit.action == RuleAction::Monitor
                || shared.get(index(limit.key)).is_none_or(|shared| *shared);
            self.count(&limit.rule, monitors, exchange.time);
            if !monitors {
                let consequence = match limit.action {
                    RuleAction::Reset => Consequence::End,
                    _ => Consequence::Block,
                };
                let for_ns = wait_ns.clamp(VERDICT_NS_MIN, VERDICT_NS_MAX);
                decide(Sentence { subject: Subject::Flow, consequence, for_ns }, &limit.rule);
                break;
            }
        }
    }

    /// Who a client is to a limit; `None` where that is not known.
    fn identity(
        &self,
        key: LimitKey,
        limit: &RequestRule,
        exchange: &Exchange,
        client: IpAddr,
    ) -> Option<u64> {
        match key {
            LimitKey::Credential => {
                let refused = matches!(exchange.status, Some(401 | 403 | 407));
                let credential = exchange.request.credential.filter(|_| !refused)?;
                Some(self.hash(b"credential", &credential.to_le_bytes()))
            }
            LimitKey::Forwarded | LimitKey::Address => {
                let len = if client.to_canonical().is_ipv4() {
                    limit.prefix_v4.saturating_add(96)
                } else {
                    limit.prefix_v6
                };
                Some(self.hash(b"address", &masked(mapped(client), len).to_le_bytes()))
            }
        }
    }

    /// Whether the exchange's connection is shared, by kind of key.
    fn carries(&mut self, exchange: &Exchange, client: IpAddr) -> [bool; 2] {
        let hint = &exchange.client_hint;
        let ends = (
            hint.address.unwrap_or(exchange.client),
            hint.peer.unwrap_or(exchange.server),
            hint.flow,
        );
        let address = self.hash(b"address", &mapped(client).to_le_bytes());
        let credential = exchange.request.credential;
        let credential = credential.map(|one| self.hash(b"credential", &one.to_le_bytes()));
        let now = exchange.time;
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(&ends) {
            self.sweep(now);
            if self.connections.len() >= CONNECTIONS_MAX {
                return [true; 2];
            }
        }
        let carried = self.connections.entry(ends).or_default();
        carried.last = carried.last.max(now);
        for (kind, identity) in [Some(address), credential].into_iter().enumerate() {
            carried.see(kind, identity);
        }
        let (shared, source) = (carried.shared, exchange.client.ip().to_canonical());
        // Only a proxy that speaks for others mixes addresses; what mixes credentials may be one user with two.
        if shared.first() == Some(&true)
            && (self.mixing.len() < SOURCES_MAX || self.mixing.contains_key(&source))
        {
            self.mixing.insert(source, now);
        }
        let since = |last: &UnixNs| now.0.saturating_sub(last.0) < MIXES_NS;
        let mixes = client != source && self.mixing.get(&source).is_some_and(since);
        shared.map(|shared| shared || mixes)
    }

    /// Charges one request; gives how long the client has to wait when it is over its limit.
    fn charge(&mut self, limit: &RequestRule, who: u64, now: UnixNs) -> Option<u64> {
        let Rate { count, period_ns, burst } = limit.rate;
        let terms = [
            count.to_le_bytes(),
            period_ns.to_le_bytes(),
            burst.to_le_bytes(),
            who.to_le_bytes(),
            u64::from_le_bytes([limit.prefix_v4, limit.prefix_v6, 0, 0, 0, 0, 0, 0]).to_le_bytes(),
        ];
        let state = self.hash(limit.rule.as_bytes(), terms.as_flattened());
        if self.states.len() >= STATES_MAX && !self.states.contains_key(&state) {
            self.sweep(now);
            if self.states.len() >= STATES_MAX {
                self.unlimited += 1;
                return None;
            }
        }
        // GCRA, in units of which one request costs `period_ns` and one nanosecond earns `count`: nothing is rounded.
        let (now, cost) = (u128::from(now.0) * u128::from(count), u128::from(period_ns));
        let allowed = cost * u128::from(burst.max(1));
        let held = self.states.entry(state).or_insert(Allowance { whole_at: 0, count });
        let new = held.whole_at.max(now) + cost;
        if new - now <= allowed {
            held.whole_at = new;
            return None;
        }
        let wait = (new - now - allowed) / u128::from(count.max(1));
        Some(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    fn count(&mut self, rule: &Arc<str>, would: bool, now: UnixNs) {
        let hits = self.hits.entry(Arc::clone(rule)).or_default();
        hits.over += 1;
        hits.would += u64::from(would);
        hits.last = hits.last.max(now);
    }

    /// Lets go of connections and sources that are silent, and of allowances that are whole again.
    fn sweep(&mut self, now: UnixNs) {
        if now.0.saturating_sub(self.swept.0) < SWEEP_NS {
            return;
        }
        self.swept = now;
        self.connections.retain(|_, carried| now.0.saturating_sub(carried.last.0) < IDLE_NS);
        self.mixing.retain(|_, last| now.0.saturating_sub(last.0) < MIXES_NS);
        // Each in its own unit: compared with that of a slower limit, none of a faster one would ever be whole.
        self.states.retain(|_, held| held.whole_at > u128::from(now.0) * u128::from(held.count));
    }

    fn hash(&self, what: &[u8], bytes: &[u8]) -> u64 {
        siphash24(self.key, &[what, bytes].concat())
    }
}

impl Carried {
    fn see(&mut self, kind: usize, identity: Option<u64>) {
        let (Some(first), Some(shared)) = (self.first.get_mut(kind), self.shared.get_mut(kind))
        else {
            return;
        };
        let Some(identity) = identity else { return };
        *shared |= *first.get_or_insert(identity) != identity;
    }
}

const fn index(key: LimitKey) -> usize {
    match key {
        LimitKey::Forwarded | LimitKey::Address => 0,
        LimitKey::Credential => 1,
    }
}

#[cfg(test)]
mod tests;
