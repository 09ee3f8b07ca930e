//! `policy check FILE`: says whether a policy file is valid, what each rule comes to, and what it takes in the kernel.
//!
//! Exit code 1 and `file:line: field: message` for each mistake where it is not; nothing is applied.

use std::path::PathBuf;

use anyhow::Result;
use sensor_core::{
    policy::{
        Conditions, Direction, Hazard, Inactive, Lists, Policy, PolicyErrors, Protocol, Rule,
        RuleAction, RuleState, What, hazards,
        image::{Compiled, Numbers},
    },
    time::MonoNs,
};
use serde::Serialize;

use crate::commands::{Exit, Prerequisite, output};
use crate::config::{PolicyFileError, host_facts, read_lists, read_policy};

/// Says whether a policy file is valid, and what its rules come to on this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sensor-agent policy check deploy/policy.example.yaml")]
pub(super) struct Args {
    /// Policy file (YAML)
    file: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Pass rules that would hit the host itself, its gateway or resolver, or everyone
    #[arg(long)]
    force: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let Args { file, json, force } = args;
    let outcome = read_policy(file).and_then(|policy| {
        let lists = read_lists(&policy)?;
        let facts = host_facts(MonoNs(0), &policy.failsafe.ssh_ports, Vec::new());
        let compiled = policy.compile(&facts, &lists, &mut Numbers::default())?;
        let found = if *force { Vec::new() } else { hazards(&policy, &lists, &facts) };
        if found.is_empty() {
            Ok((policy, lists, compiled))
        } else {
            Err(refused(&policy, &found).into())
        }
    });
    match outcome {
        Ok((policy, lists, compiled)) => {
            let report = Report::new(&policy, &lists, &compiled);
            if *json {
                output::print_json(&report)?;
            } else {
                output::print(&report.text())?;
            }
            Ok(Exit::Done)
        }
        Err(PolicyFileError::Invalid(errors)) => {
            if *json {
                output::print_json(&Refused::new(&errors))?;
            } else {
                output::note(&refusal(&errors));
            }
            Ok(Exit::Negative)
        }
        Err(error) => Err(Prerequisite::new(error.to_string()).into()),
    }
}

/// Hazards as mistakes of the file.
fn refused(policy: &Policy, hazards: &[Hazard]) -> PolicyErrors {
    let errors = hazards.iter().map(|hazard| sensor_core::policy::PolicyError {
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
        let mistake = |error: &'e sensor_core::policy::PolicyError| Mistake {
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
}

/// A list file: where it comes from and what is in it.
#[derive(Serialize)]
struct ListLine<'p> {
    file: &'p str,
    changed_unix_ns: u64,
    lines: u64,
    entries: usize,
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
}

impl<'p> Report<'p> {
    fn new(policy: &'p Policy, lists: &'p Lists, compiled: &Compiled) -> Self {
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
            },
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}: valid, {} rules\n", output::clean(self.file), self.rules.len());
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
                "list {}: {} prefixes in {} lines, {} skipped, changed {}\n",
                output::clean(list.file),
                list.entries,
                list.lines,
                list.skipped,
                sensor_proto::json::rfc3339(list.changed_unix_ns)
            )]);
        }
        let used = &self.kernel;
        text.extend([format!(
            "in the kernel: {} block, {} allow and {} limit prefixes ({} merged), {} rules, {} limits, {} failsafe entries, {} KiB\n",
            used.block, used.allow, used.limit, used.merged, used.rules, used.limits, used.failsafe, used.bytes.div_ceil(1024)
        )]);
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
        clients: rule.clients.len()
            + rule
                .lists
                .iter()
                .filter_map(|name| lists.find(name))
                .map(|list| list.len())
                .sum::<usize>(),
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
