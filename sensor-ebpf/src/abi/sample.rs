//! The record that the kernel puts into the ring buffer: one header, then `data_len` bytes.
//!
//! A head (request or response) of at most `head_bytes_max` is one or more records with ascending,
//! gapless `seq`; the first has [`flag::HEAD_START`], the last [`flag::HEAD_END`]. Bodies are never in a record.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::flow_key::Tuple;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SampleKind {
    /// Bytes of an HTTP/1 request head.
    RequestHead = 1,
    /// Bytes of an HTTP/1 response head.
    ResponseHead = 2,
    /// Bytes of a TLS ClientHello (record header included).
    ClientHello = 3,
    /// The flow began with the HTTP/2 preface with prior knowledge (RFC 9113 section 3.4); no data.
    Http2Preface = 4,
    /// The flow ended (FIN from both ends, or RST); no data.
    FlowClosed = 5,
    /// The same segment was seen with other addresses (NAT): `data` is the [`Tuple`] of the earlier
    /// sighting, the header has this one's. Flows are reported under the earlier (canonical) tuple.
    FlowAlias = 6,
    /// A PROXY protocol header at the start of the flow: a line (version 1), or version 2 from the byte 0 in its signature on.
    ProxyHeader = 7,
}

impl SampleKind {
    /// Reads the wire value; `None` for one this version does not know.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::RequestHead,
            2 => Self::ResponseHead,
            3 => Self::ClientHello,
            4 => Self::Http2Preface,
            5 => Self::FlowClosed,
            6 => Self::FlowAlias,
            7 => Self::ProxyHeader,
            _ => return None,
        })
    }
}

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// TC ingress: the packet comes from the device.
    Ingress = 1,
    /// TC egress: the packet goes to the device.
    Egress = 2,
    /// AF_PACKET socket, packet coming in.
    SocketIn = 3,
    /// AF_PACKET socket, packet going out.
    SocketOut = 4,
}

/// Bits of [`SampleHeader::flags`].
pub mod flag {
    /// First record of a head.
    pub const HEAD_START: u16 = 1;
    /// The head's blank line is in this record.
    pub const HEAD_END: u16 = 1 << 1;
    /// No more of this head will come (longer than `head_bytes_max`, or a gap): use it as far as seen.
    pub const TRUNCATED: u16 = 1 << 2;
    /// Head taken on doubt: the position in the stream was not proven (flow joined in the middle, gap).
    pub const ON_DOUBT: u16 = 1 << 3;
    /// The flow was joined in the middle: its start was not seen.
    pub const JOINED: u16 = 1 << 4;
    /// A response for which no request was seen on this flow.
    pub const ORPHAN: u16 = 1 << 5;
    /// The flow ended by RST (with [`super::SampleKind::FlowClosed`]).
    pub const RESET: u16 = 1 << 6;
}

/// Header of every ring buffer record. Integers are in host order.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SampleHeader {
    /// [`super::ABI_VERSION`].
    pub version: u8,
    /// [`SampleKind`].
    pub kind: u8,
    /// [`flag`] bits.
    pub flags: u16,
    /// Bytes that follow this header.
    pub data_len: u32,
    /// Time of the sighting, `CLOCK_BOOTTIME`, nanoseconds.
    pub time_ns: u64,
    /// Identity of the flow's state in the kernel (its creation time): changes when a flow was evicted and came back.
    pub flow_epoch: u64,
    /// Addresses as on the canonical (first) sighting, in the direction of this packet.
    pub tuple: Tuple,
    /// Sequence number of the first byte of `data` (of the segment when there is none).
    pub seq: u32,
    /// Acknowledgement number of the segment.
    pub ack: u32,
    /// Ordinal of the request on this flow, from 1; for a response the ordinal of the request it answers; 0 = unknown.
    pub ordinal: u32,
    /// One sample stands for this many flows (inverse of the sampling rate).
    pub weight: u32,
    /// Interface of the sighting.
    pub ifindex: u32,
    /// [`Hook`].
    pub hook: u8,
    /// Always zero.
    pub pad: [u8; 3],
    /// Cgroup of the sending socket, 0 when the packet has none.
    pub cgroup_id: u64,
}

const _: () = assert!(size_of::<SampleHeader>() == 96);

/// Largest `data_len` of one record (the snap length's upper limit).
pub const SNAP_BYTES_MAX: u32 = 1024;
