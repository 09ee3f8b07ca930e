//! Who reached an endpoint: requests by class of caller, and when the widest came last.
//!
//! Nearly all endpoints have callers of one class: that takes one byte, since all their requests are of it. The counts
//! ([`Spread`]) are made when a second class comes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    endpoint::Endpoint,
    facet::{Exposure, ExposureRow},
};
use crate::time::UnixNs;

/// What classes of callers there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    /// No request yet.
    #[default]
    Nobody,
    /// All requests came from callers whose address is not known.
    Unknown,
    /// All requests came from this class.
    Only(Exposure),
    /// Counted in `Endpoint::more`.
    Many,
}

/// Requests by class, as counted and as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spread {
    requests: [u64; Exposure::ALL.len()],
    /// Last request of the widest class that has any.
    widest_last: UnixNs,
}

impl Spread {
    /// The widest class that has any.
    pub(super) fn widest(&self) -> Option<Exposure> {
        let counts = Exposure::ALL.iter().zip(self.requests);
        counts.filter(|(_, count)| *count > 0).map(|(class, _)| *class).max()
    }

    pub(super) fn add(&mut self, class: Exposure, count: u64, last: UnixNs) {
        match self.widest() {
            Some(widest) if widest > class => {}
            Some(widest) if widest == class => self.widest_last = self.widest_last.max(last),
            _ => self.widest_last = last,
        }
        if let Some(slot) = self.requests.get_mut(class as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    fn merge(&mut self, other: &Self) {
        match (self.widest(), other.widest()) {
            (ours, theirs) if ours == theirs => {
                self.widest_last = self.widest_last.max(other.widest_last);
            }
            (ours, theirs) if theirs > ours => self.widest_last = other.widest_last,
            _ => {}
        }
        for (to, from) in self.requests.iter_mut().zip(other.requests) {
            *to = to.saturating_add(from);
        }
    }

    /// What a row shows; none without a caller whose class is known.
    pub(super) fn row(&self) -> Option<ExposureRow> {
        let requests: BTreeMap<Exposure, u64> =
            Exposure::ALL.into_iter().zip(self.requests).filter(|(_, count)| *count > 0).collect();
        let widest = self.widest()?;
        Some(ExposureRow { widest, widest_last_seen_unix_ns: self.widest_last, requests })
    }
}

impl Endpoint {
    /// Notes from where a request came; called before it is counted.
    pub(super) fn note_reach(&mut self, class: Option<Exposure>, count: u64, now: UnixNs) {
        let one = class.map_or(Reach::Unknown, Reach::Only);
        if self.reach == one {
            return;
        }
        if self.reach == Reach::Nobody {
            self.reach = if self.observed == 0 { one } else { Reach::Unknown };
        }
        if self.reach == one {
            return;
        }
        self.spread_out();
        if let (Some(class), Some(more)) = (class, self.more.as_deref_mut()) {
            more.spread.add(class, count, now);
        }
    }

    /// Requests by class.
    pub(super) fn spread(&self) -> Spread {
        match (self.reach, self.more.as_deref()) {
            (Reach::Only(class), _) => {
                let mut spread = Spread::default();
                spread.add(class, self.weighted.total(), self.last);
                spread
            }
            (Reach::Many, Some(more)) => more.spread,
            _ => Spread::default(),
        }
    }

    /// Takes stored counts; called when its requests are known.
    pub(super) fn restore_reach(&mut self, stored: Option<Spread>) {
        let total = self.weighted.total();
        let only = stored.and_then(|spread| {
            let class = spread.widest()?;
            (spread.requests.get(class as usize) == Some(&total)).then_some(class)
        });
        match (only, stored.filter(|spread| spread.widest().is_some())) {
            (Some(class), _) => self.reach = Reach::Only(class),
            (None, Some(spread)) => {
                self.reach = Reach::Many;
                self.more.get_or_insert_default().spread = spread;
            }
            (None, None) => self.reach = Reach::Unknown,
        }
    }

    /// Takes another's counts.
    pub(super) fn merge_reach(&mut self, other: &Spread, theirs: Reach) {
        match (self.reach, theirs) {
            (_, Reach::Nobody) => {}
            (Reach::Nobody, Reach::Only(_) | Reach::Unknown) => self.reach = theirs,
            (ours, theirs) if ours == theirs && ours != Reach::Many => {}
            _ => {
                self.spread_out();
                if let Some(more) = self.more.as_deref_mut() {
                    more.spread.merge(other);
                }
            }
        }
    }

    fn spread_out(&mut self) {
        let spread = self.spread();
        self.more.get_or_insert_default().spread = spread;
        self.reach = Reach::Many;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_widest_class_and_when_it_came_last_do_not_depend_on_order() {
        let calls = [
            (Exposure::Private, 3, 5),
            (Exposure::Public, 1, 2),
            (Exposure::Private, 2, 9),
            (Exposure::Public, 4, 4),
            (Exposure::Loopback, 1, 10),
        ];
        let of = |calls: &[(Exposure, u64, u64)]| {
            let mut spread = Spread::default();
            for (class, count, second) in calls {
                spread.add(*class, *count, UnixNs(second * S));
            }
            spread
        };
        let all = of(&calls);
        let row = all.row().unwrap();
        assert_eq!((row.widest, row.widest_last_seen_unix_ns), (Exposure::Public, UnixNs(4 * S)));
        assert_eq!(row.requests[&Exposure::Private], 5);
        assert_eq!(row.requests.len(), 3);
        for turn in 0..calls.len() {
            let mut turned = calls;
            turned.rotate_left(turn);
            assert_eq!(of(&turned), all);
            let (one, two) = turned.split_at(turn);
            let mut merged = of(one);
            merged.merge(&of(two));
            assert_eq!(merged, all);
        }
    }
}
