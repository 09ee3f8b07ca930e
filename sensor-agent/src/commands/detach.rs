//! `detach --all`: removes every filter and link of ours, with the agent alive or dead.

use anyhow::Result;

use super::{Exit, Prerequisite, place::PinPlace};

/// Removes what sensors left attached to interfaces of this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
In mode enforce, links and maps are pinned and outlive the agent, so that a restart leaves no gap; so do filters of clsact (kernels before \
6.6). This removes them all, in every network namespace that has a name. A clsact qdisc stays: others may use it. Needs root.

Examples:
  sudo sensor-agent detach --all
  sudo sensor-agent detach --all --instance edge          only those of one of several sensors")]
pub(super) struct Args {
    /// From all interfaces of all named network namespaces
    #[arg(long, required = true)]
    all: bool,
    #[command(flatten)]
    pinned: PinPlace,
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
    let done = crate::kernel::detach_all(crate::kernel::DetachScope {
        pin_folder: &args.pinned.resolve()?.pin_folder,
        instance: args.pinned.instance(),
    });
    if args.json {
        output::print_json(&done)?;
    } else {
        let lines = [("filter", &done.filters), ("TCX link", &done.links), ("pins in", &done.pins)];
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
