//! Requests of the demo's clients: real curl, bounded in count and time.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::scene::Namespace;

/// Name and address under which the shop is called.
pub(crate) const SHOP: &str = "shop.example";
/// The name outside that the host calls.
pub(crate) const PARTNER: &str = "api.partner.example";

/// What became of a curl that asked for several URLs.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Answers {
    /// Requests with a status.
    pub(crate) answered: usize,
    /// Requests that timed out or failed.
    pub(crate) failed: usize,
}

/// Calls a URL, or many by curl's own `[1-20]`; over one connection where curl can.
pub(crate) fn call(
    from: &Namespace,
    method: &str,
    url: &str,
    (name, address): (&str, &str),
    more: &[&str],
) -> Result<Answers> {
    let mut command: Command = from.command("curl");
    command.args(["--silent", "--insecure", "--max-time", "5", "--output", "/dev/null"]);
    command.args(["--resolve", &format!("{name}:80:{address}")]);
    command.args(["--resolve", &format!("{name}:443:{address}")]);
    command.args(["--request", method, "--write-out", "%{http_code}\n"]).args(more).arg(url);
    // A time-out is an answer too: exit codes are not looked at, the lines are.
    let out = command.output().context("cannot start curl")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let mut answers = Answers::default();
    for status in text.lines() {
        if status.trim().starts_with(['2', '3', '4', '5']) {
            answers.answered += 1;
        } else {
            answers.failed += 1;
        }
    }
    Ok(answers)
}
