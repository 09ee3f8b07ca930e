//! Which TCP RST segments answer a packet that a `reset` rule hit, how they are told from others', and how many there may be.
//!
//! Pure: the packet is rewritten in `src/reset.rs` (bpf target). For a packet there are two segments: [`back`] to its sender and
//! [`forward`] to its receiver (the packet itself, rewritten, so that NAT and connection tracking of others follow). Numbers by
//! RFC 9293 section 3.10.7; an established peer takes a RST only with exactly the number it expects next (RFC 5961 section 3.2):
//! `back` has it unless data is on the way to the sender, `forward` has it unless a segment before it was lost or it is a repeat. Where one
//! is not exact, the peer's next packet is answered again, until both ends are silent.
//!
//! A RST passes further hooks of the host. Ours carry [`signature`] in the window field, which no receiver reads in a RST: NAT leaves
//! it alone, and nothing has to be remembered. A stranger's RST looks like ours once in 65 536; that lets a bare RST pass, nothing else.
//! Bound: [`RESETS_A_SECOND_MAX`] packets answered, then silence.

use super::{
    address::{high, low},
    limit::{Charge, Cost, TatCell, charge},
};
use crate::{
    abi::{flow_key::Tuple, image::mix, policy::LIMIT_FRACTION_BITS},
    packet::{Headers, Link, PacketBytes, TcpFlags},
};

/// Packets of a host that are answered within any second, on all interfaces together.
pub const RESETS_A_SECOND_MAX: u32 = BURST + REFILL;
/// Answers at once after silence.
const BURST: u32 = 200;
/// Answers a second from then on; with the burst it makes the bound of any second.
const REFILL: u32 = 800;
/// Time that one answer costs, in units of a limit.
const INCREMENT: u64 = (1_000_000_000 / REFILL as u64) << LIMIT_FRACTION_BITS;

/// What a burst costs.
const BURST_TOLERANCE: u64 = INCREMENT * BURST as u64;

/// Bytes of a TCP header without options (RFC 9293 section 3.1).
pub const TCP_BYTES: u32 = 20;
/// Hop limit of a RST that goes back.
pub const HOP_LIMIT: u8 = 64;

const ETH_BYTES: u32 = 14;
const VLAN_BYTES: u32 = 4;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const VLAN_TAGS_MAX: u32 = 2;
const DATA_OFFSET_NO_OPTIONS: u32 = 5 << 28;
const WORD: u64 = 0xffff_ffff;
const WINDOW_OFFSET: u32 = 14;

/// A RST to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rst {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, 0 without the flag.
    pub ack: u32,
    /// [`TcpFlags`]: RST, perhaps ACK.
    pub flags: u8,
}

/// The RST to the packet's sender; `None` for a RST: it is never answered.
#[inline(always)]
#[must_use]
pub fn back(headers: &Headers) -> Option<Rst> {
    let flags = headers.tcp_flags;
    if flags & TcpFlags::RST != 0 {
        return None;
    }
    if flags & TcpFlags::ACK != 0 {
        return Some(Rst { seq: headers.ack, ack: 0, flags: TcpFlags::RST });
    }
    let ack = headers
        .seq
        .wrapping_add(headers.payload_len)
        .wrapping_add(u32::from(flags & TcpFlags::SYN != 0))
        .wrapping_add(u32::from(flags & TcpFlags::FIN != 0));
    Some(Rst { seq: 0, ack, flags: TcpFlags::RST | TcpFlags::ACK })
}

/// The RST that the packet itself becomes.
///
/// A SYN becomes one with the number after it: what a half-open connection of the same SYN expects.
#[inline(always)]
#[must_use]
pub fn forward(headers: &Headers) -> Rst {
    let flags = headers.tcp_flags;
    let seq = headers.seq.wrapping_add(u32::from(flags & TcpFlags::SYN != 0));
    let acks = flags & TcpFlags::ACK;
    Rst { seq, ack: if acks == 0 { 0 } else { headers.ack }, flags: TcpFlags::RST | acks }
}

/// What the window field of one of our RSTs holds; `key` is random for each load.
#[inline(always)]
#[must_use]
pub const fn signature(key: u64, rst: Rst) -> u16 {
    let numbers = (rst.seq as u64) << 32 | rst.ack as u64;
    let word = mix(mix(numbers ^ key) ^ key.rotate_left(32) ^ rst.flags as u64);
    (word >> 48) as u16
}

/// Whether a TCP packet is a RST of our own, seen at a further hook.
#[inline(always)]
pub fn is_own<P: PacketBytes>(key: u64, packet: &P, headers: &Headers) -> bool {
    let flags = headers.tcp_flags;
    if flags & !TcpFlags::ACK != TcpFlags::RST
        || headers.payload_len != 0
        || headers.payload.wrapping_sub(headers.transport) != TCP_BYTES
    {
        return false;
    }
    let rst = Rst { seq: headers.seq, ack: headers.ack, flags };
    packet.load::<u16>(headers.transport + WINDOW_OFFSET) == Some(signature(key, rst))
}

/// Whether one more packet may be answered.
#[inline(always)]
pub fn admits<C: TatCell>(cell: &C, now_ns: u64) -> bool {
    let cost = Cost { needs: INCREMENT, takes: INCREMENT };
    let now = now_ns << LIMIT_FRACTION_BITS;
    matches!(charge(cell, cost, BURST_TOLERANCE, now), Charge::Admitted)
}

/// The TCP header of a RST as five words in host order, checksum field 0. `ports`: source in the high half.
#[inline(always)]
#[must_use]
pub const fn words(rst: Rst, window: u16, ports: u32) -> [u32; 5] {
    [ports, rst.seq, rst.ack, DATA_OFFSET_NO_OPTIONS | (rst.flags as u32) << 16 | window as u32, 0]
}

/// One's complement sum (RFC 1071) of [`words`].
#[inline(always)]
#[must_use]
pub const fn header_sum(words: &[u32; 5]) -> u16 {
    let [ports, seq, ack, flags, _] = *words;
    fold(ports as u64 + seq as u64 + ack as u64 + flags as u64)
}

/// One's complement sum of the pseudo-header of a TCP segment without options and payload.
#[inline(always)]
#[must_use]
pub fn pseudo_sum(tuple: &Tuple, family: u8) -> u16 {
    let (src, dst) = (&tuple.src, &tuple.dst);
    // An IPv4 address is the last word; what the mapping puts before it is not part of the header.
    let sum = if family == 4 {
        (low(src) & WORD) + (low(dst) & WORD)
    } else {
        half_sum(high(src)) + half_sum(low(src)) + half_sum(high(dst)) + half_sum(low(dst))
    };
    fold(sum + u64::from(tuple.protocol) + u64::from(TCP_BYTES))
}

#[inline(always)]
const fn half_sum(word: u64) -> u64 {
    (word >> 32) + (word & WORD)
}

/// At most 2^35 comes in: three rounds leave 16 bits.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let mut sum = (sum >> 32) + (sum & WORD);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    (sum & 0xffff) as u16
}

/// Offset of the IP header of a packet that was parsed.
#[inline(always)]
pub fn network_offset<P: PacketBytes>(link: Link, packet: &P) -> Option<u32> {
    if matches!(link, Link::RawIp) {
        return Some(0);
    }
    let mut offset = ETH_BYTES;
    let mut tags = 0;
    while tags < VLAN_TAGS_MAX {
        let ethertype = packet.load::<u16>(offset - 2)?;
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        offset += VLAN_BYTES;
        tags += 1;
    }
    Some(offset)
}

#[cfg(test)]
mod tests;
