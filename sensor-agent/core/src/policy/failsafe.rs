//! What keeps the host manageable: traffic that no rule of any policy drops.
//!
//! An entry is addresses + port + direction; a bare port never suffices unless an operator configures it, because anyone
//! can choose source port 22. Defaults: ssh for peers that are connected when the policy is applied and for the
//! management networks, DNS of the host's resolvers, DHCP of the gateways and on the link, loopback, the API server and kubelet's
//! peers, the sensor's upstream. Neighbour discovery and ARP are neither TCP nor UDP and never judged.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use sensor_ebpf::abi::{
    image::Failsafe as Entry,
    policy::{FAILSAFE_MAX, FailsafeSide},
};

use zerocopy::IntoBytes;

use super::{
    duration::shown,
    facts::HostFacts,
    model::Protocol,
    placed::Placed,
    prefix,
    raw::{PortText, RawFailsafe},
    validate::{merge, parse_ports, parse_protocol},
};

/// The failsafe section, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failsafe {
    /// Ports of sshd (default 22).
    pub ssh_ports: Vec<(u16, u16)>,
    /// Networks from which ssh is never dropped (default none).
    pub ssh_management: Vec<IpNet>,
    /// What the sensor knows by itself (default: all).
    pub builtin: Vec<Builtin>,
    /// What else the operator names.
    pub also: Vec<FailsafeRule>,
}

impl Default for Failsafe {
    fn default() -> Self {
        Self {
            ssh_ports: vec![(22, 22)],
            ssh_management: Vec::new(),
            builtin: Builtin::ALL.to_vec(),
            also: Vec::new(),
        }
    }
}

/// Traffic that is kept by what the host knows about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// ssh peers that are connected when the policy is applied.
    SshEstablished,
    /// DNS of the host's resolvers.
    Dns,
    /// DHCP of the gateways and on the link.
    Dhcp,
    /// Loopback addresses.
    Loopback,
    /// API server and kubelet peers, where the host knows them.
    Kubernetes,
    /// The sensor's own upstream.
    Upstream,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SshEstablished,
        Self::Dns,
        Self::Dhcp,
        Self::Loopback,
        Self::Kubernetes,
        Self::Upstream,
    ];

    /// What the file says about it; `None` is yes.
    fn wanted(self, raw: &RawFailsafe) -> Option<bool> {
        match self {
            Self::SshEstablished => raw.ssh.established,
            Self::Dns => raw.dns,
            Self::Dhcp => raw.dhcp,
            Self::Loopback => raw.loopback,
            Self::Kubernetes => raw.kubernetes,
            Self::Upstream => raw.upstream,
        }
    }
}

/// Traffic with some networks that is never dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailsafeRule {
    /// What it is for.
    pub name: Box<str>,
    /// The peers.
    pub networks: Vec<IpNet>,
    /// Ports on `side`; empty = any.
    pub ports: Vec<(u16, u16)>,
    /// TCP, UDP, or any.
    pub protocol: Option<Protocol>,
    /// Whose port.
    pub side: Side,
}

/// Whose port a failsafe rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We serve.
    Ours,
    /// The peer serves.
    Peer,
}

