//! `fuzz`: runs the fuzz targets of `sensor-agent/core/fuzz` one after the other, each for a number of seconds.
//!
//! The address sanitizer wants a nightly of rustup; without one the targets run on this very toolchain without it:
//! panics, broken assertions, slow inputs and growth are found all the same. New inputs go to `fuzz/corpus` (kept by git's
//! ignore list out of the repository), what breaks to `fuzz/artifacts`. Bounds: [`INPUT_SECONDS_MAX`], [`RSS_MIB_MAX`].

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::{
    process::{cargo, find, output, quiet, root, run, say, without_toolchain},
    setup::{self, Consent, Purpose},
    toolchain,
    versions::{CARGO_FUZZ, NIGHTLY},
};

#[derive(Args)]
pub(crate) struct FuzzArguments {
    /// Only this target; all of them when left out
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Install what is missing without asking (also: CI=true)
    #[arg(long, short)]
    yes: bool,
}

/// Where the targets are, from the root.
const FOLDER: &str = "sensor-agent/core/fuzz";

/// An input that takes longer than this is a finding, seconds.
const INPUT_SECONDS_MAX: u32 = 5;

/// A target that grows beyond this is a finding, MiB (the sanitizer's own memory is part of it).
const RSS_MIB_MAX: u32 = 1024;

/// Longest input, bytes: several packets, a document, a policy.
const INPUT_BYTES_MAX: u32 = 32 * 1024;

/// Files of the repository to begin from, beside what is in `seeds/TARGET`.
const SEEDS: &[(&str, &[&str])] = &[
    ("capture", &["demo.pcap", "tests/replay/captures"]),
    ("catalogue", &["deploy/demo", "deploy/catalogue.example.yaml", "xtask/demo/shop.yaml"]),
    ("policy", &["deploy/policy.example.yaml", "xtask/demo/policy.yaml"]),
];

/// Runs one target or all; an error names those with findings.
pub(crate) fn fuzz(arguments: &FuzzArguments) -> Result<()> {
    let folder = root().join(FOLDER);
    let all = targets(&folder)?;
    let wanted: Vec<&String> = match &arguments.target {
        Some(one) => all.iter().filter(|target| *target == one).collect(),
        None => all.iter().collect(),
    };
    ensure!(!wanted.is_empty(), "no such target; there are: {}", all.join(", "));
    setup::setup(Purpose::Fuzz, Consent::from_flag(arguments.yes))?;
    let program = installed()?;

    let mut failed = vec![];
    for target in wanted {
        say(&format!("== fuzz {target}, {} s", arguments.seconds));
        let corpus = corpus(&folder, target)?;
        let mut command = instrumented(&program);
        command.arg(target).arg(corpus).arg("--");
        command.arg(format!("-max_total_time={}", arguments.seconds));
        command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
        command.arg(format!("-rss_limit_mb={RSS_MIB_MAX}"));
        command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        command.args(["-print_final_stats=1", "-report_slow_units=1", "-verbosity=1"]);
        let words = folder.join("seeds").join(format!("{target}.dict"));
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        if let Err(error) = run(&mut command) {
            say(&format!("{target}: {error:#}"));
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("findings in {}; the inputs are in {FOLDER}/artifacts", failed.join(", "))
}

/// Names of the targets.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = vec![];
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Fills the target's corpus with the seeds that are not in it; gives its folder.
fn corpus(folder: &Path, target: &str) -> Result<PathBuf> {
    let corpus = folder.join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let known = SEEDS.iter().find(|(name, _)| *name == target).map_or(&[][..], |(_, seeds)| seeds);
    let own = folder.join("seeds").join(target);
    for seed in known.iter().map(|seed| root().join(seed)).chain([own]) {
        let files = match fs::read_dir(&seed) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![seed],
        };
        for file in files.iter().filter(|file| file.is_file()) {
            let mut name = OsString::from("seed-");
            name.push(file.file_name().unwrap_or_default());
            fs::copy(file, corpus.join(name))?;
        }
    }
    Ok(corpus)
}

/// `cargo fuzz run` on the toolchain that can do most.
fn instrumented(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    let nightly = toolchain::rustup_toolchains()
        .into_iter()
        .filter(|name| name.starts_with("nightly") && has_sanitizer(name))
        .max_by_key(|name| name.starts_with(NIGHTLY));
    let sanitizer = if let Some(name) = nightly {
        say(&format!("toolchain: {name}, address sanitizer"));
        without_toolchain(&mut command).env("RUSTUP_TOOLCHAIN", name);
        "address"
    } else {
        say("toolchain: this one, no sanitizer (no nightly of rustup with its run time)");
        command.env("RUSTC_BOOTSTRAP", "1");
        "none"
    };
    command.args(["run", "--fuzz-dir", FOLDER, "--sanitizer", sanitizer]);
    command
}

fn has_sanitizer(toolchain: &str) -> bool {
    let mut command = Command::new("rustup");
    without_toolchain(&mut command);
    command.args(["run", toolchain, "rustc", "--print", "target-libdir"]);
    let Ok(folder) = output(&mut command) else { return false };
    fs::read_dir(folder.trim()).is_ok_and(|mut files| {
        files.any(|file| {
            file.is_ok_and(|file| file.file_name().to_string_lossy().contains("rt.asan"))
        })
    })
}

/// The pinned cargo-fuzz, built into the user's cache (about a minute) where it is not there.
fn installed() -> Result<PathBuf> {
    let cache = toolchain::user_cache().join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let program = cache.join("bin/cargo-fuzz");
    if program.is_file() {
        return Ok(program);
    }
    if let Some(program) = find("cargo-fuzz") {
        return Ok(program);
    }
    let mut install = cargo();
    install.args(["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--root"]);
    install.arg(cache);
    quiet("build cargo-fuzz", &mut install)?;
    Ok(program)
}
