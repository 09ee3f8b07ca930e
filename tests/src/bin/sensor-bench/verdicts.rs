//! How long after a response its verdict is in the kernel's map, beside a thread that only sleeps as long as the ring's thread does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use sensor_agent::source::ring_buffer::POLL_DECIDING_MS;
use sensor_tests::decided::Decided;
use serde_json::json;

const SAMPLES: usize = 500;

/// Prints median and p99, milliseconds.
pub(crate) fn verdicts() -> Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    let sleeper = thread::spawn({
        let over = Arc::clone(&over);
        move || slept(&over)
    });
    let taken = Decided::start()?.end_flows(SAMPLES, |_| Ok(()));
    over.store(true, Ordering::Relaxed);
    let slept = sorted(sleeper.join().map_err(|_| anyhow!("the sleeping thread panicked"))?);
    let latencies = sorted(taken?.iter().map(|taken| taken.latency).collect());
    for (name, percent) in [("median", 50), ("p99", 99)] {
        let (value, baseline) = (at(&latencies, percent), at(&slept, percent));
        println!(
            "{}",
            json!({
                "name": format!("verdict/response_to_map/{name}"), "value": value, "unit": "ms",
                "baseline": baseline, "ratio": value / baseline, "runs": latencies.len(),
            })
        );
    }
    Ok(())
}

/// The lengths of sleeps of [`POLL_DECIDING_MS`].
fn slept(over: &AtomicBool) -> Vec<Duration> {
    let mut slept = vec![];
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        thread::sleep(Duration::from_millis(u64::from(POLL_DECIDING_MS)));
        slept.push(began.elapsed());
    }
    slept
}

fn sorted(mut durations: Vec<Duration>) -> Vec<Duration> {
    durations.sort_unstable();
    durations
}

/// A percentile, milliseconds.
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(rank).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
}