/// Checks the section; mistakes go to `fail(line, field, message)`.
pub(super) fn validate(raw: &RawFailsafe, fail: &mut dyn FnMut(u64, String, String)) -> Failsafe {
    let default = Failsafe::default();
    let ssh_ports = raw
        .ssh
        .ports
        .as_ref()
        .map_or(default.ssh_ports, |ports| read_ports(ports, "failsafe.ssh.ports", fail));
    let mut also = Vec::new();
    if raw.also.len() > FAILSAFE_MAX as usize {
        let message = format!("{} entries are over the limit of {FAILSAFE_MAX}", raw.also.len());
        let line = raw.also.first().map_or(0, Placed::line);
        fail(line, "failsafe.also".into(), message);
    }
    for (number, rule) in raw.also.iter().take(FAILSAFE_MAX as usize).enumerate() {
        let field = format!("failsafe.also[{number}]");
        let rule = &rule.value;
        let protocol = rule.protocol.as_ref().and_then(|text| {
            parse_protocol(&text.value).unwrap_or_else(|message| {
                fail(text.line(), format!("{field}.protocol"), message);
                None
            })
        });
        let side = match rule.side.as_ref().map(|side| (side.line(), side.value.as_str())) {
            None | Some((_, "ours")) => Side::Ours,
            Some((_, "peer")) => Side::Peer,
            Some((line, other)) => {
                let message = format!(
                    "`{}` is not a side; write ours (we serve) or peer (the peer serves)",
                    shown(other)
                );
                fail(line, format!("{field}.side"), message);
                Side::Ours
            }
        };
        let networks = read_networks(&rule.networks, &format!("{field}.networks"), fail);
        let ports = read_ports(&rule.ports, &format!("{field}.ports"), fail);
        also.push(FailsafeRule {
            name: shown(&rule.name.value).into(),
            networks,
            ports,
            protocol,
            side,
        });
    }
    Failsafe {
        ssh_ports,
        ssh_management: read_networks(&raw.ssh.management, "failsafe.ssh.management", fail),
        builtin: Builtin::ALL
            .into_iter()
            .filter(|builtin| builtin.wanted(raw).unwrap_or(true))
            .collect(),
        also,
    }
}

fn read_ports(
    list: &[Placed<PortText>],
    field: &str,
    fail: &mut dyn FnMut(u64, String, String),
) -> Vec<(u16, u16)> {
    let mut ports = Vec::new();
    for (number, port) in list.iter().enumerate() {
        match parse_ports(&port.value.0) {
            Ok(range) => ports.push(range),
            Err(message) => fail(port.line(), format!("{field}[{number}]"), message),
        }
    }
    merge(ports)
}

fn read_networks(
    list: &[Placed<String>],
    field: &str,
    fail: &mut dyn FnMut(u64, String, String),
) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (number, text) in list.iter().enumerate() {
        match prefix::parse(&text.value) {
            Ok(nets) => networks.extend(nets),
            Err(message) => fail(text.line(), format!("{field}[{number}]"), message),
        }
    }
    networks.sort();
    networks.dedup();
    networks
}

/// Entries, and peers that found no room among them.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) entries: Vec<Entry>,
    pub(super) left_out: usize,
    /// How many of the first are configured.
    configured: usize,
}

impl Kept {
    /// Entries that nobody can bring about by connecting.
    pub(super) fn configured(&self) -> &[Entry] {
        self.entries.get(..self.configured).unwrap_or_default()
    }

    /// Those of connected peers, in any order.
    pub(super) fn learned(&self) -> BTreeSet<&[u8]> {
        let entries = self.entries.get(self.configured..).unwrap_or_default();
        entries.iter().map(IntoBytes::as_bytes).collect()
    }
}

impl Failsafe {
    /// All rules in force on a host, with the addresses it knows; those that anyone can add to by connecting come last.
    pub fn rules(&self, facts: &HostFacts) -> Vec<FailsafeRule> {
        let mut rules = self.configured(facts);
        rules.extend(self.learned(facts));
        rules
    }

