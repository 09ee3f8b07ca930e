//! What the policy's failsafe needs to know of this host: resolvers, gateways, ssh peers, interfaces.
//!
//! Read from /etc/resolv.conf and /proc/net; what cannot be read is empty. Bound: [`PEERS_MAX`] ssh peers.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
};

use sensor_core::{
    policy::HostFacts,
    time::{MonoNs, UnixNs},
};

use crate::kernel::InterfaceStatus;

const PEERS_MAX: usize = 64;
const SSH_PORT: u16 = 22;

/// Collects the facts as of now.
#[must_use]
pub fn host_facts(now: UnixNs, boot: MonoNs, interfaces: &[InterfaceStatus], upstreams: &[String]) -> HostFacts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut ssh_peers = established_peers(&read("/proc/net/tcp"), SSH_PORT);
    ssh_peers.extend(established_peers(&read("/proc/net/tcp6"), SSH_PORT));
    ssh_peers.sort();
    ssh_peers.dedup();
    ssh_peers.truncate(PEERS_MAX);
    HostFacts {
        now,
        boot,
        interfaces: interfaces
            .iter()
            .filter(|one| one.ifindex > 0)
            .map(|one| (one.name.clone(), one.ifindex))
            .collect::<BTreeMap<_, _>>(),
        resolvers: resolvers(&read("/etc/resolv.conf")),
        gateways: gateways(&read("/proc/net/route")),
        ssh_peers,
        api_servers: Vec::new(),
        kubelet_peers: Vec::new(),
        upstreams: upstreams.iter().flat_map(|url| addresses(url)).collect(),
    }
}

/// `nameserver` lines (resolv.conf(5)).
fn resolvers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.split_whitespace().next()?.split('%').next()?.parse().ok()).collect()
}

/// Gateways of default routes; addresses are hexadecimal in host order.
fn gateways(text: &str) -> Vec<IpAddr> {
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000" && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()).into())
    });
    rows.collect()
}

/// Remote addresses of established connections to a local port (proc_net(5), state 01).
fn established_peers(text: &str, port: u16) -> Vec<IpAddr> {
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (_, local_port) = local.split_once(':')?;
        (state == "01" && u16::from_str_radix(local_port, 16).ok()? == port).then(|| address(remote.split_once(':')?.0))?
    });
    rows.collect()
}

/// 8 or 32 hexadecimal digits: words in host order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok();
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into());
    }
    let mut bytes = [0; 16];
    for (index, chunk) in bytes.chunks_mut(4).enumerate() {
        chunk.copy_from_slice(&word(index)?.to_ne_bytes());
    }
    Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
}

/// Addresses of `http://host:port`.
fn addresses(url: &str) -> Vec<SocketAddr> {
    let authority = url.strip_prefix("http://").unwrap_or(url);
    authority.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(resolvers("# x\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch a\n").len(), 2);
        let route = "Iface\tDestination\tGateway\nens3\t00000000\t0100000A\t0003\nens3\t0000000A\t00000000\t0001\n";
        assert_eq!(gateways(route), [IpAddr::from([10, 0, 0, 1])]);
        let tcp = "  sl  local rem st\n 0: 0100000A:0016 0200000A:C350 01 x\n 1: 0100000A:0016 00000000:0000 0A x\n 2: 0100000A:0050 0300000A:C350 01 x\n";
        assert_eq!(established_peers(tcp, 22), [IpAddr::from([10, 0, 0, 2])]);
        let tcp6 = "h\n 0: 0000000000000000FFFF00000100000A:0016 0000000000000000FFFF00000200000A:C350 01 x\n";
        assert_eq!(established_peers(tcp6, 22), [IpAddr::from([10, 0, 0, 2])]);
        assert_eq!(addresses("http://127.0.0.1:4640"), [SocketAddr::from(([127, 0, 0, 1], 4640))]);
    }

    #[test]
    fn cut_lines_are_left_out() {
        let line = " 0: 0100000A:0016 0200000A:C350 01 x";
        for end in 0..line.len() {
            let text = format!("h\n{}", &line[..end]);
            assert!(established_peers(&text, 22).len() <= 1);
            assert!(gateways(&text).is_empty());
        }
    }
}
