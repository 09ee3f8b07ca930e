//! `test --faults`: seeded faults in the verdict and in the policy's compiler, each of which the reference model must notice.
//!
//! Each patch of `tests/faults` is applied to a copy of the last commit under `target/faults`; there the model's test must fail (not fail to
//! build). A fault that passes means that the test proves less than it says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::process::{output, root, say};

/// The test that must fail.
const TEST: &str = "the_verdict_is_that_of_the_rules_as_written";
/// Faults that must be there.
const FAULTS_MIN: usize = 10;

/// Applies one fault after the other.
pub(crate) fn faults() -> Result<()> {
    let tree = root().join("target/faults/tree");
    fs::create_dir_all(tree.parent().unwrap_or(&tree))?;
    remove(&tree)?;
    output(
        Command::new("git")
            .current_dir(root())
            .args(["worktree", "add", "--detach", "--force"])
            .arg(&tree),
    )?;
    let outcome = each(&tree);
    remove(&tree)?;
    outcome
}

/// Whether every fault still fits the code: it takes no build, so a change that moves the code is told at once.
pub(crate) fn fit() -> Result<()> {
    for patch in patches()? {
        let mut command = Command::new("git");
        command.current_dir(root()).args(["apply", "--check"]).arg(&patch);
        output(&mut command).with_context(|| patch.display().to_string())?;
    }
    Ok(())
}

fn patches() -> Result<Vec<PathBuf>> {
    let folder = root().join("tests/faults");
    let mut patches: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    if patches.len() < FAULTS_MIN {
        bail!("{} faults in {}, there must be {FAULTS_MIN}", patches.len(), folder.display());
    }
    Ok(patches)
}

fn each(tree: &Path) -> Result<()> {
    let patches = patches()?;
    if !passes(tree)? {
        bail!("{TEST} fails without any fault");
    }
    let mut missed = Vec::new();
    for patch in &patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.current_dir(tree).args(arguments).arg(patch);
            output(&mut command)
                .with_context(|| format!("fault {name}: does it still fit the code?"))
        };
        git(&["apply"])?;
        let noticed = !passes(tree).with_context(|| format!("fault {name}"))?;
        git(&["apply", "--reverse"])?;
        say(&format!("{} {name}", if noticed { "noticed" } else { "MISSED " }));
        if !noticed {
            missed.push(name);
        }
    }
    if !missed.is_empty() {
        bail!("not noticed: {}", missed.join(", "));
    }
    say(&format!("{} faults, all noticed", patches.len()));
    Ok(())
}

/// Whether the test passes; an error when it cannot be built.
fn passes(tree: &Path) -> Result<bool> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Our own folder: what comes from the registry is built there already.
    command.current_dir(tree).env("CARGO_TARGET_DIR", root().join("target"));
    command.args(["test", "--quiet", "-p", "sensor-tests", "--test", "replay", TEST]);
    let ran = command.stdin(Stdio::null()).output().context("run cargo")?;
    let text = String::from_utf8_lossy(&ran.stdout);
    if !text.contains("test result:") {
        bail!("the test was not built: {}", String::from_utf8_lossy(&ran.stderr));
    }
    Ok(ran.status.success())
}

fn remove(tree: &Path) -> Result<()> {
    if tree.exists() {
        output(
            Command::new("git")
                .current_dir(root())
                .args(["worktree", "remove", "--force"])
                .arg(tree),
        )?;
    }
    output(Command::new("git").current_dir(root()).args(["worktree", "prune"]))?;
    Ok(())
}
