//! `test`: all tiers. Unit, property and replay tests as the user; the kernel tier as root, from
//! binaries that were built as the user.
//!
//! Without root and without a sudo that needs no password, the kernel tier is skipped and counted.
//! The last line is `N passed, N failed, N skipped`.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    build_ebpf::build_ebpf,
    process::{can_raise, cargo, find, line, output, raised, root, say},
    setup::{self, Consent, Purpose},
};

#[derive(Args, Default)]
pub(crate) struct TestArguments {
    /// Install what is missing without asking (also: CI=true)
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Load, attach and judge golden packets on another kernel, under qemu: 6.1 or 6.12
    #[arg(long, value_name = "VERSION")]
    pub(crate) kernel: Option<String>,
    /// Only show that the reference model of the policy notices seeded faults
    #[arg(long, conflicts_with = "kernel")]
    pub(crate) faults: bool,
    /// Only tests whose name contains this
    pub(crate) filter: Option<String>,
}

/// Name of the test binary that needs root.
const KERNEL_TIER: &str = "kernel";

/// What a tier counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Tests of the run going on that said by themselves that they skip.
    said_skipped: u64,
}

impl Counts {
    /// Adds what a summary line of the standard library's harness or of nextest says.
    pub(crate) fn add_line(&mut self, line: &str) {
        let plain = without_colour(line);
        let nextest = plain.trim_start().starts_with("Summary [");
        if nextest || plain.starts_with("test result:") {
            let said = std::mem::take(&mut self.said_skipped);
            self.passed += before(&plain, "passed").saturating_sub(said);
            self.skipped += said;
            self.failed += before(&plain, "failed") + before(&plain, "timed out");
            // What nextest calls skipped is the kernel tier, which its filter leaves out.
            self.skipped += before(&plain, "ignored");
        }
        if plain.starts_with("SKIPPED ") {
            // A test that found its prerequisites missing says so and returns: not a pass.
            self.said_skipped += 1;
        }
    }
}

/// Runs the tiers; an error when a test failed or none ran.
pub(crate) fn test(arguments: &TestArguments) -> Result<()> {
    let consent = Consent::from_flag(arguments.yes);
    if let Some(version) = &arguments.kernel {
        return crate::other_kernel::test(version, consent);
    }
    if arguments.faults {
        return crate::faults::faults();
    }
    setup::setup(Purpose::Test, consent)?;
    build_ebpf(consent)?;

    let mut total = Counts::default();
    // Tests of the replay tier run the agent's binary.
    output(cargo().args(["build", "-p", "sensor-agent"]))?;
    say("== unit, property and replay tests");
    add(&mut total, user_tier(arguments.filter.as_deref())?);
    say("== kernel tier");
    add(&mut total, kernel_tier(consent, arguments.filter.as_deref())?);

    say(&format!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped));
    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    if total.passed == 0 && arguments.filter.is_none() {
        bail!("no test ran");
    }
    Ok(())
}

fn add(total: &mut Counts, tier: Counts) {
    total.passed += tier.passed;
    total.failed += tier.failed;
    total.skipped += tier.skipped;
}

fn user_tier(filter: Option<&str>) -> Result<Counts> {
    let mut command = cargo();
    if find("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "pass"]);
        command.args(["--status-level", "fail", "--final-status-level", "fail"]);
        command.args(["-E", &format!("not (package(sensor-tests) and binary({KERNEL_TIER}))")]);
    } else {
        command.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
        for target in user_targets()? {
            command.args(["--test", &target]);
        }
    }
    command.args(filter);
    counted(&mut command)
}