    /// What operators and the host's own configuration name.
    fn configured(&self, facts: &HostFacts) -> Vec<FailsafeRule> {
        let rule = |name: &str, networks: Vec<IpNet>, ports: Vec<(u16, u16)>, protocol, side| {
            FailsafeRule { name: name.into(), networks, ports, protocol, side }
        };
        let tcp = Some(Protocol::Tcp);
        let mut rules = vec![rule(
            "protected by the agent",
            facts.protected.clone(),
            Vec::new(),
            None,
            Side::Ours,
        )];
        rules.extend(self.also.iter().cloned());
        rules.push(rule(
            "ssh from management networks",
            self.ssh_management.clone(),
            self.ssh_ports.clone(),
            tcp,
            Side::Ours,
        ));
        if self.keeps(Builtin::Dns) {
            rules.push(rule(
                "resolvers",
                hosts(&facts.resolvers),
                vec![(53, 53)],
                None,
                Side::Peer,
            ));
        }
        if self.keeps(Builtin::Dhcp) {
            let udp = Some(Protocol::Udp);
            let mut servers = hosts(&facts.gateways);
            servers.retain(|server| matches!(server, IpNet::V4(_)));
            servers.extend(nets(&["0.0.0.0/32", "255.255.255.255/32"]));
            rules.push(rule("DHCP", servers, vec![(67, 68)], udp, Side::Peer));
            rules.push(rule(
                "DHCPv6",
                nets(&["fe80::/10", "ff02::/16"]),
                vec![(546, 547)],
                udp,
                Side::Peer,
            ));
        }
        if self.keeps(Builtin::Loopback) {
            rules.push(rule(
                "loopback",
                nets(&["127.0.0.0/8", "::1/128"]),
                Vec::new(),
                None,
                Side::Ours,
            ));
        }
        if self.keeps(Builtin::Kubernetes) {
            rules.extend(facts.api_servers.iter().map(|server| service("API server", *server)));
        }
        if self.keeps(Builtin::Upstream) {
            rules.extend(
                facts.upstreams.iter().map(|upstream| service("upstream of the sensor", *upstream)),
            );
        }
        rules.retain(|rule| !rule.networks.is_empty());
        rules
    }

    fn keeps(&self, builtin: Builtin) -> bool {
        self.builtin.contains(&builtin)
    }

    /// Whether who is connected matters.
    pub fn learns(&self) -> bool {
        self.keeps(Builtin::SshEstablished) || self.keeps(Builtin::Kubernetes)
    }

    /// Peers that are connected now, each in the order in which the host gives them.
    fn learned(&self, facts: &HostFacts) -> Vec<FailsafeRule> {
        let peers = [
            (Builtin::SshEstablished, "ssh peers", &facts.ssh_peers, self.ssh_ports.clone()),
            (Builtin::Kubernetes, "kubelet", &facts.kubelet_peers, vec![(10250, 10250)]),
        ];
        let wanted = peers
            .into_iter()
            .filter(|(builtin, _, peers, _)| self.keeps(*builtin) && !peers.is_empty());
        let rules = wanted.map(|(_, name, peers, ports)| {
            let mut networks: Vec<IpNet> = Vec::new();
            for peer in peers.iter().map(|peer| IpNet::from(peer.to_canonical())) {
                if !networks.contains(&peer) {
                    networks.push(peer);
                }
            }
            let (protocol, side) = (Some(Protocol::Tcp), Side::Ours);
            FailsafeRule { name: name.into(), networks, ports, protocol, side }
        });
        rules.collect()
    }

    /// Map entries of all rules; an error says how many there would be. Peers that were learned get the room that is left: who connects
    /// to a port of ours cannot make a policy fail, nor push out what is configured.
    pub(super) fn entries(&self, facts: &HostFacts) -> Result<Kept, String> {
        const MAX: usize = FAILSAFE_MAX as usize;
        let configured = self.configured(facts);
        // Counted before one is made: networks times ports of a hostile file are more than memory holds.
        let count = configured.iter().fold(0_usize, |sum, rule| {
            sum.saturating_add(rule.networks.len().saturating_mul(rule.ports.len().max(1)))
        });
        if count > MAX {
            return Err(format!(
                "{count} failsafe entries (addresses times ports) are over the limit of {FAILSAFE_MAX}; join networks into wider prefixes"
            ));
        }
        let left_out: usize = [
            (Builtin::SshEstablished, facts.ssh_left_out),
            (Builtin::Kubernetes, facts.kubelet_left_out),
        ]
        .into_iter()
        .filter(|(builtin, _)| self.keeps(*builtin))
        .map(|(_, left_out)| left_out)
        .sum();
        let mut kept = Kept { entries: Vec::with_capacity(MAX), left_out, configured: count };
        for rule in configured.iter().chain(&self.learned(facts)) {
            let any = [(0, u16::MAX)];
            let ports = if rule.ports.is_empty() { &any[..] } else { &rule.ports };
            for network in &rule.networks {
                if kept.entries.len() + ports.len() > MAX {
                    kept.left_out += 1;
                } else {
                    kept.entries.extend(ports.iter().map(|range| entry(rule, network, *range)));
                }
            }
        }
        Ok(kept)
    }
}

