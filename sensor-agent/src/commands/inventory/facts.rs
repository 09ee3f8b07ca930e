//! One endpoint in words: a title, then a line a fact; facts without a value are left out.

use sensor_core::{
    inventory::{DecommissionRow, EndpointRow, OperatorRow, RiskPart, StateChange},
    state::{Confidence, State},
    time::UnixNs,
};

use crate::commands::{
    output::{clean, grouped},
    render::{duration, moment},
};

/// A title, then a line a fact; facts without a value are left out.
pub(super) fn endpoint(row: &EndpointRow) -> String {
    let facts: Vec<(&str, String)> = state(row)
        .into_iter()
        .chain(operator(row))
        .chain(life(row))
        .chain(calls(row))
        .chain(people(row))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let title = format!("{} {}{}", row.method, row.service, row.path_template);
    let lines = facts.iter().map(|(name, value)| format!("  {name:width$}  {value}"));
    std::iter::once(title).chain(lines).map(|line| clean(&line).into_owned() + "\n").collect()
}

/// The states that it had, oldest first.
pub(super) fn history(history: &[StateChange]) -> String {
    let line = |change: &StateChange| {
        let state = change.state.map_or("not listed", State::as_str);
        format!("    {}  {state}\n", moment(change.time_unix_ns))
    };
    let lines: String = history.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("  history\n{lines}") }
}

