//! Endpoints that were proven and not told of yet, each once, in the order in which they were proven.
//!
//! An endpoint that becomes another one (its template changed, its service is shown as another's) passes its place on. Bound: that of
//! the endpoints; numbers of those that are no more are let go of once they are as many as the others.

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::table::EndpointId;

/// Endpoints that wait to be told of.
#[derive(Debug, Default)]
pub(super) struct Discovered {
    /// May name some that do not wait any more.
    order: Vec<EndpointId>,
    waiting: HashSet<EndpointId, FixedState>,
}

impl Discovered {
    /// Adds one at the end; one that waits already keeps its place.
    pub(super) fn push(&mut self, id: EndpointId) {
        if !self.waiting.insert(id) {
            return;
        }
        if self.order.len() >= STALE_MIN.max(2 * self.waiting.len()) {
            let mut left = self.waiting.clone();
            left.remove(&id);
            self.order.retain(|it| left.remove(it));
        }
        self.order.push(id);
    }

    /// What one was is another one now.
    pub(super) fn moved(&mut self, from: EndpointId, to: EndpointId) {
        if from != to && self.waiting.remove(&from) {
            self.push(to);
        }
    }

    /// The first `count` of those that wait, or all.
    pub(super) fn take(&mut self, count: usize) -> Vec<EndpointId> {
        let (mut taken, mut looked_at) = (Vec::new(), 0);
        for id in &self.order {
            if taken.len() >= count {
                break;
            }
            looked_at += 1;
            if self.waiting.remove(id) {
                taken.push(*id);
            }
        }
        self.order.drain(..looked_at);
        taken
    }
}

/// Numbers that are kept without a look at whether they still wait.
const STALE_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[u32]) -> Discovered {
        let mut discovered = Discovered::default();
        for id in ids {
            discovered.push(EndpointId(*id));
        }
        discovered
    }

    fn check(mut discovered: Discovered, expected: &[u32]) {
        let all: Vec<u32> = discovered.take(usize::MAX).into_iter().map(|id| id.0).collect();
        assert_eq!(all, expected);
        assert!(discovered.take(usize::MAX).is_empty() && discovered.order.is_empty());
    }

    #[test]
    fn each_is_told_once_in_order() {
        check(of(&[3, 1, 3, 2, 1]), &[3, 1, 2]);
        let mut some = of(&[3, 1, 2]);
        assert_eq!(some.take(2), [EndpointId(3), EndpointId(1)]);
        some.push(EndpointId(3));
        check(some, &[2, 3]);
    }

    #[test]
    fn what_became_another_one_is_told_as_that() {
        let mut discovered = of(&[1, 2, 3]);
        discovered.moved(EndpointId(1), EndpointId(3));
        discovered.moved(EndpointId(2), EndpointId(4));
        discovered.moved(EndpointId(7), EndpointId(8));
        check(discovered, &[3, 4]);
    }

    #[test]
    fn moving_to_and_fro_takes_no_room() {
        let mut discovered = of(&[1, 9]);
        for _ in 0..1_000 {
            discovered.moved(EndpointId(1), EndpointId(2));
            discovered.moved(EndpointId(2), EndpointId(1));
        }
        assert!(discovered.order.len() <= STALE_MIN);
        check(discovered, &[9, 1]);
    }
}
