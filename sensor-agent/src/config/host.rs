//! What the host knows that keeps it manageable: resolvers, gateways, ssh peers, interfaces.
//!
//! Read from /etc/resolv.conf, /proc/net and /sys/class/net; what cannot be read is empty. The texts are parsed here by
//! pure functions. Bounds: [`FILE_BYTES_MAX`] of each file, [`PEERS_MAX`] ssh peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::SystemTime,
};

use sensor_core::{policy::HostFacts, time::MonoNs};

use super::policy_file::unix_ns;

/// Bytes read of one file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// ssh peers at most; each takes a failsafe entry.
const PEERS_MAX: usize = 16;
/// Own addresses that are known at most.
const OWN_MAX: usize = 1_024;
/// Port of kubelet's API.
const KUBELET: (u16, u16) = (10_250, 10_250);

/// Gathers the facts. `boot` is `CLOCK_BOOTTIME` now; `ssh_ports` as in the policy's failsafe.
#[must_use]
pub fn host_facts(boot: MonoNs, ssh_ports: &[(u16, u16)], upstreams: Vec<SocketAddr>) -> HostFacts {
    let mut gateways = gateways4(&read("/proc/net/route"));
    gateways.extend(gateways6(&read("/proc/net/ipv6_route")));
    let mut ssh_peers = peers(&read("/proc/net/tcp"), ssh_ports);
    ssh_peers.extend(peers(&read("/proc/net/tcp6"), ssh_ports));
    let mut kubelet_peers = peers(&read("/proc/net/tcp"), &[KUBELET]);
    kubelet_peers.extend(peers(&read("/proc/net/tcp6"), &[KUBELET]));
    HostFacts {
        api_servers: api_servers(|name| std::env::var(name).ok()),
        kubelet_peers: kubelet_peers.into_iter().take(PEERS_MAX).collect(),
        own: own(),
        now: unix_ns(SystemTime::now()),
        boot,
        interfaces: interfaces(),
        resolvers: resolvers(&read("/etc/resolv.conf")),
        gateways,
        ssh_peers: ssh_peers.into_iter().take(PEERS_MAX).collect(),
        upstreams,
        ..HostFacts::default()
    }
}

/// The API server as a pod's environment names it.
fn api_servers(variable: impl Fn(&str) -> Option<String>) -> Vec<SocketAddr> {
    let host = variable("KUBERNETES_SERVICE_HOST").and_then(|host| host.parse::<IpAddr>().ok());
    let port =
        variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok()).unwrap_or(443);
    host.map(|host| SocketAddr::new(host, port)).into_iter().collect()
}

/// Addresses of this host in its own network namespace.
fn own() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    });
    let own: BTreeSet<IpAddr> = addresses.collect();
    own.into_iter().take(OWN_MAX).collect()
}

fn read(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        drop(file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    }
    text
}

fn interfaces() -> BTreeMap<String, u32> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let index =
                fs::read_to_string(entry.path().join("ifindex")).ok()?.trim().parse().ok()?;
            Some((name, index))
        })
        .collect()
}

/// `nameserver` lines of resolv.conf.
fn resolvers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    // An IPv6 server may have a zone: fe80::1%eth0.
    servers.filter_map(|server| server.split('%').next()?.parse().ok()).take(PEERS_MAX).collect()
}

/// Gateways of the default routes in /proc/net/route: `Iface Destination Gateway Flags ...`, hexadecimal in memory order.
fn gateways4(text: &str) -> Vec<IpAddr> {
    let gateways: BTreeSet<IpAddr> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (destination, gateway) = (words.next()?, words.next()?);
            let gateway = u32::from_str_radix(gateway, 16).ok()?;
            (destination == "00000000" && gateway != 0)
                .then(|| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))
        })
        .collect();
    gateways.into_iter().take(PEERS_MAX).collect()
}

/// Gateways of the default routes in /proc/net/ipv6_route: `destination length source length gateway ...`.
fn gateways6(text: &str) -> Vec<IpAddr> {
    let gateways: BTreeSet<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().take(5).collect();
            let [_, "00", _, _, gateway] = *words else { return None };
            let gateway = u128::from_str_radix(gateway, 16).ok()?;
            (gateway != 0).then(|| IpAddr::V6(Ipv6Addr::from(gateway)))
        })
        .collect();
    gateways.into_iter().take(PEERS_MAX).collect()
}

/// Remote addresses of established connections (state 01) to the ports, from /proc/net/tcp or tcp6.
fn peers(text: &str, ports: &[(u16, u16)]) -> BTreeSet<IpAddr> {
    let fits = |port: u16| ports.iter().any(|(low, high)| (*low..=*high).contains(&port));
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
            let (_, port) = local.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            (state == "01" && fits(port)).then(|| address(remote.split_once(':')?.0))?
        })
        .filter(|address| !address.is_loopback())
        .collect()
}

/// An address of /proc/net/tcp*: words of 32 bits in memory order.
fn address(hex: &str) -> Option<IpAddr> {
    if !hex.is_ascii() {
        return None;
    }
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => word(0).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        32 => {
            let mut bytes = [0; 16];
            for (chunk, at) in bytes.chunks_mut(4).zip([0, 8, 16, 24]) {
                chunk.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_kernel_s_tables_are_read() {
        let route = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0100000A\t0003\neth0\t0000000A\t00000000\t0001\n";
        assert_eq!(gateways4(route), ["10.0.0.1".parse::<IpAddr>().expect("address")]);
        let route6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 1 0 3 eth0\n";
        assert_eq!(gateways6(route6), ["fe80::1".parse::<IpAddr>().expect("address")]);
        let tcp = "  sl  local_address rem_address   st\n   0: 0500000A:0016 0900000A:D431 01 x\n   1: 0500000A:0016 0A00000A:D431 06 x\n   2: 0500000A:0050 0B00000A:D431 01 x\n";
        assert_eq!(
            peers(tcp, &[(22, 22)]).into_iter().collect::<Vec<_>>(),
            ["10.0.0.9".parse::<IpAddr>().expect("address")]
        );
        let tcp6 = "  sl\n   0: 00000000000000000000000000000000:0016 0000000000000000FFFF00000900000A:D431 01 x\n";
        assert_eq!(
            peers(tcp6, &[(22, 22)]).into_iter().collect::<Vec<_>>(),
            ["10.0.0.9".parse::<IpAddr>().expect("address")]
        );
    }

    #[test]
    fn the_api_server_is_the_one_of_the_environment() {
        let address = |host: &str| {
            api_servers(|name| (name == "KUBERNETES_SERVICE_HOST").then(|| host.to_owned()))
        };
        assert_eq!(address("10.96.0.1"), ["10.96.0.1:443".parse().expect("address")]);
        assert!(address("kubernetes.default").is_empty());
    }

    #[test]
    fn resolvers_are_read_and_noise_is_passed_over() {
        let text = "# x\nsearch a b\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver\nnameserver x\noptions ndots:5\n";
        let expected: [IpAddr; 2] =
            ["10.0.0.2".parse().expect("address"), "fe80::1".parse().expect("address")];
        assert_eq!(resolvers(text), expected);
    }

    #[test]
    fn any_text_is_read_or_passed_over() {
        for text in [
            "",
            "\n\n",
            "a",
            "a b c d e f g",
            "x\nx: é é 01\n",
            "x\n0: 0:0 0:0 01",
            "x\n0: ZZ:0016 éééé:1 01",
        ] {
            assert!(
                gateways4(text).is_empty()
                    && gateways6(text).is_empty()
                    && peers(text, &[(0, 65_535)]).is_empty(),
                "{text}"
            );
        }
    }
}
