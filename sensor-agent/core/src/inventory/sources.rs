//! Who is behind a source address, and who talks to a service: from exchanges, beside the inventory.
//!
//! A source that carries [`IDENTITIES`] distinct forwarded addresses or accepted credentials within [`WINDOW_NS`] is shared by many clients (a load
//! balancer, an ingress, NAT): rules by address must not hit it. What a client could write itself counts for nothing, or it could make
//! itself shared and slip out of its limit: forwarded addresses are believed of configured trusted proxies only, and a credential
//! only where the server accepted it and was seen to refuse others (401, 403): a public endpoint accepts any. A service's distinct clients are estimated for the guard,
//! and which of them it ever answered. Bounds: [`SOURCES_MAX`], [`SERVICES_MAX`], [`KNOWN_MAX`].

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use ipnet::IpNet;

use super::{clients::ClientSketch, exposure::Way};
use crate::{
    http::{Exchange, Forwarded, ForwardedHeader},
    keyed_hash::siphash24,
    time::UnixNs,
};

/// Distinct identities that make a source shared.
pub const IDENTITIES: usize = 20;
/// Within this time.
pub const WINDOW_NS: u64 = 60_000_000_000;
/// A source stays shared for this long after it last was.
pub const SHARED_NS: u64 = 600_000_000_000;
/// Sources whose identities are counted at once; the rest is counted as refused until there is room.
const SOURCES_MAX: usize = 4_096;
/// Services whose clients are counted.
const SERVICES_MAX: usize = 1_024;
/// Clients that are known to have been answered, in each of two generations.
const KNOWN_MAX: usize = 65_536;
/// Bytes of the longest text that is hashed: a word, two addresses and a port.
const HASHED_MAX: usize = 48;
/// Pairs of client and service that are remembered as counted; another pair in the same slot takes its place.
const NOTED_MAX: usize = 256;
/// A generation is over after this time, so a client is known for one to two of them.
const KNOWN_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// Sources and services of the last minutes.
#[derive(Debug)]
pub struct Sources {
    key: [u64; 2],
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
    by_address: HashMap<IpAddr, Source>,
    services: HashMap<SocketAddr, Service>,
    known: Known,
    marks: Vec<Mark>,
    swept: UnixNs,
    refused: u64,
    noted: Box<[Noted]>,
    slots: foldhash::fast::FixedState,
    /// Moves on when what was noted of anyone is no longer where it was.
    turns: u64,
}

/// A client and a service of which all is counted that there is to count: nothing is hashed for the exchanges that follow in the same window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Noted {
    service: SocketAddr,
    client: IpAddr,
    window: u64,
    turns: u64,
}

impl Noted {
    /// No one: of a turn that never comes.
    const NOBODY: Self = Self {
        service: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        window: u64::MAX,
        turns: u64::MAX,
    };
}

/// Whether an endpoint asks for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It answered 401 or 403 to some: what it accepts is proven.
    Guarded,
    /// It was never seen to refuse anyone: that it answers says nothing of a credential.
    Open,
}

/// A source that many clients share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its address.
    pub source: IpAddr,
    /// Until when.
    pub until: UnixNs,
}

/// Identities seen of a source, each with its last time; the oldest makes room.
#[derive(Debug, Default)]
struct Source {
    identities: Vec<(u64, UnixNs)>,
    marked_until: UnixNs,
}

/// Clients and services that answered them, hashed; the older generation makes room.
#[derive(Debug, Default)]
struct Known {
    since: UnixNs,
    now: HashSet<u64>,
    before: HashSet<u64>,
}

/// Whether a generation or window made room for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Over,
    Stays,
}

impl Known {
    const fn is_old(&self, now: UnixNs) -> bool {
        now.0.saturating_sub(self.since.0) >= KNOWN_NS
    }

    fn add(&mut self, hash: u64, now: UnixNs) -> Turn {
        let mut turn = Turn::Stays;
        if self.is_old(now) || (self.now.len() >= KNOWN_MAX && !self.now.contains(&hash)) {
            turn = Turn::Over;
            // Of a time long gone nothing is kept.
            let gone = now.0.saturating_sub(self.since.0) >= 2 * KNOWN_NS;
            self.before = std::mem::take(&mut self.now);
            if gone {
                self.before = HashSet::new();
            }
            self.since = now;
        }
        self.now.insert(hash);
        turn
    }

    fn has(&self, hash: u64) -> bool {
        self.now.contains(&hash) || self.before.contains(&hash)
    }
}

/// Clients of a service in this window and the one before.
#[derive(Debug, Default)]
struct Service {
    window: u64,
    now: ClientSketch,
    before: ClientSketch,
}

