//! Whether an address is in the blocklist at all, and at which lengths: exact for IPv4 above /24, by anchors for IPv6.
//!
//! Bounds: for IPv4 a bit and one line (two when it is full, one more for a dense /24), for IPv6 one line (two when it is full) for each of
//! `ANCHORS_MAX` lengths. What a clean packet pays is [`concerns`], which asks one word for each of its ends.

use super::{
    address::prefix6,
    header::{Field, line},
};
use crate::{
    abi::{
        image::{
            ANCHORS_MAX, DENSE_24, Line, ListId, NO_ANCHOR, SLOTS, WITH_24, WITH_COVERED_24,
            filter6, hash6, hash24, other_bucket, slot4, swift6,
        },
        near::{has, has4, unit6, wide4, words4},
        settings::{
            POLICY_ANCHOR_SHIFT, POLICY_BLOCK4, POLICY_BLOCK6, POLICY_GRAINS_SHIFT, POLICY_LIMIT4,
            POLICY_LIMIT6, POLICY_NEAR4, POLICY_NEAR6, POLICY_REQUESTS, POLICY_SLOT,
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
    let request = policy & POLICY_REQUESTS != 0 && work.headers.payload_len != 0;
    if limit != 0 || request || tables.settings().verdicts != 0 {
        return true;
    }
    if block == 0 {
        return false;
    }
    // It may be one of ours whose addresses were translated since: to be known before it is taken for traffic.
    if work.headers.tcp_flags & TcpFlags::RST != 0 && tables.enforcing() {
        return true;
    }
    let (src, dst) = (work.headers.source(), work.headers.destination());
    if four {
        let ends = any4(src.1, dst.1, policy, tables);
        if ends == 0 {
            return false;
        }
        // Asked here and not in a function: of neighbours that send much, every packet comes this far.
        let one = if ends & 1 != 0 { src.1 } else { dst.1 };
        return near4(one as u32, policy, tables) || (ends == BOTH && tables.concerns4(work));
    }
    let ends = any6(src, dst, policy, tables);
    ends != 0 && (!T::LIMITS || policy & POLICY_NEAR6 == 0 || tables.concerns6(ends, work))
}

/// Both ends of a packet, as bits.
const BOTH: u32 = 3;

/// Whether a block entry may name the destination of an IPv4 packet; apart, because of hardly any packet entries are near both ends.
#[inline(always)]
pub fn concerns4<T: Tables>(tables: &T, work: &Work) -> bool {
    near4(work.headers.destination().1 as u32, work.search.policy, tables)
}

/// The same for an IPv6 packet in whose ends' first anchors entries are.
#[inline(always)]
pub fn concerns6<T: Tables>(ends: u32, tables: &T, work: &Work) -> bool {
    let policy = work.search.policy;
    (ends & 1 != 0 && near6(work.headers.source(), policy, tables))
        || (ends & 2 != 0 && near6(work.headers.destination(), policy, tables))
}

/// Which of two IPv4 addresses (in the low half of a word) lie in a /24 that an entry touches: bit 0 the first, bit 1 the second.
#[inline(always)]
fn any4<T: Tables>(a: u64, b: u64, policy: u64, tables: &T) -> u32 {
    let (a, b) = (a as u32, b as u32);
    let [first, second] = tables.any4((policy & POLICY_SLOT) as u32, [a >> 14, b >> 14]);
    ((first >> ((a >> 8) & 63)) & 1 | ((second >> ((b >> 8) & 63)) & 1) << 1) as u32
}

/// Whether an entry may name an IPv4 address, as far as `NEAR` knows. (Where no limits are evaluated there is no room for this code, either.)
#[inline(always)]
#[expect(clippy::needless_bitwise_bool, reason = "one branch, not one that each address turns")]
fn near4<T: Tables>(address: u32, policy: u64, tables: &T) -> bool {
    if !T::LIMITS || policy & POLICY_NEAR4 == 0 {
        return true;
    }
    let (wide, bit) = wide4(address);
    let words = tables.near((policy & POLICY_SLOT) as u32, words4(address), wide);
    let Some((words, wide)) = words else { return true };
    has4(words, address) | (wide & bit != 0)
}

/// The same for an IPv6 address.
#[inline(always)]
#[expect(clippy::many_single_char_names, reason = "two words of each of four units")]
fn near6<T: Tables>((high, low): (u64, u64), policy: u64, tables: &T) -> bool {
    if !T::LIMITS || policy & POLICY_NEAR6 == 0 {
        return true;
    }
    let unit = |at: u32| unit6(high, low, (policy >> (POLICY_GRAINS_SHIFT + 8 * at)) as u32 & 0xff);
    let [([a, b], one), ([c, d], two)] = [unit(0), unit(1)];
    let [([e, f], three), ([g, h], four)] = [unit(2), unit(3)];
    let slot = SLOTS + (policy & POLICY_SLOT) as u32;
    let words = tables.near(slot, [a, b, c, d, e, f, g, h], 0);
    let Some(([a, b, c, d, e, f, g, h], _)) = words else { return true };
    has([a, b], one) | has([c, d], two) | has([e, f], three) | has([g, h], four)
}

/// Which of two IPv6 addresses lie in a first anchor in which an entry may lie: bit 0 the first, bit 1 the second.
#[inline(always)]
fn any6<T: Tables>(a: (u64, u64), b: (u64, u64), policy: u64, tables: &T) -> u32 {
    let len = (policy >> POLICY_ANCHOR_SHIFT) as u32 & 0xff;
    let place = |(high, low): (u64, u64)| filter6(swift6(high, low, len));
    let ((first, first_bits), (second, second_bits)) = (place(a), place(b));
    let [x, y] = tables.filter6((policy & POLICY_SLOT) as u32, [first, second]);
    u32::from(x & first_bits == first_bits) | u32::from(y & second_bits == second_bits) << 1
}

/// Whether a block entry touches the /24 of the IPv4 address that is looked up.
#[inline(always)]
pub(super) fn touches4<T: Tables>(tables: &T, work: &Work) -> bool {
    let (address, policy) = (work.search.low, work.search.policy);
    any4(address, address, policy, tables) & 1 != 0 && near4(address as u32, policy, tables)
}

/// The lengths at which an entry of the list covers the IPv4 address that is looked up, of those in use: exact above 24. Sets
/// `work.search.with_24`, by which the entries are found.
#[inline(always)]
pub(super) fn lengths4<T: Tables>(
    list: ListId,
    in_use: u64,
    leaves: u32,
    tables: &T,
    work: &mut Work,
) -> u64 {
    let (short, long) = (in_use & SHORT, in_use & !SHORT);
    work.search.with_24 = 0;
    if long == 0 {
        return short;
    }
    let address = work.search.low as u32;
    let hash = hash24(address, list);
    let (entries, mask) = (work.search.entries, work.search.entries_mask);
    let Some(home) = line(entries + (hash as u32 & mask), tables, work) else { return short };
    let wanted = slot4(address, 0, list, 0);
    let mut of24 = Of24 { lengths: 0, code: 0, leaf: 0 };
    if scan24(home, wanted, &mut of24) {
        let Some(other) = line(entries + other_bucket(hash, mask), tables, work) else {
            return short;
        };
        scan24(other, wanted, &mut of24);
    }
    if of24.code == 0 {
        return short;
    }
    if of24.code >= DENSE_24 {
        let rest = if of24.code == DENSE_24 { 0 } else { short };
        let Some(pair) = line(leaves + (of24.leaf >> 1), tables, work) else { return rest };
        // Chosen by branches: Linux 6.1 cannot follow the bound of an index made of both numbers.
        let [a0, a1, a2, a3, b0, b1, b2, b3] = *pair;
        let (w0, w1, w2, w3) = if of24.leaf & 1 == 0 { (a0, a1, a2, a3) } else { (b0, b1, b2, b3) };
        let (even, odd) = if address & 0x80 == 0 { (w0, w1) } else { (w2, w3) };
        let word = if address & 0x40 == 0 { even } else { odd };
        return rest | if word >> (address & 63) & 1 != 0 { long } else { 0 };
    }
    let covered = of24.code > WITH_24 + 32;
    work.search.with_24 = if covered { WITH_COVERED_24 } else { WITH_24 };
    of24.lengths | if covered { short } else { 0 }
}

/// Lengths up to 24.
const SHORT: u64 = (1 << 25) - 1;
/// Bits of a slot that say which /24 and list it is of.
const SAME_24: u64 = 0xffff_ff00_0300_0000;

/// What a bucket says about a /24.
struct Of24 {
    lengths: u64,
    /// The length in a slot of it, 0 without one.
    code: u32,
    leaf: u32,
}

/// Looks for the /24 of `wanted` in a bucket; gives whether the bucket is full.
#[inline(always)]
fn scan24(bucket: &Line, wanted: u64, of24: &mut Of24) -> bool {
    let mut full = true;
    for slot in bucket {
        full &= *slot != 0;
        let code = (slot >> 26) as u32 & 63;
        let different = slot ^ wanted;
        if different & SAME_24 == 0 && code > 32 {
            of24.code = code;
            of24.leaf = (slot & 0xff_ffff) as u32;
            // 33 and 41 stand for 25, 40 and 48 for 32.
            let len = 25 + ((code - 33) & 7);
            if ((different >> 32) as u32) >> (32 - len) == 0 {
                of24.lengths |= 1 << len;
            }
        }
    }
    full
}

/// Puts the lengths at which an entry may cover the IPv6 address that is looked up into `work.search.lengths`.
#[inline(always)]
pub(super) fn member6<T: Tables>(tables: &T, work: &mut Work) {
    work.search.lengths = [0; 4];
    let address = prefix6(&work.search, 128);
    let policy = work.search.policy;
    if any6(address, address, policy, tables) == 0 || !near6(address, policy, tables) {
        return;
    }
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
