//! What the agent knows of its host, and what becomes of a rule there.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

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
    /// Where the sensor sends to.
    pub upstreams: Vec<SocketAddr>,
    /// Prefixes that the agent's own configuration protects: the first failsafe entries, whatever a policy says.
    pub protected: Vec<IpNet>,
    /// The host's own addresses.
    pub own: Vec<IpAddr>,
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
