//! `codegen`: `proto/sensor/v1/*.proto` -> `proto/src`, by a binary of its own (`xtask-codegen`),
//! because the protobuf compiler takes a minute to build and no other verb needs it.

use anyhow::Result;

use crate::process::{cargo, run};

/// Generates, or with `check` only compares.
pub(crate) fn codegen(check: bool) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "-p", "xtask", "--features", "codegen"]);
    command.args(["--bin", "xtask-codegen", "--"]);
    if check {
        command.arg("--check");
    }
    run(&mut command)
}
