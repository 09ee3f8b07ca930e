//! `NEAR`: the filter that tells neighbours of blocked addresses from blocked ones.

use sensor_ebpf::abi::{
    near::{
        FINER_BITS, GRAINS4, GRAINS6_MAX, NEAR_ENTRIES_MIN, NEAR_WORDS, WIDE_BITS, bits4, unit6,
        wide4, words4,
    },
    settings::POLICY_GRAINS_SHIFT,
};

use super::family::{Key as _, Key4, Key6, cut};

/// Units of IPv4 entries at most; a list of so many wide prefixes has no filter, and its neighbours ask the image.
const UNITS_MAX: u64 = 1 << 24;

/// Lengths of IPv6 units; without entries all 0, else every place has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grains([u8; GRAINS6_MAX]);

impl Grains {
    /// The shortest length in use, so that every entry has a unit; then, one by one, the length that gives most of the entries left units as
    /// fine as themselves.
    pub(super) fn choose(keys: &[Key6]) -> Self {
        let mut left = [0_usize; 129];
        for key in keys {
            if let Some(count) = left.get_mut(usize::from(key.len())) {
                *count += 1;
            }
        }
        let Some((shortest, _)) = (0..).zip(left).find(|(_, count)| *count > 0) else {
            return Self::default();
        };
        // Those of /0 are two halves: 0 would be no length.
        let mut grains = [shortest.max(1); GRAINS6_MAX];
        for grain in grains.iter_mut().skip(1) {
            let served = |len: u8| usize::from(len.saturating_sub(FINER_BITS))..=usize::from(len);
            let gain = |len: &u8| left.get(served(*len)).map_or(0, |of| of.iter().sum::<usize>());
            // Of two that serve as many, the longer.
            let Some(best) = (0..=128).max_by_key(gain).filter(|len| gain(len) > 0) else {
                break;
            };
            *grain = best;
            if let Some(of) = left.get_mut(served(best)) {
                of.fill(0);
            }
        }
        Self(grains)
    }

    /// In the policy's word.
    pub(super) fn flags(self) -> u64 {
        u64::from(u32::from_le_bytes(self.0)) << POLICY_GRAINS_SHIFT
    }

    /// The length of the units of an entry: its own, or one that is a little longer, or the longest that is shorter.
    fn of(self, len: u8) -> u8 {
        let finer = self.0.iter().filter(|grain| (len..=len + FINER_BITS).contains(grain));
        let coarser = || self.0.iter().filter(|grain| **grain < len).max();
        finer.min().or_else(coarser).copied().unwrap_or(0)
    }
}

/// Whether a policy of these block entries has the filter of IPv4.
pub(super) fn is_wanted4(keys: &[Key4]) -> bool {
    keys.len() >= NEAR_ENTRIES_MIN
        && keys.iter().map(|key| u64::from(units4(key.len()).1)).sum::<u64>() <= UNITS_MAX
}

/// The same of IPv6.
pub(super) const fn is_wanted6(keys: &[Key6]) -> bool {
    keys.len() >= NEAR_ENTRIES_MIN
}

/// Bytes of the filter.
pub(super) const BYTES: usize = NEAR_WORDS * 8;

/// The filter of the block entries of IPv4.
pub(super) fn near4(keys: &[Key4]) -> Box<[u64]> {
    let mut words = empty();
    for key in keys {
        let (len, count) = units4(key.len());
        for unit in 0..count {
            let address = key.address() | unit << (32 - len);
            if len == WIDE_BITS {
                let (word, bit) = wide4(address);
                set(&mut words, [word], [bit]);
            } else {
                set(&mut words, words4(address), bits4(address, len));
            }
        }
    }
    words
}

/// The same of IPv6.
pub(super) fn near6(keys: &[Key6], grains: Grains) -> Box<[u64]> {
    let mut words = empty();
    for key in keys {
        let len = grains.of(key.len());
        let (high, low) = cut(key.high, key.low, len);
        let prefix = u128::from(high) << 64 | u128::from(low);
        for unit in 0..1_u128 << len.saturating_sub(key.len()) {
            let unit = prefix | unit.checked_shl(128 - u32::from(len)).unwrap_or(0);
            #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
            let (at, bits) = unit6((unit >> 64) as u64, unit as u64, len.into());
            set(&mut words, at, bits);
        }
    }
    words
}

fn empty() -> Box<[u64]> {
    vec![0; NEAR_WORDS].into_boxed_slice()
}

/// Sets bits in as many words.
fn set<const N: usize>(words: &mut [u64], at: [u32; N], bits: [u64; N]) {
    for (at, bits) in at.into_iter().zip(bits) {
        if let Some(word) = usize::try_from(at).ok().and_then(|at| words.get_mut(at)) {
            *word |= bits;
        }
    }
}

/// Length and number of the units of an IPv4 entry.
fn units4(len: u8) -> (u32, u32) {
    let len = u32::from(len);
    let [coarse, middle, fine] = GRAINS4;
    let unit = match len {
        0..=WIDE_BITS => WIDE_BITS,
        len if len <= coarse => coarse,
        len if len <= middle => middle,
        _ => fine,
    };
    (unit, 1 << (unit - len))
}
