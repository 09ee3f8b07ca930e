//! What the busy segments of a position have in common: continuations that most of them have, and those that one alone has.
//!
//! However many requests there were: values of a parameter all go on the same ways, and the more they are asked the surer each
//! of them has them all; literals have their own. Only segments asked [`BUSY_CALLS_MIN`] times count: the others show too little.

use std::collections::BTreeMap;

use super::position::{Position, Tail, real};

/// Continuations of the busy segments of a position.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// The busy segments that have each: next segments, and those after the next.
    holders: BTreeMap<(bool, u64), Holders>,
    busy: u32,
    /// Weight of the busy segments but the first.
    weight: f64,
    shared: u32,
}

/// How many segments have a continuation.
#[derive(Clone, Copy, Debug, Default)]
struct Holders {
    count: u32,
    /// Their weight, without that of the first: one that is asked more than all others does not say what they have in common.
    weight: f64,
}

/// One segment's part in them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    /// Share of the common continuations that it has.
    pub(super) share: f64,
    /// How many of them, logarithm.
    pub(super) held: f64,
    /// Continuations that no other busy segment has, logarithm.
    pub(super) own: f64,
}

impl Common {
    pub(super) fn of(position: &Position, tails: &[Tail]) -> Self {
        let mut all = Self::default();
        for (sibling, tail) in position.literals.iter().zip(tails) {
            if sibling.sum < BUSY_CALLS_MIN {
                continue;
            }
            let weight = if all.busy == 0 { 0.0 } else { sibling.sum.sqrt() };
            all.busy += 1;
            all.weight += weight;
            for token in tokens(tail) {
                let holders = all.holders.entry(token).or_default();
                holders.count += 1;
                holders.weight += weight;
            }
        }
        let common = all.holders.values().filter(|holders| all.is_common(**holders)).count();
        all.shared = u32::try_from(common).unwrap_or(u32::MAX);
        all
    }

    fn is_common(&self, holders: Holders) -> bool {
        holders.count >= 2 && holders.weight * 2.0 >= self.weight
    }

    /// Continuations that most have, logarithm.
    pub(super) fn shared(&self) -> f64 {
        f64::from(self.shared).ln_1p()
    }

    /// Share of all continuations that one alone has.
    pub(super) fn lonely(&self) -> f64 {
        let lonely = self.holders.values().filter(|holders| holders.count == 1).count();
        if self.busy < 2 { 0.0 } else { ratio(lonely, self.holders.len()) }
    }

    /// Logarithm of the number of busy segments.
    pub(super) fn busy(&self) -> f64 {
        f64::from(self.busy).ln_1p()
    }

    pub(super) fn part(&self, sum: f64, tail: &Tail) -> Part {
        let is_busy = u32::from(sum >= BUSY_CALLS_MIN);
        let (mut held, mut own) = (0_usize, 0_usize);
        for token in tokens(tail) {
            let holders = self.holders.get(&token).copied().unwrap_or_default();
            held += usize::from(self.is_common(holders));
            own += usize::from(holders.count <= is_busy);
        }
        Part {
            share: ratio(held, self.shared as usize),
            held: real(held as u64).ln_1p(),
            own: real(own as u64).ln_1p(),
        }
    }
}

fn tokens(tail: &Tail) -> impl Iterator<Item = (bool, u64)> + '_ {
    let next = tail.next.keys().map(|token| (false, *token));
    next.chain(tail.after.keys().map(|token| (true, *token)))
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { real(part as u64) / real(whole as u64) }
}

/// Requests from which on a segment shows how it goes on.
const BUSY_CALLS_MIN: f64 = 8.0;
