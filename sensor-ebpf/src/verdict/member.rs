//! Whether an address is in the blocklist at all: exact for IPv4, by anchors for IPv6. No look-up of an entry.
//!
//! Bounds: for IPv4 three cache lines, for IPv6 one bit and one line (two when it is full) for each of `ANCHORS_MAX` lengths. What a
//! clean packet pays is [`concerns`].

use super::{
    address::{high, low, mask, prefix6},
    header::{Field, line},
};
use crate::{
    abi::{
        image::{ANCHORS_MAX, FILTER6_MASK, Line, ListId, NO_ANCHOR, hash6, other_bucket},
        settings::{
            POLICY_ANCHOR_SHIFT, POLICY_BLOCK4, POLICY_BLOCK6, POLICY_LIMIT4, POLICY_LIMIT6,
            POLICY_SLOT,
        },
    },
    packet::TcpFlags,
    tables::Tables,
    work::Work,
};

/// Chooses the policy for this packet, once, and says whether it may name the packet at all. The clock is read only while there
/// is a provisional policy.
#[inline(always)]
pub(crate) fn concerns<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let settings = tables.settings();
    let mut policy = settings.policy;
    if settings.provisional_until_ns != 0
        && super::now(tables, work) < tables.settings().provisional_until_ns
    {
        policy = tables.settings().provisional;
    }
    work.search.policy = policy;
    let four = work.headers.family == 4;
    let (block, limit) = if four {
        (policy & POLICY_BLOCK4, policy & POLICY_LIMIT4)
    } else {
        (policy & POLICY_BLOCK6, policy & POLICY_LIMIT6)
    };
    if limit != 0 || tables.settings().verdicts != 0 {
        return true;
    }
    if block == 0 {
        return false;
    }
    // It may be one of ours whose addresses were translated since: to be known before it is taken for traffic.
    if work.headers.tcp_flags & TcpFlags::RST != 0 && tables.enforcing() {
        return true;
    }
    let tuple = &work.headers.tuple;
    if four {
        return any4(low(&tuple.src), policy, tables) | any4(low(&tuple.dst), policy, tables) != 0;
    }
    any6(&tuple.src, policy, tables) | any6(&tuple.dst, policy, tables) != 0
}

/// 1 when an entry touches the /24 of an IPv4 address (in the low half of a word).
#[inline(always)]
fn any4<T: Tables>(address: u64, policy: u64, tables: &T) -> u64 {
    let address = address as u32;
    (tables.any4((policy & POLICY_SLOT) as u32, address >> 14) >> ((address >> 8) & 63)) & 1
}

/// 1 when an entry may lie in the first anchor of an IPv6 address.
#[inline(always)]
fn any6<T: Tables>(address: &[u8; 16], policy: u64, tables: &T) -> u64 {
    let len = (policy >> POLICY_ANCHOR_SHIFT) as u32 & 0xff;
    let (high, low) = (high(address) & mask(len), low(address) & mask(len.saturating_sub(64)));
    filter6(hash6(high, low, len, ListId::Block), policy, tables)
}

#[inline(always)]
fn filter6<T: Tables>(hash: u64, policy: u64, tables: &T) -> u64 {
    let bit = hash & FILTER6_MASK;
    (tables.filter6((policy & POLICY_SLOT) as u32, (bit >> 6) as u32) >> (bit & 63)) & 1
}

