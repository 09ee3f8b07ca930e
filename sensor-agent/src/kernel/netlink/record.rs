//! Payloads of links, addresses and routes to the facts that the sensor needs of them.
//!
//! Pure. A payload without what is required gives `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::message::{attrs, value_str, value_u32};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// `struct ifinfomsg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct LinkHeader {
    pub(crate) family: u8,
    pub(crate) pad: u8,
    pub(crate) arphrd: u16,
    pub(crate) ifindex: u32,
    pub(crate) flags: u32,
    pub(crate) change: u32,
}

/// `struct ifaddrmsg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct AddressHeader {
    pub(crate) family: u8,
    pub(crate) prefix_len: u8,
    pub(crate) flags: u8,
    pub(crate) scope: u8,
    pub(crate) ifindex: u32,
}

/// `struct rtmsg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct RouteHeader {
    pub(crate) family: u8,
    pub(crate) dst_len: u8,
    pub(crate) src_len: u8,
    pub(crate) tos: u8,
    pub(crate) table: u8,
    pub(crate) protocol: u8,
    pub(crate) scope: u8,
    pub(crate) kind: u8,
    pub(crate) flags: u32,
}

/// `struct rtnexthop`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
struct NextHop {
    len: u16,
    flags: u8,
    hops: u8,
    ifindex: u32,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) ifindex: u32,
    pub(crate) name: Box<str>,
    /// ARPHRD_* of the device: says which header its packets begin with.
    pub(crate) arphrd: u16,
    /// Bridge, bond or VRF that it is enslaved to.
    pub(crate) master: Option<u32>,
    /// `veth`, `bridge`, `tun`, ...; empty for physical ones.
    pub(crate) kind: Box<str>,
    /// Its peer (veth) or lower device is in another network namespace.
    pub(crate) peer_elsewhere: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) ifindex: u32,
    pub(crate) ip: IpAddr,
    pub(crate) prefix_len: u8,
    /// Scope is global (not link or host).
    pub(crate) global: bool,
}

/// Reads RTM_NEWLINK and RTM_DELLINK.
pub(crate) fn link(payload: &[u8]) -> Option<Link> {
    let (header, rest) = LinkHeader::read_from_prefix(payload).ok()?;
    let mut link = Link {
        ifindex: header.ifindex,
        name: "".into(),
        arphrd: header.arphrd,
        master: None,
        kind: "".into(),
        peer_elsewhere: false,
    };
    for (kind, value) in attrs(rest) {
        match kind {
            IFLA_IFNAME => link.name = value_str(value)?.into(),
            IFLA_MASTER => link.master = value_u32(value).filter(|index| *index != 0),
            IFLA_LINK_NETNSID => link.peer_elsewhere = true,
            IFLA_LINKINFO => {
                let info = attrs(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = info.and_then(|(_, value)| value_str(value)).unwrap_or_default().into();
            }
            _ => {}
        }
    }
    (link.ifindex != 0 && !link.name.is_empty()).then_some(link)
}

/// Whether a link message is of the bridge's port family, which repeats links in another shape.
pub(crate) fn is_plain_link(payload: &[u8]) -> bool {
    payload.first() == Some(&0)
}

/// Reads RTM_NEWADDR and RTM_DELADDR.
pub(crate) fn address(payload: &[u8]) -> Option<Address> {
    let (header, rest) = AddressHeader::read_from_prefix(payload).ok()?;
    let mut address = None;
    for (kind, value) in attrs(rest) {
        // IFA_LOCAL is our end; IFA_ADDRESS is the peer's on point-to-point links and ours elsewhere.
        match kind {
            IFA_LOCAL => address = ip(header.family, value),
            IFA_ADDRESS if address.is_none() => address = ip(header.family, value),
            _ => {}
        }
    }
    Some(Address {
        ifindex: header.ifindex,
        ip: address?,
        prefix_len: header.prefix_len,
        global: header.scope == RT_SCOPE_UNIVERSE,
    })
}

/// Reads RTM_NEWROUTE: interfaces of a default route, nothing for any other route.
pub(crate) fn default_route(payload: &[u8]) -> Vec<u32> {
    let Ok((header, rest)) = RouteHeader::read_from_prefix(payload) else { return Vec::new() };
    if header.dst_len != 0
        || header.kind != RTN_UNICAST
        || !matches!(header.family, AF_INET | AF_INET6)
    {
        return Vec::new();
    }
    let mut interfaces = Vec::new();
    for (kind, value) in attrs(rest) {
        match kind {
            RTA_OIF => interfaces.extend(value_u32(value)),
            RTA_MULTIPATH => interfaces.extend(next_hops(value)),
            _ => {}
        }
    }
    interfaces
}

fn next_hops(value: &[u8]) -> impl Iterator<Item = u32> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (hop, _) = NextHop::read_from_prefix(rest).ok()?;
        let len = usize::from(hop.len).next_multiple_of(4);
        rest = rest.get(len.max(size_of::<NextHop>())..).unwrap_or_default();
        Some(hop.ifindex)
    })
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        AF_INET6 => value.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::kernel::netlink::message::{Request, messages};

    fn payload(request: Request) -> Vec<u8> {
        let bytes = request.finish(1);
        messages(&bytes).next().expect("one message").1.to_vec()
    }

    #[test]
    fn a_veth_with_its_peer_elsewhere_is_told() {
        let header = LinkHeader { ifindex: 7, arphrd: 1, ..LinkHeader::default() };
        let bytes = payload(
            Request::new(16, 0)
                .push(header.as_bytes())
                .attr(IFLA_IFNAME, b"pod0\0")
                .attr(IFLA_MASTER, &3_u32.to_ne_bytes())
                .attr(IFLA_LINK_NETNSID, &0_u32.to_ne_bytes())
                .nested(IFLA_LINKINFO, |request| request.attr(IFLA_INFO_KIND, b"veth\0")),
        );
        let link = link(&bytes).expect("a link");
        assert_eq!((&*link.name, &*link.kind), ("pod0", "veth"));
        assert_eq!((link.ifindex, link.master, link.peer_elsewhere), (7, Some(3), true));
    }

    #[test]
    fn the_local_end_of_a_point_to_point_address_is_ours() {
        let header = AddressHeader {
            family: AF_INET,
            prefix_len: 32,
            ifindex: 4,
            ..AddressHeader::default()
        };
        let bytes = payload(
            Request::new(20, 0)
                .push(header.as_bytes())
                .attr(IFA_ADDRESS, &[10, 0, 0, 2])
                .attr(IFA_LOCAL, &[10, 0, 0, 1]),
        );
        let address = address(&bytes).expect("an address");
        assert_eq!(address.ip, IpAddr::from([10, 0, 0, 1]));
        assert!(address.global);
    }

    proptest! {
        #[test]
        fn any_payload_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            let _ = link(&bytes);
            let _ = address(&bytes);
            prop_assert!(default_route(&bytes).len() <= 64);
        }
    }
}
