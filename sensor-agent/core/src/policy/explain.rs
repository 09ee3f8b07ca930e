//! Which rule decides about a packet, by a linear scan over the rules as written: the reference for the compiled form.
//!
//! Knows no tries, chains or step limits. Order: block rules of the sender's address, then of the receiver's; what they
//! drop is asked against failsafe, then allow; then the limits of the sender.

use std::{cmp::Reverse, net::IpAddr};

use super::{
    facts::HostFacts,
    failsafe::{FailsafeRule, Side},
    model::{Direction, Policy, Protocol, Rule, RuleAction, What},
};

/// A packet as rules see it. Ports are `None` for a later fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// `Ingress` or `Egress`.
    pub direction: Direction,
    /// Name of the interface, where known.
    pub interface: Option<&'a str>,
}

/// What was decided; rules are indices in [`Policy::rules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// No rule drops it. The limits it is charged to, if any.
    Pass {
        /// Limit rules.
        limits: Vec<usize>,
    },
    /// A block rule matched, but the packet keeps the host manageable.
    Failsafe {
        /// The block rule.
        rule: usize,
        /// What it keeps.
        name: Box<str>,
    },
    /// A block rule matched, but the packet is allowed.
    Allowed {
        /// The block rule.
        rule: usize,
        /// The allow rule.
        by: usize,
    },
    /// Dropped in enforce mode.
    Blocked {
        /// The block rule.
        rule: usize,
    },
}

/// Decides about a packet.
pub fn explain(policy: &Policy, facts: &HostFacts, packet: &Packet<'_>) -> Decided {
    let ends = [End::Source, End::Destination];
    for end in ends {
        let blocks = matching(policy, facts, packet, end, |what| matches!(what, What::Block));
        let Some(rule) = blocks
            .into_iter()
            .find(|rule| policy.rules.get(*rule).is_some_and(|r| r.action != RuleAction::Monitor))
        else {
            continue;
        };
        if let Some(kept) =
            policy.failsafe.rules(facts).into_iter().find(|kept| keeps(kept, packet))
        {
            return Decided::Failsafe { rule, name: kept.name };
        }
        let allow = |end| {
            matching(policy, facts, packet, end, |what| matches!(what, What::Allow))
                .into_iter()
                .next()
        };
        return match ends.into_iter().find_map(allow) {
            Some(by) => Decided::Allowed { rule, by },
            None => Decided::Blocked { rule },
        };
    }
    let limits =
        matching(policy, facts, packet, End::Source, |what| matches!(what, What::Limit(_)));
    // Only those of the longest prefix with one that applies; a rule may list that prefix and longer ones elsewhere.
    let longest = limits.iter().filter_map(|rule| longest(policy, *rule, packet.src)).max();
    let charged = limits
        .into_iter()
        .filter(|rule| longest.is_some_and(|len| lists(policy, *rule, packet.src, len)));
    Decided::Pass { limits: charged.collect() }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// Rules of a kind that apply to the packet: longest prefix first, then the order in the file.
fn matching(
    policy: &Policy,
    facts: &HostFacts,
    packet: &Packet<'_>,
    end: End,
    wanted: fn(&What) -> bool,
) -> Vec<usize> {
    let (address, port) = match end {
        End::Source => (packet.src, packet.ports.map(|(_, dst)| dst)),
        End::Destination => (packet.dst, packet.ports.map(|(src, _)| src)),
    };
    let mut found: Vec<(Reverse<u8>, usize)> = Vec::new();
    for (number, rule) in policy.rules.iter().enumerate() {
        if wanted(&rule.what)
            && applies(rule, facts, packet, port)
            && let Some(len) = longest(policy, number, address)
        {
            found.push((Reverse(len), number));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, number)| number).collect()
}

fn longest(policy: &Policy, rule: usize, address: IpAddr) -> Option<u8> {
    let clients = &policy.rules.get(rule)?.clients;
    clients.iter().filter(|net| net.contains(&address)).map(ipnet::IpNet::prefix_len).max()
}

fn lists(policy: &Policy, rule: usize, address: IpAddr, len: u8) -> bool {
    let clients = policy.rules.get(rule).map_or(&[][..], |rule| &rule.clients);
    clients.iter().any(|net| net.contains(&address) && net.prefix_len() == len)
}

fn applies(rule: &Rule, facts: &HostFacts, packet: &Packet<'_>, service_port: Option<u16>) -> bool {
    let when = &rule.when;
    let port = when.ports.is_empty()
        || service_port.is_some_and(|port| {
            when.ports.iter().any(|(low, high)| (*low..=*high).contains(&port))
        });
    let protocol = when.protocol.is_none_or(|protocol| protocol == packet.protocol);
    let direction = when.direction == Direction::Both || when.direction == packet.direction;
    let interface = when
        .interface
        .as_deref()
        .is_none_or(|name| packet.interface == Some(name) && facts.interfaces.contains_key(name));
    let in_force = rule.expires.is_none_or(|at| facts.now < at);
    port && protocol && direction && interface && in_force
}

fn keeps(rule: &FailsafeRule, packet: &Packet<'_>) -> bool {
    if rule.protocol.is_some_and(|protocol| protocol != packet.protocol) {
        return false;
    }
    let named = |peer: IpAddr, peer_port: Option<u16>, our_port: Option<u16>| {
        let port = match rule.side {
            Side::Ours => our_port,
            Side::Peer => peer_port,
        };
        let fits = rule.ports.is_empty()
            || port.is_some_and(|port| {
                rule.ports.iter().any(|(low, high)| (*low..=*high).contains(&port))
            });
        fits && rule.networks.iter().any(|net| net.contains(&peer))
    };
    let (src_port, dst_port) =
        packet.ports.map_or((None, None), |(src, dst)| (Some(src), Some(dst)));
    named(packet.src, src_port, dst_port) || named(packet.dst, dst_port, src_port)
}
