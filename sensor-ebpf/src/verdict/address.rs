//! Addresses as two words, and prefixes cut from them.

use crate::work::Search;

/// The first eight bytes of an address.
#[inline(always)]
pub(crate) fn high(address: &[u8; 16]) -> u64 {
    address.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The last eight bytes of an address.
#[inline(always)]
pub(crate) fn low(address: &[u8; 16]) -> u64 {
    address.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The leading `len` bits of a word, all for 64 and more.
#[inline(always)]
pub(super) fn mask(len: u32) -> u64 {
    if len >= 64 { u64::MAX } else { !(u64::MAX >> (len & 63)) }
}

/// The leading `len` bits of an IPv4 address, `len` at most 32.
#[inline(always)]
pub(super) fn prefix4(search: &Search, len: u32) -> u32 {
    (search.low & (mask(32 + len.min(32)) & 0xffff_ffff)) as u32
}

/// The leading `len` bits of an IPv6 address.
#[inline(always)]
pub(super) fn prefix6(search: &Search, len: u32) -> (u64, u64) {
    (search.high & mask(len), search.low & mask(len.saturating_sub(64)))
}
