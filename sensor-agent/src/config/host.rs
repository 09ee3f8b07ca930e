//! What the host knows that keeps it manageable: resolvers, gateways, ssh peers, interfaces.
//!
//! Read from /etc/resolv.conf, /proc/net and /sys/class/net; what cannot be read is empty. The texts are parsed here by
//! pure functions. Bounds: [`FILE_BYTES_MAX`] of each file, [`CONNECTIONS_MAX`] connections, [`PEERS_MAX`] ssh peers (of
//! further ones up to [`PEERS_COUNTED_MAX`] are counted).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::SystemTime,
};

use sensor_core::{policy::HostFacts, time::MonoNs};

use super::policy_file::unix_ns;

/// Bytes read of one file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Connections of one address family that are looked at; they are read one by one.
const CONNECTIONS_MAX: usize = 2_097_152;
/// Peers at most; each takes a failsafe entry.
const PEERS_MAX: usize = 16;
/// Peers at most that are told apart to count those beyond.
const PEERS_COUNTED_MAX: usize = 4_096;
/// Own addresses that are known at most.
const OWN_MAX: usize = 1_024;
/// Port of kubelet's API.
const KUBELET: (u16, u16) = (10_250, 10_250);

/// Who is connected to ports that keep a host manageable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Peers of ssh.
    pub ssh: Vec<IpAddr>,
    /// Peers of kubelet.
    pub kubelet: Vec<IpAddr>,
    /// Further ones of each, beyond what is kept.
    pub ssh_left_out: usize,
    pub kubelet_left_out: usize,
}

/// Looks who is connected; takes long where there are many connections. Peers that are known come first, in their order, as long as they
/// are connected: more of them than there is room for cannot push them out.
#[must_use]
pub fn connected(known: &[IpAddr], ssh_ports: &[(u16, u16)]) -> Connected {
    let mut peers = [Peers::new(known, ssh_ports), Peers::new(known, &[KUBELET])];
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(file) = File::open(path) {
            look_for(&mut peers, BufReader::with_capacity(64 * 1024, file));
        }
    }
    let [(ssh, ssh_left_out), (kubelet, kubelet_left_out)] = peers.map(Peers::found);
    Connected { ssh, kubelet, ssh_left_out, kubelet_left_out }
}

