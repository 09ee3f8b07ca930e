//! Points in time, as arguments: the core never reads a clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Monotonic time in nanoseconds (`CLOCK_BOOTTIME` live, packet time in a replay); orders and ages things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoNs(pub u64);

impl MonoNs {
    /// Nanoseconds since `earlier`, 0 when that is later (clocks of two CPUs differ).
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Wall-clock time in nanoseconds since 1970-01-01 UTC; shown to users and compared with sunset dates.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct UnixNs(pub u64);
