//! What is found, and what is let pass.

use super::{
    super::{
        list::{List, ListFacts},
        parse,
    },
    *,
};
use crate::time::UnixNs;
use std::net::IpAddr;

fn check(rule: &str, expected: &[&str]) {
    whole(&format!("block:\n  - {{id: a, {rule}}}\n"), expected);
}

fn whole(text: &str, expected: &[&str]) {
    let policy = parse("p.yaml", text.as_bytes(), UnixNs(0)).unwrap();
    let address = |text: &str| text.parse().unwrap();
    let facts = HostFacts {
        own: vec![address("192.0.2.10"), address("127.0.0.1")],
        gateways: vec![address("192.0.2.1")],
        resolvers: vec![address("198.51.100.53")],
        ssh_peers: vec![address("203.0.113.9")],
        protected: vec!["10.1.0.0/16".parse().unwrap()],
        ..HostFacts::default()
    };
    let found: Vec<String> = hazards(&policy, &Lists::default(), &facts)
        .into_iter()
        .map(|hazard| hazard.message)
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn what_would_harm_the_host_is_found() {
    check("clients: [any]", &["drops every client"]);
    check("clients: [any], action: monitor", &[]);
    check("clients: [any], percent: 0", &[]);
    check("clients: [any], force: true", &[]);
    check("clients: ['::/1']", &["drops every IPv6 client"]);
    check(
        "clients: [0.0.0.0/2, 64.0.0.0/3, 128.0.0.0/3]",
        &["drops half of all IPv4 addresses or more"],
    );
    check(
        "clients: [192.0.2.0/24]",
        &[
            "drops an address of this host (192.0.2.10), by 192.0.2.0/24",
            "drops the default gateway (192.0.2.1), by 192.0.2.0/24",
        ],
    );
    check("clients: [192.0.2.0/24], ports: [8080]", &[]);
    check(
        "clients: [198.51.100.53]",
        &["drops a resolver of this host (198.51.100.53), by 198.51.100.53/32"],
    );
    check("clients: [203.0.113.0/24], ports: [8080]", &[]);
    check(
        "clients: [203.0.113.0/24], ports: [20-30]",
        &["drops an open ssh connection's peer (203.0.113.9), by 203.0.113.0/24"],
    );
    check(
        "clients: [10.1.2.3], ports: [8080]",
        &["drops a prefix that the agent's configuration protects (10.1.0.0/16), by 10.1.2.3/32"],
    );
    check("clients: [8.8.8.8]", &[]);
    check("clients: [any], ports: [1-65535]", &["drops every client"]);
    check("clients: [any], ports: [1-100, 90-65535]", &["drops every client"]);
}

#[test]
fn half_of_the_ports_is_every_port() {
    check("clients: [any], ports: [1-65534]", &["drops every client"]);
    check("clients: [any], ports: [1-21, 23-65535]", &["drops every client"]);
    check("clients: [11.0.0.0/8], ports: [1-30000]", &[]);
    check(
        "clients: [192.0.2.1], ports: [1-21, 23-65535]",
        &["drops the default gateway (192.0.2.1), by 192.0.2.1/32"],
    );
}

#[test]
fn rules_are_judged_together() {
    let quarters = ["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"];
    let rules = quarters
        .iter()
        .zip("abcd".chars())
        .map(|(net, id)| format!("  - {{id: {id}, clients: [{net}], force: false}}\n"));
    let text = format!("block:\n{}  - {{id: e, clients: [8.8.8.8]}}\n", rules.collect::<String>());
    let policy = parse("p.yaml", text.as_bytes(), UnixNs(0)).unwrap();
    let found = hazards(&policy, &Lists::default(), &HostFacts::default());
    let told: Vec<_> = found.iter().map(|hazard| (&*hazard.id, &*hazard.message)).collect();
    let every = "drops every IPv4 client, together with other rules";
    assert_eq!(told, [("a", every), ("b", every), ("c", every), ("d", every)]);
    // The ports of two rules together, and the port of one.
    whole(
        "block:\n  - {id: a, clients: [any], ports: [1-20000]}\n  - {id: b, clients: [any], ports: [20001-40000]}\n",
        &["drops every client, together with other rules"; 2],
    );
    whole(
        "block:\n  - {id: a, clients: [192.0.2.1], ports: [1-20000]}\n  - {id: b, clients: [192.0.2.0/30], ports: [20001-40000]}\n",
        &[
            "drops the default gateway (192.0.2.1), by 192.0.2.1/32, together with other rules",
            "drops the default gateway (192.0.2.1), by 192.0.2.0/30, together with other rules",
        ],
    );
    whole(
        "block:\n  - {id: a, clients: [64.0.0.0/2]}\n  - {id: b, clients: [128.0.0.0/2], force: true}\n",
        &[],
    );
    whole("block:\n  - {id: a, clients: ['2000::/4', '3000::/4']}\n", &["drops every IPv6 client"]);
}

#[test]
fn a_limit_that_lets_next_to_nothing_through_is_a_block() {
    let everyone = "limits every client to next to nothing";
    whole("limits:\n  - {id: a, packets: {rate: 1, per: 1d}, shared: true}\n", &[everyone]);
    whole("limits:\n  - {id: a, new_connections: {rate: 1, per: 1h}}\n", &[everyone]);
    whole("limits:\n  - {id: a, packets: {rate: 1, per: 1h}, action: monitor}\n", &[]);
    whole("limits:\n  - {id: a, packets: {rate: 100}, new_connections: {rate: 5}}\n", &[]);
    whole(
        "limits:\n  - {id: a, clients: [192.0.2.1], packets: {rate: 1, per: 1h}}\n",
        &["limits the default gateway (192.0.2.1) to next to nothing, by 192.0.2.1/32"],
    );
}

#[test]
fn many_addresses_of_the_host_and_a_long_list_take_no_time() {
    let entries = (0..200_000_u32).map(|n| {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + n * 3);
        (IpNet::from(IpAddr::from(address)), None)
    });
    let list = std::sync::Arc::new(List::new(ListFacts::default(), entries));
    let text = "block:\n  - {id: a, lists: [{file: long.txt}]}\n";
    let policy = parse("p.yaml", text.as_bytes(), UnixNs(0)).unwrap();
    let mut lists = Lists::default();
    lists.insert(&policy.rules[0].lists[0], list);
    let own = (0..1_000_u32).map(|n| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)));
    // One by one these would be 400 million comparisons, a minute in a debug build.
    let mut facts = HostFacts { own: own.collect(), ..HostFacts::default() };
    assert_eq!(hazards(&policy, &lists, &facts), []);
    facts.gateways.push("11.0.0.3".parse().unwrap());
    assert_eq!(hazards(&policy, &lists, &facts).len(), 1);
}