/// Gathers the facts. `boot` is `CLOCK_BOOTTIME` now.
#[must_use]
pub fn host_facts(connected: Connected, boot: MonoNs, upstreams: Vec<SocketAddr>) -> HostFacts {
    let mut gateways = gateways4(&read("/proc/net/route"));
    gateways.extend(gateways6(&read("/proc/net/ipv6_route")));
    HostFacts {
        api_servers: api_servers(|name| std::env::var(name).ok()),
        kubelet_peers: connected.kubelet,
        own: own(),
        now: unix_ns(SystemTime::now()),
        boot,
        interfaces: interfaces(),
        resolvers: resolvers(&read("/etc/resolv.conf")),
        gateways,
        ssh_peers: connected.ssh,
        ssh_left_out: connected.ssh_left_out,
        kubelet_left_out: connected.kubelet_left_out,
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

/// Remote addresses of established connections to some ports: those that are known, and some of the others.
struct Peers<'a> {
    known: &'a [IpAddr],
    ports: &'a [(u16, u16)],
    connected: BTreeSet<IpAddr>,
    others: BTreeSet<IpAddr>,
}

impl<'a> Peers<'a> {
    const fn new(known: &'a [IpAddr], ports: &'a [(u16, u16)]) -> Self {
        Self { known, ports, connected: BTreeSet::new(), others: BTreeSet::new() }
    }

    fn add(&mut self, port: u16, peer: IpAddr) {
        if !self.ports.iter().any(|(low, high)| (*low..=*high).contains(&port)) {
            return;
        }
        if self.known.contains(&peer) {
            self.connected.insert(peer);
        } else {
            self.others.insert(peer);
            if self.others.len() > PEERS_COUNTED_MAX {
                self.others.pop_last();
            }
        }
    }

    /// Those that are kept, and how many there are beside.
    fn found(self) -> (Vec<IpAddr>, usize) {
        let known = self.known.iter().filter(|peer| self.connected.contains(peer));
        let mut found: Vec<IpAddr> = known.copied().collect();
        found.extend(self.others);
        let left_out = found.len().saturating_sub(PEERS_MAX);
        found.truncate(PEERS_MAX);
        (found, left_out)
    }
}

/// Reads /proc/net/tcp or tcp6: established connections (state 01), a line each.
fn look_for(peers: &mut [Peers<'_>], text: impl BufRead) {
    let lines = text.split(b'\n').skip(1).take(CONNECTIONS_MAX).map_while(Result::ok);
    for line in lines {
        let Ok(line) = std::str::from_utf8(&line) else { continue };
        let Some((port, peer)) = connection(line) else { continue };
        for peers in &mut *peers {
            peers.add(port, peer);
        }
    }
}

/// Own port and remote address of an established connection with another host.
fn connection(line: &str) -> Option<(u16, IpAddr)> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    let (_, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let peer = (state == "01").then(|| address(remote.split_once(':')?.0))??;
    (!peer.is_loopback()).then_some((port, peer))
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

    fn peers(text: &str, ports: &[(u16, u16)]) -> Vec<IpAddr> {
        let mut peers = [Peers::new(&[], ports)];
        look_for(&mut peers, text.as_bytes());
        peers.map(|peers| peers.found().0).concat()
    }

    #[test]
    fn who_was_there_before_is_not_pushed_out_by_many() {
        let known: [IpAddr; 3] =
            [[203, 0, 113, 9], [203, 0, 113, 8], [203, 0, 113, 7]].map(IpAddr::from);
        let mut peers = [Peers::new(&known, &[(22, 22)])];
        let row = |address: [u8; 4]| {
            let hex = u32::from_ne_bytes(address);
            format!(" 0: 0500000A:0016 {hex:08X}:D431 01 x\n")
        };
        let mut text = String::from("  sl\n");
        // Far more than the first 4 MiB of the table, the known ones last.
        text.extend((0..150_000_u32).map(|n| row((0x0100_0000 + n).to_be_bytes())));
        text.extend([row([203, 0, 113, 7]), row([203, 0, 113, 9])]);
        look_for(&mut peers, text.as_bytes());
        let [(found, left_out)] = peers.map(Peers::found);
        assert_eq!((found.len(), left_out), (PEERS_MAX, PEERS_COUNTED_MAX + 2 - PEERS_MAX));
        assert_eq!(found[..3], [known[0], known[2], [1, 0, 0, 0].into()]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_kernel_s_tables_are_read() {
        let route = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0100000A\t0003\neth0\t0000000A\t00000000\t0001\n";
        assert_eq!(gateways4(route), ["10.0.0.1".parse::<IpAddr>().expect("address")]);
        let route6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 1 0 3 eth0\n";
        assert_eq!(gateways6(route6), ["fe80::1".parse::<IpAddr>().expect("address")]);
        let tcp = "  sl  local_address rem_address   st\n   0: 0500000A:0016 0900000A:D431 01 x\n   1: 0500000A:0016 0A00000A:D431 06 x\n   2: 0500000A:0050 0B00000A:D431 01 x\n";
        assert_eq!(peers(tcp, &[(22, 22)]), ["10.0.0.9".parse::<IpAddr>().expect("address")]);
        let tcp6 = "  sl\n   0: 00000000000000000000000000000000:0016 0000000000000000FFFF00000900000A:D431 01 x\n";
        assert_eq!(peers(tcp6, &[(22, 22)]), ["10.0.0.9".parse::<IpAddr>().expect("address")]);
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