/// Test targets of the workspace but the kernel tier.
fn user_targets() -> Result<Vec<String>> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let targets = packages
        .iter()
        .flat_map(|package| package["targets"].as_array().cloned().unwrap_or_default().into_iter());
    Ok(targets
        .filter(|target| target["kind"][0] == "test" && target["name"] != KERNEL_TIER)
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

/// Builds the kernel tier's binary as the user; gives its path.
pub(crate) fn kernel_tier_binary() -> Result<PathBuf> {
    let text = output(
        cargo()
            .args(["test", "--workspace", "--test", KERNEL_TIER, "--no-run"])
            .args(["--message-format", "json-render-diagnostics"]),
    )?;
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == KERNEL_TIER)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no binary for the kernel tier")
}

fn kernel_tier(consent: Consent, filter: Option<&str>) -> Result<Counts> {
    // The whole workspace, as the tier before: other features of one package would compile the core anew.
    crate::process::run(cargo().args(["build", "--workspace", "--bins"]))?;
    let binary = kernel_tier_binary()?;
    // A pipeline has nobody to type a password.
    if !can_raise(consent == Consent::Ask) {
        let listed = output(Command::new(&binary).args(["--list", "--format", "terse"]))?;
        let skipped = listed.lines().filter(|line| line.ends_with(": test")).count() as u64;
        say(&format!(
            "SKIPPED: {skipped} tests of the kernel tier need root, or a sudo that does not ask"
        ));
        return Ok(Counts { skipped, ..Counts::default() });
    }
    let agent = root().join("target/debug/sensor-agent");
    let mut command = raised("env");
    command
        .current_dir(root().join("tests"))
        .arg(format!("SENSOR_AGENT={}", agent.display()))
        .arg(format!("PATH={}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default()))
        .arg("RUST_BACKTRACE=1")
        .arg(binary)
        // Namespaces, attached programs and CPU time are shared by the whole machine.
        .args(["--test-threads=1", "--show-output"])
        .args(filter);
    counted(&mut command)
}

/// Runs a test runner, shows what it prints, and adds up its summary lines.
fn counted(command: &mut Command) -> Result<Counts> {
    let nextest = command.get_args().next().is_some_and(|word| word == "nextest");
    // nextest reports on stderr, the harness of the standard library on stdout.
    if nextest {
        command.stderr(Stdio::piped());
    } else {
        command.stdout(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", line(command)))?;
    let reader: Box<dyn std::io::Read> = match (child.stderr.take(), child.stdout.take()) {
        (Some(stderr), _) => Box::new(stderr),
        (None, Some(stdout)) => Box::new(stdout),
        (None, None) => bail!("no output of {}", line(command)),
    };
    let mut counts = Counts::default();
    for text in BufReader::new(reader).split(b'\n') {
        let text = text?;
        let text = String::from_utf8_lossy(&text);
        say(&text);
        counts.add_line(&text);
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("{} failed ({status})", line(command));
    }
    Ok(counts)
}

/// The number before a word: `12 passed` -> 12.
fn before(text: &str, word: &str) -> u64 {
    let words: Vec<&str> =
        text.split([' ', ',', ';', ':', '(']).filter(|w| !w.is_empty()).collect();
    let wanted: Vec<&str> = word.split(' ').collect();
    words
        .windows(wanted.len() + 1)
        .find_map(|found| match found.split_first() {
            Some((number, rest)) if rest == wanted => number.parse().ok(),
            _ => None,
        })
        .unwrap_or(0)
}

fn without_colour(text: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for c in text.chars() {
        match (inside, c) {
            (false, '\u{1b}') => inside = true,
            (true, 'm') => inside = false,
            (false, c) => plain.push(c),
            (true, _) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_of_both_runners_are_counted() {
        let nextest =
            "     Summary [   0.120s] 12 tests run: 10 passed (1 slow), 2 failed, 3 skipped";
        assert_eq!((before(nextest, "passed"), before(nextest, "failed")), (10, 2));
        let libtest = "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out";
        assert_eq!((before(libtest, "passed"), before(libtest, "ignored")), (4, 1));
    }

    #[test]
    fn colours_are_not_part_of_a_line() {
        assert_eq!(without_colour("\u{1b}[32;1m Summary\u{1b}[0m [ 1s]"), " Summary [ 1s]");
    }
}
