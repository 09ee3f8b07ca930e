//! `policy check FILE`: says whether a policy file is valid, what each rule comes to, and what it takes in the kernel.
//!
//! Exit code 1 and `file:line: field: message` for each mistake where it is not; nothing is applied.

use std::path::PathBuf;

use anyhow::Result;
use sensor_core::{
    policy::{
        Compiled, Conditions, Direction, Inactive, Policy, PolicyErrors, Protocol, Rule,
        RuleAction, RuleState, What,
    },
    time::MonoNs,
};
use serde::Serialize;

use crate::commands::{Exit, Prerequisite, output};
use crate::config::{PolicyFileError, host_facts, read_policy};

/// Says whether a policy file is valid, and what its rules come to on this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sensor-agent policy check deploy/policy.example.yaml")]
pub(super) struct Args {
    /// Policy file (YAML)
    file: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let Args { file, json } = args;
    let outcome = read_policy(file).and_then(|policy| {
        let facts = host_facts(MonoNs(0), &policy.failsafe.ssh_ports, Vec::new());
        let compiled = policy.compile(&facts)?;
        Ok((policy, compiled))
    });
    match outcome {
        Ok((policy, compiled)) => {
            let report = Report::new(&policy, &compiled);
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
    warnings: Vec<String>,
    kernel: KernelUse,
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
}

impl<'p> Report<'p> {
    fn new(policy: &'p Policy, compiled: &Compiled) -> Self {
        let tables = &compiled.tables;
        let rules = policy
            .rules
            .iter()
            .zip(&compiled.states)
            .map(|(rule, state)| rule_line(rule, state))
            .collect();
        Self {
            file: &policy.file,
            valid: true,
            digest: format!("{:016x}", policy.digest),
            rules,
            warnings: policy
                .warnings
                .iter()
                .map(|(line, text)| format!("{}:{line}: {text}", policy.file))
                .collect(),
            kernel: KernelUse {
                allow: tables.allow4.len() + tables.allow6.len(),
                block: tables.block4.len() + tables.block6.len(),
                limit: tables.limit4.len() + tables.limit6.len(),
                rules: tables.rules.len().saturating_sub(1),
                limits: tables.limits.len().saturating_sub(1),
                failsafe: tables.failsafe.len(),
                merged: compiled.merged,
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
        let used = &self.kernel;
        text.extend([format!(
            "in the kernel: {} block, {} allow and {} limit prefixes ({} merged), {} rules, {} limits, {} failsafe entries\n",
            used.block, used.allow, used.limit, used.merged, used.rules, used.limits, used.failsafe
        )]);
        for warning in &self.warnings {
            text.extend(["warning: ", &output::clean(warning), "\n"]);
        }
        text
    }
}

fn rule_line<'p>(rule: &'p Rule, state: &RuleState) -> RuleLine<'p> {
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
        clients: rule.clients.len(),
        when: when(&rule.when),
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
fn when(conditions: &Conditions) -> String {
    let mut words = Vec::new();
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
