//! How many calls came when: weighted requests in eighths of the window, for two windows and a part.
//!
//! An endpoint whose calls all lie in one eighth needs none of this: its totals say it. At the edges of a span the calls of an
//! eighth are taken as spread evenly over the part of it in which there were any.

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use crate::time::UnixNs;

/// Parts that a window is cut into.
const PARTS: u64 = 8;
/// Two windows lie in at most so many parts.
const KEPT: usize = 17;

/// Calls by part, the latest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pace {
    part_ns: u64,
    /// Number of the latest part since 1970.
    latest: u64,
    /// The latest part first.
    counts: [u32; KEPT],
    /// Calls before are not known.
    pub(super) known_from: UnixNs,
}

/// Length of a part of the window.
pub(super) const fn part_ns(window_ns: u64) -> u64 {
    let part = window_ns / PARTS;
    if part == 0 { 1 } else { part }
}

/// One part of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    ns: u64,
    start: u64,
}

impl Part {
    /// The part that a time lies in.
    pub(super) const fn of(now: UnixNs, window_ns: u64) -> Self {
        let ns = part_ns(window_ns);
        Self { ns, start: now.0 - now.0 % ns }
    }

    /// Whether [`Self::of`] would give this one: cheaper than a division.
    pub(super) const fn is_of(self, now: UnixNs, window_ns: u64) -> bool {
        self.ns == part_ns(window_ns) && self.has(now)
    }

    const fn has(self, time: UnixNs) -> bool {
        time.0.wrapping_sub(self.start) < self.ns
    }
}

impl Pace {
    fn new(part_ns: u64, now: UnixNs, known_from: UnixNs) -> Self {
        Self { part_ns, latest: now.0 / part_ns, counts: [0; KEPT], known_from }
    }

    /// Whether it can be counted with (a stored one can be anything).
    pub(super) const fn is_valid(&self) -> bool {
        self.part_ns > 0
    }

