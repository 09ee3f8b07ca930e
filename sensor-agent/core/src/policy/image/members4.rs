//! Which IPv4 entries share the home of their /24, the leaves of those /24s that have too many, and the bit of each /24 that block entries
//! touch.

use sensor_ebpf::abi::image::{
    ANY4_WORDS, DENSE_24, DENSE_COVERED_24, Line, ListId, SHARING_24_MAX, WITH_24, WITH_COVERED_24,
    hash4, hash24, slot4,
};

use super::family::{Key as _, Key4};

/// Longest prefix that is not in a /24.
const WHOLE: u8 = 24;

/// `ANY4` of the block entries.
pub(super) fn any4(keys: &[Key4]) -> Box<[u64]> {
    let mut any4 = vec![0_u64; ANY4_WORDS].into_boxed_slice();
    for key in keys {
        fill(&mut any4, key.address() >> 8, 1 << WHOLE.saturating_sub(key.len()));
    }
    any4
}

/// Dense /24s of a list. `keys` are sorted, an outer prefix before those in it.
pub(super) fn dense(keys: &[Key4]) -> usize {
    groups(keys).filter(|group| is_dense(group)).count()
}

/// Calls `put` with home hash and slot of every entry of a list, and of every dense /24, whose leaf is added to `leaves`; `count` is how many
/// leaves there are so far.
pub(super) fn slots<E>(
    list: ListId,
    keys: &[Key4],
    (leaves, count): (&mut Vec<Line>, &mut usize),
    mut put: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<(), E> {
    // /24s below this are covered as a whole, as far as the entries from here on can touch them.
    let mut covered_below = 0_u32;
    for group in groups(keys) {
        let Some(first) = group.first() else { continue };
        let number = first.address() >> 8;
        if first.len() <= WHOLE {
            covered_below = covered_below.max(number.saturating_add(1 << (WHOLE - first.len())));
        }
        let covered = number < covered_below;
        let dense = is_dense(group);
        for key in group {
            let (len, address) = (u32::from(key.len()), key.address());
            let with_24 = match (key.len() > WHOLE && !dense, covered) {
                (false, _) => 0,
                (true, false) => WITH_24,
                (true, true) => WITH_COVERED_24,
            };
            let hash = if with_24 == 0 { hash4(address, len, list) } else { hash24(address, list) };
            put(hash, slot4(address, len + with_24, list, key.number()))?;
        }
        if dense {
            let code = if covered { DENSE_COVERED_24 } else { DENSE_24 };
            let leaf = u32::try_from(*count).unwrap_or(u32::MAX);
            put(hash24(number << 8, list), slot4(number << 8, code, list, leaf))?;
            add_leaf(leaves, *count, group);
            *count += 1;
        }
    }
    Ok(())
}

/// The home hash of a slot.
pub(super) fn hash_of(slot: u64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "fields of a packed word")]
    let (prefix, len, list) =
        ((slot >> 32) as u32, (slot >> 26) as u32 & 0x3f, (slot >> 24) as u8 & 3);
    let lists = [ListId::Block, ListId::Allow, ListId::Limit];
    let list = lists.get(usize::from(list)).copied().unwrap_or(ListId::Block);
    if len > 32 { hash24(prefix, list) } else { hash4(prefix, len, list) }
}

/// Runs of entries: each shorter one alone, those longer than /24 with the others of their /24.
fn groups(keys: &[Key4]) -> impl Iterator<Item = &[Key4]> {
    keys.chunk_by(|a, b| a.len() > WHOLE && b.len() > WHOLE && a.address() >> 8 == b.address() >> 8)
}

fn is_dense(group: &[Key4]) -> bool {
    group.len() > SHARING_24_MAX
}

/// Adds the leaf of a /24, the second of a line when `count` is odd.
fn add_leaf(leaves: &mut Vec<Line>, count: usize, group: &[Key4]) {
    if count.is_multiple_of(2) {
        leaves.push([0; 8]);
    }
    let half = count % 2 * 4;
    let Some(leaf) = leaves.last_mut().and_then(|line| line.get_mut(half..half + 4)) else {
        return;
    };
    for key in group {
        fill(leaf, key.address() & 0xff, 1 << (32 - key.len()));
    }
}

/// Sets `count` bits from `from` on.
fn fill(bits: &mut [u64], from: u32, count: u32) {
    let (mut at, end) = (from, from + count);
    while at < end {
        let len = (64 - at % 64).min(end - at);
        let word = usize::try_from(at / 64).ok().and_then(|word| bits.get_mut(word));
        if let Some(word) = word {
            *word |= (u64::MAX >> (64 - len)) << (at % 64);
        }
        at += len;
    }
}
