//! `status`: attached where, what was seen, what was lost.

use anyhow::Result;
use sensor_core::pipeline::PipelineCounter;
use sensor_proto::json::rfc3339;

use super::{Exit, output, policy::lists, shown::Shown};
use crate::control::{ChainStatus, InterfaceView, PolicyStatus, Question, RuleStatus, StatusView};

/// Shows where the running agent is attached, what it saw and what it lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent status
  sensor-agent status --json | jq .ledger.kernel

Exit code 1 when the agent is not ready (an interface is not attached, no packets where there should be), 2 when none runs.")]
pub(super) struct Args {
    #[command(flatten)]
    shown: Shown,
}

/// Asks the agent.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let view = args.shown.show(&Question::Status, text)?;
    let ready = view.is_none_or(|view: StatusView| view.ready);
    Ok(if ready { Exit::Done } else { Exit::Negative })
}

fn text(view: &StatusView) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&output::clean(&text));
        out.push('\n');
    };
    let up = view.time_unix_ns.saturating_sub(view.started_unix_ns) / 1_000_000_000;
    let ready = if view.ready { "ready" } else { "NOT READY" };
    line(format!(
        "sensor-agent {} (pid {}), {ready}, mode {}, hook {}, up {}",
        view.version,
        view.pid,
        view.mode,
        view.hook,
        span(up)
    ));
    for reason in &view.not_ready {
        line(format!("  not ready: {reason}"));
    }
    for missing in &view.programs_missing {
        line(format!("  program {} is missing: {}", missing.program, missing.reason));
    }
    let sampled = match view.sample_weight {
        0 | 1 => "every flow sampled".to_owned(),
        weight => format!("1 flow in {weight} sampled"),
    };
    line(format!(
        "packets {}, {sampled}, store {}",
        output::grouped(view.packets),
        view.store.error.as_deref().map_or_else(
            || view.store.path.display().to_string(),
            |error| format!("NOT WRITTEN: {error}")
        )
    ));
    if let Some(aside) = &view.store.set_aside {
        line(format!("  a store that could not be read lies at {}", aside.display()));
    }
    if let Some(policy) = &view.policy {
        policy_lines(policy).into_iter().for_each(&mut line);
    }
    if let Some(catalogue) = &view.catalogue {
        line(format!(
            "catalogue {}: documents {}, operations {}",
            catalogue.folder, catalogue.documents, catalogue.operations
        ));
        for error in &catalogue.errors {
            line(format!("  {error}"));
        }
        let pipeline = |name| view.ledger.get("pipeline").and_then(|stage| stage.get(name));
        for (name, text) in LOOKUP_LIMITS {
            if let Some(count) = pipeline(name).filter(|count| **count > 0) {
                line(format!("  WARNING: {} {text}", output::grouped(*count)));
            }
        }
    }
    let clients = &view.clients;
    if clients.connections + clients.penalised + clients.connections_drift > 0 {
        let [open, penalised, drift] =
            [clients.connections, clients.penalised, clients.connections_drift]
                .map(output::grouped);
        line(format!(
            "limits: {open} open connections, {penalised} clients over a limit; drift of the count {drift}"
        ));
    }
    enforcement(view).into_iter().for_each(&mut line);
    out.push('\n');
    out.push_str(&interfaces(&view.interfaces));
    if !view.rules.is_empty() {
        out.push('\n');
        out.push_str(&rules(&view.rules));
    }
    out.push_str(&lists(&view.lists));
    if !view.sinks.is_empty() {
        out.push('\n');
        out.push_str(&sinks(view));
    }
    out.push('\n');
    out.push_str(&ledger(view));
    out
}

/// The policy in force, and what is wrong with the file.
fn policy_lines(policy: &PolicyStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if policy.generation > 0 {
        lines.push(format!(
            "policy {} generation {} hash {} ({} of {} entries, {} merged, {} KiB in the kernel)",
            policy.origin,
            policy.generation,
            policy.hash,
            policy.installed,
            policy.wanted,
            policy.merged,
            output::grouped(policy.kernel_bytes.div_ceil(1024))
        ));
    } else {
        let of = match policy.wanted {
            0 => String::new(),
            wanted => format!(" (0 of {wanted} entries)"),
        };
        lines.push(format!("policy {}: nothing of it is in force{of}", policy.origin));
    }
    if let Some(error) = policy.error.as_ref().filter(|_| policy.generation > 0) {
        lines.push(format!(
            "  the file as it is now was refused, the one before is in force: {error}"
        ));
    }
    lines
}

/// Look-ups that met a bound, by their name in the ledger.
const LOOKUP_LIMITS: [(&str, &str); 2] = [
    (
        PipelineCounter::LookupsGivenUp.name(),
        "look-ups took too many steps (templates overlap); their paths count as undeclared",
    ),
    (
        PipelineCounter::LookupsPartial.name(),
        "look-ups were of services that too many documents name; not all of them were asked",
    ),
];

