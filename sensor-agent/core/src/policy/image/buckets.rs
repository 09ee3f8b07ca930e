//! Hash tables of buckets that fill a line each: home bucket by the low bits of the hash, and when that is full another one.
//!
//! A reader looks into the other bucket only when the home bucket is full, so an entry may leave its home bucket only for one that takes its place.

use sensor_ebpf::abi::image::{Line, other_bucket};

/// A table of lines. An item is `N` words of which the last is not zero.
pub(super) struct Buckets<const N: usize> {
    lines: Vec<Line>,
    mask: u32,
}

/// Items of a small table.
const SMALL: usize = 1_024;

/// There is no room for an item: the table must be larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl<const N: usize> Buckets<N> {
    /// Items of a bucket.
    const ITEMS: usize = 8 / N;

    /// Buckets for so many items: a power of two, at most three quarters in use (a quarter in small tables, which fill unevenly).
    pub(super) fn count_for(items: usize) -> usize {
        let items = if items < SMALL { items * 3 } else { items };
        (items * 4).div_ceil(Self::ITEMS * 3).next_power_of_two()
    }

    /// An empty table; `buckets` is a power of two.
    pub(super) fn new(buckets: usize) -> Self {
        let mask = u32::try_from(buckets.max(1) - 1).unwrap_or(u32::MAX >> 1);
        Self { lines: vec![[0; 8]; buckets.max(1)], mask }
    }

    pub(super) fn into_lines(self) -> Vec<Line> {
        self.lines
    }

    /// Puts an item where a reader finds it. `hash_of` gives the hash of any item that was put in.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        item: [u64; N],
        hash_of: impl Fn(&[u64; N]) -> u64,
    ) -> Result<(), NoRoom> {
        let home = self.home(hash);
        let other = other_bucket(hash, self.mask);
        if self.put(home, item) || self.put(other, item) {
            return Ok(());
        }
        // Somebody in one of the two who can move to a bucket with room makes place.
        for bucket in [home, other] {
            for at in 0..Self::ITEMS {
                let Some(sitting) = self.item(bucket, at) else { continue };
                let its_hash = hash_of(&sitting);
                let to = other_bucket(its_hash, self.mask);
                if self.home(its_hash) == bucket && to != bucket && self.put(to, sitting) {
                    self.set(bucket, at, item);
                    return Ok(());
                }
            }
        }
        Err(NoRoom)
    }

    /// The item of `wanted` in the table: what a reader sees.
    pub(super) fn find_mut(
        &mut self,
        hash: u64,
        wanted: impl Fn(&[u64; N]) -> bool,
    ) -> Option<&mut [u64; N]> {
        let (home, other) = (self.home(hash), other_bucket(hash, self.mask));
        let place = [home, other].into_iter().find_map(|bucket| {
            (0..Self::ITEMS)
                .find(|at| self.item(bucket, *at).is_some_and(|item| wanted(&item)))
                .map(|at| (bucket, at))
        });
        let (bucket, at) = place?;
        let line = self.lines.get_mut(usize::try_from(bucket).ok()?)?;
        line.as_chunks_mut::<N>().0.get_mut(at)
    }

    fn home(&self, hash: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
        let low = hash as u32;
        low & self.mask
    }

    fn put(&mut self, bucket: u32, item: [u64; N]) -> bool {
        let free = (0..Self::ITEMS).find(|at| self.item(bucket, *at).is_none());
        free.is_some_and(|at| {
            self.set(bucket, at, item);
            true
        })
    }

    fn item(&self, bucket: u32, at: usize) -> Option<[u64; N]> {
        let line = self.lines.get(usize::try_from(bucket).ok()?)?;
        let item = *line.as_chunks::<N>().0.get(at)?;
        (item.last() != Some(&0)).then_some(item)
    }

    fn set(&mut self, bucket: u32, at: usize, item: [u64; N]) {
        let line = usize::try_from(bucket).ok().and_then(|bucket| self.lines.get_mut(bucket));
        if let Some(place) = line.and_then(|line| line.as_chunks_mut::<N>().0.get_mut(at)) {
            *place = item;
        }
    }
}

#[cfg(test)]
mod tests {
    use sensor_ebpf::abi::image::mix;

    use super::*;

    #[test]
    fn a_table_at_three_quarters_takes_everything_and_finds_it() {
        for items in [0_usize, 1, 5, 6, 7, 48, 49, 1000, 98_304] {
            let mut buckets = Buckets::<1>::new(Buckets::<1>::count_for(items));
            let words: Vec<u64> = (1..=items as u64).collect();
            for word in &words {
                assert_eq!(
                    buckets.insert(mix(*word), [*word], |item| mix(item[0])),
                    Ok(()),
                    "{items}"
                );
            }
            for word in &words {
                assert!(buckets.find_mut(mix(*word), |item| item[0] == *word).is_some());
                // Who is not in its home bucket has a full one.
                let home = buckets.home(mix(*word));
                let at_home = (0..8).any(|at| buckets.item(home, at) == Some([*word]));
                assert!(at_home || (0..8).all(|at| buckets.item(home, at).is_some()));
            }
        }
    }

    #[test]
    fn a_table_that_is_too_small_says_so() {
        let mut buckets = Buckets::<1>::new(1);
        let outcomes: Vec<_> =
            (1..=9).map(|word| buckets.insert(mix(word), [word], |item| mix(item[0]))).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 8);
        assert_eq!(outcomes.last(), Some(&Err(NoRoom)));
    }
}
