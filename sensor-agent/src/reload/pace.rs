//! How often a policy is compiled anew because its host changed: a long list takes seconds of a CPU.
//!
//! Bounds: at most one part in [`SOON_PARTS`] (or [`LEISURE_PARTS`]) of the time goes into it, and what outsiders can bring about happens at
//! most every [`LEISURE`].

use std::time::Duration;

use sensor_core::time::MonoNs;

const SOON_PARTS: u64 = 10;
const LEISURE_PARTS: u64 = 50;
const LEISURE: Duration = Duration::from_secs(30);

/// Whether a change of the host can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// What the host itself is changed.
    Soon,
    /// Somebody connected.
    AtLeisure,
}

/// When it was done last, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    last: Option<(MonoNs, u64)>,
    failed: bool,
}

impl Pace {
    /// It was done, for better or worse.
    pub(super) fn took(&mut self, start: MonoNs, end: MonoNs, succeeded: bool) {
        self.last = Some((end, end.since(start)));
        self.failed = !succeeded;
    }

    /// Whether it may be done now.
    pub(super) fn allows(self, now: MonoNs, urgency: Urgency) -> bool {
        let Some((last, took_ns)) = self.last else { return true };
        let leisure_ns = u64::try_from(LEISURE.as_nanos()).unwrap_or(u64::MAX);
        let wait_ns = match urgency {
            Urgency::Soon if !self.failed => took_ns.saturating_mul(SOON_PARTS),
            _ => took_ns.saturating_mul(LEISURE_PARTS).max(leisure_ns),
        };
        now.since(last) >= wait_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_connects_all_the_time_costs_little() {
        let second = |seconds: u64| MonoNs(seconds * 1_000_000_000);
        let mut pace = Pace::default();
        assert!(pace.allows(second(0), Urgency::AtLeisure));
        pace.took(second(8), second(10), true);
        let from = |urgency| (10..200).find(|at| pace.allows(second(*at), urgency));
        assert_eq!((from(Urgency::Soon), from(Urgency::AtLeisure)), (Some(30), Some(110)));
        pace.took(second(10), second(10), true);
        assert!(
            pace.allows(second(10), Urgency::Soon) && !pace.allows(second(39), Urgency::AtLeisure)
        );
        pace.took(second(10), second(10), false);
        assert!(!pace.allows(second(39), Urgency::Soon) && pace.allows(second(40), Urgency::Soon));
    }
}
