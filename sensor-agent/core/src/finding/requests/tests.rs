//! Who is charged, what becomes of whom goes over, and what is left alone.

use super::*;
use crate::{
    http::{Method, OwnerHint, RequestFacts, ResponseFacts},
    policy::{HostFacts, Lists, parse},
};

const MILLISECOND: u64 = 1_000_000;

struct Bench {
    limits: RequestLimits,
    decided: Vec<(Consequence, u64, Arc<str>)>,
}

/// What is asked, by whom, on which connection.
#[derive(Clone, Copy)]
struct Ask<'a> {
    at_ms: u64,
    /// The source of the packets.
    source: &'a str,
    /// Whom it speaks for, itself when nobody.
    client: &'a str,
    port: u16,
    credential: Option<u64>,
    status: u16,
}

const ASK: Ask<'static> = Ask {
    at_ms: 0,
    source: "192.0.2.7",
    client: "203.0.113.1",
    port: 40_000,
    credential: None,
    status: 200,
};

impl Bench {
    fn new(policy: &str) -> Self {
        let mut bench = Self { limits: RequestLimits::new([1, 2]), decided: Vec::new() };
        bench.set(policy);
        bench
    }

    fn set(&mut self, policy: &str) {
        let policy = parse("p.yaml", policy.as_bytes(), UnixNs(0)).unwrap();
        let rules = policy.request_rules(&HostFacts::default(), &Lists::default());
        self.limits.set_rules(Arc::new(rules));
    }

    fn ask(&mut self, ask: Ask<'_>) {
        let exchange = Exchange {
            time: UnixNs((1_000_000 + ask.at_ms) * MILLISECOND),
            client: SocketAddr::new(ask.source.parse().unwrap(), ask.port),
            server: "10.0.0.1:80".parse().unwrap(),
            method: Method::Get,
            host: None,
            target: (*b"/").into(),
            status: Some(ask.status),
            latency_ns: None,
            request: RequestFacts { credential: ask.credential, ..RequestFacts::default() },
            response: ResponseFacts::default(),
            weight: 1,
            client_hint: OwnerHint::default(),
            server_hint: OwnerHint::default(),
        };
        let decided = &mut self.decided;
        self.limits.on_exchange(&exchange, ask.client.parse().unwrap(), |sentence, rule| {
            decided.push((sentence.consequence, sentence.for_ns, Arc::clone(rule)));
        });
    }

    fn hits(&self, rule: &str) -> (u64, u64) {
        self.limits.hits(rule).map_or((0, 0), |hits| (hits.over, hits.would))
    }
}

fn port(number: u64) -> u16 {
    40_000 + u16::try_from(number).unwrap()
}

fn policy(more: &str) -> String {
    format!("limits:\n  - {{id: l, requests: {{rate: 10}}, {more}}}\n")
}

#[test]
fn a_rate_is_kept_exactly_and_what_is_over_is_decided() {
    let mut bench = Bench::new(&policy("key: forwarded, action: reset"));
    // 20 a second for 5 s, on connections of its own: 10 at once, then every other one.
    for number in 0..100 {
        bench.ask(Ask { at_ms: number * 50, port: port(number), ..ASK });
    }
    let admitted = 100 - bench.decided.len();
    assert_eq!(admitted, 10 + 49, "burst, and ten a second for 4.95 s");
    assert_eq!(bench.hits("l"), (41, 0));
    assert!(bench.decided.iter().all(|(what, for_ns, rule)| {
        *what == Consequence::End && *for_ns >= VERDICT_NS_MIN && &**rule == "l"
    }));
    // Another client has an allowance of its own.
    bench.ask(Ask { at_ms: 5_000, client: "203.0.113.2", port: 50_000, ..ASK });
    assert_eq!(bench.decided.len(), 41);
}

#[test]
fn a_shared_connection_is_left_alone_and_so_are_the_others_of_its_source() {
    let mut bench = Bench::new(&policy("key: forwarded, action: reset"));
    bench.ask(ASK);
    bench.ask(Ask { client: "203.0.113.2", ..ASK });
    for _ in 0..30 {
        bench.ask(ASK);
    }
    assert!(bench.decided.is_empty());
    assert_eq!(bench.hits("l"), (21, 21));
    // The same proxy, on a connection where only one client was seen so far.
    bench.ask(Ask { port: 41_000, ..ASK });
    assert!(bench.decided.is_empty(), "its next request may be anybody's");
    // A proxy that never mixed, for the same client.
    bench.ask(Ask { source: "192.0.2.8", ..ASK });
    assert_eq!((bench.decided.len(), bench.hits("l")), (1, (23, 22)));
    // A client without a proxy.
    for _ in 0..11 {
        bench.ask(Ask { source: "198.51.100.9", client: "198.51.100.9", ..ASK });
    }
    assert_eq!(bench.decided.len(), 2);
}

