//! One TCP segment of a capture, headers already read.

use sensor_ebpf::abi::flow_key::{FlowKey, Tuple};

use crate::time::UnixNs;

/// Bits of [`Segment::flags`], as in the TCP header.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 1 << 1;
    /// Reset.
    pub const RST: u8 = 1 << 2;
    /// Push.
    pub const PSH: u8 = 1 << 3;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 1 << 4;
}

/// A TCP segment as captured.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Packet time.
    pub time: UnixNs,
    /// Addresses in the direction of this segment.
    pub tuple: Tuple,
    /// Sequence number of the first byte (of the SYN, where set).
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// [`tcp_flag`] bits.
    pub flags: u8,
    /// Time to live or hop limit; 0 where it is not known.
    pub hop_limit: u8,
    /// Captured payload.
    pub payload: &'a [u8],
    /// Payload bytes on the wire, at least `payload.len()`: the rest was cut by the capture's snap length.
    pub wire_len: u32,
}

impl Segment<'_> {
    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The direction-free key of a tuple, and which side sent: 0 the lower end, 1 the higher.
pub(super) fn flow_key(tuple: &Tuple) -> (FlowKey, usize) {
    let src_is_low = (tuple.src, tuple.src_port) <= (tuple.dst, tuple.dst_port);
    let (low, low_port, high, high_port) = if src_is_low {
        (tuple.src, tuple.src_port, tuple.dst, tuple.dst_port)
    } else {
        (tuple.dst, tuple.dst_port, tuple.src, tuple.src_port)
    };
    (
        FlowKey { low, high, low_port, high_port, protocol: tuple.protocol, pad: [0; 3] },
        usize::from(!src_is_low),
    )
}
