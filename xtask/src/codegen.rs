//! `codegen`: what is generated and checked in. `proto/sensor/v1/*.proto` -> `proto/src` by a binary of its own (`xtask-codegen`), because
//! the protobuf compiler takes a minute to build and no other verb needs it; the JSON Schemas of `deploy/` by the agent's own verbs.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::process::{cargo, root, run};

/// Published schemas, each with the verb of the agent that prints it.
const SCHEMAS: [(&str, &[&str]); 3] = [
    ("deploy/config.schema.json", &["config", "schema"]),
    ("deploy/policy.schema.json", &["policy", "schema"]),
    ("deploy/inventory.schema.json", &["inventory", "--schema"]),
];

/// Generates, or with `check` only compares.
pub(crate) fn codegen(check: bool) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "-p", "xtask", "--features", "codegen"]);
    command.args(["--bin", "xtask-codegen", "--"]);
    if check {
        command.arg("--check");
    }
    run(&mut command)?;
    for (file, verb) in SCHEMAS {
        schema(&root().join(file), verb, check).with_context(|| file)?;
    }
    Ok(())
}

fn schema(file: &Path, verb: &[&str], check: bool) -> Result<()> {
    let mut agent = cargo();
    agent.args(["run", "--quiet", "-p", "sensor-agent", "--"]).args(verb);
    let output = agent.output().context("cannot run the agent")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the agent's {} failed: {said}", verb.join(" "));
    if !check {
        return Ok(fs::write(file, output.stdout)?);
    }
    let published = fs::read(file)?;
    ensure!(
        published.trim_ascii_end() == output.stdout.trim_ascii_end(),
        "is not what the agent prints; run: cargo xtask codegen"
    );
    Ok(())
}