    fn add(&mut self, now: UnixNs, count: u64) {
        let part = now.0 / self.part_ns;
        if part > self.latest {
            let steps = usize::try_from(part - self.latest).unwrap_or(KEPT).min(KEPT);
            self.counts.rotate_right(steps);
            self.counts.iter_mut().take(steps).for_each(|slot| *slot = 0);
            self.latest = part;
        }
        let back = usize::try_from(self.latest - part).unwrap_or(KEPT);
        if let Some(slot) = self.counts.get_mut(back) {
            *slot = slot.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// The same calls in parts of another length: the window was set anew.
    fn in_parts_of(&self, part_ns: u64) -> Self {
        let latest = UnixNs(self.latest.saturating_mul(self.part_ns));
        let mut pace = Self::new(part_ns, latest, self.known_from);
        self.add_to(&mut pace);
        pace
    }

    fn add_to(&self, other: &mut Self) {
        for (back, count) in (0_u64..).zip(self.counts).filter(|(_, count)| *count > 0) {
            let start = self.latest.saturating_sub(back).saturating_mul(self.part_ns);
            other.add(UnixNs(start.saturating_add(self.part_ns / 2)), count.into());
        }
    }

    fn merge(&mut self, other: &Self) {
        self.known_from = self.known_from.max(other.known_from);
        other.add_to(self);
    }

    fn between(&self, from: u64, to: u64, (first, last): (UnixNs, UnixNs)) -> u64 {
        let spread = |(back, count): (u64, u32)| {
            let start = self.latest.saturating_sub(back).saturating_mul(self.part_ns);
            let end = start.saturating_add(self.part_ns);
            share(count.into(), (start.max(first.0), end.min(last.0.saturating_add(1))), (from, to))
        };
        (0_u64..).zip(self.counts).filter(|(_, count)| *count > 0).map(spread).sum()
    }
}

/// What of `count` calls that lie in one span lies in another.
fn share(count: u64, (start, end): (u64, u64), (from, to): (u64, u64)) -> u64 {
    let length = end.saturating_sub(start).max(1);
    let common = end.min(to).saturating_sub(start.max(from));
    let part = u128::from(count) * u128::from(common.min(length)) / u128::from(length);
    u64::try_from(part).unwrap_or(u64::MAX)
}

impl Endpoint {
    /// Notes when a request came; called before it is counted.
    pub(super) fn note_pace(&mut self, now: UnixNs, count: u64, part: Part) {
        if self.observed == 0 {
            return;
        }
        let alone = self.more.as_deref().is_none_or(|more| more.pace.is_none());
        if alone && part.has(self.first) && part.has(self.last) {
            return;
        }
        let part_ns = part.ns;
        let known = self.more.as_deref_mut().and_then(|more| more.pace.as_deref_mut());
        if let Some(pace) = known.filter(|pace| pace.part_ns == part_ns) {
            pace.add(now, count);
            return;
        }
        let mut pace = self.pace(part_ns);
        pace.add(now, count);
        self.more.get_or_insert_default().pace = Some(Box::new(pace));
    }

    /// Weighted requests from one time to before another.
    pub(super) fn calls_between(&self, from: UnixNs, to: UnixNs) -> u64 {
        let seen = (self.first, self.last);
        if self.observed == 0 || self.last < from || self.first >= to {
            return 0;
        }
        let calls = match self.more.as_deref().and_then(|more| more.pace.as_deref()) {
            Some(pace) => pace.between(from.0, to.0, seen),
            None => {
                share(self.weighted.total(), (seen.0.0, seen.1.0.saturating_add(1)), (from.0, to.0))
            }
        };
        // The first and the last call are known to the nanosecond.
        let known = [self.first, self.last].iter().any(|it| (from..to).contains(it));
        calls.max(u64::from(known))
    }

    /// From when its calls are known by time.
    pub(super) fn pace_known_from(&self) -> UnixNs {
        let pace = self.more.as_deref().and_then(|more| more.pace.as_deref());
        pace.map_or(UnixNs(0), |pace| pace.known_from)
    }

    /// Adds another's calls; called before counts and times are added.
    pub(super) fn merge_pace(&mut self, other: &Self, part_ns: u64) {
        if other.observed == 0 {
            return;
        }
        if self.observed == 0 {
            if let Some(pace) = other.more.as_deref().and_then(|more| more.pace.clone()) {
                self.more.get_or_insert_default().pace = Some(pace);
            }
            return;
        }
        let kept = |it: &Self| it.more.as_deref().is_some_and(|more| more.pace.is_some());
        let (first, last) = (self.first.min(other.first), self.last.max(other.last));
        if !kept(self) && !kept(other) && first.0 / part_ns == last.0 / part_ns {
            return;
        }
        let mut pace = self.pace(part_ns);
        pace.merge(&other.pace(part_ns));
        self.more.get_or_insert_default().pace = Some(Box::new(pace));
    }

    fn pace(&self, part_ns: u64) -> Pace {
        match self.more.as_deref().and_then(|more| more.pace.as_deref()) {
            Some(pace) if pace.part_ns == part_ns => pace.clone(),
            Some(pace) => pace.in_parts_of(part_ns),
            None => {
                let one = self.first.0 / part_ns == self.last.0 / part_ns;
                // More than one part and none kept: from a store that kept none.
                let known_from = if one { UnixNs(0) } else { self.last };
                let mut pace = Pace::new(part_ns, self.last, known_from);
                pace.add(self.last, self.weighted.total());
                pace
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PART: u64 = 100;

    fn paced(calls: &[(u64, u64)]) -> Pace {
        let mut pace = Pace::new(PART, UnixNs(0), UnixNs(0));
        for (time, count) in calls {
            pace.add(UnixNs(*time), *count);
        }
        pace
    }

    #[test]
    fn calls_leave_with_the_second_window() {
        let seen = (UnixNs(0), UnixNs(u64::MAX - 1));
        let pace = paced(&[(50, 3), (1_650, 5)]);
        assert_eq!(pace.between(0, 2_000, seen), 8);
        assert_eq!(pace.between(0, 1_600, seen), 3);
        assert_eq!(paced(&[(50, 3), (1_750, 5)]).between(0, 2_000, seen), 5);
        assert_eq!(paced(&[(50, 3), (1 << 40, 5)]).between(0, 1 << 41, seen), 5);
    }

    #[test]
    fn a_part_is_shared_out_by_where_its_calls_can_be() {
        let pace = paced(&[(120, 10)]);
        assert_eq!(pace.between(150, 1_000, (UnixNs(0), UnixNs(900))), 5);
        assert_eq!(pace.between(150, 1_000, (UnixNs(120), UnixNs(120))), 0);
        assert_eq!(pace.between(100, 150, (UnixNs(120), UnixNs(120))), 10);
    }

    proptest! {
        #[test]
        fn the_order_of_calls_does_not_matter_nor_does_merging(
            mut calls in proptest::collection::vec((0..1_700_u64, 1..9_u64), 1..30),
            at in 0..30_usize,
        ) {
            let all = paced(&calls);
            prop_assert_eq!(
                all.between(0, 2_000, (UnixNs(0), UnixNs(2_000))),
                calls.iter().map(|(_, count)| count).sum::<u64>()
            );
            let (one, two) = calls.split_at(at.min(calls.len()));
            let mut merged = paced(one);
            merged.merge(&paced(two));
            prop_assert_eq!(&merged, &all);
            calls.reverse();
            let mut latest = paced(&[(1_699, 1)]);
            for (time, count) in &calls {
                latest.add(UnixNs(*time), *count);
            }
            calls.sort_unstable();
            calls.push((1_699, 1));
            prop_assert_eq!(latest, paced(&calls));
        }
    }
}
