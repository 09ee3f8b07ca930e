//! The inventory, the egress list and the coverage as tables for people; `inventory`, `coverage` and `replay` share them.

use sensor_core::{
    inventory::{CoverageRow, EndpointRow, InventoryView, Kind},
    state::State,
    time::UnixNs,
};
use sensor_proto::json::rfc3339;

use super::output::{grouped, table};

/// Which rows people see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// APIs and operational endpoints.
    #[default]
    Api,
    /// Pages, files and probes too.
    All,
}

/// Everything: how much was readable, endpoints, egress.
#[must_use]
pub fn inventory(view: &InventoryView, rows: Rows) -> String {
    let mut text = summary(view);
    text.push('\n');
    text.push_str(&endpoints(view, rows));
    if !view.egress.is_empty() {
        text.push('\n');
        text.push_str(&egress(view));
    }
    text
}

/// One line that says what share of the traffic could be read.
#[must_use]
pub fn summary(view: &InventoryView) -> String {
    let sum = |pick: fn(&CoverageRow) -> u64| view.coverage.iter().map(pick).sum::<u64>();
    let parts = [
        ("http", sum(|row| row.http)),
        ("h2c", sum(|row| row.h2c)),
        ("tls", sum(|row| row.tls)),
        ("other", sum(|row| row.other)),
        ("silent", sum(|row| row.silent)),
    ];
    let opened = sum(|row| row.opened);
    if opened == 0 {
        return "No connections to servers of ours were counted.\n".into();
    }
    let named = parts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {}", grouped(*count)));
    let mut text = std::iter::once(format!("{} connections", grouped(opened)))
        .chain(named)
        .collect::<Vec<_>>()
        .join(", ");
    let unreadable = parts[1].1 + parts[2].1;
    if unreadable > 0 {
        text.push_str(" (what is encrypted or HTTP/2 is counted, not read)");
    }
    text.push('\n');
    text
}

/// The endpoints that a filter left of so many.
#[must_use]
pub fn chosen(view: &InventoryView, rows: Rows, of: usize) -> String {
    if view.endpoints.is_empty() {
        return format!("No endpoint fits; without the filter there are {}.\n", grouped(of as u64));
    }
    endpoints(view, rows)
}

/// The endpoints.
#[must_use]
pub fn endpoints(view: &InventoryView, rows: Rows) -> String {
    let shown = |kind: Kind, state: State| {
        let probing = matches!(state, State::Probing | State::Ignored);
        rows == Rows::All
            || (!probing && matches!(kind, Kind::Api | Kind::Operational | Kind::Overflow))
    };
    let (some, hidden): (Vec<_>, Vec<_>) =
        view.endpoints.iter().partition(|row| shown(row.kind, row.state));
    if some.is_empty() {
        return format!("No endpoints{}.\n", hidden_note(&hidden));
    }
    let (rated, reached) =
        (some.iter().any(|row| row.risk.is_some()), some.iter().any(|row| row.exposure.is_some()));
    let lines: Vec<_> = some
        .iter()
        .map(|row| {
            let risk = row.risk.as_ref().map(|risk| risk.score.to_string());
            let exposure = row.exposure.as_ref().map(|seen| seen.widest.as_str().to_owned());
            let before = rated.then(|| risk.unwrap_or_default()).into_iter();
            let behind = reached.then(|| exposure.unwrap_or_default());
            let cells = [
                row.state.to_string(),
                row.service.clone(),
                row.method.clone(),
                row.path_template.clone(),
                grouped(row.requests),
                classes(&row.status),
                row.latency.map_or_else(String::new, |latency| duration(latency.p50_us)),
                row.auth.join(","),
                row.last_seen_unix_ns.map_or_else(|| "never".into(), moment),
            ];
            before.chain(cells).chain(behind).collect()
        })
        .collect();
    let header: Vec<&str> = rated
        .then_some("RISK")
        .into_iter()
        .chain(COLUMNS)
        .chain(reached.then_some("FROM"))
        .collect();
    let text = table(&header, &lines);
    let text = match view.endpoints_left_out {
        0 => text,
        more => format!("{text}(and {} more endpoints: ask for JSON to see all)\n", grouped(more)),
    };
    if hidden.is_empty() {
        text
    } else {
        format!("{text}({} endpoints{})\n", some.len(), hidden_note(&hidden))
    }
}

/// Of every table of endpoints.
const COLUMNS: [&str; 9] =
    ["STATE", "SERVICE", "METHOD", "PATH", "REQUESTS", "STATUS", "P50", "AUTH", "LAST SEEN"];

fn hidden_note(hidden: &[&EndpointRow]) -> String {
    let ignored = hidden.iter().filter(|row| row.state == State::Ignored).count();
    let parts = [(hidden.len() - ignored, "pages, files and probes"), (ignored, "ignored")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("; hidden: {}; --all shows them", parts.join(", "))
    }
}

/// In the unit that leaves something to see.
#[must_use]
pub(super) fn duration(us: f64) -> String {
    if us < 1_000.0 { format!("{us:.0} us") } else { format!("{:.1} ms", us / 1_000.0) }
}

/// What this host calls elsewhere.
#[must_use]
pub fn egress(view: &InventoryView) -> String {
    let lines: Vec<_> = view
        .egress
        .iter()
        .map(|row| {
            vec![
                row.host.clone(),
                row.method.clone(),
                grouped(row.requests),
                row.callers.join(" "),
                moment(row.last_seen_unix_ns),
            ]
        })
        .collect();
    table(&["CALLS OUT TO", "METHOD", "REQUESTS", "CALLERS", "LAST SEEN"], &lines)
}

/// Connections by listener.
#[must_use]
pub fn coverage(view: &InventoryView) -> String {
    if view.coverage.is_empty() {
        return "No listeners seen yet.\n".into();
    }
    let lines: Vec<_> = view
        .coverage
        .iter()
        .map(|row| {
            let counts =
                [row.opened, row.http, row.h2c, row.tls, row.other, row.silent].map(grouped);
            let readable =
                row.readable.map_or_else(|| "-".into(), |share| format!("{:.1} %", share * 100.0));
            let owner = row.owner.clone().unwrap_or_default();
            let names = row.server_names.join(" ");
            std::iter::once(row.listener.clone())
                .chain(counts)
                .chain([readable, owner, names])
                .collect()
        })
        .collect();
    table(
        &[
            "LISTENER",
            "CONNECTIONS",
            "HTTP",
            "H2C",
            "TLS",
            "OTHER",
            "SILENT",
            "READABLE",
            "OWNER",
            "TLS NAMES",
        ],
        &lines,
    )
}

fn classes(status: &std::collections::BTreeMap<String, u64>) -> String {
    let parts: Vec<_> = status.iter().map(|(class, count)| format!("{class}:{count}")).collect();
    parts.join(" ")
}

/// To the second: `2026-11-23 02:05:00Z`; requests in a list may have no time.
pub(super) fn moment(time: UnixNs) -> String {
    if time == UnixNs::default() {
        return "unknown".into();
    }
    let seconds = time.0 / 1_000_000_000 * 1_000_000_000;
    rfc3339(seconds).replace('T', " ")
}