impl Sources {
    /// With the key of the installation, the proxies whose word counts, and where they write it.
    #[must_use]
    pub fn new(key: [u64; 2], trusted: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self {
            key,
            trusted,
            header,
            by_address: HashMap::new(),
            services: HashMap::new(),
            known: Known::default(),
            marks: Vec::new(),
            swept: UnixNs(0),
            refused: 0,
            noted: vec![Noted::NOBODY; NOTED_MAX].into_boxed_slice(),
            slots: foldhash::fast::FixedState::with_seed(key[0]),
            turns: 0,
        }
    }

    /// Counts an exchange whose server is on this host; `gate` is that of its endpoint.
    pub fn observe(&mut self, exchange: &Exchange, gate: Gate) {
        let (now, source) = (exchange.time, exchange.client.ip().to_canonical());
        if exchange.status.is_some() {
            self.answered_client(exchange.server, source, now);
        } else {
            self.client(exchange.server, source, now);
        }
        let forwarded = self
            .trusts(source)
            .then(|| self.forwarded(&exchange.request.forwarded))
            .flatten()
            .map(|address| self.hash(b"address", &address_bytes(address)));
        let accepted = gate == Gate::Guarded
            && exchange.status.is_some_and(|status| (200..400).contains(&status));
        let credential = exchange
            .request
            .credential
            .filter(|_| accepted)
            .map(|credential| self.hash(b"credential", &credential.to_le_bytes()));
        for identity in forwarded.into_iter().chain(credential) {
            self.identity(source, identity, now);
        }
    }

    /// Counts a client of a service that answered it; those that come again and again are known by the pair.
    fn answered_client(&mut self, service: SocketAddr, client: IpAddr, now: UnixNs) {
        let window = now.0 / WINDOW_NS;
        let slot = self.slot_of(service, client);
        let noted = Noted { service, client, window, turns: self.turns };
        if self.noted.get(slot) == Some(&noted) && !self.known.is_old(now) {
            return;
        }
        self.answered(service, client, now);
        self.client(service, client, now);
        let counted = self.services.get(&service).is_some_and(|it| it.window == window);
        if let Some(slot) = self.noted.get_mut(slot).filter(|_| counted) {
            *slot = Noted { turns: self.turns, ..noted };
        }
    }

    /// Where a pair is remembered. Two pairs that meet in one slot are hashed each time, as all are that are not remembered.
    fn slot_of(&self, service: SocketAddr, client: IpAddr) -> usize {
        let hash = self.slots.hash_one((service, client));
        usize::try_from(hash).unwrap_or(0) % NOTED_MAX
    }

    /// Counts a client of a service (a TLS connection shows no more than that).
    pub fn client(&mut self, service: SocketAddr, client: IpAddr, now: UnixNs) {
        let hash = self.hash(b"client", &address_bytes(client));
        let room = self.services.len() < SERVICES_MAX;
        if !room && !self.services.contains_key(&service) {
            self.refused += 1;
            return;
        }
        let service = self.services.entry(service).or_default();
        let turn = service.turn(now);
        service.now.add(hash, true);
        self.note_turn(turn);
    }

    /// A service answered a client: whoever forges his address gets no answer.
    pub fn answered(&mut self, service: SocketAddr, client: IpAddr, now: UnixNs) {
        let hash = self.of_service(service, client);
        let turn = self.known.add(hash, now);
        self.note_turn(turn);
    }

    const fn note_turn(&mut self, turn: Turn) {
        if matches!(turn, Turn::Over) {
            self.turns += 1;
        }
    }

    /// Whether a service answered a client within the last day, as far as the table reaches.
    #[must_use]
    pub fn knows(&self, service: SocketAddr, client: IpAddr) -> bool {
        self.known.has(self.of_service(service, client))
    }

    fn of_service(&self, service: SocketAddr, client: IpAddr) -> u64 {
        let (port, client) = (service.port().to_be_bytes(), address_bytes(client));
        let service = address_bytes(service.ip());
        let mut bytes = [0; 34];
        let parts = service.into_iter().chain(port).chain(client);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        self.hash(b"answered", &bytes)
    }

    /// Distinct clients of a service within the last one to two windows.
    #[must_use]
    pub fn clients_of(&self, service: SocketAddr, now: UnixNs) -> u64 {
        let Some(service) = self.services.get(&service) else { return 0 };
        let mut sketch = match now.0 / WINDOW_NS - service.window.min(now.0 / WINDOW_NS) {
            0 | 1 => service.now.clone(),
            _ => return 0,
        };
        if now.0 / WINDOW_NS == service.window {
            sketch.merge(&service.before);
        }
        sketch.estimate()
    }

