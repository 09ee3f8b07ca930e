//! Prints how right templates and states are: `sensor-score FOLDER [CALLS..] [templates|zipf|states ..]`, for
//! `cargo xtask score`. Exit code 1 where a threshold is missed.
#![expect(clippy::print_stdout, reason = "a table for people")]

mod states;
mod templates;
mod threshold;
mod zipf;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use sensor_tests::score::descriptions;

use threshold::Thresholds;

/// Seed of all traffic.
const SEED: u64 = 20_260_704;
/// Scenarios of states.
const SCENARIOS: u64 = 300;
/// What can be asked for.
const PARTS: [&str; 3] = ["templates", "zipf", "states"];

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let folder =
        PathBuf::from(args.next().context("usage: sensor-score FOLDER [CALLS..] [PART..]")?);
    let (mut calls, mut parts): (Vec<usize>, Vec<String>) = (Vec::new(), Vec::new());
    for arg in args {
        match arg.parse() {
            Ok(number) => calls.push(number),
            Err(_) if PARTS.contains(&&*arg) => parts.push(arg),
            Err(_) => bail!("`{arg}` is neither a number of calls nor one of {PARTS:?}"),
        }
    }
    if calls.is_empty() {
        calls = vec![10, 60, 600];
    }
    let descriptions = descriptions(&folder)?;
    let mut thresholds = Thresholds::default();
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|it| it == part);
    if wants("templates") {
        templates::templates(&descriptions, &calls, &mut thresholds)?;
    }
    if wants("zipf") {
        zipf::zipf(&descriptions, &mut thresholds)?;
    }
    if wants("states") {
        states::states(&descriptions, SCENARIOS, &mut thresholds)?;
    }
    Ok(if thresholds.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
