//! Which limits the open connections in the kernel were counted for: with others than those the count begins anew, because the kernel asks
//! a connection that it counts already for no further limit. Pure.

use std::collections::BTreeSet;

use crate::kernel::policy_maps::Install;

/// The limits, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Those of the policy that was put in force last, also on trial.
    now: BTreeSet<u32>,
    /// Those of the policy that is in force when a trial ends.
    confirmed: BTreeSet<u32>,
    /// No policy of this agent is in force yet; the agent before it gave numbers up to this one.
    before: Option<u32>,
}

impl Counted {
    /// What an earlier agent left: the limits that connections are counted for. Those that nobody has a connection under are not among them.
    pub(super) fn found(limits: BTreeSet<u32>) -> Self {
        Self { confirmed: limits.clone(), now: limits, before: Some(0) }
    }

    /// Numbers up to this one are of limits that the agent before may have counted for.
    pub(super) fn given_before(&mut self, given: u32) {
        self.before = self.before.map(|_| given);
    }

    /// Whether the count goes on with a policy of these limits.
    pub(super) fn goes_on(&self, limits: &BTreeSet<u32>) -> bool {
        match self.before {
            Some(given) => self.now.is_subset(limits) && limits.iter().all(|limit| *limit <= given),
            None => self.now == *limits,
        }
    }

    /// A policy of these limits is in force.
    pub(super) fn published(&mut self, limits: BTreeSet<u32>, install: Install) {
        self.before = None;
        self.now = limits;
        if install == Install::Confirmed {
            self.confirmed();
        }
    }

    /// What was on trial stays.
    pub(super) fn confirmed(&mut self) {
        self.confirmed.clone_from(&self.now);
    }

    /// A trial ended; whether the count goes on. Of one that an earlier agent began nobody knows what it counted for.
    pub(super) fn reverted(&mut self) -> bool {
        if self.before.is_some() {
            *self = Self { before: self.before, ..Self::default() };
            return false;
        }
        let goes_on = self.now == self.confirmed;
        self.now.clone_from(&self.confirmed);
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIAL: Install = Install::Provisional { until_ns: 1 };

    fn limits<const N: usize>(numbers: [u32; N]) -> BTreeSet<u32> {
        numbers.into()
    }

    #[test]
    fn a_trial_that_is_taken_back_leaves_the_limits_of_before() {
        let mut counted = Counted::default();
        counted.published(limits([1]), Install::Confirmed);
        assert!(counted.goes_on(&limits([1])) && !counted.goes_on(&limits([1, 2])));
        counted.published(limits([1, 2]), TRIAL);
        assert!(!counted.reverted(), "connections of the trial are counted for its limits");
        assert!(counted.goes_on(&limits([1])) && !counted.goes_on(&limits([1, 2])));
        // One that changed nothing of them.
        counted.published(limits([1]), TRIAL);
        assert!(counted.reverted());
        counted.published(limits([3]), TRIAL);
        counted.confirmed();
        assert!(counted.goes_on(&limits([3])) && counted.reverted());
    }

    #[test]
    fn the_count_goes_on_over_a_restart_with_the_limits_of_before() {
        // Nobody has a connection under limit 3, so it is not found.
        let found = || {
            let mut counted = Counted::found(limits([1, 2]));
            counted.given_before(3);
            counted
        };
        assert!(found().goes_on(&limits([1, 2])) && found().goes_on(&limits([1, 2, 3])));
        assert!(!found().goes_on(&limits([1])), "limit 2 is gone");
        assert!(!found().goes_on(&limits([1, 2, 4])), "limit 4 is new");
        assert!(!Counted::found(limits([1])).goes_on(&limits([1])), "the numbers are lost");
        let mut counted = found();
        counted.published(limits([1, 2, 3]), Install::Confirmed);
        assert!(!counted.goes_on(&limits([1, 2])), "from now on it is known");
        // The agent ended while a policy was on trial.
        let mut counted = found();
        assert!(!counted.reverted());
        assert!(counted.goes_on(&limits([1])) && !counted.goes_on(&limits([4])));
    }
}
