//! Whether an IPv6 address may be blocked: a few bits for each entry's first anchor in `FILTER6`, and the lengths of the entries of each anchor.

use sensor_ebpf::abi::image::{
    ANCHORS_MAX, FILTER6_WORDS, Line, ListId, NO_ANCHOR, filter6, hash6, swift6,
};

use super::{
    buckets::{Buckets, NoRoom},
    family::{Key as _, Key6, cut},
};

/// Lengths at which entries are anchored, shortest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchors(pub(super) [u8; ANCHORS_MAX]);

impl Anchors {
    /// The first is the shortest length in use, so that every entry has the bit that clean packets ask. The others divide the entries
    /// evenly, so that few lengths are left to probe in each.
    pub(super) fn choose(keys: &[Key6]) -> Self {
        let mut counts = [0_usize; 129];
        for key in keys {
            if let Some(count) = counts.get_mut(usize::from(key.len())) {
                *count += 1;
            }
        }
        let mut anchors = [NO_ANCHOR; ANCHORS_MAX];
        let Some(shortest) = counts.iter().position(|count| *count > 0) else {
            return Self(anchors);
        };
        let longer: usize = counts.iter().skip(shortest + 1).sum();
        let mut chosen = vec![shortest];
        let mut before = 0;
        for (len, count) in counts.iter().enumerate().skip(shortest + 1) {
            // The place of this length among the longer ones, in quarters; each quarter begins at most one anchor.
            let quarter = |at: usize| at * (ANCHORS_MAX - 1) / longer.max(1);
            let begins = before == 0 || quarter(before + count) > quarter(before);
            if *count > 0 && begins && chosen.len() < ANCHORS_MAX {
                chosen.push(len);
            }
            before += count;
        }
        for (anchor, len) in anchors.iter_mut().zip(chosen) {
            *anchor = u8::try_from(len).unwrap_or(NO_ANCHOR);
        }
        Self(anchors)
    }

    /// The longest anchor not longer than an entry.
    fn of(self, len: u8) -> u8 {
        let mut own = 0;
        for anchor in self.0 {
            if anchor <= len {
                own = anchor;
            }
        }
        own
    }
}

/// Distinct anchors of the entries, at most: what the table must hold.
pub(super) fn anchors(keys: &[Key6], anchors: Anchors) -> usize {
    let mut last = None;
    keys.iter()
        .filter(|key| {
            let at = anchor(**key, anchors);
            let is_new = last != Some(at);
            last = Some(at);
            is_new
        })
        .count()
}

fn anchor(key: Key6, anchors: Anchors) -> (u64, u64, u8) {
    let len = anchors.of(key.len());
    let (high, low) = cut(key.high, key.low, len);
    (high, low, len)
}

/// `FILTER6` and the buckets of `anchors6`, of so many.
pub(super) fn tables(
    keys: &[Key6],
    anchors: Anchors,
    buckets: usize,
) -> Result<(Box<[u64]>, Vec<Line>), NoRoom> {
    let mut filter = vec![0_u64; FILTER6_WORDS].into_boxed_slice();
    let mut table = Buckets::<2>::new(buckets);
    let first = anchors.0.first().copied().unwrap_or(NO_ANCHOR);
    for key in keys {
        let (word, bits) = filter6(swift6(key.high, key.low, first.into()));
        if let Some(word) = usize::try_from(word).ok().and_then(|at| filter.get_mut(at)) {
            *word |= bits;
        }
        let (high, low, len) = anchor(*key, anchors);
        let hash = hash6(high, low, len.into(), ListId::Block);
        let bit = 1_u64 << (key.len() - len).min(63);
        match table.find_mut(hash, |[known, _]| *known == hash) {
            Some([_, lengths]) => *lengths |= bit,
            None => table.insert(hash, [hash, bit], |[hash, _]| *hash)?,
        }
    }
    Ok((filter, table.into_lines()))
}
