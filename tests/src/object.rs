//! The kernel object that the kernel tier tests, and a configuration that loads it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use sensor_agent::kernel::{LoadConfig, Mode, first_settings};
use sensor_core::policy::image::PolicyImage;
use sensor_ebpf::testing::image::Draft;

/// Where `cargo xtask build-ebpf` puts the object.
const OBJECT: &str = "target/bpf/bpfel-unknown-none/bpf/sensor-ebpf";
/// Ring of a test's sensor.
const RING_BYTES: u32 = 4 << 20;

/// The object's file: `SENSOR_EBPF_OBJECT`, else in the target folder.
#[must_use]
pub fn object_path() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    env::var_os("SENSOR_EBPF_OBJECT").map_or_else(|| root.join(OBJECT), PathBuf::from)
}

/// The object's bytes.
pub fn object() -> anyhow::Result<Vec<u8>> {
    let path = object_path();
    fs::read(&path).map_err(|error| {
        anyhow::anyhow!("{}: {error}: run `cargo xtask build-ebpf`", path.display())
    })
}

/// Loads with every flow sampled and a ring that no test fills by accident.
#[must_use]
pub fn load_config(mode: Mode) -> LoadConfig {
    LoadConfig {
        mode,
        ring_bytes: RING_BYTES,
        flows: None,
        test_clock: false,
        resets_unbounded: false,
        settings: first_settings(1.0, 16 * 1024, RING_BYTES / 2),
    }
}

/// A policy as tests draw it up, in the form in which the agent gives it to the kernel.
#[must_use]
pub fn image(draft: &Draft) -> PolicyImage {
    let built = draft.build();
    PolicyImage {
        lines: built.lines,
        any4: built.any4,
        filter6: built.filter6,
        near4: built.near4,
        near6: built.near6,
        flags: built.flags,
    }
}
