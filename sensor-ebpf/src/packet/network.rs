//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, their fragments and extension headers, and the TCP or UDP header behind.
//!
//! Bound: [`EXTENSION_HEADERS_MAX`]; what lies behind more of them is [`Outcome::ExtensionLimit`].
//!
//! A first fragment may end within the TCP header (RFC 1858, RFC 3128): receivers that put fragments together accept it, so it is
//! a TCP packet with what is there, and with a SYN flag where its flags are not.

use super::{
    bytes::PacketBytes,
    headers::{Headers, Outcome, PROTO_TCP, PROTO_UDP, TcpFlags},
};

/// IPv6 extension headers that are walked at most.
pub(crate) const EXTENSION_HEADERS_MAX: u32 = 6;

const IPV6_BYTES: u32 = 40;
const TCP_BYTES: u32 = 20;
const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;
const MORE_FRAGMENTS: u16 = 0x2000;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

/// Loads an integer or gives up. One at a time: several in one pattern let the compiler merge their checks in a way
/// that the verifier cannot follow.
macro_rules! load {
    ($packet:expr, $int:ty, $at:expr) => {
        match $packet.load::<$int>($at) {
            Some(value) => value,
            None => return Outcome::Malformed,
        }
    };
}

#[inline(always)]
pub(super) fn ipv4<P: PacketBytes>(packet: &P, at: u32, headers: &mut Headers) -> Outcome {
    // The last field first: with it the others are there too.
    let dst = load!(packet, u32, at + 16);
    let first = load!(packet, u8, at);
    let header_len = u32::from(first & 0xf) * 4;
    if first >> 4 != 4 || header_len < 20 {
        return Outcome::Malformed;
    }
    let total = load!(packet, u16, at + 2);
    let id = load!(packet, u16, at + 4);
    let fragment = load!(packet, u16, at + 6);
    let protocol = load!(packet, u8, at + 9);
    let src = load!(packet, u32, at + 12);
    // A super-packet of GSO may leave the length field 0 (BIG TCP): then the packet's own length holds.
    let end = if total == 0 { packet.len() } else { at + u32::from(total) };
    headers.network = at;
    headers.family = 4;
    headers.ip_id = u32::from(id);
    headers.tuple.src = mapped(src);
    headers.tuple.dst = mapped(dst);
    headers.tuple.protocol = protocol;
    let transport = at + header_len;
    if end < transport || end > packet.len() {
        return Outcome::Malformed;
    }
    if protocol != PROTO_TCP && protocol != PROTO_UDP {
        return Outcome::NotTransport;
    }
    if fragment & FRAGMENT_OFFSET_MASK != 0 {
        return later(transport, fragment & FRAGMENT_OFFSET_MASK, headers);
    }
    headers.first_fragment = u8::from(fragment & MORE_FRAGMENTS != 0);
    transport_header(packet, transport, end, headers)
}

#[inline(always)]
pub(super) fn ipv6<P: PacketBytes>(packet: &P, at: u32, headers: &mut Headers) -> Outcome {
    let d1 = load!(packet, u64, at + 32);
    let d0 = load!(packet, u64, at + 24);
    let s1 = load!(packet, u64, at + 16);
    let s0 = load!(packet, u64, at + 8);
    let payload_len = load!(packet, u16, at + 4);
    let next = load!(packet, u8, at + 6);
    headers.network = at;
    headers.family = 6;
    headers.tuple.src = join(s0, s1);
    headers.tuple.dst = join(d0, d1);
    headers.tuple.protocol = next;
    let transport = at + IPV6_BYTES;
    // 0 with a jumbo payload option (BIG TCP): the packet's own length holds.
    let end = if payload_len == 0 { packet.len() } else { transport + u32::from(payload_len) };
    if end > packet.len() {
        return Outcome::Malformed;
    }
    if next == PROTO_TCP || next == PROTO_UDP {
        return transport_header(packet, transport, end, headers);
    }
    extensions(packet, transport, end, headers)
}

