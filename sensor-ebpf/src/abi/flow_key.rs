//! Addresses of a packet and the direction-free key of its flow.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Source and destination of one packet; IPv4 is v4-mapped (`::ffff:a.b.c.d`), ports in host order.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Tuple {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// IP protocol number (6 or 17).
    pub protocol: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<Tuple>() == 40);

/// The key of a flow: the smaller of (address, port) comes first, so both directions have one key.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct FlowKey {
    /// The smaller end's address.
    pub low: [u8; 16],
    /// The larger end's address.
    pub high: [u8; 16],
    /// The smaller end's port.
    pub low_port: u16,
    /// The larger end's port.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey>() == 40);