/// Whether rules are carried out, and what stands in the way.
fn enforcement(view: &StatusView) -> Vec<String> {
    let state = &view.enforcement;
    let mut lines = Vec::new();
    if view.mode == "enforce" {
        let on = if state.switched_off { "OFF, every rule only monitors" } else { "on" };
        let without = match (&state.folder, &state.not_pinned) {
            (Some(folder), _) => format!("stays without the agent ({folder})"),
            (None, Some(reason)) => format!("ends with the agent: {reason}"),
            (None, None) => "ends with the agent".into(),
        };
        let layout = state.layout.as_deref().unwrap_or("unknown");
        let start = if state.taken_over { "taken over" } else { "new" };
        lines.push(format!("enforcement {on}; {without}; layout {layout}, {start}"));
    }
    for layout in &state.other_layouts {
        lines.push(format!(
            "  layout {layout} of an earlier agent is still in force, until a policy of this one is"
        ));
    }
    for one in &view.interfaces {
        for (hook, chain) in [("ingress", &one.ingress), ("egress", &one.egress)] {
            let ahead = chain.as_ref().map(|chain| chain.ahead.join(", ")).unwrap_or_default();
            if !ahead.is_empty() {
                lines.push(format!(
                    "  {} {hook}: {ahead} runs before us; packets that it takes or drops are not seen",
                    one.name
                ));
            }
        }
    }
    lines
}

fn interfaces(all: &[InterfaceView]) -> String {
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            let name = if one.namespace == "own" {
                one.name.clone()
            } else {
                format!("{}@{}", one.name, one.namespace)
            };
            vec![
                name,
                one.state.clone(),
                one.hook.clone().unwrap_or_default(),
                chain(one.ingress.as_ref()),
                chain(one.egress.as_ref()),
                one.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(&["INTERFACE", "STATE", "HOOK", "INGRESS CHAIN", "EGRESS CHAIN", ""], &rows)
}

fn chain(chain: Option<&ChainStatus>) -> String {
    let Some(chain) = chain else { return String::new() };
    let us = if chain.attached { "[sensor]" } else { "[not there]" };
    let names = chain
        .ahead
        .iter()
        .map(String::as_str)
        .chain([us])
        .chain(chain.behind.iter().map(String::as_str));
    names.collect::<Vec<_>>().join(" > ")
}

fn rules(rules: &[RuleStatus]) -> String {
    let rows: Vec<_> = rules
        .iter()
        .map(|rule| {
            let last = match rule.last_unix_ns {
                0 => "never".into(),
                last => rfc3339(last / 1_000_000_000 * 1_000_000_000),
            };
            let counts = [rule.packets, rule.bytes, rule.would_packets].map(output::grouped);
            let words = [rule.id.clone(), rule.kind.clone(), rule.state.clone()];
            words.into_iter().chain(counts).chain([last]).collect()
        })
        .collect();
    output::table(&["RULE", "KIND", "STATE", "DROPPED", "BYTES", "WOULD DROP", "LAST HIT"], &rows)
}

fn sinks(view: &StatusView) -> String {
    let rows: Vec<_> = view
        .sinks
        .iter()
        .map(|sink| {
            let counts = [sink.accepted, sink.acknowledged, sink.waiting_events, sink.dropped]
                .map(output::grouped);
            std::iter::once(sink.sink.clone()).chain(counts).collect()
        })
        .collect();
    output::table(&["SINK", "ACCEPTED", "WRITTEN", "WAITING", "DROPPED"], &rows)
}

/// What is zero says nothing to people: it is in --json.
fn ledger(view: &StatusView) -> String {
    let rows: Vec<_> = view
        .ledger
        .iter()
        .flat_map(|(stage, counts)| counts.iter().map(move |(name, value)| (stage, name, *value)))
        .filter(|(.., value)| *value > 0)
        .map(|(stage, name, value)| vec![stage.clone(), name.clone(), output::grouped(value)])
        .collect();
    output::table(&["LEDGER", "COUNT", "TOTAL"], &rows)
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_shown_in_order_and_reasons_are_said() {
        let chain = ChainStatus {
            attached: true,
            ahead: vec!["cil_from\x1b".into()],
            behind: vec!["tail".into()],
        };
        let interface = InterfaceView {
            namespace: "own".into(),
            name: "eth0".into(),
            state: "attached".into(),
            ingress: Some(chain),
            ..InterfaceView::default()
        };
        let view = StatusView {
            not_ready: vec!["eth1: no such interface".into()],
            interfaces: vec![interface],
            ..StatusView::default()
        };
        let text = text(&view);
        assert!(text.contains("cil_from\\u{1b} > [sensor] > tail"), "{text}");
        assert!(text.contains("NOT READY") && text.contains("not ready: eth1"), "{text}");
    }
}
