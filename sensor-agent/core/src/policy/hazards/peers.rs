//! Whom the host needs, sorted once: the prefix of a rule finds whom it touches without a walk over all of them.

use std::net::IpAddr;

use ipnet::IpNet;
use sensor_ebpf::abi::policy::FAILSAFE_MAX;

use super::super::{
    facts::HostFacts,
    model::{Policy, Rule},
};

/// Port of kubelet.
const KUBELET: u16 = 10_250;

const PROTECTED: &str = "a prefix that the agent's configuration protects";

/// Somebody whom the host needs.
pub(super) struct Peer {
    pub(super) kind: &'static str,
    net: IpNet,
    /// Ports of ours that it uses; empty = it is needed whatever the port is.
    ours: Vec<(u16, u16)>,
}

impl Peer {
    /// Whether a rule for some ports only is in its way.
    pub(super) fn needs_a_port_of(&self, rule: &Rule) -> bool {
        let ports = &rule.when.ports;
        self.kind == PROTECTED
            || self
                .ours
                .iter()
                .any(|(low, high)| ports.iter().any(|(from, to)| from <= high && low <= to))
    }

    /// Whether it needs no certain port of ours.
    pub(super) fn needs_most_ports(&self) -> bool {
        self.kind != PROTECTED && self.ours.is_empty()
    }

    pub(super) fn shown(&self) -> String {
        if self.net.prefix_len() == self.net.max_prefix_len() {
            self.net.addr().to_string()
        } else {
            self.net.to_string()
        }
    }
}

/// All of them; kinds in the order in which they are told.
pub(super) struct Peers {
    pub(super) all: Vec<Peer>,
    /// By family: first address, length, number.
    sorted: [Vec<(u128, u8, usize)>; 2],
    /// Lengths in use, by family.
    lengths: [Vec<u8>; 2],
}

impl Peers {
    pub(super) fn new(policy: &Policy, facts: &HostFacts) -> Self {
        let all = all(policy, facts);
        let (mut sorted, mut lengths) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for (number, peer) in all.iter().enumerate() {
            let (first, _) = ends(peer.net);
            let [four, six] = &mut sorted;
            let [lengths4, lengths6] = &mut lengths;
            let (of, lengths) = match peer.net {
                IpNet::V4(_) => (four, lengths4),
                IpNet::V6(_) => (six, lengths6),
            };
            of.push((first, peer.net.prefix_len(), number));
            lengths.push(peer.net.prefix_len());
        }
        for of in &mut sorted {
            of.sort_unstable();
        }
        for of in &mut lengths {
            of.sort_unstable();
            of.dedup();
        }
        Self { all, sorted, lengths }
    }

    /// Calls `touched` for each that a prefix overlaps with.
    pub(super) fn touched_by(&self, net: IpNet, mut touched: impl FnMut(usize)) {
        let ([four, six], [lengths4, lengths6]) = (&self.sorted, &self.lengths);
        let (sorted, lengths) = match net {
            IpNet::V4(_) => (four, lengths4),
            IpNet::V6(_) => (six, lengths6),
        };
        let (first, last) = ends(net);
        let from = |first: u128| sorted.get(sorted.partition_point(|(at, ..)| *at < first)..);
        // Those that begin in it, and those around it that begin before.
        for (at, _, number) in from(first).unwrap_or_default() {
            if *at > last {
                break;
            }
            touched(*number);
        }
        for len in lengths.iter().filter(|len| **len < net.prefix_len()) {
            let host_bits = u32::from(net.max_prefix_len() - len);
            let begin = first
                .checked_shr(host_bits)
                .and_then(|high| high.checked_shl(host_bits))
                .unwrap_or(0);
            if begin == first {
                continue;
            }
            for (at, own, number) in from(begin).unwrap_or_default() {
                if *at != begin {
                    break;
                }
                if own == len {
                    touched(*number);
                }
            }
        }
    }
}

/// First and last address.
fn ends(net: IpNet) -> (u128, u128) {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    };
    (bits(net.network()), bits(net.broadcast()))
}

fn all(policy: &Policy, facts: &HostFacts) -> Vec<Peer> {
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
    // More than the failsafe has room for are refused by it.
    for net in policy.failsafe.ssh_management.iter().take(FAILSAFE_MAX as usize) {
        let ours = policy.failsafe.ssh_ports.clone();
        peers.push(Peer { kind: "a management network", net: *net, ours });
    }
    let protected = facts.protected.iter().take(FAILSAFE_MAX as usize);
    peers.extend(protected.map(|net| Peer { kind: PROTECTED, net: *net, ours: Vec::new() }));
    peers
}
