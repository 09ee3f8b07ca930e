//! `policy check FILE`: says whether a policy file is valid, what each rule comes to, what it takes in the kernel, and which known
//! clients it would hit.
//!
//! Exit code 1 and `file:line: field: message` for each mistake where it is not; nothing is applied.

use std::path::{Path, PathBuf};

use anyhow::Result;
use sensor_core::{
    policy::{
        Conditions, Direction, Hazard, HostFacts, Inactive, Lists, Policy, PolicyError,
        PolicyErrors, Protocol, Rule, RuleAction, RuleState, What, hazards,
        image::{Compiled, Numbers},
        unreadable,
    },
    time::MonoNs,
};
use serde::Serialize;

mod known;
mod listeners;
mod shared;

use self::known::{KnownClients, known_clients};
use crate::{
    commands::{Exit, Prerequisite, output, place::Place, view},
    config::{
        Config, NoRoom, PolicyFileError, Room, connected, host_facts, read_lists, read_policy,
    },
    control::{Question, StatusView, ask},
};

/// Says whether a policy file is valid, and what its rules come to on this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent policy check deploy/policy.example.yaml
  sudo sensor-agent policy check policy.yaml --against-inventory    which known clients it would hit

Checked as an agent of this host's configuration would: the reasons that it requires, what it protects, and the room in the agent's cgroup \
(in that of this command when no agent runs). Exit code 1 when the file would be refused.")]
pub(super) struct Args {
    /// Policy file (YAML)
    file: PathBuf,
    /// Which known clients (callers in the inventory) each rule would hit
    #[arg(long)]
    against_inventory: bool,
    #[command(flatten)]
    place: Place,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Pass rules that would hit the host itself, its gateway or resolver, or everyone
    #[arg(long)]
    force: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let config = args.place.resolve()?;
    match checked(&args.file, args.force, &config) {
        Ok(Checked { policy, lists, facts, compiled, room }) => {
            let mut report = Report::new(&policy, &lists, &compiled, room);
            report.shared_sources = shared::shared_sources(&config, &policy, &lists);
            if args.against_inventory {
                let inventory = view::inventory(&args.place)?;
                report.known_clients = Some(known_clients(&inventory, &policy, &compiled, &facts));
            }
            if args.json {
                output::print_json(&report)?;
            } else {
                output::print(&report.text())?;
            }
            Ok(Exit::Done)
        }
        Err(PolicyFileError::Invalid(errors)) => {
            if args.json {
                output::print_json(&Refused::new(&errors))?;
            } else {
                output::note(&refusal(&errors));
            }
            Ok(Exit::Negative)
        }
        Err(error) => Err(Prerequisite::new(error.to_string()).into()),
    }
}

/// A file that would be put in force.
struct Checked {
    policy: Policy,
    lists: Lists,
    facts: HostFacts,
    compiled: Compiled,
    /// Memory that there is room for; none = nothing is known to limit it.
    room: Option<Left>,
}

/// Memory that is left to an agent.
struct Left {
    bytes: u64,
    /// What leaves no more.
    by: String,
}

fn checked(file: &Path, force: bool, config: &Config) -> Result<Checked, PolicyFileError> {
    let mut policy = read_policy(file, config)?;
    let lists = read_lists(&policy)?;
    let peers = connected(&[], &policy.failsafe.ssh_ports);
    let facts = host_facts(peers, MonoNs(0), config.upstreams());
    let facts = HostFacts { protected: config.protected.clone(), ..facts };
    let mut found = hazards(&policy, &lists, &facts);
    let unread = unreadable(&policy, &listeners::listeners(config));
    found.extend(unread.hazards);
    policy.warnings.extend(unread.warnings);
    if !force && !found.is_empty() {
        return Err(refused(&policy, &found).into());
    }
    // Before anything is built: what does not fit may not fit here either.
    let room = room(config);
    let fits = |needed: u64| match &room {
        Some(room) if room.bytes < needed => {
            Err(NoRoom::to_build(needed, room.bytes, &room.by).to_string())
        }
        _ => Ok(()),
    };
    fits(policy.planning_bytes(&lists)).map_err(|message| {
        let error = PolicyError { line: None, field: String::new(), message };
        PolicyErrors { file: policy.file.clone(), errors: vec![error] }
    })?;
    let mut numbers = Numbers::default();
    let compiled =
        policy.compile_where(&facts, &lists, &mut numbers, |size| fits(size.bytes_at_most()))?;
    Ok(Checked { policy, lists, facts, compiled, room })
}