    /// Sources that became shared, or still are, since this was asked last.
    pub fn take_marks(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    /// Identities that found no room.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// The client that a trusted proxy speaks for: the last address of the chain that is no trusted proxy itself.
    #[must_use]
    pub fn forwarded(&self, by: &Forwarded) -> Option<IpAddr> {
        let found = by.chain(self.header).rev().find(|address| !self.trusts(*address));
        found.or_else(|| by.chain(self.header).next())
    }

    /// The client of an exchange, as far as it is known: behind a trusted proxy the one that it speaks for.
    #[must_use]
    pub fn client_behind(&self, exchange: &Exchange) -> IpAddr {
        self.origin(exchange).0
    }

    /// The same, and whether it came by a trusted proxy.
    #[must_use]
    pub fn origin(&self, exchange: &Exchange) -> (IpAddr, Way) {
        let source = exchange.client.ip().to_canonical();
        if self.trusted.is_empty() {
            return (source, Way::Unknown);
        }
        if !self.trusts(source) {
            return (source, Way::Past);
        }
        (self.forwarded(&exchange.request.forwarded).unwrap_or(source), Way::Proxied)
    }

    fn trusts(&self, source: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&source))
    }

    fn identity(&mut self, source: IpAddr, identity: u64, now: UnixNs) {
        if self.by_address.len() >= SOURCES_MAX && !self.by_address.contains_key(&source) {
            self.sweep(now);
            if self.by_address.len() >= SOURCES_MAX {
                self.refused += 1;
                return;
            }
        }
        let entry = self.by_address.entry(source).or_default();
        entry.see(identity, now);
        // Told again when half of its time is over, so that a source in use stays marked.
        if entry.is_shared(now) && entry.marked_until.0 < now.0.saturating_add(SHARED_NS / 2) {
            entry.marked_until = UnixNs(now.0.saturating_add(SHARED_NS));
            self.marks.push(Mark { source, until: entry.marked_until });
        }
    }

    /// Lets go of sources that were silent for a window, at most once a second.
    fn sweep(&mut self, now: UnixNs) {
        if now.0.saturating_sub(self.swept.0) < 1_000_000_000 {
            return;
        }
        self.swept = now;
        let live = |seen: &UnixNs| now.0.saturating_sub(seen.0) < WINDOW_NS;
        self.by_address.retain(|_, source| source.identities.iter().any(|(_, seen)| live(seen)));
    }

    fn hash(&self, what: &[u8], bytes: &[u8]) -> u64 {
        let mut text = [0; HASHED_MAX];
        let length = (what.len() + bytes.len()).min(HASHED_MAX);
        text.iter_mut().zip(what.iter().chain(bytes)).for_each(|(to, from)| *to = *from);
        siphash24(self.key, text.get(..length).unwrap_or_default())
    }
}

impl Source {
    fn see(&mut self, identity: u64, now: UnixNs) {
        if let Some(known) = self.identities.iter_mut().find(|(known, _)| *known == identity) {
            known.1 = known.1.max(now);
        } else if self.identities.len() < IDENTITIES {
            self.identities.push((identity, now));
        } else if let Some(oldest) = self.identities.iter_mut().min_by_key(|(_, seen)| *seen) {
            *oldest = (identity, now);
        }
    }

    fn is_shared(&self, now: UnixNs) -> bool {
        self.identities.len() == IDENTITIES
            && self.identities.iter().all(|(_, seen)| now.0.saturating_sub(seen.0) <= WINDOW_NS)
    }
}

