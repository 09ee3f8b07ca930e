//! The clock that the kernel programs stamp records with.

use nix::time::{ClockId, clock_gettime};
use sensor_core::time::MonoNs;

/// Now, by `CLOCK_BOOTTIME`.
#[must_use]
pub fn now() -> MonoNs {
    let time =
        clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap_or_else(|_| std::time::Duration::ZERO.into());
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
    MonoNs(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}
