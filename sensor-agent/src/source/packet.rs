//! From a captured frame to a TCP segment: link layer, VLAN tags, IPv4 and IPv6, TCP.
//!
//! Checksums are not looked at (a capture on the sending host has them unfilled), padding is cut off by the IP length, a length
//! of zero (segmentation offload) means "as long as captured". Bounds: [`TAGS_MAX`] tags, [`EXTENSIONS_MAX`] extension headers.

use sensor_core::flow::Segment;
use sensor_core::time::UnixNs;
use sensor_ebpf::abi::flow_key::Tuple;

use super::fragments::{Fragment, Fragments};
use super::pcap::Packet;

const TAGS_MAX: usize = 8;
const EXTENSIONS_MAX: usize = 8;
const TCP: u8 = 6;

/// What became of the packets of a capture: each in exactly one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PacketCounts {
    /// All.
    pub packets: u64,
    /// TCP segments given to the flow stage.
    pub tcp: u64,
    /// Neither IPv4 nor IPv6.
    pub not_ip: u64,
    /// IP, but not TCP.
    pub not_tcp: u64,
    /// Fragments that wait for others, or never became whole.
    pub fragments: u64,
    /// Headers cut or contradictory.
    pub malformed: u64,
    /// A link type that is not read.
    pub link_unknown: u64,
}

enum Outcome {
    NotIp,
    NotTcp,
    Fragment,
    Malformed,
    LinkUnknown,
}

/// The header walk, with the fragments that wait.
#[derive(Debug, Default)]
pub struct Walker {
    fragments: Fragments,
    counts: PacketCounts,
}

impl Walker {
    /// Where the packets went.
    #[must_use]
    pub fn counts(&self) -> PacketCounts {
        self.counts
    }

