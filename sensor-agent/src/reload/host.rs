//! The host that policies are put in force on, and what it knows of itself.
//!
//! Bounds: those of `config::host`, which reads it; the kernel's table of listeners.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use sensor_core::policy::{HostFacts, Listener};

use crate::{
    config::{Connected, connected, host_facts},
    kernel::{self, Kernel},
};

/// The host that a policy is for.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Where a policy is put in force.
    pub kernel: &'a Kernel,
    /// Where the agent sends its events.
    pub upstreams: &'a [SocketAddr],
    /// What no policy can drop, by the agent's own configuration.
    pub protected: &'a [IpNet],
}

impl Host<'_> {
    /// What it knows of itself, for a policy whose failsafe has these ports of sshd: their peers must be known before its rules are in
    /// force. Those that are known already keep their place.
    #[must_use]
    pub fn facts(&self, known: &[IpAddr], ssh_ports: &[(u16, u16)]) -> HostFacts {
        self.facts_with(connected(known, ssh_ports))
    }

    /// What the kernel knows of its listeners, for limits of requests.
    pub(super) fn listeners(&self) -> Vec<Listener> {
        let local = self.kernel.view();
        let all = self.kernel.listeners().into_iter();
        let own = all.filter(|(address, _)| local.contains(address.ip()));
        own.map(|(address, counts)| Listener {
            port: address.port(),
            http: counts.http,
            h2c: counts.h2c,
            tls: counts.tls,
        })
        .collect()
    }

    /// The same with what is known already of who is connected.
    pub(super) fn facts_with(&self, connected: Connected) -> HostFacts {
        let facts = host_facts(connected, kernel::now(), self.upstreams.to_vec());
        HostFacts { protected: self.protected.to_vec(), ..facts }
    }
}
