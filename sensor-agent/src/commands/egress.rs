//! `egress`: which hosts outside this one are called, by whom, how often.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use schemars::JsonSchema;
use sensor_core::{
    inventory::{EgressRow, InventoryView},
    time::UnixNs,
};
use serde::Serialize;

use super::{
    Exit,
    inventory::{Glob, When},
    output::{self, grouped, table},
    render::moment,
    shown::Shown,
    view,
};

/// Lists the hosts that this one calls: by whom, how often, when last.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent egress                              most requests first
  sensor-agent egress --since 24h --caller 'system.slice/*'
  sensor-agent egress --host '*.example.com' --json | jq '.hosts[].callers'

Without a running agent the store is read; which of the two it was is said on standard error. With --host, --caller or --since, exit \
code 1 when nothing fits.")]
pub(super) struct Args {
    #[command(flatten)]
    shown: Shown,
    /// Only hosts that fit this pattern
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    host: Vec<Glob>,
    /// Only what one of these calls (unit, container or address, as a pattern)
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    caller: Vec<Glob>,
    /// Only what was called since: a length of time (24h, 7d) or RFC 3339
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
}

/// Version of the published JSON.
const SCHEMA: &str = "sensor.egress/v1";

/// Hosts that this one calls.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct EgressView {
    /// Always `sensor.egress/v1`.
    schema: String,
    /// When it was made.
    time_unix_ns: UnixNs,
    /// Most requests first.
    hosts: Vec<HostRow>,
}

/// One host.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
struct HostRow {
    /// Normalised name, or `address:port` where none was sent; `{overflow}` for what found no room.
    host: String,
    /// Requests, weighted.
    requests: u64,
    /// The same by method.
    methods: BTreeMap<String, u64>,
    /// Callers on this host: units or containers where known, else addresses, masked as set.
    callers: BTreeSet<String>,
    /// First request.
    first_seen_unix_ns: UnixNs,
    /// Last request.
    last_seen_unix_ns: UnixNs,
}

/// Prints the hosts.
pub(super) fn run(args: &Args) -> Result<Exit> {
    if args.shown.schema {
        output::print_json(&schemars::schema_for!(EgressView))?;
        return Ok(Exit::Done);
    }
    let mut view = view::inventory(&args.shown.place)?;
    let since = args.since.map(|when| when.before(view.time_unix_ns));
    view.egress.retain(|row| {
        let called = |glob: &Glob| row.callers.iter().any(|caller| glob.matches(caller));
        (args.host.is_empty() || args.host.iter().any(|glob| glob.matches(&row.host)))
            && (args.caller.is_empty() || args.caller.iter().any(called))
            && since.is_none_or(|since| row.last_seen_unix_ns >= since)
    });
    let shown = by_host(view);
    if args.shown.json {
        output::print_json(&shown)?;
    } else {
        output::print(&text(&shown.hosts))?;
    }
    let chosen = since.is_some() || !args.host.is_empty() || !args.caller.is_empty();
    Ok(if chosen && shown.hosts.is_empty() { Exit::Negative } else { Exit::Done })
}

fn by_host(view: InventoryView) -> EgressView {
    let mut hosts: BTreeMap<String, HostRow> = BTreeMap::new();
    for row in view.egress {
        let EgressRow { host, method, requests, callers, .. } = row;
        let entry = hosts.entry(host.clone()).or_insert_with(|| HostRow {
            host,
            first_seen_unix_ns: row.first_seen_unix_ns,
            ..HostRow::default()
        });
        entry.requests = entry.requests.saturating_add(requests);
        *entry.methods.entry(method).or_default() += requests;
        entry.callers.extend(callers);
        entry.first_seen_unix_ns = entry.first_seen_unix_ns.min(row.first_seen_unix_ns);
        entry.last_seen_unix_ns = entry.last_seen_unix_ns.max(row.last_seen_unix_ns);
    }
    let mut hosts: Vec<HostRow> = hosts.into_values().collect();
    hosts.sort_by(|a, b| (b.requests, &a.host).cmp(&(a.requests, &b.host)));
    EgressView { schema: SCHEMA.into(), time_unix_ns: view.time_unix_ns, hosts }
}

fn text(hosts: &[HostRow]) -> String {
    if hosts.is_empty() {
        return "No calls to other hosts.\n".into();
    }
    let line = |row: &HostRow| {
        let methods = row.methods.iter().map(|(name, count)| format!("{name}:{count}"));
        vec![
            row.host.clone(),
            grouped(row.requests),
            methods.collect::<Vec<_>>().join(" "),
            row.callers.iter().cloned().collect::<Vec<_>>().join(" "),
            moment(row.first_seen_unix_ns),
            moment(row.last_seen_unix_ns),
        ]
    };
    let header = ["CALLS OUT TO", "REQUESTS", "METHODS", "CALLERS", "FIRST SEEN", "LAST SEEN"];
    table(&header, &hosts.iter().map(line).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_a_host_are_one_row_most_requests_first() {
        let row = |host: &str, method: &str, requests, caller: &str, at| EgressRow {
            host: host.into(),
            method: method.into(),
            requests,
            requests_observed: requests,
            first_seen_unix_ns: UnixNs(at),
            last_seen_unix_ns: UnixNs(at + 1),
            callers: vec![caller.into()],
        };
        let view = InventoryView {
            egress: vec![
                row("a.example", "GET", 3, "x.service", 5),
                row("a.example", "POST", 4, "y.service", 2),
                row("b.example", "GET", 9, "x.service", 1),
            ],
            ..InventoryView::default()
        };
        let hosts = by_host(view).hosts;
        let names: Vec<_> = hosts.iter().map(|row| (&*row.host, row.requests)).collect();
        assert_eq!(names, [("b.example", 9), ("a.example", 7)]);
        assert_eq!(hosts[1].callers.len(), 2);
        assert_eq!(
            (hosts[1].first_seen_unix_ns, hosts[1].last_seen_unix_ns),
            (UnixNs(2), UnixNs(6))
        );
        assert!(text(&hosts).contains("GET:3 POST:4"), "{}", text(&hosts));
    }
}