impl Service {
    fn turn(&mut self, now: UnixNs) -> Turn {
        let window = now.0 / WINDOW_NS;
        if window > self.window {
            let last = std::mem::take(&mut self.now);
            self.before = if window == self.window + 1 { last } else { ClientSketch::default() };
            self.window = window;
            return Turn::Over;
        }
        Turn::Stays
    }
}

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Method, OwnerHint, RequestFacts, ResponseFacts};

    const SECOND: u64 = 1_000_000_000;

    fn exchange(
        client: &str,
        seconds: u64,
        forwarded: &[&str],
        credential: Option<u64>,
    ) -> Exchange {
        let mut chain = Forwarded::default();
        if !forwarded.is_empty() {
            chain.add_x_forwarded_for(forwarded.join(", ").as_bytes());
        }
        let request = RequestFacts { forwarded: chain, credential, ..RequestFacts::default() };
        Exchange {
            time: UnixNs(seconds * SECOND),
            client: SocketAddr::new(client.parse().unwrap(), 40_000),
            server: "10.0.0.1:80".parse().unwrap(),
            method: Method::Get,
            host: None,
            target: (*b"/").into(),
            status: Some(200),
            latency_ns: None,
            request,
            response: ResponseFacts::default(),
            weight: 1,
            client_hint: OwnerHint::default(),
            server_hint: OwnerHint::default(),
        }
    }

    fn sources() -> Sources {
        let trusted = vec!["192.0.2.0/24".parse().unwrap()];
        Sources::new([1, 2], trusted, ForwardedHeader::Either)
    }

    #[test]
    fn twenty_clients_behind_a_trusted_proxy_make_it_shared() {
        let mut sources = sources();
        for user in 0..19 {
            sources.observe(
                &exchange("192.0.2.7", 1, &[&format!("203.0.113.{user}")], None),
                Gate::Open,
            );
        }
        assert!(sources.take_marks().is_empty());
        sources
            .observe(&exchange("192.0.2.7", 2, &["203.0.113.99", "192.0.2.8"], None), Gate::Open);
        let marks = sources.take_marks();
        assert_eq!(
            marks,
            [Mark { source: "192.0.2.7".parse().unwrap(), until: UnixNs(2 * SECOND + SHARED_NS) }]
        );
        // Not told again and again.
        sources.observe(&exchange("192.0.2.7", 3, &["203.0.113.98"], None), Gate::Open);
        assert!(sources.take_marks().is_empty());
    }

    #[test]
    fn nobody_makes_himself_shared() {
        let mut sources = sources();
        for user in 0..100 {
            let forged = format!("203.0.113.{user}");
            sources.observe(&exchange("198.51.100.9", 1, &[&forged], None), Gate::Open);
            let mut refused = exchange("198.51.100.9", 1, &[], Some(user));
            refused.status = Some(401);
            sources.observe(&refused, Gate::Guarded);
            // A trusted proxy that speaks for one client, again and again.
            sources.observe(&exchange("192.0.2.7", 1, &["203.0.113.1"], None), Gate::Open);
        }
        assert!(sources.take_marks().is_empty());
    }

    #[test]
    fn accepted_credentials_count_and_only_within_the_window() {
        let mut slow = sources();
        for user in 0..200 {
            slow.observe(&exchange("198.51.100.9", user * 4, &[], Some(user)), Gate::Guarded);
        }
        assert!(slow.take_marks().is_empty(), "15 within a minute are not 20");
        for user in 0..20 {
            slow.observe(
                &exchange("198.51.100.9", 10_000 + user * 3, &[], Some(user)),
                Gate::Guarded,
            );
        }
        assert_eq!(slow.take_marks().len(), 1);
    }

    #[test]
    fn invented_credentials_at_a_public_endpoint_share_nothing() {
        let mut sources = sources();
        for user in 0..200 {
            sources.observe(&exchange("198.51.100.9", 1, &[], Some(user)), Gate::Open);
        }
        assert!(sources.take_marks().is_empty());
    }

    #[test]
    fn clients_of_a_service_are_those_of_the_last_windows() {
        let mut sources = sources();
        for user in 0..10 {
            sources.observe(&exchange(&format!("203.0.113.{user}"), 65, &[], None), Gate::Open);
        }
        let service = "10.0.0.1:80".parse().unwrap();
        assert_eq!(sources.clients_of(service, UnixNs(66 * SECOND)), 10);
        assert_eq!(sources.clients_of(service, UnixNs(130 * SECOND)), 10);
        assert_eq!(sources.clients_of(service, UnixNs(200 * SECOND)), 0);
        assert_eq!(sources.clients_of("10.0.0.1:81".parse().unwrap(), UnixNs(0)), 0);
    }

    #[test]
    fn a_client_is_known_to_the_service_that_answered_it_for_a_day_or_two() {
        let mut sources = sources();
        let (client, service) = ("203.0.113.1".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        let mut forged = exchange("203.0.113.1", 65, &[], None);
        forged.status = None;
        sources.observe(&forged, Gate::Open);
        assert!(!sources.knows(service, client), "it was not answered");
        sources.observe(&exchange("203.0.113.1", 65, &[], None), Gate::Open);
        assert!(sources.knows(service, client));
        assert!(!sources.knows("10.0.0.1:81".parse().unwrap(), client));
        let day = KNOWN_NS / SECOND;
        sources.observe(&exchange("203.0.113.2", 66 + day, &[], None), Gate::Open);
        assert!(sources.knows(service, client));
        sources.observe(&exchange("203.0.113.2", 66 + 3 * day, &[], None), Gate::Open);
        assert!(!sources.knows(service, client));
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut sources = sources();
        for source in 0..10_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + source).to_be_bytes());
            sources.observe(&exchange(&address.to_string(), 1, &[], Some(1)), Gate::Guarded);
        }
        assert!(sources.by_address.len() <= SOURCES_MAX && sources.refused() > 0);
        for client in 0..200_000_u32 {
            let client = IpAddr::from((0x0a00_0000 + client).to_be_bytes());
            sources.answered("10.0.0.1:80".parse().unwrap(), client, UnixNs(SECOND));
        }
        assert!(sources.known.now.len() <= KNOWN_MAX && sources.known.before.len() <= KNOWN_MAX);
        sources.observe(&exchange("198.51.100.9", 100, &[], Some(1)), Gate::Guarded);
        assert_eq!(sources.by_address.len(), 1, "silent ones made room");
    }
}
