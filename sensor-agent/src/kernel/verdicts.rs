//! A detector's decision to the kernel's table of verdicts: the flow by the name that the first hook gave it, the client by its address.
//!
//! Never waits: while a policy is being written the caller keeps the verdict and comes again.

use std::net::{IpAddr, SocketAddr};

use aya::maps::MapError;
use sensor_core::{
    finding::{Consequence, FlowVerdict, Subject},
    time::MonoNs,
};
use sensor_ebpf::{
    abi::{
        dynamic::Verdict,
        flow_key::{FlowKey, Tuple},
        image::Action,
    },
    judge::canonical,
};

use super::policy_maps::PolicyMaps;

const PROTO_TCP: u8 = 6;

/// Puts a verdict in force on behalf of the rule that counts in `hits`.
pub(super) fn write(
    maps: &mut PolicyMaps,
    verdict: &FlowVerdict,
    hits: u32,
    now: MonoNs,
) -> Result<(), MapError> {
    let action = match verdict.sentence.consequence {
        Consequence::End => Action::Reset,
        Consequence::Block => Action::Drop,
        Consequence::Monitor => Action::Monitor,
    };
    let until_ns = now.0.saturating_add(verdict.sentence.for_ns);
    let entry = Some(Verdict { until_ns, hits, action: action as u32 });
    match verdict.sentence.subject {
        Subject::Flow => {
            maps.verdict_flow(flow_key(PROTO_TCP, verdict.client, verdict.server), entry)
        }
        Subject::Client => maps.verdict_client(client_key(verdict.client_address()), entry),
    }
}

/// Key of a flow's verdict.
pub(super) fn flow_key(protocol: u8, client: SocketAddr, server: SocketAddr) -> FlowKey {
    let tuple = Tuple {
        src: mapped(client.ip()),
        dst: mapped(server.ip()),
        src_port: client.port(),
        dst_port: server.port(),
        protocol,
        ..Tuple::default()
    };
    let mut key = FlowKey::default();
    canonical(&tuple, &mut key);
    key
}

/// Key of a client's verdict: IPv4 v4-mapped, IPv6 the /64.
pub(super) fn client_key(client: IpAddr) -> [u8; 16] {
    match client.to_canonical() {
        IpAddr::V4(_) => mapped(client),
        IpAddr::V6(client) => (u128::from_be_bytes(client.octets()) >> 64 << 64).to_be_bytes(),
    }
}

/// An address as all maps have it.
pub(super) fn mapped(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_and_forms_of_a_flow_are_one_key() {
        let (client, server): (SocketAddr, SocketAddr) =
            ("192.0.2.7:4000".parse().expect("a client"), "10.0.0.1:80".parse().expect("a server"));
        let mapped = "[::ffff:192.0.2.7]:4000".parse().expect("a client");
        let key = |client, server| flow_key(PROTO_TCP, client, server);
        assert_eq!(key(client, server), key(server, client));
        assert_eq!(key(client, server), key(mapped, server));
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let key = client_key("2001:db8:1:2:3:4:5:6".parse().expect("an address"));
        assert_eq!(key, [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
