//! The one entry of the kernel's settings map, and who may change what in it.
//!
//! Several threads change fields of their own (heartbeat and sampling: ring thread; hooks: interface watch;
//! policy sizes: policy maps); each change writes the whole entry under one lock, so none is lost.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

use aya::maps::{Array, MapData, MapError};
use sensor_ebpf::abi::settings::Settings;

use super::pod::Wire;

/// The settings map with the entry last written.
pub(crate) struct SettingsMap {
    state: Mutex<State>,
}

struct State {
    map: Array<MapData, Wire<Settings>>,
    current: Settings,
}

/// Whether a load's maps were in use before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// They are new.
    Fresh,
    /// An agent of the same layout left them pinned.
    Adopted,
}

impl SettingsMap {
    /// Takes the map over and writes the first entry: of an earlier agent's, what is in force stays in force.
    pub(crate) fn new(
        map: Array<MapData, Wire<Settings>>,
        first: Settings,
    ) -> Result<(Self, First), MapError> {
        let Wire(left) = map.get(&0, 0)?;
        let adopted = left.sample_weight != 0;
        let current = if adopted { take_over(left, first) } else { first };
        let settings = Self { state: Mutex::new(State { map, current }) };
        settings.update(|_| {})?;
        Ok((settings, if adopted { First::Adopted } else { First::Fresh }))
    }

    /// Changes fields and writes the entry.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Settings)) -> Result<(), MapError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.current);
        let current = Wire(state.current);
        state.map.set(0, current, 0)
    }

    /// The entry in force.
    pub(crate) fn current(&self) -> Settings {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).current
    }
}

/// What the agent is configured with, and of what an earlier one left all that is not its configuration: the policy in force, the
/// switch, the number of hooks that are attached, and the sampling key, so that no flow changes sides in the middle.
const fn take_over(left: Settings, first: Settings) -> Settings {
    Settings {
        sample_threshold: first.sample_threshold,
        sample_weight: first.sample_weight,
        head_bytes_max: first.head_bytes_max,
        wake_bytes: first.wake_bytes,
        stale_open_after_ns: first.stale_open_after_ns,
        ..left
    }
}

/// The first settings of a run: a sampling rate between 0 and 1, and bounds.
#[must_use]
pub fn first_settings(rate: f64, head_bytes_max: u32, wake_bytes: u32) -> Settings {
    let (sample_threshold, sample_weight) = sampling_of_rate(rate);
    Settings {
        sample_threshold,
        sample_weight,
        hash_key: random_hash_key(),
        head_bytes_max,
        wake_bytes,
        ..Settings::default()
    }
}

/// Key of the sampling hash, new at each start: a client must not be able to choose ports that are never sampled.
#[must_use]
pub fn random_hash_key() -> [u64; 2] {
    // The standard library seeds each of these from the operating system's random source.
    [0_u8, 1].map(|salt| RandomState::new().hash_one(salt))
}

/// Sampling threshold and weight of a rate between 0 and 1.
pub(crate) fn sampling_of_rate(rate: f64) -> (u32, u32) {
    let rate =
        if rate.is_finite() { rate.clamp(1.0 / f64::from(SAMPLE_WEIGHT_MAX), 1.0) } else { 1.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are within u32: rate is in (0, 1] and the weight at most SAMPLE_WEIGHT_MAX"
    )]
    let pair = ((rate * f64::from(u32::MAX)) as u32, (1.0 / rate).round() as u32);
    pair
}

/// Fewest flows that are sampled: one in this many.
pub(crate) const SAMPLE_WEIGHT_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_becomes_threshold_and_weight() {
        assert_eq!(sampling_of_rate(1.0), (u32::MAX, 1));
        assert_eq!(sampling_of_rate(0.5), (u32::MAX / 2, 2));
        assert_eq!(sampling_of_rate(0.0).1, SAMPLE_WEIGHT_MAX);
        assert_eq!(sampling_of_rate(f64::NAN), (u32::MAX, 1));
        assert_ne!(random_hash_key(), random_hash_key());
    }
}
