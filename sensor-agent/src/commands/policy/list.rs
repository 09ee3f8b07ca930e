//! `policy list`: the rules in force with their hits, states and where they come from.

use anyhow::Result;
use sensor_proto::json::rfc3339;

use crate::{
    commands::{Exit, output, shown::Shown},
    control::{ListStatus, PolicyView, Question, RuleStatus},
};

/// Lists the rules in force with live hits, state, end and provenance.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sensor-agent policy list --json | jq '.rules[] | select(.packets > 0)'"
)]
pub(super) struct Args {
    #[command(flatten)]
    shown: Shown,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    args.shown.show(&Question::Policy, text)?;
    Ok(Exit::Done)
}

fn text(view: &PolicyView) -> String {
    let mut out = String::new();
    let Some(policy) = &view.policy else { return "no policy: nothing is dropped\n".into() };
    if policy.generation == 0 {
        let error = policy.error.as_deref().unwrap_or("not read yet");
        out.extend(["no policy of this agent is in force: ", &output::clean_lines(error), "\n"]);
        return out;
    }
    out.extend([format!(
        "generation {} ({}), mode {}, base {}, {} added\n",
        policy.generation,
        policy.hash,
        view.mode,
        match policy.layer.as_str() {
            "applied" => "applied by command",
            "file" => policy.origin.as_str(),
            _ => "none",
        },
        policy.added
    )]);
    if let Some(provisional) = &policy.provisional {
        out.extend([format!(
            "PROVISIONAL until {}: keep it with `policy confirm`\n",
            short_time(provisional.until_unix_ns)
        )]);
    }
    if let Some(error) = &policy.error {
        out.extend(["refused, so not in force: ", &output::clean_lines(error), "\n"]);
    }
    let rows: Vec<Vec<String>> = view.rules.iter().map(row).collect();
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&output::table(
            &[
                "RULE",
                "LIST",
                "ACTION",
                "STATE",
                "CLIENTS",
                "DROPPED",
                "BYTES",
                "WOULD DROP",
                "SHARED",
                "LAST HIT",
                "ENDS",
                "FROM",
                "REASON",
            ],
            &rows,
        ));
    }
    for rule in view.rules.iter().filter(|rule| rule.requests_over > 0) {
        out.extend([format!(
            "{}: {} requests over the limit, {} of them only counted (several clients share the connection, or the rule monitors)\n",
            output::clean(&rule.id),
            output::grouped(rule.requests_over),
            output::grouped(rule.requests_would)
        )]);
    }
    out.push_str(&lists(&view.lists));
    for source in &view.shared_sources {
        out.extend([format!(
            "shared source {} until {}: rules by address skip it\n",
            output::clean(&source.address),
            short_time(source.until_unix_ns)
        )]);
    }
    out
}

/// Where lists come from, and what they hit; empty without lists.
pub(in crate::commands) fn lists(lists: &[ListStatus]) -> String {
    if lists.is_empty() {
        return String::new();
    }
    let row = |list: &ListStatus| {
        let last = match list.last_unix_ns {
            0 => "never".to_owned(),
            at => short_time(at),
        };
        vec![
            list.file.clone(),
            list.rules.join(","),
            output::grouped(list.entries),
            output::grouped(list.merged),
            output::grouped(list.skipped),
            short_time(list.changed_unix_ns),
            short_time(list.read_unix_ns),
            output::grouped(list.packets),
            output::grouped(list.would_packets),
            last,
        ]
    };
    let header = [
        "LIST",
        "RULES",
        "PREFIXES",
        "MERGED",
        "SKIPPED",
        "CHANGED",
        "READ",
        "DROPPED",
        "WOULD DROP",
        "LAST HIT",
    ];
    let rows: Vec<_> = lists.iter().map(row).collect();
    let mut out = format!("\n{}", output::table(&header, &rows));
    for list in lists {
        if let Some(first) = &list.first_skipped {
            let told =
                format!("{}: {} lines are left out, the first: {first}", list.file, list.skipped);
            out.extend([&*output::clean(&told), "\n"]);
        }
    }
    out
}

fn row(rule: &RuleStatus) -> Vec<String> {
    let time = |at, none: &str| if at == 0 { none.to_owned() } else { short_time(at) };
    vec![
        rule.id.clone(),
        rule.kind.clone(),
        rule.action.clone(),
        match &rule.stopped {
            Some(why) => format!("stopped by the guard: {why}"),
            None => rule.state.clone(),
        },
        output::grouped(rule.clients),
        output::grouped(rule.packets),
        output::grouped(rule.bytes),
        output::grouped(rule.would_packets),
        output::grouped(rule.shared_packets),
        time(rule.last_unix_ns, "never"),
        time(rule.expires_unix_ns, ""),
        rule.from.clone(),
        rule.reason.clone().unwrap_or_default(),
    ]
}

fn short_time(unix_ns: u64) -> String {
    rfc3339(unix_ns / 1_000_000_000 * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::PolicyStatus;

    #[test]
    fn what_the_network_says_reaches_no_terminal() {
        let rule = RuleStatus { id: "a\u{1b}[31m".into(), ..RuleStatus::default() };
        let policy =
            PolicyStatus { generation: 1, layer: "file".into(), ..PolicyStatus::default() };
        let policy = Some(policy);
        let text = text(&PolicyView { policy, rules: vec![rule], ..PolicyView::default() });
        assert!(text.contains("a\\u{1b}[31m") && text.contains("never"), "{text}");
    }
}