fn service(name: &str, address: SocketAddr) -> FailsafeRule {
    FailsafeRule {
        name: name.into(),
        networks: hosts(&[address.ip()]),
        ports: vec![(address.port(), address.port())],
        protocol: Some(Protocol::Tcp),
        side: Side::Peer,
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().filter_map(|net| net.parse().ok()).collect()
}

fn hosts(addresses: &[IpAddr]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> =
        addresses.iter().map(|address| IpNet::from(address.to_canonical())).collect();
    nets.sort();
    nets.dedup();
    nets
}

fn entry(rule: &FailsafeRule, network: &IpNet, (port_min, port_max): (u16, u16)) -> Entry {
    let (addr, prefix_len) = match network {
        IpNet::V4(net) => (net.network().to_ipv6_mapped().octets(), net.prefix_len() + 96),
        IpNet::V6(net) => (net.network().octets(), net.prefix_len()),
    };
    let mut name = [[0; 8]; 5];
    name.as_flattened_mut().iter_mut().zip(rule.name.bytes()).for_each(|(to, from)| *to = from);
    Entry {
        addr,
        prefix_len,
        side: match rule.side {
            Side::Ours => FailsafeSide::Ours,
            Side::Peer => FailsafeSide::Peer,
        } as u8,
        protocol: rule.protocol.map_or(0, Protocol::number),
        direction: 0,
        port_min,
        port_max,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};
    use crate::time::UnixNs;

    fn failsafe(text: &str) -> Failsafe {
        parse("p.yaml", text.as_bytes(), UnixNs(0)).unwrap().failsafe
    }

    #[test]
    fn who_connects_takes_the_room_that_is_left_and_no_more() {
        let peer = |n: u8| IpAddr::from([203, 0, 113, n]);
        let facts =
            HostFacts { ssh_peers: (0..16).rev().map(peer).collect(), ..HostFacts::default() };
        let ports = "failsafe: {ssh: {ports: [22, 2222, 2200-2209, 22000, 23000]}}\n";
        let kept = failsafe(ports).entries(&facts).unwrap();
        assert!(kept.entries.len() <= 64 && kept.left_out > 0, "{}", kept.left_out);
        // The host's order is the order of importance.
        let has = |n: u8| {
            let address = std::net::Ipv4Addr::new(203, 0, 113, n).to_ipv6_mapped().octets();
            kept.entries.iter().filter(|entry| entry.addr == address).count()
        };
        assert_eq!((has(15), has(0)), (5, 0));
        // Those that the host did not name are not kept either, where who is connected matters.
        let more = HostFacts { ssh_left_out: 100, kubelet_left_out: 7, ..facts.clone() };
        assert_eq!(failsafe(ports).entries(&more).unwrap().left_out, kept.left_out + 107);
        let mut one = failsafe(ports);
        one.builtin.retain(|builtin| *builtin != Builtin::Kubernetes);
        assert_eq!(one.entries(&more).unwrap().left_out, kept.left_out + 100, "not kept anyway");
        let mut none = failsafe(ports);
        none.builtin.clear();
        assert!(!none.learns() && none.entries(&more).unwrap().left_out == 0);
        let own = failsafe("failsafe: {ssh: {management: [192.0.2.0/24]}}\n");
        assert_eq!(own.entries(&facts).unwrap().left_out, 0);
    }

    #[test]
    fn networks_times_ports_are_counted_before_they_are_made() {
        let many = |count: u32, one: &dyn Fn(u32) -> String| {
            (0..count).map(one).collect::<Vec<_>>().join(", ")
        };
        let networks = many(20_000, &|n| format!("10.{}.{}.0/25", n / 250, n % 250));
        let ports = many(20_000, &|n| (n * 2 + 1).to_string());
        let text = format!(
            "failsafe:\n  also:\n    - {{name: x, networks: [{networks}], ports: [{ports}]}}\n"
        );
        let error = failsafe(&text).entries(&HostFacts::default()).err().unwrap();
        assert!(error.starts_with("4000000"), "{error}");
    }
}