#[test]
fn credentials_are_counted_one_by_one_and_refused_ones_not_at_all() {
    let mut bench = Bench::new(&policy("key: credential, action: drop"));
    for number in 0..100 {
        bench.ask(Ask { credential: Some(number), port: port(number), ..ASK });
        bench.ask(Ask { credential: Some(7), status: 401, ..ASK });
        bench.ask(ASK);
    }
    assert_eq!((bench.decided.len(), bench.limits.states.len()), (0, 100));
    for port in 0..20 {
        // The same from anywhere.
        bench.ask(Ask { credential: Some(7), source: "198.51.100.9", port, ..ASK });
    }
    // Number 7 was charged once above.
    assert_eq!((bench.decided.len(), bench.hits("l")), (11, (11, 0)));
    assert_eq!(bench.decided[0].0, Consequence::Block);
    assert!(!format!("{:?}", bench.limits.states).contains(" 7:"), "only keyed hashes are held");
}

#[test]
fn the_longest_prefix_decides_monitoring_hides_nothing_and_allow_beats_all() {
    let text = "\
allow:
  - {id: ours, clients: [203.0.113.64/26]}
limits:
  - {id: all, requests: {rate: 2}, key: forwarded}
  - {id: partner, clients: [203.0.113.0/24], requests: {rate: 5}, key: forwarded}
  - {id: look, clients: [203.0.113.8/32], requests: {rate: 1}, key: forwarded, action: monitor}
";
    let mut bench = Bench::new(text);
    for (client, expected) in [("203.0.113.1", 5), ("198.51.100.1", 8), ("203.0.113.65", 0)] {
        let before = bench.decided.len();
        for _ in 0..10 {
            bench.ask(Ask { client, source: client, ..ASK });
        }
        assert_eq!(bench.decided.len() - before, expected, "{client}");
    }
    for _ in 0..10 {
        bench.ask(Ask { client: "203.0.113.8", source: "203.0.113.8", ..ASK });
    }
    assert_eq!(
        (bench.hits("look"), bench.hits("partner"), bench.hits("all")),
        ((9, 9), (10, 0), (8, 0))
    );
}

#[test]
fn whom_an_allow_rule_keeps_uses_up_nothing_that_others_share() {
    let text = "\
allow:
  - {id: ours, clients: [203.0.113.65]}
limits:
  - {id: all, requests: {rate: 2}, key: forwarded, client_prefix: {ipv4: 24}}
";
    let mut bench = Bench::new(text);
    for _ in 0..10 {
        bench.ask(Ask { client: "203.0.113.65", source: "203.0.113.65", ..ASK });
    }
    for _ in 0..3 {
        bench.ask(Ask { client: "203.0.113.1", source: "203.0.113.1", ..ASK });
    }
    assert_eq!(bench.hits("all"), (1, 0));
}

#[test]
fn a_new_policy_forgives_nobody_and_tables_are_bounded() {
    let mut bench = Bench::new(&policy("key: forwarded"));
    for _ in 0..12 {
        bench.ask(Ask { source: ASK.client, ..ASK });
    }
    bench.set(&format!(
        "{}  - {{id: m, requests: {{rate: 99}}, key: credential}}\n",
        policy("key: forwarded")
    ));
    bench.ask(Ask { source: ASK.client, ..ASK });
    assert_eq!(bench.hits("l"), (3, 0));
    bench.set("version: 1\n");
    bench.ask(ASK);
    assert!(bench.limits.is_empty() && bench.hits("l") == (0, 0));

    let mut bench = Bench::new(&policy("key: forwarded"));
    for number in 0..200_000_u32 {
        let client = IpAddr::from((0x0a00_0000 + number).to_be_bytes()).to_string();
        bench.ask(Ask { at_ms: 1, client: &client, source: &client, ..ASK });
    }
    assert_eq!(
        (bench.limits.states.len(), bench.limits.connections.len()),
        (STATES_MAX, CONNECTIONS_MAX)
    );
    assert_eq!(bench.limits.unlimited(), 200_000 - STATES_MAX as u64);
    bench.ask(Ask { at_ms: 600_000, ..ASK });
    assert!(bench.limits.connections.len() == 1, "silent ones made room");
}

#[test]
fn whole_allowances_of_a_fast_limit_make_room_beside_a_slow_one() {
    let mut bench = Bench::new(
        "limits:\n  - {id: slow, requests: {rate: 5}, clients: [192.0.2.0/24], key: forwarded}\n  - {id: fast, requests: {rate: 10}, clients: [10.0.0.0/8], key: forwarded}\n",
    );
    for round in 0..2_u64 {
        for number in 0..STATES_MAX as u64 {
            let client = IpAddr::from((0x0a00_0000 + u32::try_from(number).unwrap()).to_be_bytes());
            let client = client.to_string();
            bench.ask(Ask { at_ms: round * 600_000, client: &client, port: port(round), ..ASK });
        }
        let one = "10.255.0.1";
        for _ in 0..30 {
            bench.ask(Ask { at_ms: round * 600_000 + 300_000, client: one, ..ASK });
        }
        assert!(bench.hits("fast").0 >= 10 * (round + 1), "round {round}: not limited");
    }
    assert_eq!(bench.limits.unlimited(), 0);
}
