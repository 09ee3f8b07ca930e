//! How many flows are sampled, by how full the ring gets. Pure: time is an argument.
//!
//! A round that finds [`HIGH_WATER_PERCENT`] of the ring filled halves the rate; [`CALM_NS`] below
//! [`LOW_WATER_PERCENT`] doubles it again, up to the configured one. At most [`STEPS_MAX`] halvings.

use sensor_core::time::MonoNs;

const HIGH_WATER_PERCENT: u64 = 75;
const LOW_WATER_PERCENT: u64 = 10;
const CALM_NS: u64 = 10_000_000_000;
/// Time that a step down gets to show its effect.
const SETTLE_NS: u64 = 200_000_000;
const STEPS_MAX: u32 = 10;

/// Whether the rate may move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// It falls when the ring fills and rises when it drains.
    #[default]
    Adaptive,
    /// It stays; a full ring loses records, counted.
    Fixed,
}

/// The sampling budget.
#[derive(Debug)]
pub struct Budget {
    sampling: Sampling,
    threshold: u32,
    weight: u32,
    ring_bytes: u64,
    step: u32,
    changed: MonoNs,
    calm_since: Option<MonoNs>,
}

impl Budget {
    /// Starts from the configured threshold and weight.
    #[must_use]
    pub fn new(sampling: Sampling, threshold: u32, weight: u32, ring_bytes: u32) -> Self {
        let ring_bytes = u64::from(ring_bytes).max(1);
        Self {
            sampling,
            threshold,
            weight,
            ring_bytes,
            step: 0,
            changed: MonoNs(0),
            calm_since: None,
        }
    }

    /// Halvings in force.
    #[must_use]
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// Takes what one round found; gives the threshold and weight to set when they change.
    pub fn after_round(&mut self, now: MonoNs, bytes: u64) -> Option<(u32, u32)> {
        if self.sampling == Sampling::Fixed {
            return None;
        }
        let percent = bytes.saturating_mul(100) / self.ring_bytes;
        if percent > LOW_WATER_PERCENT {
            self.calm_since = None;
        }
        if percent >= HIGH_WATER_PERCENT
            && self.step < STEPS_MAX
            && now.since(self.changed) >= SETTLE_NS
        {
            return Some(self.moved(now, self.step + 1));
        }
        if percent > LOW_WATER_PERCENT || self.step == 0 {
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        (now.since(since) >= CALM_NS).then(|| self.moved(now, self.step - 1))
    }

    fn moved(&mut self, now: MonoNs, step: u32) -> (u32, u32) {
        self.step = step;
        self.changed = now;
        self.calm_since = None;
        (self.threshold >> step, self.weight.saturating_mul(1 << step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_full_ring_halves_and_calm_doubles_back_to_the_start() {
        let mut budget = Budget::new(Sampling::Adaptive, u32::MAX, 1, 1000);
        assert_eq!(budget.after_round(MonoNs(SECOND), 800), Some((u32::MAX >> 1, 2)));
        assert_eq!(budget.after_round(MonoNs(SECOND + 1), 900), None, "the step settles first");
        assert_eq!(budget.after_round(MonoNs(2 * SECOND), 900), Some((u32::MAX >> 2, 4)));
        assert_eq!(budget.after_round(MonoNs(3 * SECOND), 10), None);
        assert_eq!(budget.after_round(MonoNs(13 * SECOND), 10), Some((u32::MAX >> 1, 2)));
        assert_eq!(budget.after_round(MonoNs(14 * SECOND), 500), None);
        assert_eq!(budget.after_round(MonoNs(15 * SECOND), 10), None);
        assert_eq!(budget.after_round(MonoNs(25 * SECOND), 10), Some((u32::MAX, 1)));
        assert_eq!(budget.after_round(MonoNs(90 * SECOND), 10), None);
        assert_eq!(budget.step(), 0);
    }

    #[test]
    fn a_fixed_rate_never_moves() {
        let mut budget = Budget::new(Sampling::Fixed, u32::MAX, 1, 1000);
        assert_eq!(budget.after_round(MonoNs(SECOND), 1000), None);
    }
}
