//! `REPEATS`: packets that a block rule drops again and again, so that a flood pays for the look-up of its verdict once.
//!
//! Each CPU has [`REPEATS_PER_CPU`] rows, two places for a packet, by a hash of what is in [`Repeat`]'s key. A row is written by the programs of
//! its CPU only, but for [`Repeat::tally`]: that is moved by atomic operations, and taken (exchanged for zero) by whoever needs it: the agent
//! when it looks at the drops, the program when it gives the row to another packet or the tally is full. So what a row counted is
//! attributed once. While [`Repeat::turn`] is odd, or is not what it was before, the row was given away meanwhile.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute_ref};

use super::flow_key::Tuple;

/// Rows of one CPU; a power of two. 128 KiB.
pub const REPEATS_PER_CPU: u32 = 1_024;
/// Where the bytes begin in [`Repeat::tally`].
pub const TALLY_SHIFT: u32 = 24;
/// Drops from which on a tally is taken by the program itself: before the bytes of the largest skbs (512 KiB) fill what they have.
pub const TALLY_FULL: u64 = 1 << 20;
/// Shift of the source port in [`Repeat::what`].
pub const WHAT_SOURCE_PORT: u32 = 16;
/// Bits of [`Repeat::what`] that are the source port.
pub const WHAT_SOURCE_PORT_MASK: u64 = 0xffff << WHAT_SOURCE_PORT;

/// Value of `REPEATS`: a block rule's drop, and of which packets. The first line of 64 bytes is the key.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Repeat {
    /// Source address, the end that the rule lists; IPv4 v4-mapped.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Destination port, source port, protocol, IP version and [`super::sample::Hook`], each above the one before (16, 16, 8, 8, 16 bits).
    /// The version, because an IPv6 packet may come with mapped addresses, and other rules apply to it.
    pub what: u64,
    /// [`super::image::Header::install`] of the policy that dropped it; 0 = the row is empty.
    pub install: u64,
    /// The verdict holds before this, `CLOCK_BOOTTIME` ns; `u64::MAX` = no rule that was asked has a time.
    pub until_ns: u64,
    /// Interface.
    pub ifindex: u32,
    /// Index in `RULE_HITS` of the rule.
    pub hits: u32,
    // Line 1 begins here.
    /// Drops that nobody has taken yet (the low [`TALLY_SHIFT`] bits), and their bytes.
    pub tally: u64,
    /// A drop about as late as the last, ns.
    pub last_ns: u64,
    /// Bits of `what` that must be the same: all, or all but the source port.
    pub mask: u64,
    /// Source ports that may make a difference ([`super::image::port_bit`]), where the source port need not be the same.
    pub ports: u64,
    /// Counted up when the row begins to be given to another packet, and when it is that one's.
    pub turn: u64,
    /// Hash of the packet that would have the row, when it comes once more before the one that has it.
    pub next: u64,
    /// Always zero.
    pub spare: [u64; 2],
}

const _: () = assert!(size_of::<Repeat>() == 128);
const _: () = assert!(core::mem::offset_of!(Repeat, tally) == 64);

/// Drops and bytes of a tally.
#[inline(always)]
#[must_use]
pub const fn tallied(tally: u64) -> (u64, u64) {
    (tally & ((1 << TALLY_SHIFT) - 1), tally >> TALLY_SHIFT)
}

impl Repeat {
    /// As [`crate::packet::Headers::addresses`].
    #[inline(always)]
    #[must_use]
    pub const fn addresses(&self) -> [u64; 4] {
        let [a, b, c, d, ..]: &[u64; 16] = transmute_ref!(self);
        [*a, *b, *c, *d]
    }

    /// Addresses and ports of the packet that the row was given to.
    #[inline(always)]
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        Tuple {
            src: self.src,
            dst: self.dst,
            src_port: (self.what >> WHAT_SOURCE_PORT) as u16,
            dst_port: self.what as u16,
            protocol: (self.what >> 32) as u8,
            pad: [0; 3],
        }
    }

    /// Its [`super::sample::Hook`].
    #[inline(always)]
    #[must_use]
    pub const fn hook(&self) -> u32 {
        (self.what >> 48) as u32
    }
}
