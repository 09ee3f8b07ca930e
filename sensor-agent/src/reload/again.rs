//! When a policy that was refused for a reason of the moment (no memory, a busy map) is tried again, with nothing of it changed.
//!
//! Bounds: pauses from [`FIRST_PAUSE`] that double up to [`LONGEST_PAUSE`].

use std::time::Duration;

use sensor_core::time::MonoNs;

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The next try, if there is to be one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Again {
    next: Option<(MonoNs, Duration)>,
}

impl Again {
    /// What was asked for failed for a reason of the moment.
    pub(super) fn after(&mut self, now: MonoNs) {
        let pause = match self.next {
            None => FIRST_PAUSE,
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
        };
        let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.next = Some((MonoNs(now.0.saturating_add(pause_ns)), pause));
    }

    /// It is in force, or refused for good.
    pub(super) fn rest(&mut self) {
        self.next = None;
    }

    /// Whether it is a try of what failed before.
    pub(super) fn is_due(self, now: MonoNs) -> bool {
        self.next.is_some_and(|(at, _)| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_further_and_further_apart() {
        let mut again = Again::default();
        let second = |seconds: u64| MonoNs(seconds * 1_000_000_000);
        assert!(!again.is_due(second(9)));
        again.after(second(10));
        assert!(!again.is_due(second(11)) && again.is_due(second(12)));
        again.after(second(12));
        assert!(!again.is_due(second(15)) && again.is_due(second(16)));
        for _ in 0..20 {
            again.after(second(20));
        }
        assert!(!again.is_due(second(319)) && again.is_due(second(320)));
        again.rest();
        assert!(!again.is_due(second(999)));
    }
}
