//! `detach --all`: removes every filter and link of ours, with the agent alive or dead.

use anyhow::Result;

use super::{Exit, Prerequisite};

/// Removes what sensors left attached to interfaces of this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
TCX links end with the agent; filters of clsact (kernels before 6.6) outlive it, so that a restart leaves no gap. This removes them
in all named network namespaces. A clsact qdisc stays: others may use it. Needs root.

Example:
  sudo sensor-agent detach --all")]
pub(super) struct Args {
    /// From all interfaces of all named network namespaces
    #[arg(long, required = true)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Detaches.
#[cfg(target_os = "linux")]
pub(super) fn run(args: &Args) -> Result<Exit> {
    use super::output;

    if !nix::unistd::geteuid().is_root() {
        return Err(
            Prerequisite::new("`detach --all` needs root: sudo sensor-agent detach --all").into()
        );
    }
    let done = crate::kernel::detach_all();
    if args.json {
        output::print_json(&done)?;
    } else {
        let lines = [("filter", &done.filters), ("TCX link", &done.links)];
        let lines = lines.into_iter().flat_map(|(what, names)| {
            names.iter().map(move |name| format!("removed {what} {}\n", output::clean(name)))
        });
        let mut text: String = lines.collect();
        if text.is_empty() {
            text.push_str("nothing of ours was attached\n");
        }
        output::print(&text)?;
    }
    for error in &done.errors {
        output::note(&format!("error: {}", output::clean(error)));
    }
    Ok(if done.errors.is_empty() { Exit::Done } else { Exit::Negative })
}

/// Detaches.
#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Args) -> Result<Exit> {
    Err(Prerequisite::linux("detach").into())
}
