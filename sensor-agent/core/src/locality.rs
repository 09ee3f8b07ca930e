//! Which addresses are this host's or its workloads': decides the role of every exchange.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashSet;
use ipnet::IpNet;

use crate::{http::Exchange, state::Role};

/// Addresses that count as local. The shell keeps it current from the network interfaces.
#[derive(Clone, Debug)]
pub enum Locality {
    /// Every server is taken for local: a capture does not say where it was taken.
    Everything,
    /// What was found on this host.
    Host(LocalAddresses),
}

/// Addresses of this host and of workloads on it.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses {
    addresses: HashSet<IpAddr, RandomState>,
    prefixes: Vec<IpNet>,
}

impl LocalAddresses {
    /// Makes a set of single addresses and prefixes of workloads (pods); IPv4-mapped addresses are IPv4.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            addresses: addresses.into_iter().map(|address| address.to_canonical()).collect(),
            prefixes: prefixes.into_iter().collect(),
        }
    }

    /// Whether an address is on this host.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback()
            || self.addresses.contains(&address)
            || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}

impl Locality {
    /// Whether a listener at this address is on this host.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        match self {
            Self::Everything => true,
            Self::Host(local) => local.contains(address),
        }
    }

    /// The role of an exchange. A sending socket that the kernel could name is on this host, whatever its address.
    #[must_use]
    pub fn role(&self, exchange: &Exchange) -> Role {
        if self.is_local(exchange.server.ip()) || exchange.server_hint.cgroup_id != 0 {
            Role::Server
        } else if self.is_local(exchange.client.ip()) || exchange.client_hint.cgroup_id != 0 {
            Role::Client
        } else {
            Role::Transit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> LocalAddresses {
        LocalAddresses::new(
            ["10.0.0.1", "::ffff:10.0.0.2", "2001:db8::1"].map(|text| text.parse().expect("an address")),
            ["10.244.0.0/24".parse().expect("a prefix")],
        )
    }

    #[test]
    fn own_addresses_workloads_and_loopback_are_local() {
        for address in ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "2001:db8::1", "10.244.0.7", "127.0.0.5", "::1"] {
            assert!(local().contains(address.parse().expect("an address")), "{address}");
        }
        for address in ["10.0.0.3", "10.244.1.7", "2001:db8::2"] {
            assert!(!local().contains(address.parse().expect("an address")), "{address}");
        }
    }
}
