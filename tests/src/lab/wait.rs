//! Waiting for what a running sensor does in its own time.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How often it is looked.
const STEP: Duration = Duration::from_millis(100);

/// Waits until something holds; panics with its name when it did not within so many seconds.
///
/// # Panics
/// When the time is over.
pub fn wait(seconds: u64, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        sleep(STEP);
    }
}
