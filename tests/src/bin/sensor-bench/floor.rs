//! `floor DEVICE`: the program that does nothing at both hooks of a device, until the process is ended.
//!
//! What a packet costs with this attached, no sensor at these hooks can save.

use anyhow::{Context as _, Result};
use sensor_agent::kernel::{Bench, LoadConfig, Mode, first_settings, object};

/// Attaches, says so, and waits to be ended.
pub(crate) fn hold(device: &str) -> Result<()> {
    let config = LoadConfig {
        mode: Mode::Observe,
        ring_bytes: 1 << 20,
        flows: None,
        test_clock: false,
        resets_unbounded: false,
        settings: first_settings(1.0, 16 << 10, 1 << 19),
    };
    let mut bench = Bench::load_empty(&object(None)?, &config)?;
    bench.attach("sensor_empty", device).with_context(|| format!("attach to {device}"))?;
    println!("attached");
    loop {
        std::thread::park();
    }
}
