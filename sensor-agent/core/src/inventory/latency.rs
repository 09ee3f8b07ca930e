//! Latency quantiles: a DDSketch (Masson, Rim, Lee, 2019) with its linearly interpolated mapping, kept sparse.
//!
//! A value falls into bucket (position of its highest bit, next 5 bits), so a quantile is wrong by at most 1/64 of
//! itself; no logarithm, mergeable by adding counts. Most endpoints need few buckets: they are a sorted vector of at
//! most [`BUCKETS_MAX`], 8 bytes each; beyond that the two lowest are joined, as in the paper.

use serde::{Deserialize, Serialize};

/// Buckets of one sketch at most.
pub(super) const BUCKETS_MAX: usize = 256;

/// Quantiles of durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct LatencySketch {
    /// (bucket, count), ascending.
    buckets: Vec<(u16, u32)>,
}

impl LatencySketch {
    /// Adds `weight` observations of `ns`. When the sketch is not allowed to grow, the nearest bucket takes them.
    /// Returns the bytes it grew by.
    pub(super) fn add(&mut self, ns: u64, weight: u32, may_grow: bool) -> usize {
        self.add_bucket(bucket_of(ns), weight, may_grow)
    }

    fn add_bucket(&mut self, bucket: u16, weight: u32, may_grow: bool) -> usize {
        // Where no bucket between is missing, it is as far from the first as its number: no search.
        let first = self.buckets.first().map_or(0, |(index, _)| *index);
        let at = usize::from(bucket.wrapping_sub(first));
        if let Some((index, count)) = self.buckets.get_mut(at)
            && *index == bucket
        {
            *count = count.saturating_add(weight);
            return 0;
        }
        match self.buckets.binary_search_by_key(&bucket, |(index, _)| *index) {
            Ok(at) => {
                if let Some((_, count)) = self.buckets.get_mut(at) {
                    *count = count.saturating_add(weight);
                }
                0
            }
            Err(at) if !may_grow && !self.buckets.is_empty() => {
                let at = at.min(self.buckets.len() - 1);
                if let Some((_, count)) = self.buckets.get_mut(at) {
                    *count = count.saturating_add(weight);
                }
                0
            }
            Err(at) => {
                let before = self.buckets.capacity();
                if before == self.buckets.len() {
                    self.buckets.reserve_exact((before / 2).clamp(1, 32));
                }
                self.buckets.insert(at, (bucket, weight));
                if self.buckets.len() > BUCKETS_MAX {
                    self.join_lowest();
                }
                (self.buckets.capacity() - before) * size_of::<(u16, u32)>()
            }
        }
    }

    fn join_lowest(&mut self) {
        let (_, lowest) = self.buckets.remove(0);
        if let Some((_, count)) = self.buckets.first_mut() {
            *count = count.saturating_add(lowest);
        }
    }

    /// Adds all of another sketch.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            self.add_bucket(*bucket, *count, true);
        }
    }

    /// Number of observations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The value at quantile `numerator`/100; `None` when empty.
    pub(super) fn percentile(&self, percent: u64) -> Option<u64> {
        let total = self.count();
        let rank = (total.checked_sub(1)? * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += u64::from(*count);
            if seen > rank {
                return Some(middle_of(*bucket));
            }
        }
        None
    }

    /// Heap bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(u16, u32)>()
    }

    /// Whether the buckets are as this version writes them (a stored sketch can be anything).
    pub(super) fn is_valid(&self) -> bool {
        self.buckets.len() <= BUCKETS_MAX
            && self.buckets.is_sorted_by(|(a, _), (b, _)| a < b)
            && self.buckets.iter().all(|(bucket, _)| *bucket < BUCKET_END)
    }
}

const MANTISSA_BITS: u32 = 5;
/// 32 buckets below 32, and 32 for each of the 59 powers of two from there.
const BUCKET_END: u16 = (1 + 59) << MANTISSA_BITS;

/// Values below 32 have a bucket each; above, 32 buckets for each power of two.
fn bucket_of(ns: u64) -> u16 {
    let bits = (ns | 1).ilog2();
    let Some(shift) = bits.checked_sub(MANTISSA_BITS) else {
        return u16::try_from(ns).unwrap_or(0);
    };
    let mantissa = (ns >> shift) & 31;
    u16::try_from(u64::from(shift + 1) << MANTISSA_BITS | mantissa).unwrap_or(BUCKET_END - 1)
}

fn middle_of(bucket: u16) -> u64 {
    let Some(shift) = (u32::from(bucket) >> MANTISSA_BITS).checked_sub(1) else {
        return u64::from(bucket);
    };
    let mantissa = u64::from(bucket & 31) | 32;
    (mantissa << shift) + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bucket_middle_is_within_1_64(ns in any::<u64>()) {
            let middle = middle_of(bucket_of(ns));
            prop_assert!(middle.abs_diff(ns) <= ns / 64 + 1, "{ns} {middle}");
            prop_assert!(bucket_of(ns) < BUCKET_END);
        }

        #[test]
        fn percentiles_are_close_and_merging_is_adding(values in proptest::collection::vec(1_000_u64..1_000_000_000, 1..200)) {
            let (mut whole, mut left, mut right) = (LatencySketch::default(), LatencySketch::default(), LatencySketch::default());
            for (at, value) in values.iter().enumerate() {
                whole.add(*value, 1, true);
                if at % 2 == 0 { left.add(*value, 1, true) } else { right.add(*value, 1, true) };
            }
            left.merge(&right);
            prop_assert_eq!(&left.buckets, &whole.buckets);
            prop_assert!(whole.is_valid());
            let mut sorted = values;
            sorted.sort_unstable();
            for percent in [0, 50, 90, 99, 100] {
                let exact = sorted[((sorted.len() - 1) * percent).div_ceil(100)];
                let got = whole.percentile(percent as u64).expect("not empty");
                prop_assert!(got.abs_diff(exact) <= exact / 60 + 1, "{percent} {exact} {got}");
            }
        }
    }

    #[test]
    fn sketch_is_bounded_and_keeps_its_count() {
        let mut sketch = LatencySketch::default();
        for exponent in 0..64 {
            for step in 0..32_u64 {
                sketch.add((1 << exponent) | (step << exponent >> 5), 1, true);
            }
        }
        assert!(sketch.buckets.len() <= BUCKETS_MAX);
        assert_eq!(sketch.count(), 64 * 32);
        let mut refused = LatencySketch::default();
        refused.add(5, 1, false);
        assert_eq!(refused.add(5_000_000, 1, false), 0, "a full budget adds no bucket");
        assert_eq!(refused.count(), 2);
    }
}
