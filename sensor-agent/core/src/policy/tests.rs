//! Policies from text to images, hostile files included.

use super::{
    image::{Compiled, Numbers},
    *,
};
use crate::time::{MonoNs, UnixNs};

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
    policy(text)
        .compile(&facts(), &Lists::default(), &mut Numbers::default())
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn errors(text: &str) -> String {
    match parse("p.yaml", text.as_bytes(), NOW) {
        Err(errors) => errors.to_string(),
        Ok(policy) => policy
            .compile(&facts(), &Lists::default(), &mut Numbers::default())
            .expect_err(text)
            .to_string(),
    }
}

#[test]
fn the_example_in_the_repository_is_valid() {
    let text = include_str!("../../../../deploy/policy.example.yaml");
    let policy = policy(text);
    let compiled = compiled(text);
    assert!(policy.rules.len() >= 5);
    assert!(compiled.counts.block > 2 && compiled.counts.limit > 2);
}

#[test]
fn an_empty_policy_still_keeps_the_host_manageable() {
    let counts = compiled("{}").counts;
    assert_eq!((counts.block, counts.allow, counts.limit), (0, 0, 0));
    assert!(counts.failsafe > 0);
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
    assert_eq!(compiled.counts.block, 2);
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
        reasons: vec![ReasonPattern::new("CHG[0-9]+", "the agent's configuration").unwrap()],
    };
    let text = b"require_reason: '.*'\nblock:\n  - {id: a, clients: [any], reason: because}\n";
    let errors = parse_with("p.yaml", text, &demands).unwrap_err().to_string();
    assert!(errors.contains("`because` does not match `CHG[0-9]+`, which the agent's"), "{errors}");
}
