//! An explanation for people: a line for the policy, one for each direction, and a table of what was asked.

use crate::{
    commands::output,
    explain::{ExplainView, ExplainedPacket, ExplainedVerdict},
};

/// The whole of it.
pub(super) fn text(view: &ExplainView) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(&output::clean(text));
        out.push('\n');
    };
    let policy = match (view.hash.is_empty(), view.generation) {
        (true, _) => "no policy".to_owned(),
        (false, 0) => format!("hash {}", view.hash),
        (false, generation) => format!("generation {generation}, hash {}", view.hash),
    };
    let trial = if view.provisional { ", on trial" } else { "" };
    line(&format!("{policy}{trial} ({} {})", source(view), view.from));
    if let Some(why) = &view.not_enforced {
        line(&format!("not enforced: {why}"));
    }
    for note in &view.notes {
        line(&format!("note: {note}"));
    }
    for packet in &view.packets {
        out.push('\n');
        out.push_str(&one(packet, view.enforced));
    }
    out
}

fn source(view: &ExplainView) -> &str {
    match view.source.as_str() {
        "agent" => "live maps of the running agent,",
        "pinned" => "live maps without an agent,",
        _ => "file",
    }
}

fn one(packet: &ExplainedPacket, enforced: bool) -> String {
    let shared = |is: bool| if is { " (shared by many clients)" } else { "" };
    let verdict = match (packet.verdict, enforced) {
        (ExplainedVerdict::Pass | ExplainedVerdict::Failsafe | ExplainedVerdict::Allow, _) => {
            "PASSES"
        }
        (ExplainedVerdict::Limit, true) => "LIMITED",
        (ExplainedVerdict::Limit, false) => "WOULD BE LIMITED",
        (ExplainedVerdict::Drop, true) => "DROPPED",
        (ExplainedVerdict::Drop, false) => "WOULD BE DROPPED",
        (ExplainedVerdict::Reset, true) => "RESET",
        (ExplainedVerdict::Reset, false) => "WOULD BE RESET",
    };
    let head = format!(
        "{} {} {}{} -> {}{}: {verdict}: {}\n",
        packet.direction,
        packet.protocol,
        packet.source,
        shared(packet.source_shared),
        packet.destination,
        shared(packet.destination_shared),
        packet.why
    );
    let rows: Vec<Vec<String>> = packet
        .steps
        .iter()
        .map(|step| {
            vec![
                if step.decides { "  ->" } else { "" }.into(),
                step.list.clone(),
                step.rule.clone(),
                step.prefix.clone(),
                step.end.clone(),
                step.answer.clone(),
            ]
        })
        .collect();
    let mut out = output::clean_lines(&head);
    out.push('\n');
    if !rows.is_empty() {
        out.push_str(&output::table(
            &["    ", "ASKED", "RULE", "ENTRY", "OF THE", "ANSWER"],
            &rows,
        ));
    }
    out
}
