//! `lint`: formatter, clippy on the host and for bpf, cargo-deny where it is there, own rules.
//!
//! The own rules need no tool: size and licences of the dependency tree, direction of dependencies
//! between crates and between stages, headers and length of files, paths of a machine.

mod sources;
mod stages;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    faults,
    process::{cargo, find, output, quiet, root, run, say},
    setup::Consent,
    toolchain,
    versions::CARGO_DENY,
};

#[derive(Args)]
pub(crate) struct LintArguments {
    /// Install what is missing without asking (also: CI=true)
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Only the repository's own rules: seconds, no compiler
    #[arg(long)]
    pub(crate) only_own: bool,
}

/// Runs every check and names all that failed.
pub(crate) fn lint(arguments: &LintArguments) -> Result<()> {
    let mut failed = vec![];
    let mut check = |name: &str, outcome: Result<()>| {
        if let Err(error) = outcome {
            say(&format!("{name}: {error:#}"));
            failed.push(name.to_owned());
        }
    };
    say("== the repository's own rules");
    check("dependency tree", tree::check());
    check("stages of core", stages::check());
    check("source files", sources::check());
    check("seeded faults", faults::fit());
    if !arguments.only_own {
        say("== format");
        check("rustfmt", run(cargo().args(["fmt", "--all", "--check"])));
        say("== clippy");
        let mut clippy = cargo();
        clippy.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
        check("clippy", run(&mut clippy));
        check("clippy for bpf", bpf_clippy(Consent::from_flag(arguments.yes)));
        check("licences, bans, sources", deny());
    }
    if failed.is_empty() {
        say("lint: clean");
        return Ok(());
    }
    bail!("lint: {}", failed.join(", "))
}

/// The kernel glue exists on the bpf target only, so the host's clippy never sees it.
fn bpf_clippy(_consent: Consent) -> Result<()> {
    let (Some(compiler), Some(linker)) = (toolchain::compiler(), toolchain::linker()) else {
        say("clippy for bpf: SKIPPED, no compiler for bpf (cargo xtask setup)");
        return Ok(());
    };
    let driver = compiler.rustc.with_file_name("cargo-clippy");
    let verb = if driver.is_file() { "clippy" } else { "check" };
    let mut command = compiler.cargo(&linker);
    command.args([verb, "--quiet", "--locked", "--profile", "bpf", "-p", "sensor-ebpf"]);
    command.args(["--bin", "sensor-ebpf", "--target", "bpfel-unknown-none", "-Zbuild-std=core"]);
    command.args(["--target-dir", "target/bpf-lint"]);
    if verb == "clippy" {
        command.args(["--", "-D", "warnings"]);
    }
    run(&mut command)
}

fn deny_program() -> Option<PathBuf> {
    let cached = deny_cache().join("bin/cargo-deny");
    if cached.is_file() { Some(cached) } else { find("cargo-deny") }
}

fn deny_cache() -> PathBuf {
    toolchain::user_cache().join(format!("cargo-deny-{CARGO_DENY}"))
}

fn deny() -> Result<()> {
    let Some(program) = deny_program() else {
        say("cargo-deny: SKIPPED, not installed (cargo xtask ci --full installs it)");
        return Ok(());
    };
    let mut command = std::process::Command::new(program);
    command.current_dir(root()).args(["--offline", "check", "--hide-inclusion-graph"]);
    command.args(["licenses", "bans", "sources"]);
    run(&mut command)
}

/// Installs cargo-deny into the user's cache: minutes, so only `ci --full` asks for it.
pub(crate) fn install_deny() -> Result<()> {
    if deny_program().is_some() {
        return Ok(());
    }
    let mut install = cargo();
    install.args(["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--root"]);
    install.arg(deny_cache());
    quiet("build cargo-deny", &mut install)
}

/// Whether a tracked file is Rust.
fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}

/// Files that git knows, from the root; those that are new and not ignored too.
fn tracked() -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root());
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut git)?;
    Ok(listed.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect())
}
