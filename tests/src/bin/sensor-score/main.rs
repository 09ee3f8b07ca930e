//! Prints how right templates and states are: `sensor-score FOLDER [CALLS..] [templates|zipf|states ..] [seed=N ..] [pool=N]`,
//! for `cargo xtask score`. `seed` draws other traffic, `pool` gives each parameter so many values. Exit code 1 where a
//! threshold is missed.
#![expect(clippy::print_stdout, reason = "a table for people")]

mod states;
mod templates;
mod threshold;
mod zipf;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use sensor_tests::score::{Draw, descriptions};

use threshold::Thresholds;

/// Seeds of all traffic: with one alone, a few parameters of the largest description decide.
const SEEDS: [u64; 3] = [20_260_704, 2, 3];
/// Scenarios of states.
const SCENARIOS: u64 = 300;
/// What can be asked for.
const PARTS: [&str; 3] = ["templates", "zipf", "states"];

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let folder =
        PathBuf::from(args.next().context("usage: sensor-score FOLDER [CALLS..] [PART..]")?);
    let (mut calls, mut parts): (Vec<usize>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut seeds, mut pool): (Vec<u64>, Option<usize>) = (Vec::new(), None);
    for arg in args {
        match (arg.parse::<usize>(), arg.split_once('=')) {
            (Ok(number), _) => calls.push(number),
            (_, Some(("seed", seed))) => seeds.push(seed.parse::<u64>().context("seed=NUMBER")?),
            (_, Some(("pool", size))) => pool = Some(size.parse::<usize>().context("pool=NUMBER")?),
            _ if PARTS.contains(&&*arg) => parts.push(arg.clone()),
            _ => bail!("`{arg}` is no number of calls, none of {PARTS:?}, no seed= and no pool="),
        }
    }
    if calls.is_empty() {
        calls = vec![10, 60, 600];
    }
    if seeds.is_empty() {
        seeds.extend(SEEDS);
    }
    let draws: Vec<Draw> = seeds.into_iter().map(|seed| Draw { seed, pool }).collect();
    let descriptions = descriptions(&folder)?;
    let mut thresholds = Thresholds::default();
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|it| it == part);
    if wants("templates") {
        templates::templates(&descriptions, &calls, &draws, &mut thresholds)?;
    }
    if wants("zipf") {
        for draw in &draws {
            zipf::zipf(&descriptions, draw, &mut thresholds)?;
        }
    }
    if wants("states") {
        states::states(&descriptions, SCENARIOS, &mut thresholds)?;
    }
    Ok(if thresholds.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
