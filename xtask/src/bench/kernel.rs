//! `bench kernel`: the runner `sensor-bench` of the tests' package, raised, because loading needs root;
//! this program depends on none of the product's crates.

use anyhow::{Context as _, Result, ensure};

use super::Figure;
use crate::{
    build_ebpf::build_ebpf,
    process::{can_raise, cargo, output, raised, root, run, say},
    setup::Consent,
};

/// Builds the runner as the user and runs it as root.
pub(super) fn kernel(consent: Consent) -> Result<Vec<Figure>> {
    build_ebpf(consent)?;
    run(cargo().args(["build", "--release", "-p", "sensor-tests", "--bin", "sensor-bench"]))?;
    ensure!(
        can_raise(consent == Consent::Ask),
        "bench kernel loads programs: run it as root, or install sudo"
    );
    say("ns per packet by test-run, each beside an empty program in the same round ...");
    let text = output(raised(root().join("target/release/sensor-bench")).arg("kernel"))?;
    text.lines()
        .map(|line| {
            let value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            Figure::from_json(&value).with_context(|| format!("not a figure: {line}"))
        })
        .collect()
}
