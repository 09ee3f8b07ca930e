//! `enforcement on | off | status`: the switch of all rules, on the pinned maps, with the agent alive or dead.

use anyhow::Result;

use super::{Exit, Prerequisite, place::PinPlace};

/// Switches all enforcement off or on, or shows it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
off: every rule of every sensor of this host only monitors, at once, until it is switched on again; a restart of the agent does not change
it. A running agent is told, so that it is in its audit log; one that hangs or is dead is not waited for: then the maps in the kernel are
changed directly. Needs root.

Examples:
  sudo sensor-agent enforcement off
  sudo sensor-agent enforcement status
  sudo sensor-agent enforcement on")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Rules are carried out again
    On(Options),
    /// Every rule only monitors
    Off(Options),
    /// What is pinned, by which agent, and whether rules are carried out
    Status(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    #[command(flatten)]
    pinned: PinPlace,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Switches or shows.
#[cfg(target_os = "linux")]
pub(super) fn run(args: &Args) -> Result<Exit> {
    let (options, off) = match &args.verb {
        Verb::On(options) => (options, Some(false)),
        Verb::Off(options) => (options, Some(true)),
        Verb::Status(options) => (options, None),
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(Prerequisite::new(
            "`enforcement` works on maps in the kernel and needs root: sudo sensor-agent enforcement ..",
        )
        .into());
    }
    let config = options.pinned.resolve()?;
    linux::switch(&config, options.pinned.instance(), off, options.json)
}

/// Switches or shows.
#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Args) -> Result<Exit> {
    Err(Prerequisite::linux("enforcement").into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    use anyhow::Result;

    use super::super::{Exit, Prerequisite, output};
    use crate::{
        config::Config,
        control::{AskError, Change, Terms, tell_switch},
        kernel::{PinnedLayout, pinned_layouts, switch_layout},
    };

    pub(super) fn switch(
        config: &Config,
        instance: Option<&str>,
        off: Option<bool>,
        json: bool,
    ) -> Result<Exit> {
        let root = &config.pin_folder;
        let (before, mut errors) = pinned_layouts(root, instance);
        if let Some(off) = off {
            // The agent first: what it does by itself is in its audit log. What it left of other layouts is switched as well.
            for one in before.iter().filter(|one| one.running_pid.is_some()) {
                tell(one.socket.as_ref(), off);
            }
            let (now, _) = pinned_layouts(root, instance);
            let wrong = now.iter().filter(|one| one.switched_off != off);
            errors.extend(wrong.filter_map(|one| switch_layout(&one.folder, off).err()));
            if before.is_empty() && tell(&config.socket, off) {
                let word = if off { "OFF, every rule only monitors" } else { "on" };
                output::print(&format!(
                    "enforcement {word}; nothing is pinned: without an agent no rule is carried out\n"
                ))?;
                return Ok(Exit::Done);
            }
        }
        let (layouts, _) = pinned_layouts(root, instance);
        if layouts.is_empty() && errors.is_empty() {
            let root = root.display();
            return Err(Prerequisite::new(format!(
                "nothing is pinned in {root}: no agent runs in mode enforce there, or it could not pin (see `sensor-agent status`)"
            ))
            .into());
        }
        if json {
            output::print_json(&layouts)?;
        } else {
            let lines: String = layouts.iter().map(|one| line(one) + "\n").collect();
            output::print(&lines)?;
        }
        for error in &errors {
            output::note(&format!("error: {}", output::clean(&error.to_string())));
        }
        let done = off.is_none_or(|off| layouts.iter().all(|one| one.switched_off == off));
        Ok(if errors.is_empty() && done { Exit::Done } else { Exit::Negative })
    }

    /// Tells a running agent; whether it did it.
    fn tell(socket: &Path, off: bool) -> bool {
        let change = Change::Enforcement { on: !off, terms: Terms::default() };
        match tell_switch(socket, &change) {
            Ok(_) => true,
            Err(AskError::NoAgent(_)) => false,
            Err(error) => {
                let error = error.to_string();
                output::note(&format!("the agent was not told: {}", output::clean(&error)));
                false
            }
        }
    }

    fn line(one: &PinnedLayout) -> String {
        let state = if one.switched_off { "OFF, every rule only monitors" } else { "on" };
        let agent = match (one.running_pid, one.heartbeat_age_ms) {
            (Some(pid), _) => format!("agent {} runs (pid {pid})", one.version),
            (None, Some(age)) => {
                format!("no agent; version {} was there {} s ago", one.version, age / 1000)
            }
            (None, None) => format!("no agent; version {} left it", one.version),
        };
        let text = format!(
            "{} {}: enforcement {state}; {} hooks attached; {agent}",
            one.instance, one.layout, one.links
        );
        output::clean(&text).into_owned()
    }
}
