//! What the agent knows of its host, and what becomes of a rule there.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::model::{Policy, Rule};
use crate::time::{MonoNs, UnixNs};

/// What the agent knows of the host when a policy is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Wall clock now.
    pub now: UnixNs,
    /// `CLOCK_BOOTTIME` now: expiry is given to the kernel in this clock.
    pub boot: MonoNs,
    /// Interfaces by name.
    pub interfaces: BTreeMap<String, u32>,
    /// DNS servers of the host.
    pub resolvers: Vec<IpAddr>,
    /// Default gateways.
    pub gateways: Vec<IpAddr>,
    /// Peers of established ssh connections.
    pub ssh_peers: Vec<IpAddr>,
    /// The Kubernetes API server.
    pub api_servers: Vec<SocketAddr>,
    /// Who talks to kubelet.
    pub kubelet_peers: Vec<IpAddr>,
    /// Peers of ssh that are connected too, more than are named.
    pub ssh_left_out: usize,
    /// The same of kubelet.
    pub kubelet_left_out: usize,
    /// Where the sensor sends to.
    pub upstreams: Vec<SocketAddr>,
    /// Prefixes that the agent's own configuration protects: the first failsafe entries, whatever a policy says.
    pub protected: Vec<IpNet>,
    /// The host's own addresses.
    pub own: Vec<IpAddr>,
}

/// What of a host became another so that a policy compiles to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostChange {
    /// Nothing.
    None,
    /// Who is connected: anyone can bring that about.
    Peers,
    /// The host itself, or what time it is.
    Host,
}

impl Policy {
    /// What of a host became another that this policy names.
    pub fn change_between(&self, before: &HostFacts, now: &HostFacts) -> HostChange {
        if self.rules.is_empty() {
            return HostChange::None;
        }
        let other = |rule: &Rule| {
            let expired = rule.expires.is_some_and(|at| at > before.now && at <= now.now);
            let name = rule.when.interface.as_deref();
            let index =
                |facts: &HostFacts| name.and_then(|name| facts.interfaces.get(name)).copied();
            expired || index(before) != index(now)
        };
        if self.rules.iter().any(other) {
            return HostChange::Host;
        }
        match (self.failsafe.entries(before), self.failsafe.entries(now)) {
            (Ok(before), Ok(now)) if before.configured() != now.configured() => HostChange::Host,
            (Ok(before), Ok(now)) if before.learned() != now.learned() => HostChange::Peers,
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => HostChange::None,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => HostChange::Host,
        }
    }
}

/// Why a rule is not in force now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inactive {
    /// Its time is over.
    Expired,
    /// The host has no interface of this name (compile again when one appears).
    NoInterface(Box<str>),
}

/// Whether a rule is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleState {
    /// In force.
    Active,
    /// Not now.
    Inactive(Inactive),
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    #[test]
    fn a_host_is_another_only_where_a_rule_or_the_failsafe_names_it() {
        let text =
            b"block:\n  - {id: a, clients: [192.0.2.1], interface: eth1, expires: 2030-01-01}\n";
        let policy = parse("p.yaml", text, UnixNs(0)).unwrap();
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let before = HostFacts { ssh_peers: vec![address(1), address(2)], ..HostFacts::default() };
        let check = |change: &dyn Fn(&mut HostFacts), expected| {
            let mut now = before.clone();
            change(&mut now);
            assert_eq!(policy.change_between(&before, &now), expected, "{now:?}");
        };
        let interface = |name: &str| BTreeMap::from([(name.to_owned(), 7)]);
        check(&|_| {}, HostChange::None);
        check(&|now| now.interfaces = interface("veth1234"), HostChange::None);
        check(&|now| now.interfaces = interface("eth1"), HostChange::Host);
        check(&|now| now.own.push(address(9)), HostChange::None);
        check(&|now| now.resolvers.push(address(9)), HostChange::Host);
        check(&|now| now.gateways.push(address(9)), HostChange::Host);
        check(&|now| now.ssh_peers.push(address(9)), HostChange::Peers);
        check(&|now| now.kubelet_peers.push(address(9)), HostChange::Peers);
        check(&|now| now.ssh_peers.reverse(), HostChange::None);
        check(&|now| now.now = UnixNs(u64::MAX), HostChange::Host);
        let nothing = parse("p.yaml", b"version: 1\n", UnixNs(0)).unwrap();
        let mut now = before.clone();
        now.ssh_peers.clear();
        assert_eq!(nothing.change_between(&before, &now), HostChange::None);
    }
}
