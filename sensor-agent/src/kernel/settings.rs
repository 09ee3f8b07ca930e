//! The one entry of the kernel's settings map, and who may change what in it.
//!
//! The entry is the kernel's own memory. Several threads change fields of their own (heartbeat and sampling: ring thread; hooks:
//! interface watch; selectors: policy maps), and so may another process on the pinned map (`enforcement off`): a change is made to
//! what is there now, and only fields that it changed are stored, each at once, in the order of the struct.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    os::fd::AsFd as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use aya::maps::{Map, MapData};
use sensor_ebpf::abi::settings::Settings;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::memory::Mapped;

/// The settings map.
pub(crate) struct SettingsMap {
    memory: Mapped,
    /// Programs loaded later name it by its descriptor.
    _map: MapData,
    /// One change at a time.
    changing: Mutex<()>,
}

/// Words of the entry that are two fields of four bytes.
const PAIRS: [usize; 5] = [0, 3, 4, 6, 11];
const WORDS: usize = size_of::<Settings>() / 8;

const _: () = {
    use std::mem::offset_of;
    assert!(WORDS == 12);
    assert!(offset_of!(Settings, heartbeat_ns) == 40 && offset_of!(Settings, policy) == 56);
    assert!(offset_of!(Settings, wake_bytes) == 48 && offset_of!(Settings, verdicts) == 88);
};

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
    pub(crate) fn new(map: Map, first: Settings) -> io::Result<(Self, First)> {
        let Map::Array(map) = map else { return Err(io::Error::other("not an array")) };
        let memory = Mapped::new(map.fd().as_fd(), size_of::<Settings>())?;
        let settings = Self { memory, _map: map, changing: Mutex::new(()) };
        let left = settings.current();
        let adopted = left.sample_weight != 0;
        settings.update(|settings| {
            *settings = if adopted { take_over(left, first) } else { first };
        })?;
        Ok((settings, if adopted { First::Adopted } else { First::Fresh }))
    }

    /// Changes fields and writes those that changed.
    #[expect(clippy::unnecessary_wraps, reason = "a write can fail wherever it is no memory")]
    pub(crate) fn update(&self, change: impl FnOnce(&mut Settings)) -> io::Result<()> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let mut after = before;
        change(&mut after);
        store(self.memory.words(), self.memory.halves(), &before, &after);
        Ok(())
    }

    /// The entry in force.
    pub(crate) fn current(&self) -> Settings {
        let mut words = [0_u64; WORDS];
        for (to, from) in words.iter_mut().zip(self.memory.words()) {
            *to = from.load(Ordering::Acquire);
        }
        Settings::read_from_bytes(words.as_bytes()).unwrap_or_default()
    }
}

/// Stores what differs.
fn store(words: &[AtomicU64], halves: &[AtomicU32], before: &Settings, after: &Settings) {
    let pairs = |settings: &Settings| {
        <[[u32; 2]; WORDS]>::read_from_bytes(settings.as_bytes()).unwrap_or_default()
    };
    for (at, (old, new)) in pairs(before).into_iter().zip(pairs(after)).enumerate() {
        if old == new {
            continue;
        }
        if !PAIRS.contains(&at) {
            if let Some(word) = words.get(at) {
                word.store(u64::from_ne_bytes(bytes(new)), Ordering::Release);
            }
            continue;
        }
        for (half, (old, new)) in old.into_iter().zip(new).enumerate() {
            if old != new
                && let Some(half) = halves.get(at * 2 + half)
            {
                half.store(new, Ordering::Release);
            }
        }
    }
}

fn bytes(halves: [u32; 2]) -> [u8; 8] {
    <[u8; 8]>::read_from_bytes(halves.as_bytes()).unwrap_or_default()
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
