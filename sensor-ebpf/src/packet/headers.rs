//! Turns the first bytes of a packet into [`Headers`]: addresses, ports, TCP fields, and where the payload lies.
//!
//! Bounds: two VLAN tags ((`VLAN_TAGS_MAX`)), IPv6 extension headers as in `network`. The IP header's length, not the
//! frame's, ends the payload (short Ethernet frames are padded). Checksums are not looked at: they may not be filled in yet.

use zerocopy::{Immutable, IntoBytes, transmute_ref};

use super::{bytes::PacketBytes, network};
use crate::abi::flow_key::Tuple;

/// IEEE 802.1Q and 802.1ad tags in the packet's bytes at most (one more may be in the skb's metadata).
pub(super) const VLAN_TAGS_MAX: u32 = 2;

const ETH_BYTES: u32 = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
pub(super) const PROTO_TCP: u8 = 6;
pub(super) const PROTO_UDP: u8 = 17;

/// What the device puts before the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet, with VLAN tags or without.
    Ethernet,
    /// Nothing (tun, WireGuard).
    RawIp,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but neither TCP nor UDP.
    NotTransport,
    /// Headers cut short or contradicting themselves.
    Malformed,
    /// A later fragment: addresses, protocol and identification are set, ports are not.
    LaterFragment,
    /// IPv6 with more extension headers than the bound: addresses are set, ports are not.
    ExtensionLimit,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// TCP flag bits.
#[derive(Clone, Copy, Debug)]
pub struct TcpFlags;

impl TcpFlags {
    /// Sender is done.
    pub const FIN: u8 = 1;
    /// Start of a connection.
    pub const SYN: u8 = 2;
    /// Connection is gone.
    pub const RST: u8 = 4;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

/// Fields of one packet. All zero is a valid value. (Aligned so that addresses move as words.)
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, Immutable)]
pub struct Headers {
    /// Addresses and ports in the packet's direction.
    pub tuple: Tuple,
    /// TCP sequence number; of a later fragment its offset.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// Offset of the IP header.
    pub network: u32,
    /// Offset of the transport header.
    pub transport: u32,
    /// Offset of the first payload byte.
    pub payload: u32,
    /// Bytes of payload by the IP header.
    pub payload_len: u32,
    /// Identification of the IP packet (of its fragments), 0 for an IPv6 packet without a fragment header.
    pub ip_id: u32,
    /// Address family: 4 or 6.
    pub family: u8,
    /// [`TcpFlags`].
    pub tcp_flags: u8,
    /// 1 when more fragments follow this first one.
    pub first_fragment: u8,
    /// 1 for a later fragment: its ports are those of its first, where that is known.
    pub later_fragment: u8,
}

impl Headers {
    /// Source and destination address, two words each as they lie in memory: of an array of bytes a program does not know that it is aligned,
    /// and reads it in four times the steps.
    #[inline(always)]
    #[must_use]
    pub const fn addresses(&self) -> [u64; 4] {
        let [a, b, c, d, ..]: &[u64; 9] = transmute_ref!(self);
        [*a, *b, *c, *d]
    }

    /// The two words of the source address.
    #[inline(always)]
    #[must_use]
    pub const fn source(&self) -> (u64, u64) {
        let [first, second, _, _] = self.addresses();
        (u64::from_be(first), u64::from_be(second))
    }

    /// The two words of the destination address.
    #[inline(always)]
    #[must_use]
    pub const fn destination(&self) -> (u64, u64) {
        let [_, _, first, second] = self.addresses();
        (u64::from_be(first), u64::from_be(second))
    }
}

/// Parses the headers of a packet.
#[inline(always)]
pub fn parse<P: PacketBytes>(link: Link, packet: &P, headers: &mut Headers) -> Outcome {
    match link {
        Link::Ethernet => ethernet(packet, headers),
        Link::RawIp => match packet.load::<u16>(0) {
            Some(first) if first >> 12 == 4 => network::ipv4(packet, 0, headers),
            Some(first) if first >> 12 == 6 => network::ipv6(packet, 0, headers),
            Some(_) => Outcome::NotIp,
            None => Outcome::Malformed,
        },
    }
}

#[inline(always)]
fn ethernet<P: PacketBytes>(packet: &P, headers: &mut Headers) -> Outcome {
    let Some(mut ethertype) = packet.load::<u16>(ETH_BYTES - 2) else { return Outcome::Malformed };
    let mut offset = ETH_BYTES;
    let mut tags = 0;
    while tags < VLAN_TAGS_MAX && (ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ) {
        let Some(inner) = packet.load::<u16>(offset + 2) else { return Outcome::Malformed };
        ethertype = inner;
        offset += 4;
        tags += 1;
    }
    match ethertype {
        ETHERTYPE_IPV4 => network::ipv4(packet, offset, headers),
        ETHERTYPE_IPV6 => network::ipv6(packet, offset, headers),
        _ => Outcome::NotIp,
    }
}
