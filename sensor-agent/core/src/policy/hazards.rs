//! Rules that are more likely a mistake than meant: refused unless somebody insists (`--force`, or `force: true` in the rule).
//!
//! Looked at are rules that drop: block rules that do not only monitor, for more than 0 % of clients. A rule for some ports is looked at
//! for peers that need those ports; one for every port for all of them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    facts::HostFacts,
    list::Lists,
    model::{Policy, Rule, RuleAction, What},
};

/// A reason not to put a rule in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// Index in [`Policy::rules`].
    pub rule: usize,
    /// Line of the rule in its file.
    pub line: u64,
    /// Its id.
    pub id: Box<str>,
    /// What it would do.
    pub message: String,
}

/// Port of kubelet.
const KUBELET: u16 = 10_250;

/// Looks for hazards; at most one of each kind for a rule.
pub fn hazards(policy: &Policy, lists: &Lists, facts: &HostFacts) -> Vec<Hazard> {
    let peers = peers(policy, facts);
    let mut found = Vec::new();
    for (number, rule) in policy.rules.iter().enumerate() {
        if rule.what != What::Block
            || rule.action == RuleAction::Monitor
            || rule.percent == 0
            || rule.force
        {
            continue;
        }
        let mut told = |message: String| {
            let (line, id) = (rule.about.line, rule.about.id.clone());
            found.push(Hazard { rule: number, line, id, message });
        };
        if every_port(rule)
            && let Some(message) = everything(rule, lists)
        {
            told(message);
            continue;
        }
        let mut last = "";
        for peer in peers.iter().filter(|peer| peer.needs_a_port_of(rule)) {
            if peer.kind != last
                && let Some(net) = covering(rule, lists, peer)
            {
                told(format!("drops {} ({}), by {net}", peer.kind, peer.shown()));
                last = peer.kind;
            }
        }
    }
    found
}

/// Somebody whom the host needs.
struct Peer {
    kind: &'static str,
    net: IpNet,
    /// Ports of ours that it uses; empty = it is needed whatever the port is.
    ours: Vec<(u16, u16)>,
}

impl Peer {
    fn needs_a_port_of(&self, rule: &Rule) -> bool {
        let ports = &rule.when.ports;
        every_port(rule)
            || self.kind == PROTECTED
            || self
                .ours
                .iter()
                .any(|(low, high)| ports.iter().any(|(from, to)| from <= high && low <= to))
    }

    fn shown(&self) -> String {
        if self.net.prefix_len() == self.net.max_prefix_len() {
            self.net.addr().to_string()
        } else {
            self.net.to_string()
        }
    }
}

const PROTECTED: &str = "a prefix that the agent's configuration protects";

fn peers(policy: &Policy, facts: &HostFacts) -> Vec<Peer> {
    let mut peers = Vec::new();
    let mut add = |kind, addresses: &[IpAddr], ours: &[(u16, u16)]| {
        for address in addresses.iter().map(IpAddr::to_canonical).filter(|own| !own.is_loopback()) {
            peers.push(Peer { kind, net: address.into(), ours: ours.to_vec() });
        }
    };
    let services: Vec<IpAddr> = facts.api_servers.iter().map(std::net::SocketAddr::ip).collect();
    let upstreams: Vec<IpAddr> = facts.upstreams.iter().map(std::net::SocketAddr::ip).collect();
    add("an address of this host", &facts.own, &[]);
    add("the default gateway", &facts.gateways, &[]);
    add("a resolver of this host", &facts.resolvers, &[]);
    add("an open ssh connection's peer", &facts.ssh_peers, &policy.failsafe.ssh_ports);
    add("the API server", &services, &[]);
    add("a peer of kubelet", &facts.kubelet_peers, &[(KUBELET, KUBELET)]);
    add("the sensor's upstream", &upstreams, &[]);
    for net in &policy.failsafe.ssh_management {
        let ours = policy.failsafe.ssh_ports.clone();
        peers.push(Peer { kind: "a management network", net: *net, ours });
    }
    peers.extend(facts.protected.iter().map(|net| Peer {
        kind: PROTECTED,
        net: *net,
        ours: Vec::new(),
    }));
    peers
}

/// Whether the rule is for every port: none is named, or all of them are.
fn every_port(rule: &Rule) -> bool {
    matches!(rule.when.ports[..], [] | [(0 | 1, u16::MAX)])
}

/// A prefix of the rule that overlaps with a peer.
fn covering(rule: &Rule, lists: &Lists, peer: &Peer) -> Option<IpNet> {
    let overlaps = |net: &IpNet| net.contains(&peer.net) || peer.net.contains(net);
    let own = rule.clients.iter().copied().find(overlaps);
    own.or_else(|| {
        let mut lists = rule.lists.iter().filter_map(|name| lists.find(name));
        lists.find_map(|list| list.entries().map(|(net, _)| net).find(overlaps))
    })
}

/// Says so when a rule lists half of all addresses of a family or more.
fn everything(rule: &Rule, lists: &Lists) -> Option<String> {
    // Of IPv6 the part that is in use, 2000::/3, is what matters.
    let global = IpNet::new(IpAddr::V6(std::net::Ipv6Addr::from(0x2000_u128 << 112)), 3).ok()?;
    let (mut four, mut six, mut every_six) = (Vec::new(), Vec::new(), false);
    let listed = rule.lists.iter().filter_map(|name| lists.find(name));
    let all = rule
        .clients
        .iter()
        .copied()
        .chain(listed.flat_map(|list| list.entries().map(|(net, _)| net)));
    for net in all {
        match net {
            IpNet::V4(net) => {
                four.push(span(net.network().to_bits().into(), 32 - net.prefix_len()));
            }
            IpNet::V6(_) if net.contains(&global) => every_six = true,
            IpNet::V6(own) if global.contains(&net) => {
                six.push(span(own.network().to_bits(), 128 - own.prefix_len()));
            }
            IpNet::V6(_) => {}
        }
    }
    let (four, six) = (covered(four), covered(six));
    if four == 1 << 32 && every_six {
        Some("drops every client".to_owned())
    } else if four == 1 << 32 {
        Some("drops every IPv4 client".to_owned())
    } else if every_six {
        Some("drops every IPv6 client".to_owned())
    } else if four >= 1 << 31 {
        Some("drops half of all IPv4 addresses or more".to_owned())
    } else if six >= 1 << 124 {
        Some("drops half of all IPv6 addresses in use or more".to_owned())
    } else {
        None
    }
}

/// First address and the one behind the last.
fn span(first: u128, host_bits: u8) -> (u128, u128) {
    (first, first.saturating_add(1_u128.checked_shl(host_bits.into()).unwrap_or(u128::MAX)))
}

/// Addresses in the union of spans.
fn covered(mut spans: Vec<(u128, u128)>) -> u128 {
    spans.sort_unstable();
    let (mut sum, mut end) = (0_u128, 0);
    for (from, to) in spans {
        let from = from.max(end);
        if to > from {
            sum += to - from;
            end = to;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};
    use crate::time::UnixNs;

    fn check(rule: &str, expected: &[&str]) {
        let text = format!("block:\n  - {{id: a, {rule}}}\n");
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
        assert_eq!(found, expected, "{rule}");
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
            &[
                "drops a prefix that the agent's configuration protects (10.1.0.0/16), by 10.1.2.3/32",
            ],
        );
        check("clients: [8.8.8.8]", &[]);
        check("clients: [any], ports: [1-65535]", &["drops every client"]);
        check("clients: [any], ports: [1-100, 90-65535]", &["drops every client"]);
    }
}
