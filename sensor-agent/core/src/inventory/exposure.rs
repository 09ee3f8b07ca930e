//! From where a caller comes: its address to a class, by what is known of this host, the configured networks, and what addresses mean by themselves.
//!
//! The first that holds: loopback; an address of this host, or the server's own (`host`); the longest configured prefix;
//! a workload of this host (`host`); private by RFC 1918, RFC 4193, RFC 6598 or link-local; else public. The caller is the one
//! behind trusted proxies. Bound: [`NETS_MAX`] prefixes. What has no address (a recording without them) has no class.

use std::{cmp::Reverse, net::IpAddr};

use ipnet::IpNet;

use super::facet::Exposure;
use crate::{http::Exchange, locality::Nearness};

/// Prefixes of all classes.
pub const NETS_MAX: usize = 256;

/// Who called, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client: the one behind trusted proxies, else the one that the packets name.
    pub address: IpAddr,
    /// From where it comes.
    pub exposure: Option<Exposure>,
    /// How it came.
    pub way: Way,
}

/// Whether a request came by a trusted proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// No proxy is trusted.
    #[default]
    Unknown,
    /// By a trusted one.
    Proxied,
    /// Past all of them.
    Past,
}

impl Origin {
    /// The client that the packets name, with no network configured.
    #[must_use]
    pub fn of(exchange: &Exchange) -> Self {
        let (client, server) = (exchange.client.ip(), exchange.server.ip());
        let exposure = ExposureNets::default().class(client, server, |_| Nearness::Elsewhere);
        Self { address: client, exposure, way: Way::Unknown }
    }
}

/// Networks of callers by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExposureNets {
    /// Longest prefixes first.
    nets: Vec<(IpNet, Exposure)>,
}

impl ExposureNets {
    /// Takes configured networks; of one that has two classes the wider counts.
    #[must_use]
    pub fn new(nets: impl IntoIterator<Item = (IpNet, Exposure)>) -> Self {
        let mut nets: Vec<_> =
            nets.into_iter().take(NETS_MAX).map(|(net, class)| (net.trunc(), class)).collect();
        nets.sort_by_key(|(net, class)| Reverse((net.prefix_len(), *class)));
        Self { nets }
    }

    /// The class of a client of a server; `near` says what is known of an address.
    pub fn class(
        &self,
        client: IpAddr,
        server: IpAddr,
        near: impl FnOnce(IpAddr) -> Nearness,
    ) -> Option<Exposure> {
        let (client, server) = (client.to_canonical(), server.to_canonical());
        if client.is_unspecified() {
            return None;
        }
        if client.is_loopback() {
            return Some(Exposure::Loopback);
        }
        if client == server {
            return Some(Exposure::Host);
        }
        let near = near(client);
        let listed = || self.nets.iter().find(|(net, _)| net.contains(&client));
        Some(match near {
            Nearness::Own => Exposure::Host,
            _ if let Some((_, class)) = listed() => *class,
            Nearness::Workload => Exposure::Host,
            Nearness::Elsewhere if is_private(client) => Exposure::Private,
            Nearness::Elsewhere => Exposure::Public,
        })
    }
}

/// Remembers the class of the client that came last: the next one is often the same.
#[derive(Clone, Debug)]
pub(crate) struct Classifier {
    nets: ExposureNets,
    last: Option<(IpAddr, IpAddr, Option<Exposure>)>,
}

impl Classifier {
    pub(crate) const fn new(nets: ExposureNets) -> Self {
        Self { nets, last: None }
    }

    /// As [`ExposureNets::class`].
    pub(crate) fn class(
        &mut self,
        client: IpAddr,
        server: IpAddr,
        near: impl FnOnce(IpAddr) -> Nearness,
    ) -> Option<Exposure> {
        match self.last {
            Some((known, to, class)) if known == client && to == server => class,
            _ => {
                let class = self.nets.class(client, server, near);
                self.last = Some((client, server, class));
                class
            }
        }
    }

    /// What is known of addresses has changed.
    pub(crate) const fn forget(&mut self) {
        self.last = None;
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets().first() == Some(&100)
                && v4.octets().get(1).is_some_and(|octet| octet & 0xc0 == 64);
            v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets() -> ExposureNets {
        let nets = [
            ("10.0.0.0/8", Exposure::Private),
            ("10.96.0.0/12", Exposure::Cluster),
            ("10.99.0.0/16", Exposure::Partner),
            ("198.51.100.0/24", Exposure::Partner),
            ("2001:db8:1::/48", Exposure::Cluster),
        ];
        ExposureNets::new(nets.map(|(net, class)| (net.parse().unwrap(), class)))
    }

    fn check(client: &str, near: Nearness, expected: Option<Exposure>) {
        let server = "10.1.0.1".parse().unwrap();
        let found = nets().class(client.parse().unwrap(), server, |_| near);
        assert_eq!(found, expected, "{client}");
    }

    #[test]
    fn the_longest_prefix_decides_after_what_is_known_of_the_host() {
        use Exposure::{Cluster, Host, Loopback, Partner, Private, Public};
        for (client, expected) in [
            ("127.0.0.8", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("10.1.0.1", Host),
            ("::ffff:10.1.0.1", Host),
            ("10.1.0.2", Private),
            ("10.97.3.4", Cluster),
            ("10.99.3.4", Partner),
            ("::ffff:10.99.3.4", Partner),
            ("198.51.100.7", Partner),
            ("203.0.113.7", Public),
            ("192.168.7.7", Private),
            ("172.31.255.1", Private),
            ("172.32.0.1", Public),
            ("100.64.0.1", Private),
            ("100.128.0.1", Public),
            ("169.254.1.1", Private),
            ("fd00::1", Private),
            ("fe80::1", Private),
            ("2001:db8:1::1", Cluster),
            ("2001:db8:2::1", Public),
        ] {
            check(client, Nearness::Elsewhere, Some(expected));
        }
        check("0.0.0.0", Nearness::Elsewhere, None);
        check("198.51.100.7", Nearness::Own, Some(Host));
        check("198.51.100.7", Nearness::Workload, Some(Partner));
        check("203.0.113.7", Nearness::Workload, Some(Host));
    }

    #[test]
    fn of_two_classes_of_one_network_the_wider_counts() {
        let net: IpNet = "192.0.2.0/24".parse().unwrap();
        for classes in
            [[Exposure::Cluster, Exposure::Partner], [Exposure::Partner, Exposure::Cluster]]
        {
            let nets = ExposureNets::new(classes.map(|class| (net, class)));
            let found =
                nets.class("192.0.2.1".parse().unwrap(), "10.0.0.1".parse().unwrap(), |_| {
                    Nearness::Elsewhere
                });
            assert_eq!(found, Some(Exposure::Partner));
        }
    }
}
