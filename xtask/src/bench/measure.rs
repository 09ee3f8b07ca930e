//! `measure COMMAND`: runs one command and prints its CPU time, wall time and peak memory as JSON.
//!
//! A process of its own, because what the system counts for ended children is a sum and a maximum over all
//! of them: a compiler that ran before would hide what is measured.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde_json::{Value, json};

use crate::process::{output, say};

/// What a command used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu_seconds: f64,
    pub(crate) wall_seconds: f64,
    pub(crate) peak_mib: f64,
}

/// The verb: the command's output is dropped, its errors are shown.
pub(crate) fn measure(command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let started = Instant::now();
    let mut child = Command::new(program);
    let status = child.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let wall_seconds = started.elapsed().as_secs_f64();
    ensure!(status.success(), "{} failed ({status})", command.join(" "));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    let cpu_us = u32::try_from(cpu.num_microseconds() / 10).unwrap_or(u32::MAX);
    let peak_kib = u32::try_from(usage.max_rss()).unwrap_or(u32::MAX);
    say(&json!({
        "cpu_seconds": f64::from(cpu_us) / 1e5,
        "wall_seconds": wall_seconds,
        "peak_mib": f64::from(peak_kib) / 1024.0,
    })
    .to_string());
    Ok(())
}

/// Runs a command by the verb and reads what it used.
pub(crate) fn used(command: &[&str]) -> Result<Used> {
    let text =
        output(Command::new(std::env::current_exe()?).arg("measure").arg("--").args(command))?;
    let value: Value = serde_json::from_str(&text)?;
    let field = |name: &str| value[name].as_f64().with_context(|| format!("no {name} in {text}"));
    Ok(Used {
        cpu_seconds: field("cpu_seconds")?,
        wall_seconds: field("wall_seconds")?,
        peak_mib: field("peak_mib")?,
    })
}
