//! `bench kernel` and `bench verdict`: the runner `sensor-bench` of the tests' package, raised, because loading needs root;
//! this program depends on none of the product's crates.

use anyhow::{Context as _, Result, ensure};

use super::Figure;
use crate::{
    build_ebpf::build_ebpf,
    process::{can_raise, cargo, output, raised, root, run, say},
    setup::{Consent, Purpose, setup},
};

/// Nanoseconds per packet.
pub(super) fn kernel(consent: Consent) -> Result<Vec<Figure>> {
    runner(
        "kernel",
        "ns per packet by test-run, each beside an empty program in the same round ...",
        consent,
    )
}

/// Milliseconds from a response to the verdict that a detector drew from it.
pub(super) fn verdict(consent: Consent) -> Result<Vec<Figure>> {
    setup(Purpose::Bench, consent)?;
    runner("verdicts", "flows ended by a detector, beside a thread that only sleeps ...", consent)
}

/// Builds the runner as the user and runs it as root.
fn runner(verb: &str, what: &str, consent: Consent) -> Result<Vec<Figure>> {
    build_ebpf(consent)?;
    run(cargo().args(["build", "--release", "-p", "sensor-tests", "--bin", "sensor-bench"]))?;
    ensure!(
        can_raise(consent == Consent::Ask),
        "bench loads programs: run it as root, or install sudo"
    );
    say(what);
    let text = output(raised(root().join("target/release/sensor-bench")).arg(verb))?;
    text.lines()
        .map(|line| {
            let value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            Figure::from_json(&value).with_context(|| format!("not a figure: {line}"))
        })
        .collect()
}