/// The running agent's, which is charged; else this command's.
fn room(config: &Config) -> Option<Left> {
    let status = ask(&config.socket, &Question::Status).ok();
    match status.and_then(|value| serde_json::from_value::<StatusView>(value).ok()) {
        Some(status) => {
            let by =
                status.enforcement.memory_left_by.unwrap_or_else(|| "the agent's limit".into());
            Some(Left { bytes: status.enforcement.memory_left_bytes?, by })
        }
        None => own_room().map(|room| Left { bytes: room.bytes, by: room.by.into() }),
    }
}

#[cfg(target_os = "linux")]
fn own_room() -> Option<Room> {
    crate::kernel::memory_room()
}

#[cfg(not(target_os = "linux"))]
const fn own_room() -> Option<Room> {
    None
}

/// Hazards as mistakes of the file.
fn refused(policy: &Policy, hazards: &[Hazard]) -> PolicyErrors {
    let errors = hazards.iter().map(|hazard| PolicyError {
        line: Some(hazard.line),
        field: format!("rule `{}`", hazard.id),
        message: format!(
            "{}; if that is meant, write force: true there, or use --force",
            hazard.message
        ),
    });
    PolicyErrors {
        file: policy.file.clone(),
        errors: errors.take(PolicyErrors::SHOWN_MAX).collect(),
    }
}

fn refusal(errors: &PolicyErrors) -> String {
    let count = errors.errors.len();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    let lines: Vec<String> =
        errors.to_string().lines().map(|line| output::clean(line).into_owned()).collect();
    format!("{}\n{count} {noun}; nothing of the file is used", lines.join("\n"))
}

/// The JSON of a file with mistakes.
#[derive(Serialize)]
struct Refused<'e> {
    file: &'e str,
    valid: bool,
    errors: Vec<Mistake<'e>>,
}

#[derive(Serialize)]
struct Mistake<'e> {
    line: Option<u64>,
    field: &'e str,
    message: &'e str,
}

impl<'e> Refused<'e> {
    fn new(errors: &'e PolicyErrors) -> Self {
        let mistake = |error: &'e PolicyError| Mistake {
            line: error.line,
            field: &error.field,
            message: &error.message,
        };
        Self {
            file: &errors.file,
            valid: false,
            errors: errors.errors.iter().map(mistake).collect(),
        }
    }
}

/// The JSON of a valid file.
#[derive(Serialize)]
struct Report<'p> {
    file: &'p str,
    valid: bool,
    digest: String,
    rules: Vec<RuleLine<'p>>,
    lists: Vec<ListLine<'p>>,
    warnings: Vec<String>,
    kernel: KernelUse,
    /// Shared sources that rules skip.
    shared_sources: Vec<shared::SharedLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    known_clients: Option<KnownClients>,
}

/// A list file: where it comes from and what is in it.
#[derive(Serialize)]
struct ListLine<'p> {
    file: &'p str,
    changed_unix_ns: u64,
    lines: u64,
    entries: usize,
    merged: usize,
    skipped: u64,
}

#[derive(Serialize)]
struct RuleLine<'p> {
    line: u64,
    id: &'p str,
    list: &'static str,
    action: &'static str,
    clients: usize,
    when: String,
    state: String,
    reason: Option<&'p str>,
    owner: Option<&'p str>,
}

/// Entries in the kernel's maps.
#[derive(Serialize)]
struct KernelUse {
    allow: usize,
    block: usize,
    limit: usize,
    rules: usize,
    limits: usize,
    failsafe: usize,
    merged: usize,
    bytes: u64,
    /// Memory that is left for it; none = nothing is known to limit it.
    room_bytes: Option<u64>,
    /// What leaves no more.
    room_by: Option<String>,
}

impl<'p> Report<'p> {
    fn new(policy: &'p Policy, lists: &'p Lists, compiled: &Compiled, room: Option<Left>) -> Self {
        let counts = &compiled.counts;
        let rules = policy
            .rules
            .iter()
            .zip(&compiled.states)
            .map(|(rule, state)| rule_line(rule, lists, state))
            .collect();
        Self {
            file: &policy.file,
            valid: true,
            digest: format!("{:016x}", compiled.digest),
            rules,
            warnings: policy
                .warnings
                .iter()
                .map(|(line, text)| format!("{}:{line}: {text}", policy.file))
                .collect(),
            lists: lists
                .iter()
                .map(|(_, list)| ListLine {
                    file: &list.about.source,
                    changed_unix_ns: list.about.changed.0,
                    lines: list.about.lines,
                    entries: list.about.entries,
                    merged: list.about.merged,
                    skipped: list.about.skipped,
                })
                .collect(),
            kernel: KernelUse {
                allow: counts.allow,
                block: counts.block,
                limit: counts.limit,
                rules: counts.rules,
                limits: counts.limits,
                failsafe: counts.failsafe,
                merged: counts.merged,
                bytes: compiled.bytes,
                room_bytes: room.as_ref().map(|room| room.bytes),
                room_by: room.map(|room| room.by),
            },
            shared_sources: Vec::new(),
            known_clients: None,
        }
    }