#[inline(never)]
fn extensions<P: PacketBytes>(packet: &P, at: u32, end: u32, headers: &mut Headers) -> Outcome {
    let mut transport = at;
    let mut next = headers.tuple.protocol;
    let mut walked = 0;
    while walked < EXTENSION_HEADERS_MAX {
        let [following, len] = load!(packet, u16, transport).to_be_bytes();
        match next {
            PROTO_TCP | PROTO_UDP => {
                headers.tuple.protocol = next;
                return transport_header(packet, transport, end, headers);
            }
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY => transport += u32::from(len) * 8 + 8,
            // RFC 4302: in units of 4 bytes, less 2.
            AUTHENTICATION => transport += u32::from(len) * 4 + 8,
            FRAGMENT => {
                let id = load!(packet, u32, transport + 4);
                let fragment = load!(packet, u16, transport + 2);
                headers.ip_id = id;
                if fragment >> 3 != 0 {
                    headers.tuple.protocol = following;
                    // Behind an extension header the first fragment has what only it can tell.
                    return match following {
                        PROTO_TCP | PROTO_UDP | HOP_BY_HOP | ROUTING | AUTHENTICATION
                        | DESTINATION | MOBILITY => later(transport + 8, fragment >> 3, headers),
                        _ => Outcome::NotTransport,
                    };
                }
                headers.first_fragment = u8::from(fragment & 1 != 0);
                transport += 8;
            }
            _ => {
                headers.tuple.protocol = next;
                return Outcome::NotTransport;
            }
        }
        next = following;
        walked += 1;
    }
    headers.tuple.protocol = next;
    if next == PROTO_TCP || next == PROTO_UDP {
        return transport_header(packet, transport, end, headers);
    }
    without_ports(headers, Outcome::ExtensionLimit)
}

/// A later fragment: its offset tells it from the others of its packet.
#[inline(always)]
fn later(payload: u32, offset: u16, headers: &mut Headers) -> Outcome {
    headers.later_fragment = 1;
    headers.payload = payload;
    headers.seq = u32::from(offset);
    headers.ack = 0;
    without_ports(headers, Outcome::LaterFragment)
}

/// The scratch still has the ports of another packet.
#[inline(always)]
fn without_ports(headers: &mut Headers, outcome: Outcome) -> Outcome {
    headers.tuple.src_port = 0;
    headers.tuple.dst_port = 0;
    headers.payload_len = 0;
    outcome
}

#[inline(always)]
fn transport_header<P: PacketBytes>(
    packet: &P,
    at: u32,
    end: u32,
    headers: &mut Headers,
) -> Outcome {
    let dst_port = load!(packet, u16, at + 2);
    let src_port = load!(packet, u16, at);
    headers.transport = at;
    headers.tuple.src_port = src_port;
    headers.tuple.dst_port = dst_port;
    if headers.tuple.protocol == PROTO_UDP {
        headers.seq = 0;
        headers.ack = 0;
        headers.payload = at + 8;
        headers.payload_len = end.saturating_sub(at + 8);
        return if end < at + 8 { Outcome::Malformed } else { Outcome::Udp };
    }
    if end < at + TCP_BYTES {
        return tiny(end, end < at + 4, headers);
    }
    let [data_offset, flags] = load!(packet, u16, at + 12).to_be_bytes();
    let ack = load!(packet, u32, at + 8);
    let seq = load!(packet, u32, at + 4);
    let header_len = u32::from(data_offset >> 4) * 4;
    let payload = at + header_len;
    let options_cut = payload > end;
    if header_len < TCP_BYTES || (options_cut && headers.first_fragment == 0) {
        return Outcome::Malformed;
    }
    headers.seq = seq;
    headers.ack = ack;
    headers.tcp_flags = flags;
    headers.payload = payload;
    headers.payload_len = if options_cut { 0 } else { end - payload };
    Outcome::Tcp
}

/// A TCP header that its packet cuts before its 20 bytes.
#[inline(always)]
fn tiny(end: u32, no_ports: bool, headers: &mut Headers) -> Outcome {
    if headers.first_fragment == 0 || no_ports {
        return Outcome::Malformed;
    }
    headers.seq = 0;
    headers.ack = 0;
    headers.tcp_flags = TcpFlags::SYN;
    headers.payload = end;
    headers.payload_len = 0;
    Outcome::Tcp
}

#[inline(always)]
fn mapped(addr: u32) -> [u8; 16] {
    join(0, 0x0000_ffff_0000_0000 | u64::from(addr))
}

#[inline(always)]
fn join(high: u64, low: u64) -> [u8; 16] {
    ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
}
