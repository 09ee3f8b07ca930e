//! `enforcement on | off | status`: the switch of all rules, on the pinned maps, with the agent alive or dead.

use anyhow::Result;

use super::{Exit, Prerequisite, place::PinPlace};

/// Switches all enforcement off or on, or shows it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
off: every rule of every sensor of this host only monitors, at once, until it is switched on again; a restart of the agent does not change \
it, nor does a reboot. A running agent is told, so that it is in its audit log; one that hangs or is dead is not waited for: then the maps in \
the kernel are changed directly, and its store keeps it for the next start. Needs root.

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
    /// Folder of the store of a sensor of which nothing is pinned [default: /var/lib/api-sensor]
    #[arg(long, env = "SENSOR_STORE", value_name = "FOLDER")]
    store: Option<std::path::PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which sensors are meant.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
struct Named<'a> {
    /// That one; none: all of the host.
    instance: Option<&'a str>,
    /// Whether a store was named.
    store: bool,
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
    let mut config = options.pinned.resolve()?;
    if let Some(store) = &options.store {
        config.store.clone_from(store);
    }
    let named = Named { instance: options.pinned.instance(), store: options.store.is_some() };
    linux::switch(&config, named, off, options.json)
}

/// Switches or shows.
#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Args) -> Result<Exit> {
    Err(Prerequisite::linux("enforcement").into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::BTreeSet,
        io,
        path::{Path, PathBuf},
    };

    use anyhow::Result;

    use super::{
        super::{Exit, Prerequisite, output},
        Named,
    };
    use crate::{
        config::Config,
        control::{AskError, Change, Question, Terms, ask, tell_switch},
        kernel::{PinnedLayout, pinned_layouts, switch_layout},
        reload::Switched,
    };

    pub(super) fn switch(
        config: &Config,
        named: Named<'_>,
        off: Option<bool>,
        json: bool,
    ) -> Result<Exit> {
        let root = &config.pin_folder;
        let Named { instance, .. } = named;
        let (before, mut errors) = pinned_layouts(root, instance);
        let mut kept = true;
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
            for error in keep(config, named, &now, off) {
                output::note(&format!("error: {}", output::clean(&error)));
                kept = false;
            }
        }
        let (layouts, _) = pinned_layouts(root, instance);
        if layouts.is_empty() && errors.is_empty() {
            if let Some(is_off) = off.is_none().then(|| switched_off(&config.socket)).flatten() {
                if json {
                    output::print_json(&layouts)?;
                } else {
                    let word = if is_off { "OFF, every rule only monitors" } else { "on" };
                    output::print(&format!(
                        "enforcement {word}, says the agent that runs; nothing is pinned: without it no rule is carried out\n"
                    ))?;
                }
                return Ok(Exit::Done);
            }
            if let Some(next) = next_start(config, named, off) {
                if json {
                    output::print_json(&layouts)?;
                } else {
                    output::print(&format!(
                        "nothing is pinned and no agent answers, so no rule is carried out; {next}\n"
                    ))?;
                }
                return Ok(Exit::Done);
            }
            let root = root.display();
            if named.instance.is_some() && off.is_some() && !named.store {
                return Err(Prerequisite::new(format!(
                    "nothing is pinned in {root} by that instance, and no agent of it answers; name its store with --store to switch its next start"
                ))
                .into());
            }
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
        Ok(if errors.is_empty() && kept && done { Exit::Done } else { Exit::Negative })
    }

    /// Keeps it in the stores, for agents that find nothing in the kernel when they start; says where that failed. No store is made: one that
    /// is not there may be in a container, and the agent in it keeps what it is told.
    fn keep(config: &Config, named: Named<'_>, layouts: &[PinnedLayout], off: bool) -> Vec<String> {
        let of = |one: &'_ PinnedLayout| one.store.clone().unwrap_or_else(|| config.store.clone());
        let mut stores: BTreeSet<PathBuf> = layouts.iter().map(of).collect();
        // The default store is that of the default sensor: nobody else's word is kept there.
        if stores.is_empty() && (named.instance.is_none() || named.store) {
            stores.insert(config.store.clone());
        }
        let told =
            |store: &Path| layouts.iter().all(|one| one.running_pid.is_some() || of(one) != *store);
        let failed = |store: PathBuf| {
            let kept = match store.is_dir() {
                true => Switched::of(&store).keep_for_the_next(off),
                false if told(&store) => Ok(()),
                false => Err(io::ErrorKind::NotFound.into()),
            };
            let error = kept.err()?;
            Some(format!("{}: not kept there, so a reboot ends it: {error}", store.display()))
        };
        stores.into_iter().filter_map(failed).collect()
    }

    /// What the store says of the next start, where nothing else does.
    fn next_start(config: &Config, named: Named<'_>, off: Option<bool>) -> Option<&'static str> {
        if named.instance.is_some() && !named.store {
            return None;
        }
        match (off, Switched::of(&config.store).is_off()) {
            (Some(true) | None, true) => Some("enforcement is OFF, and the next start comes up so"),
            (Some(false), false) if config.store.is_dir() => {
                Some("enforcement is on with the next start")
            }
            _ => None,
        }
    }

    /// Whether the running agent says that it is switched off; `None` where none answers.
    fn switched_off(socket: &Path) -> Option<bool> {
        ask(socket, &Question::Status).ok()?["enforcement"]["switched_off"].as_bool()
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