    /// Calls `take` with the TCP segment of a packet, where it has one.
    pub fn walk(&mut self, packet: &Packet<'_>, mut take: impl FnMut(&Segment<'_>)) {
        self.counts.packets += 1;
        let done = match link(packet) {
            Ok((Network::V4, rest)) => self.ipv4(packet, rest, &mut take),
            Ok((Network::V6, rest)) => self.ipv6(packet, rest, &mut take),
            Err(outcome) => Err(outcome),
        };
        let count = match done {
            Ok(()) => &mut self.counts.tcp,
            Err(Outcome::NotIp) => &mut self.counts.not_ip,
            Err(Outcome::NotTcp) => &mut self.counts.not_tcp,
            Err(Outcome::Fragment) => &mut self.counts.fragments,
            Err(Outcome::Malformed) => &mut self.counts.malformed,
            Err(Outcome::LinkUnknown) => &mut self.counts.link_unknown,
        };
        *count += 1;
    }

    fn ipv4(
        &mut self,
        packet: &Packet<'_>,
        at: usize,
        take: &mut impl FnMut(&Segment<'_>),
    ) -> Result<(), Outcome> {
        let ip = packet.data.get(at..).unwrap_or_default();
        let fixed = ip.first_chunk::<20>().ok_or(Outcome::Malformed)?;
        let header = usize::from(fixed[0] & 15) * 4;
        if fixed[0] >> 4 != 4 || header < 20 {
            return Err(Outcome::Malformed);
        }
        let declared = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let on_wire = (packet.wire_len as usize).max(packet.data.len()).saturating_sub(at);
        let total = if declared == 0 { on_wire } else { declared };
        if total < header {
            return Err(Outcome::Malformed);
        }
        let hop_limit = fixed[8];
        let mut tuple =
            Tuple { src: [0; 16], dst: [0; 16], protocol: fixed[9], ..Tuple::default() };
        let mapped = |address: [u8; 4]| std::net::Ipv4Addr::from(address).to_ipv6_mapped().octets();
        tuple.src = mapped([fixed[12], fixed[13], fixed[14], fixed[15]]);
        tuple.dst = mapped([fixed[16], fixed[17], fixed[18], fixed[19]]);
        let payload = ip.get(header..total.min(ip.len())).ok_or(Outcome::Malformed)?;
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        if fragment & 0x3fff != 0 {
            let part = Fragment {
                src: tuple.src,
                dst: tuple.dst,
                id: u32::from(u16::from_be_bytes([fixed[4], fixed[5]])),
                protocol: fixed[9],
                offset: usize::from(fragment & 0x1fff) * 8,
                more: fragment & 0x2000 != 0,
                data: payload,
            };
            return self.fragment(packet, hop_limit, tuple, &part, take);
        }
        transport(packet.time_ns, hop_limit, tuple, payload, total - header, take)
    }

    fn ipv6(
        &mut self,
        packet: &Packet<'_>,
        at: usize,
        take: &mut impl FnMut(&Segment<'_>),
    ) -> Result<(), Outcome> {
        let ip = packet.data.get(at..).unwrap_or_default();
        let fixed = ip.first_chunk::<40>().ok_or(Outcome::Malformed)?;
        if fixed[0] >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        let declared = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let on_wire = (packet.wire_len as usize).max(packet.data.len()).saturating_sub(at + 40);
        let left = if declared == 0 { on_wire } else { declared };
        let hop_limit = fixed[7];
        let mut tuple = Tuple { protocol: fixed[6], ..Tuple::default() };
        tuple.src.copy_from_slice(fixed.get(8..24).unwrap_or_default());
        tuple.dst.copy_from_slice(fixed.get(24..40).unwrap_or_default());
        let rest = ip.get(40..).unwrap_or_default();
        let rest = rest.get(..left.min(rest.len())).unwrap_or_default();
        self.extensions(packet, hop_limit, tuple, rest, left, take)
    }

    /// Walks IPv6 extension headers up to TCP; `left` is the length on the wire of what `rest` begins.
    fn extensions(
        &mut self,
        packet: &Packet<'_>,
        hop_limit: u8,
        mut tuple: Tuple,
        mut rest: &[u8],
        mut left: usize,
        take: &mut impl FnMut(&Segment<'_>),
    ) -> Result<(), Outcome> {
        for _ in 0..EXTENSIONS_MAX {
            let head = || rest.first_chunk::<2>().copied().ok_or(Outcome::Malformed);
            let len = match tuple.protocol {
                0 | 43 | 60 | 135 | 139 | 140 => (usize::from(head()?[1]) + 1) * 8,
                51 => (usize::from(head()?[1]) + 2) * 4,
                44 => {
                    let part = rest.first_chunk::<8>().ok_or(Outcome::Malformed)?;
                    let place = u16::from_be_bytes([part[2], part[3]]);
                    if place & 0xfff9 != 0 {
                        let part = Fragment {
                            src: tuple.src,
                            dst: tuple.dst,
                            id: u32::from_be_bytes([part[4], part[5], part[6], part[7]]),
                            protocol: part[0],
                            offset: usize::from(place >> 3) * 8,
                            more: place & 1 != 0,
                            data: rest.get(8..).unwrap_or_default(),
                        };
                        tuple.protocol = part.protocol;
                        return self.fragment(packet, hop_limit, tuple, &part, take);
                    }
                    8
                }
                _ => return transport(packet.time_ns, hop_limit, tuple, rest, left, take),
            };
            tuple.protocol = head()?[0];
            rest = rest.get(len..).ok_or(Outcome::Malformed)?;
            left = left.checked_sub(len).ok_or(Outcome::Malformed)?;
        }
        Err(Outcome::Malformed)
    }

    fn fragment(
        &mut self,
        packet: &Packet<'_>,
        hop_limit: u8,
        tuple: Tuple,
        part: &Fragment<'_>,
        take: &mut impl FnMut(&Segment<'_>),
    ) -> Result<(), Outcome> {
        // Of IPv6, extension headers may come in the fragmented part too (RFC 8200 section 4.1).
        if !matches!(part.protocol, TCP | 51 | 60 | 135) {
            return Err(Outcome::NotTcp);
        }
        let whole = self.fragments.add(part).ok_or(Outcome::Fragment)?;
        self.extensions(packet, hop_limit, tuple, &whole, whole.len(), take)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    V4,
    V6,
}

/// Finds the IP header: its version and offset.
fn link(packet: &Packet<'_>) -> Result<(Network, usize), Outcome> {
    let data = packet.data;
    let u16_at = |at: usize| {
        data.get(at..at + 2)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u16::from_be_bytes)
            .ok_or(Outcome::Malformed)
    };
    match packet.link {
        1 => ether_type(data, u16_at(12)?, 14),
        113 => ether_type(data, u16_at(14)?, 16),
        276 => ether_type(data, u16_at(0)?, 20),
        12 | 14 | 101 => by_version(data, 0),
        228 => Ok((Network::V4, 0)),
        229 => Ok((Network::V6, 0)),
        0 | 108 => {
            // The family is in the byte order of the capturing host (0) or of the network (108).
            let family = data.first_chunk::<4>().ok_or(Outcome::Malformed)?;
            match (family[0].max(family[3]), family[1] | family[2]) {
                (2 | 10 | 23 | 24 | 28 | 30, 0) => by_version(data, 4),
                _ => Err(Outcome::NotIp),
            }
        }
        _ => Err(Outcome::LinkUnknown),
    }
}

fn ether_type(data: &[u8], mut kind: u16, mut at: usize) -> Result<(Network, usize), Outcome> {
    for _ in 0..TAGS_MAX {
        match kind {
            0x0800 => return Ok((Network::V4, at)),
            0x86dd => return Ok((Network::V6, at)),
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                let tag = data
                    .get(at..)
                    .and_then(|rest| rest.first_chunk::<4>())
                    .ok_or(Outcome::Malformed)?;
                kind = u16::from_be_bytes([tag[2], tag[3]]);
                at += 4;
            }
            // PPPoE session (RFC 2516): six bytes, then the PPP protocol.
            0x8864 => {
                let session = data
                    .get(at..)
                    .and_then(|rest| rest.first_chunk::<8>())
                    .ok_or(Outcome::Malformed)?;
                kind = match u16::from_be_bytes([session[6], session[7]]) {
                    0x0021 => 0x0800,
                    0x0057 => 0x86dd,
                    _ => return Err(Outcome::NotIp),
                };
                at += 8;
            }
            _ => return Err(Outcome::NotIp),
        }
    }
    Err(Outcome::Malformed)
}

fn by_version(data: &[u8], at: usize) -> Result<(Network, usize), Outcome> {
    match data.get(at).map(|byte| byte >> 4) {
        Some(4) => Ok((Network::V4, at)),
        Some(6) => Ok((Network::V6, at)),
        Some(_) => Err(Outcome::NotIp),
        None => Err(Outcome::Malformed),
    }
}

/// Reads TCP; `len` is the length on the wire of what `data` begins.
fn transport(
    time_ns: u64,
    hop_limit: u8,
    mut tuple: Tuple,
    data: &[u8],
    len: usize,
    take: &mut impl FnMut(&Segment<'_>),
) -> Result<(), Outcome> {
    if tuple.protocol != TCP {
        return Err(Outcome::NotTcp);
    }
    let header = data.first_chunk::<20>().ok_or(Outcome::Malformed)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || header_len > len {
        return Err(Outcome::Malformed);
    }
    tuple.src_port = u16::from_be_bytes([header[0], header[1]]);
    tuple.dst_port = u16::from_be_bytes([header[2], header[3]]);
    let payload = data.get(header_len..).unwrap_or_default();
    take(&Segment {
        time: UnixNs(time_ns),
        tuple,
        hop_limit,
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags: header[13],
        payload,
        wire_len: u32::try_from(len - header_len).unwrap_or(u32::MAX),
    });
    Ok(())
}