type Fact = (&'static str, String);

fn state(row: &EndpointRow) -> [Fact; 8] {
    let low = if row.confidence == Confidence::Low {
        ", low confidence: the only evidence is a refusal"
    } else {
        ""
    };
    let why = row.not_covered.map(|why| format!(" ({why})")).unwrap_or_default();
    let exposure = row.exposure.as_ref().map(|seen| {
        let classes = seen
            .requests
            .iter()
            .map(|(from, count)| format!("{} {}", from.as_str(), grouped(*count)));
        format!("{} (requests: {})", seen.widest.as_str(), classes.collect::<Vec<_>>().join(", "))
    });
    let risk = row.risk.as_ref().map(|risk| {
        let part = |part: &RiskPart| format!("{} {}", word(&part.part), part.points);
        let parts = risk.parts.iter().map(part).collect::<Vec<_>>().join(", ");
        let parts = if parts.is_empty() { parts } else { format!(" ({parts})") };
        format!("{} of 100{parts}", risk.score)
    });
    [
        ("id", row.id.clone()),
        ("state", format!("{}{why}: {}{low}", row.state, row.reason)),
        ("declaration", row.declaration.to_string()),
        ("lifecycle", row.lifecycle.to_string()),
        ("activity", row.activity.to_string()),
        ("kind", row.kind.as_str().to_owned()),
        ("exposure", exposure.unwrap_or_default()),
        ("risk", risk.unwrap_or_default()),
    ]
}

fn operator(row: &EndpointRow) -> [Fact; 3] {
    let by = row.declared_owner_source.map(|source| format!(" (by its {})", word(&source)));
    let said = |said: &Option<OperatorRow>| {
        said.as_ref().map_or_else(String::new, |said| {
            let until = said.expires_unix_ns.map(|until| format!(", until {}", moment(until)));
            let by = format!("by {}{}", said.by, until.unwrap_or_default());
            if said.note.is_empty() { by } else { format!("{} ({by})", said.note) }
        })
    };
    [
        (
            "whose",
            row.declared_owner
                .clone()
                .map_or_else(String::new, |name| name + &by.unwrap_or_default()),
        ),
        ("accepted", said(&row.accepted)),
        ("ignored", said(&row.ignored)),
    ]
}

fn life(row: &EndpointRow) -> [Fact; 9] {
    let days = row.sunset_days_left.map(|days| match days {
        0.. => format!(", {days} days left"),
        _ => format!(", {} days ago", days.unsigned_abs()),
    });
    let trend = row.trend.as_ref().map(|trend| {
        let watched = if trend.both_watched { "" } else { ", not watched for all of it" };
        format!(
            "{} requests in the window, {} in the one before{watched}",
            grouped(trend.window),
            grouped(trend.before)
        )
    });
    let superseded = row
        .superseded
        .as_ref()
        .map(|it| format!("by {} {} ({} requests)", it.by, it.path_template, grouped(it.requests)));
    let pages: Vec<&str> = [&row.deprecation_page, &row.sunset_page]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let version = row.version.as_ref().map(|it| format!("{} of {}", it.version, it.family));
    [
        ("deprecated from", time(row.deprecation_unix_ns)),
        (
            "sunset",
            row.sunset_unix_ns
                .map_or_else(String::new, |at| moment(at) + &days.unwrap_or_default()),
        ),
        ("about it", pages.join(", ")),
        ("next version", row.successor.clone().unwrap_or_default()),
        ("version", version.unwrap_or_default()),
        ("superseded", superseded.unwrap_or_default()),
        ("trend", trend.unwrap_or_default()),
        ("drift", row.drift.clone().unwrap_or_default()),
        ("off", row.decommission.as_ref().map(off).unwrap_or_default()),
    ]
}

/// What shows that it is off, or that it is not.
fn off(proof: &DecommissionRow) -> String {
    let DecommissionRow { calls, covered_days, .. } = proof;
    let mut text = format!("{} calls in {covered_days:.1} days that were watched", grouped(*calls));
    let mut add = |what: &str, names: &[String]| {
        if !names.is_empty() {
            text.extend(["; ", what, " ", &names.join(" ")]);
        }
    };
    add("404 or 410 by", &proof.instances_gone);
    add("answered by", &proof.instances_serving);
    add("past the proxies by", proof.bypass_callers.as_deref().unwrap_or_default());
    if proof.instances_unasked > 0 {
        text.extend(["; instances never asked: ", &proof.instances_unasked.to_string()]);
    }
    text
}

fn calls(row: &EndpointRow) -> [Fact; 9] {
    let status = row.status.iter().map(|(class, count)| format!("{class}: {}", grouped(*count)));
    let latency = row.latency.map(|it| {
        let [p50, p90, p99] = [it.p50_us, it.p90_us, it.p99_us].map(duration);
        format!("p50 {p50}, p90 {p90}, p99 {p99} of {}", grouped(it.count))
    });
    let posture = row.auth_posture.map(|posture| format!(" (successes: {})", word(&posture)));
    let sampled = if row.requests == row.requests_observed {
        String::new()
    } else {
        format!(" (estimated from {} samples)", grouped(row.requests_observed))
    };
    let split = if row.counts_split_off {
        "; holds requests from before a part of it got a row of its own"
    } else {
        ""
    };
    [
        ("first seen", time(row.first_seen_unix_ns)),
        ("last seen", row.last_seen_unix_ns.map_or_else(|| "never".into(), moment)),
        ("requests", format!("{}{sampled}{split}", grouped(row.requests))),
        ("status", status.collect::<Vec<_>>().join(", ")),
        ("latency", latency.unwrap_or_default()),
        ("authentication", row.auth.join(", ") + &posture.unwrap_or_default()),
        ("request types", row.request_types.join(", ")),
        ("response types", row.response_types.join(", ")),
        ("query", row.query_names.join(", ")),
    ]
}

fn people(row: &EndpointRow) -> [Fact; 6] {
    let listed = row.callers.len() as u64;
    let callers = match (row.clients, row.callers.join(" ")) {
        (0, _) => String::new(),
        (clients, names) if clients > listed => {
            format!("about {} addresses, among them {names}", grouped(clients))
        }
        (_, names) => names,
    };
    [
        ("listener", row.listener.clone()),
        ("hosts", row.hosts.join(" ")),
        ("served by", row.owner.clone().unwrap_or_default()),
        ("callers", callers),
        (
            "remaining",
            row.remaining_callers.map_or_else(String::new, |count| {
                format!("{} callers in the window", grouped(count))
            }),
        ),
        ("units that call", row.client_owners.join(" ")),
    ]
}

fn time(at: Option<UnixNs>) -> String {
    at.map_or_else(String::new, moment)
}

/// A value of the published JSON as its word.
fn word(value: &impl serde::Serialize) -> String {
    let word = serde_json::to_value(value).ok();
    word.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}
