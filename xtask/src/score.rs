//! `score`: how right path templates and states are, by the runner `sensor-score` of the tests' package over `tests/score`.
//! The core is optimised in the development profile too, so no release build is needed.

use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, root, run};

/// Builds the runner and lets it print its table.
pub(super) fn score(wanted: &[String]) -> Result<()> {
    run(cargo().args(["build", "-p", "sensor-tests", "--bin", "sensor-score"]))?;
    let mut runner = Command::new(root().join("target/debug/sensor-score"));
    runner.arg(root().join("tests/score")).args(wanted);
    run(&mut runner)
}