/// Whether the IPv4 address that is looked up is listed.
#[inline(always)]
pub(super) fn member4<T: Tables>(tables: &T, work: &Work) -> bool {
    let address = work.search.low;
    if any4(address, work.search.policy, tables) == 0 {
        return false;
    }
    let Some(header) = line(0, tables, work) else { return false };
    let (partial4, leaves4) = (Field::PARTIAL4.of(header), Field::LEAVES4.of(header));
    // Lines hold 384 of them: 2^7 * 3, and x / 3 is a multiplication (exact for 32 bits).
    let number = address >> 8;
    let at = ((number >> 7) * 0xaaaa_aaab) >> 33;
    let bit = number - at * 384;
    let Some(partial) = line(partial4 + at as u32, tables, work) else { return false };
    let word = partial.get((bit >> 6) as usize & 7).copied().unwrap_or(0);
    if (word >> (bit & 63)) & 1 == 0 {
        // Covered as a whole.
        return true;
    }
    let [.., counts, before] = *partial;
    let in_line = if bit < 64 { 0 } else { (counts >> (9 * ((bit >> 6) - 1))) & 0x1ff };
    let in_word = word & !(u64::MAX << (bit & 63));
    let rank = before + in_line + u64::from(in_word.count_ones());
    let Some(leaf) = line(leaves4 + (rank >> 1) as u32, tables, work) else { return false };
    let word = (rank & 1) * 4 + ((address & 0xff) >> 6);
    (leaf.get(word as usize & 7).copied().unwrap_or(0) >> (address & 63)) & 1 != 0
}

/// Puts the lengths at which an entry may cover the IPv6 address that is looked up into `work.search.lengths`.
#[inline(always)]
pub(super) fn member6<T: Tables>(tables: &T, work: &mut Work) {
    work.search.lengths = [0; 4];
    let Some(header) = line(0, tables, work) else { return };
    let lengths = Field::ANCHOR_LENGTHS.of(header).to_ne_bytes();
    let (first, mask) = (Field::ANCHORS6.of(header), Field::ANCHORS6_MASK.of(header));
    for anchor in lengths.iter().take(ANCHORS_MAX) {
        if *anchor == NO_ANCHOR {
            return;
        }
        let anchor = u32::from(*anchor);
        let found = lengths_in_anchor(anchor, first, mask, tables, work);
        add_lengths(&mut work.search.lengths, found, anchor);
    }
}

#[inline(never)]
fn lengths_in_anchor<T: Tables>(
    anchor: u32,
    first: u32,
    bucket_mask: u32,
    tables: &T,
    work: &Work,
) -> u64 {
    let (high, low) = prefix6(&work.search, anchor);
    let hash = hash6(high, low, anchor, ListId::Block);
    if filter6(hash, work.search.policy, tables) == 0 {
        return 0;
    }
    let Some(home) = line(first + (hash as u32 & bucket_mask), tables, work) else { return 0 };
    let (found, full) = scan(home, hash);
    if found != 0 || !full {
        return found;
    }
    let Some(other) = line(first + other_bucket(hash, bucket_mask), tables, work) else { return 0 };
    scan(other, hash).0
}

/// The lengths of an anchor in a bucket, and whether the bucket is full.
#[inline(always)]
fn scan(bucket: &Line, hash: u64) -> (u64, bool) {
    let (mut found, mut full) = (0, true);
    for [own, lengths] in bucket.as_chunks().0 {
        if *own == hash {
            found |= lengths;
        }
        full &= *lengths != 0;
    }
    (found, full)
}

/// Adds `lengths` counted from `anchor`; its last bit stands for all longer ones as well.
#[inline(always)]
fn add_lengths(to: &mut [u64; 4], lengths: u64, anchor: u32) {
    let [first, second, third, _] = to;
    let shift = anchor & 63;
    // Two shifts, because one by 64 is not defined.
    let (low, carry) = (lengths << shift, (lengths >> 1) >> (63 - shift));
    // Everything from the last bit on, should that be set.
    let from = anchor + 63;
    let all = if from < 64 { u64::MAX } else { u64::MAX << (from & 63) };
    let more = lengths >> 63 != 0;
    if anchor < 64 {
        *first |= low;
        *second |= carry | if more { all } else { 0 };
        *third |= u64::from(more);
    } else if anchor < 128 {
        *second |= low;
        *third |= carry | u64::from(more);
    } else {
        *third |= low;
    }
}
