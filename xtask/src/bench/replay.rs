//! `bench replay`: the real `sensor-agent replay` over generated captures; what it used, by the system's count.

use std::{
    fs,
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
};

use anyhow::Result;

use super::{Figure, measure::used, median, real};
use crate::{
    process::{cargo, output, quiet, root, run, say},
    setup::Consent,
};

/// Runs of each case.
const RUNS: usize = 5;
/// Exchanges of the large capture.
const EXCHANGES: u64 = 200_000;
/// Distinct paths of the capture that must not make memory grow.
const PATHS: u64 = 1_000_000;

/// Generates, replays, reports.
pub(super) fn replay(_consent: Consent) -> Result<Vec<Figure>> {
    run(cargo().args(["build", "--release", "-p", "sensor-agent"]))?;
    run(cargo().args(["build", "--release", "-p", "sensor-tests", "--bin", "generate-capture"]))?;
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder)?;

    let capture = folder.join("exchanges.pcap");
    let mut generate = Command::new(root().join("target/release/generate-capture"));
    generate.arg(EXCHANGES.to_string()).arg(&capture).arg(folder.join("exchanges.truth.jsonl"));
    quiet(&format!("generate a capture of {EXCHANGES} exchanges"), &mut generate)?;
    let mut figures = one("exchanges", EXCHANGES, &capture)?;

    let paths = folder.join("distinct_paths.jsonl");
    write_paths(&paths)?;
    figures.extend(one("distinct_paths", PATHS, &paths)?);
    Ok(figures)
}

/// Requests of which no two have the same path, and none a segment that a type would fold.
fn write_paths(path: &Path) -> Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for number in 0..PATHS {
        let mut word = String::new();
        let mut rest = number;
        for _ in 0..6 {
            word.push(char::from(b'g' + u8::try_from(rest % 18)?));
            rest /= 18;
        }
        writeln!(
            file,
            r#"{{"method":"GET","host":"shop.example","path":"/{word}/list","status":200,"server":"10.0.0.1:80"}}"#
        )?;
    }
    Ok(file.flush()?)
}

fn one(name: &str, count: u64, file: &Path) -> Result<Vec<Figure>> {
    let agent = root().join("target/release/sensor-agent");
    let (agent, path) = (agent.to_string_lossy().into_owned(), file.to_string_lossy().into_owned());
    let bytes = real(fs::metadata(file)?.len());
    // Into the page cache, and a check that it works at all.
    output(Command::new(&agent).args(["replay", &path, "--emit", "inventory"]))?;
    let mut runs = vec![];
    for run in 1..=RUNS {
        let used = used(&[&agent, "replay", &path])?;
        say(&format!(
            "  {name}, run {run} of {RUNS}: {:.2} s of CPU, {:.0} MiB",
            used.cpu_seconds, used.peak_mib
        ));
        runs.push(used);
    }
    let column = |value: fn(&super::measure::Used) -> f64| {
        median(&runs.iter().map(value).collect::<Vec<_>>())
    };
    let cpu = column(|used| used.cpu_seconds);
    let figure = |what: &str, value: f64, unit: &str| Figure {
        name: format!("replay/{name}/{what}"),
        value,
        unit: unit.to_owned(),
        baseline: None,
        ratio: None,
        runs: RUNS as u64,
    };
    Ok(vec![
        figure("exchanges_per_cpu_second", real(count) / cpu, "1/s"),
        figure("megabytes_per_cpu_second", bytes / 1e6 / cpu, "MB/s"),
        figure("wall", column(|used| used.wall_seconds), "s"),
        figure("peak_memory", column(|used| used.peak_mib), "MiB"),
    ])
}