    fn text(&self) -> String {
        let rules = match self.rules.len() {
            1 => "1 rule".to_owned(),
            count => format!("{count} rules"),
        };
        let mut text = format!("{}: valid, {rules}\n", output::clean(self.file));
        let rows: Vec<Vec<String>> = self
            .rules
            .iter()
            .map(|rule| {
                let cells = [rule.id, rule.list, rule.action];
                let mut row: Vec<String> =
                    cells.iter().map(|cell| output::clean(cell).into_owned()).collect();
                row.push(rule.clients.to_string());
                row.push(rule.when.clone());
                row.push(rule.state.clone());
                row
            })
            .collect();
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&output::table(
                &["RULE", "LIST", "ACTION", "CLIENTS", "WHEN", "STATE"],
                &rows,
            ));
            text.push('\n');
        }
        for list in &self.lists {
            text.extend([format!(
                "list {}: {} prefixes in {} lines, {} merged, {} skipped, changed {}\n",
                output::clean(list.file),
                list.entries,
                list.lines,
                list.merged,
                list.skipped,
                sensor_proto::json::rfc3339(list.changed_unix_ns / 1_000_000_000 * 1_000_000_000)
            )]);
        }
        let used = &self.kernel;
        text.extend([format!(
            "in the kernel: {} block, {} allow and {} limit prefixes ({} merged), {} rules, {} limits, {} failsafe entries, {} KiB\n",
            used.block, used.allow, used.limit, used.merged, used.rules, used.limits, used.failsafe, used.bytes.div_ceil(1024)
        )]);
        let room = match (used.room_bytes, &used.room_by) {
            (Some(bytes), Some(by)) => format!("{by} leaves {} KiB for it\n", bytes / 1024),
            _ => "nothing is known to limit the memory for it\n".to_owned(),
        };
        text.push_str(&room);
        text.extend(self.shared_sources.iter().map(shared::SharedLine::text));
        if let Some(known) = &self.known_clients {
            text.push_str(&known.text());
        }
        for warning in &self.warnings {
            text.extend(["warning: ", &output::clean(warning), "\n"]);
        }
        text
    }
}

fn rule_line<'p>(rule: &'p Rule, lists: &Lists, state: &RuleState) -> RuleLine<'p> {
    let list = match rule.what {
        What::Allow => "allow",
        What::Block => "block",
        What::Limit(_) => "limits",
    };
    let action = match (&rule.what, rule.action) {
        (What::Allow, _) => "pass",
        (_, RuleAction::Drop) => "drop",
        (_, RuleAction::Reset) => "reset",
        (_, RuleAction::Monitor) => "monitor",
    };
    RuleLine {
        line: rule.about.line,
        id: &rule.about.id,
        list,
        action,
        clients: rule.clients.len() + lists.of(rule).map(|list| list.len()).sum::<usize>(),
        when: when(rule),
        state: match state {
            RuleState::Active if rule.expires.is_some() => "active until it expires".to_owned(),
            RuleState::Active => "active".to_owned(),
            RuleState::Inactive(Inactive::Expired) => "expired".to_owned(),
            RuleState::Inactive(Inactive::NoInterface(name)) => {
                format!("waits for interface {name}")
            }
        },
        reason: rule.about.reason.as_deref(),
        owner: rule.about.owner.as_deref(),
    }
}

/// Conditions in words: `tcp 443,8000-8099 ingress eth0`, or `always`.
fn when(rule: &Rule) -> String {
    let conditions: &Conditions = &rule.when;
    let mut words = Vec::new();
    if rule.percent < 100 {
        words.push(format!("{} %", rule.percent));
    }
    match conditions.protocol {
        Some(Protocol::Tcp) => words.push("tcp".to_owned()),
        Some(Protocol::Udp) => words.push("udp".to_owned()),
        None => {}
    }
    if !conditions.ports.is_empty() {
        let range = |(low, high): &(u16, u16)| {
            if low == high { low.to_string() } else { format!("{low}-{high}") }
        };
        words.push(conditions.ports.iter().map(range).collect::<Vec<_>>().join(","));
    }
    match conditions.direction {
        Direction::Both => {}
        Direction::Ingress => words.push("ingress".to_owned()),
        Direction::Egress => words.push("egress".to_owned()),
    }
    words.extend(conditions.interface.as_deref().map(ToOwned::to_owned));
    if words.is_empty() { "always".to_owned() } else { words.join(" ") }
}
