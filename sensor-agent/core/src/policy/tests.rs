//! Policies from text to map entries, hostile files included.

use super::*;
use crate::time::{MonoNs, UnixNs};

mod equivalence;
mod hostile;

const NOW: UnixNs = UnixNs(1_800_000_000_000_000_000);

fn facts() -> HostFacts {
    HostFacts {
        now: NOW,
        boot: MonoNs(5_000_000_000),
        interfaces: [("eth0".to_owned(), 2), ("eth1".to_owned(), 3)].into(),
        resolvers: vec!["10.9.9.9".parse().unwrap()],
        ..Default::default()
    }
}

fn policy(text: &str) -> Policy {
    parse("p.yaml", text.as_bytes(), NOW).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn compiled(text: &str) -> Compiled {
    policy(text).compile(&facts()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn errors(text: &str) -> String {
    match parse("p.yaml", text.as_bytes(), NOW) {
        Err(errors) => errors.to_string(),
        Ok(policy) => policy.compile(&facts()).expect_err(text).to_string(),
    }
}

#[test]
fn the_example_in_the_repository_is_valid() {
    let text = include_str!("../../../../deploy/policy.example.yaml");
    let policy = policy(text);
    let compiled = policy.compile(&facts()).unwrap();
    assert!(policy.rules.len() >= 5);
    assert!(compiled.tables.block4.len() > 2 && compiled.tables.limits.len() > 2);
}

#[test]
fn an_empty_policy_still_keeps_the_host_manageable() {
    let compiled = compiled("{}");
    assert!(compiled.tables.block4.is_empty() && compiled.tables.rules.len() == 1);
    let dns: Vec<_> =
        compiled.tables.failsafe.iter().filter(|entry| entry.port_min == 53).collect();
    assert_eq!(dns.len(), 1);
    assert_eq!((dns[0].prefix_len, &dns[0].addr[12..]), (128, &[10, 9, 9, 9][..]));
    // A bare port never suffices: no entry that names a port is for every address.
    assert!(compiled.tables.failsafe.iter().all(|entry| entry.prefix_len > 0));
}

#[test]
fn rules_of_one_prefix_are_a_chain_in_the_order_of_the_file() {
    let compiled = compiled(
        "block:
  - {id: a, clients: [10.0.0.0/8, 192.168.0.0/16], ports: [443], protocol: tcp}
  - {id: b, clients: [10.0.0.0/8], action: monitor}
  - {id: c, clients: [10.0.0.0/8]}
  - {id: never-asked, clients: [10.0.0.0/8]}
",
    );
    let tables = &compiled.tables;
    let names = |mut rule: u32| {
        let mut names = Vec::new();
        while rule != 0 {
            names.push(compiled.owners[rule as usize].unwrap());
            rule = tables.rules[rule as usize].next;
        }
        names
    };
    assert_eq!(tables.block4.len(), 2);
    assert_eq!(names(tables.block4[0].1.rule), [0, 1, 2]);
    assert_eq!(names(tables.block4[1].1.rule), [0]);
}

#[test]
fn hits_are_summed_over_the_kernel_rules_of_a_rule() {
    let compiled = compiled(
        "block:\n  - {id: a, clients: [10.0.0.0/8], ports: [80, 443, '1000-2000']}\n  - {id: b, clients: [10.1.0.0/16]}\n",
    );
    let hit = sensor_ebpf::abi::policy::RuleHits {
        packets: 2,
        bytes: 100,
        last_ns: 7,
        ..Default::default()
    };
    let sums = compiled.sum_hits(&vec![hit; compiled.tables.rules.len()]);
    assert_eq!((sums[0].packets, sums[1].packets, sums[0].last_ns), (6, 2, 7));
}

#[test]
fn the_same_rules_on_an_inner_prefix_are_merged() {
    let compiled = compiled(
        "block:\n  - {id: a, clients: [10.0.0.0/8, 10.1.0.0/16, 10.1.2.3, 2001:db8::/32, 2001:db8::1]}\n",
    );
    assert_eq!(
        (compiled.tables.block4.len(), compiled.tables.block6.len(), compiled.merged),
        (1, 1, 3)
    );
}

#[test]
fn deep_nesting_is_flattened_then_refused() {
    let nested = |count: u32| {
        let mut text = String::from("block:\n");
        for n in 0..count {
            text.extend([format!(
                "  - {{id: r{n}, clients: [10.0.0.0/{}], ports: [{}]}}\n",
                8 + n,
                1000 + n * 2
            )]);
        }
        text
    };
    let deepest = |count: u32| {
        let compiled = compiled(&nested(count));
        let (mut rule, mut length) = (compiled.tables.block4.last().unwrap().1.rule, 0);
        while rule != 0 {
            length += 1;
            rule = compiled.tables.rules[rule as usize].next;
        }
        length
    };
    assert_eq!(deepest(4), 1);
    assert_eq!(deepest(5), 5);
    assert_eq!(deepest(8), 8);
    let refused = errors(&nested(9));
    assert!(refused.starts_with("p.yaml:10: clients: 10.0.0.0/16 of rule `r8`"), "{refused}");
}

#[test]
fn a_limit_is_exact_in_fixed_point() {
    let rate = |count, period_ns, burst| Rate { count, period_ns, burst };
    assert_eq!(compile::gcra(&rate(1000, 1_000_000_000, 10)), (64_000_000, 640_000_000));
    assert_eq!(compile::gcra(&rate(3, 1_000_000_000, 1)), (21_333_333_333, 21_333_333_333));
    assert_eq!(compile::gcra(&rate(100_000_000, 1_000_000_000, 1)), (640, 640));
    let compiled = compiled(
        "limits:\n  - {id: l, packets: {rate: 1000, burst: 10}, new_connections: {rate: 5, per: 1m}}\n",
    );
    assert_eq!(compiled.tables.limits.len(), 3);
    assert_eq!((compiled.tables.limit4.len(), compiled.tables.limit6.len()), (1, 1));
    let first = compiled.tables.limits[compiled.tables.limit4[0].1.rule as usize];
    assert_eq!(
        (first.kind, first.increment, first.prefix_v4, first.prefix_v6),
        (1, 64_000_000, 32, 64)
    );
    let second = compiled.tables.limits[first.next as usize];
    assert_eq!((second.kind, second.increment, second.rule), (2, 12_000_000_000 * 64, first.rule));
}

#[test]
fn expiry_is_given_in_the_clock_of_the_kernel() {
    let text = "block:
  - {id: ttl, clients: [10.0.0.1], ttl: 1h}
  - {id: past, clients: [10.0.0.2], expires: 2020-01-01}
  - {id: edge, clients: [10.0.0.3], expires: '2027-01-15T08:00:00Z'}
  - {id: gone, clients: [10.0.0.4], interface: eth9}
  - {id: here, clients: [10.0.0.5], interface: eth1}
";
    let compiled = compiled(text);
    assert_eq!(NOW.0 / 1_000_000_000, 1_800_000_000);
    let states = [
        RuleState::Active,
        RuleState::Inactive(Inactive::Expired),
        RuleState::Inactive(Inactive::Expired),
        RuleState::Inactive(Inactive::NoInterface("eth9".into())),
        RuleState::Active,
    ];
    assert_eq!(compiled.states, states);
    assert_eq!(compiled.tables.block4.len(), 2);
    assert_eq!(compiled.tables.rules[1].expires_ns, 5_000_000_000 + 3_600_000_000_000);
    assert_eq!(compiled.tables.rules[2].ifindex, 3);
}

#[test]
fn explain_names_the_rule() {
    let policy = policy(
        "allow:
  - {id: office, clients: [10.1.1.0/24]}
block:
  - {id: ten, clients: [10.0.0.0/8]}
  - {id: web, clients: [10.1.0.0/16], ports: [80]}
limits:
  - {id: all, packets: {rate: 10}}
  - {id: partner, clients: [198.51.100.0/24], packets: {rate: 100}}
",
    );
    let ask = |src: &str, dst: &str, ports| {
        let packet = Packet {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ports: Some(ports),
            protocol: Protocol::Tcp,
            direction: Direction::Ingress,
            interface: Some("eth0"),
        };
        explain(&policy, &facts(), &packet)
    };
    assert_eq!(ask("10.1.2.3", "192.0.2.1", (5555, 80)), Decided::Blocked { rule: 2 });
    assert_eq!(ask("10.1.2.3", "192.0.2.1", (5555, 81)), Decided::Blocked { rule: 1 });
    assert_eq!(ask("192.0.2.1", "10.1.2.3", (80, 5555)), Decided::Blocked { rule: 2 });
    assert_eq!(ask("10.1.1.3", "192.0.2.1", (5555, 80)), Decided::Allowed { rule: 2, by: 0 });
    assert_eq!(
        ask("10.9.9.9", "192.0.2.1", (53, 5555)),
        Decided::Failsafe { rule: 1, name: "resolvers".into() }
    );
    assert_eq!(ask("10.9.9.9", "192.0.2.1", (54, 5555)), Decided::Blocked { rule: 1 });
    assert_eq!(ask("192.0.2.2", "192.0.2.1", (1, 2)), Decided::Pass { limits: vec![3] });
    assert_eq!(ask("198.51.100.1", "192.0.2.1", (1, 2)), Decided::Pass { limits: vec![4] });
}

#[test]
fn the_whole_model_is_read() {
    let policy = policy(
        "require_reason: '^CHG[0-9]+'
block:
  - {id: a, lists: [{file: lists/drop.txt}, {file: TTL.CSV, on_error: skip}], action: reset, percent: 5, include_shared: true, starts: 2027-01-01, ttl: 1d, reason: CHG1}
limits:
  - {id: l, reason: CHG2, bytes: {rate: 10MB, burst: 1MiB}, packets: {rate: 5}, new_connections: {rate: 6}, requests: {rate: 7}, connections: 8, action: reset}
  - {id: k, reason: CHG3, requests: {rate: 7}, key: credential, action: monitor}
  - {id: s, reason: CHG4, packets: {rate: 7}, shared: true}
",
    );
    let [block, limit, keyed, shared] = &policy.rules[..] else { panic!() };
    assert_eq!((block.action, block.percent, block.include_shared), (RuleAction::Reset, 5, true));
    assert_eq!(block.expires.unwrap().0 - block.starts.unwrap().0, 86_400_000_000_000);
    let lists: Vec<_> =
        block.lists.iter().map(|list| (&*list.path, list.format, list.on_error)).collect();
    let expected = [
        ("lists/drop.txt", ListFormat::Plain, OnError::Refuse),
        ("TTL.CSV", ListFormat::Csv, OnError::Skip),
    ];
    assert_eq!(lists, expected);
    let terms = |rule: &Rule| match rule.what {
        What::Limit(terms) => terms,
        _ => panic!(),
    };
    let limit = terms(limit);
    assert_eq!(limit.bytes.map(|rate| (rate.count, rate.burst)), Some((10_000_000, 1 << 20)));
    assert_eq!(limit.connections, Some(8));
    assert_eq!(limit.requests.map(|rate| rate.count), Some(7));
    assert_eq!(terms(keyed).key, LimitKey::Credential);
    let shared = terms(shared);
    assert_eq!((shared.shared, shared.prefix_v4, shared.prefix_v6), (true, 0, 0));
}

#[test]
fn the_agent_s_demand_for_a_reason_cannot_be_weakened_by_the_file() {
    let demands = Demands {
        changed: NOW,
        reason: Some(ReasonPattern::new("CHG[0-9]+", "the agent's configuration").unwrap()),
    };
    let text = b"require_reason: '.*'\nblock:\n  - {id: a, clients: [any], reason: because}\n";
    let errors = parse_with("p.yaml", text, &demands).unwrap_err().to_string();
    assert!(errors.contains("`because` does not match `CHG[0-9]+`, which the agent's"), "{errors}");
}
