//! `NEAR`: what tells the neighbours of listed addresses from the listed ones without a line of the image.
//!
//! `ANY4` and `FILTER6` say that something near an address is blocked; this filter, asked next, says of nearly every address that is not
//! blocked itself that it is not. It is a Bloom filter of 4 MiB (larger ones leave the caches), four bits for each unit, two in one word and two in another
//! of the same line (all in one word would be wrong half as often again: some words are much fuller than others). Each family has one of its own, where the policy has
//! [`NEAR_ENTRIES_MIN`] block entries of it and more: the image of a smaller one lies in the caches anyway.
//! A false positive costs time, never a verdict.
//!
//! - **IPv4.** Units are blocks of 32, of 4 and of 1 address ([`GRAINS4`]); an entry is the units that make it up, one shorter than /27 the
//!   blocks of 32 in it. One of /16 and shorter has bits of its own in a bitmap of all /16s behind the filter. The /24 chooses a line of eight words, the next three bits the two words, so that the three questions about an
//!   address ask the same two.
//! - **IPv6.** Units are prefixes of at most four lengths, which the compiler chooses and [`POLICY_GRAINS_SHIFT`](super::settings::POLICY_GRAINS_SHIFT) of
//!   the policy's word names. An entry is one unit of its length, or a few of a length that is up to [`FINER_BITS`] longer, or else the unit of
//!   the longest length not longer than itself.

use super::image::{SLOTS, swift6};

/// Words of the filter: with a million entries of its family one neighbour in a hundred passes by chance.
pub const FILTER_WORDS: usize = 1 << 19;
/// IPv4 entries of this length and shorter are bits of the bitmap behind the filter.
pub const WIDE_BITS: u32 = 16;
/// Slots of `NEAR`: those of IPv4, by the number of the policy's slot, and behind them those of IPv6.
pub const NEAR_SLOTS: u32 = 2 * SLOTS;
/// Words of one slot of `NEAR`.
pub const NEAR_WORDS: usize = FILTER_WORDS + (1 << WIDE_BITS) / 64;
/// Block entries of a family from which on a policy has its filter.
pub const NEAR_ENTRIES_MIN: usize = 4_096;
/// Lengths of IPv4 units.
pub const GRAINS4: [u32; 3] = [27, 30, 32];
/// Lengths of IPv6 units at most.
pub const GRAINS6_MAX: usize = 4;
/// An IPv6 entry becomes units of a length at most so much longer than itself.
pub const FINER_BITS: u8 = 4;

const LINE_BITS: u32 = FILTER_WORDS.trailing_zeros() - 3;
/// Odd, and without a pattern: 2^64 over the golden ratio, and two primes.
const LINE_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const UNIT_FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// The word of the /16 of an IPv4 address, and its bit.
#[inline(always)]
#[must_use]
pub const fn wide4(address: u32) -> (u32, u64) {
    (FILTER_WORDS as u32 + (address >> 22), 1 << ((address >> WIDE_BITS) & 63))
}

/// The two words of an IPv4 address in the filter.
#[inline(always)]
#[must_use]
pub const fn words4(address: u32) -> [u32; 2] {
    let line = ((address >> 8) as u64).wrapping_mul(LINE_FACTOR) >> (64 - LINE_BITS);
    let first = (line as u32) << 3 | (address >> 5) & 7;
    [first, first ^ 4]
}

/// The bits, in those two words, of the unit of `len` bits that an IPv4 address lies in.
#[inline(always)]
#[must_use]
pub const fn bits4(address: u32, len: u32) -> [u64; 2] {
    let unit = (address >> (32 - len)) as u64 | (len as u64) << 32;
    bits(unit.wrapping_mul(UNIT_FACTOR))
}

/// Whether the two words have a unit of the address.
#[inline(always)]
#[must_use]
pub const fn has4(words: [u64; 2], address: u32) -> bool {
    let [a, b, c] = GRAINS4;
    has(words, bits4(address, a)) | has(words, bits4(address, b)) | has(words, bits4(address, c))
}

/// The two words of the unit of `len` bits that an IPv6 address (two words) lies in, and its bits in them.
#[inline(always)]
#[must_use]
pub const fn unit6(high: u64, low: u64, len: u32) -> ([u32; 2], [u64; 2]) {
    let hash = swift6(high, low, len);
    let first = (hash >> (64 - FILTER_WORDS.trailing_zeros())) as u32;
    // Another one of the line: odd, so never the same.
    ([first, first ^ ((hash as u32 >> 8) & 6 | 1)], bits(hash << FILTER_WORDS.trailing_zeros()))
}

/// Whether two words have all of these bits.
#[inline(always)]
#[must_use]
pub const fn has([first, second]: [u64; 2], [a, b]: [u64; 2]) -> bool {
    (first & a) ^ a | (second & b) ^ b == 0
}

/// Two bits and two bits by the high ones of a hash.
#[inline(always)]
const fn bits(hash: u64) -> [u64; 2] {
    [
        1 << (hash >> 58) | 1 << ((hash >> 52) & 63),
        1 << ((hash >> 46) & 63) | 1 << ((hash >> 40) & 63),
    ]
}
