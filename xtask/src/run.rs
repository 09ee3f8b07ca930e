//! `run`: builds the object and the agent as the user, then runs `sensor-agent run` as root.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    build_ebpf::build_ebpf,
    process::{can_raise, cargo, raised, root, run as run_command, say},
    setup::Consent,
};

/// Runs the agent; `arguments` are those of `sensor-agent run`.
pub(crate) fn run(consent: Consent, arguments: &[String]) -> Result<()> {
    let agent = build_agent(consent)?;
    anyhow::ensure!(can_raise(true), "the sensor needs root: run as root or install sudo");
    say(&format!("{} run {}", agent.display(), arguments.join(" ")));
    run_command(raised(agent).arg("run").args(arguments))
}

/// Builds the object and the release agent that embeds it; gives the agent's path.
pub(crate) fn build_agent(consent: Consent) -> Result<PathBuf> {
    build_ebpf(consent)?;
    run_command(cargo().args(["build", "--release", "-p", "sensor-agent"]))?;
    Ok(root().join("target/release/sensor-agent"))
}
