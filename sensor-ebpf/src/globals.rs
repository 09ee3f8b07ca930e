//! What the loader sets before the programs are verified: constants for the life of a load, so that dead branches are removed.
//!
//! `unsafe` here reads them volatile, because the compiler takes a static that nobody writes for what it says.

/// 1 in mode enforce. A constant once loaded: with 0 the verifier removes every path that drops.
#[unsafe(no_mangle)]
static ENFORCE: u32 = 0;
/// 1 in tests: the time is `Settings::heartbeat_ns`.
#[unsafe(no_mangle)]
static TEST_CLOCK: u32 = 0;
/// Random for each load.
#[unsafe(no_mangle)]
static RESET_KEY: u64 = 0;
/// 1 in benchmarks: resets are sent however many there are.
#[unsafe(no_mangle)]
static RESETS_UNBOUNDED: u32 = 0;

/// Whether this load drops.
#[inline(always)]
pub(crate) fn enforcing() -> bool {
    // SAFETY: a static of this program; volatile, because the loader sets it.
    unsafe { (&raw const ENFORCE).read_volatile() != 0 }
}

/// Key by which our own RSTs are recognised.
#[inline(always)]
pub(crate) fn reset_key() -> u64 {
    // SAFETY: as for ENFORCE.
    unsafe { (&raw const RESET_KEY).read_volatile() }
}

/// Whether resets are counted against their bound (a benchmark measures them without).
#[inline(always)]
pub(crate) fn resets_bounded() -> bool {
    // SAFETY: as for ENFORCE.
    unsafe { (&raw const RESETS_UNBOUNDED).read_volatile() == 0 }
}

/// Whether time stands where a test put it.
#[inline(always)]
pub(crate) fn test_clock() -> bool {
    // SAFETY: as for ENFORCE.
    unsafe { (&raw const TEST_CLOCK).read_volatile() != 0 }
}
