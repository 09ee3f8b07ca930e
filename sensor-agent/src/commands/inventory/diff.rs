//! `inventory diff --since WHEN`: endpoints that are new, that are gone, and that have another state than they had.

use anyhow::Result;
use schemars::JsonSchema;
use sensor_core::{
    inventory::{HistoryRow, HistoryView},
    state::State,
    time::UnixNs,
};
use serde::Serialize;

use super::filter::When;
use crate::commands::{
    Exit, Prerequisite,
    output::{self, table},
    render::moment,
    shown::Shown,
    view,
};

/// Lists what changed since a time: new and gone endpoints, and other states.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent inventory diff --since 24h
  sensor-agent inventory diff --since 2026-06-30T12:00:00Z --json | jq '.new[].path_template'

Exit code 1 when something changed, 0 when nothing did. Without a running agent the store is read.")]
pub(super) struct Args {
    #[command(flatten)]
    shown: Shown,
    /// Since when: a length of time (24h, 7d) or RFC 3339
    #[arg(long, value_name = "WHEN", required_unless_present = "schema")]
    since: Option<When>,
}

/// Version of the published JSON.
const SCHEMA: &str = "sensor.inventory-diff/v1";

/// What changed between two times.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
struct Diff {
    /// Always `sensor.inventory-diff/v1`.
    schema: String,
    /// From.
    since_unix_ns: UnixNs,
    /// To.
    time_unix_ns: UnixNs,
    /// The first look at the inventory that is remembered: what changed before that is not known.
    history_since_unix_ns: UnixNs,
    /// Not listed then, listed now.
    new: Vec<Changed>,
    /// Listed then, not listed now.
    gone: Vec<Changed>,
    /// Another state.
    changed: Vec<Changed>,
    /// Neither listed then nor now, but in between.
    passed: Vec<Changed>,
}

/// One endpoint.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Changed {
    /// Its id.
    id: String,
    /// Service.
    service: String,
    /// Request method.
    method: String,
    /// Path template.
    path_template: String,
    /// State then.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<State>,
    /// State now; where it is gone, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// When it changed last.
    time_unix_ns: UnixNs,
}

/// Prints the difference.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let Some(when) = args.since.filter(|_| !args.shown.schema) else {
        output::print_json(&schemars::schema_for!(Diff))?;
        return Ok(Exit::Done);
    };
    let history = view::history(&args.shown.place, None)?;
    let since = when.before(history.time_unix_ns);
    if since > history.time_unix_ns {
        let text = format!("--since {}: that is in the future", moment(since));
        return Err(Prerequisite::new(text).into());
    }
    let diff = Diff::of(&history, since);
    if diff.since_unix_ns < diff.history_since_unix_ns {
        let from = moment(diff.history_since_unix_ns);
        output::note(&format!(
            "states are remembered since {from}: what changed before that is not known"
        ));
    }
    if args.shown.json {
        output::print_json(&diff)?;
    } else {
        output::print(&diff.text())?;
    }
    Ok(if diff.is_empty() { Exit::Done } else { Exit::Negative })
}

impl Diff {
    fn of(history: &HistoryView, since: UnixNs) -> Self {
        let mut diff = Self {
            schema: SCHEMA.to_owned(),
            since_unix_ns: since,
            time_unix_ns: history.time_unix_ns,
            history_since_unix_ns: history.since_unix_ns,
            ..Self::default()
        };
        for row in &history.endpoints {
            let Some(last) = row.changes.last().filter(|last| last.time_unix_ns > since) else {
                continue;
            };
            let from = row.state_at(since);
            let changed = Changed::of(row, from, last.state, last.time_unix_ns);
            match (from, last.state) {
                (None, Some(_)) => diff.new.push(changed),
                (Some(_), None) => diff.gone.push(changed),
                (None, None) => diff.passed.push(changed),
                (Some(from), Some(to)) if from != to => diff.changed.push(changed),
                _ => {}
            }
        }
        let order = |a: &Changed, b: &Changed| {
            let key =
                |it: &Changed| (it.service.clone(), it.path_template.clone(), it.method.clone());
            key(a).cmp(&key(b))
        };
        for list in [&mut diff.new, &mut diff.gone, &mut diff.changed, &mut diff.passed] {
            list.sort_by(order);
        }
        diff
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty() && self.changed.is_empty()
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let word = |state: Option<State>| state.map_or_else(String::new, |state| state.to_string());
        let lists = [("+", &self.new), ("-", &self.gone), ("~", &self.changed)];
        let rows: Vec<Vec<String>> = lists
            .iter()
            .flat_map(|(sign, list)| list.iter().map(move |it| (sign, it)))
            .map(|(sign, it)| {
                let state = match (it.from, it.state) {
                    (Some(from), Some(to)) => format!("{from} -> {to}"),
                    (from, to) => word(to.or(from)),
                };
                let (service, path) = (it.service.clone(), it.path_template.clone());
                let time = moment(it.time_unix_ns);
                vec![
                    (*sign).to_owned(),
                    state,
                    service,
                    it.method.clone(),
                    path,
                    time,
                    it.id.clone(),
                ]
            })
            .collect();
        if rows.is_empty() {
            out.push_str("Nothing changed.\n");
        } else {
            out.push_str(&table(&["", "STATE", "SERVICE", "METHOD", "PATH", "SINCE", "ID"], &rows));
        }
        if !self.passed.is_empty() {
            let more = self.passed.len();
            out.push_str(
                &format_args!("({more} more came and went in between: --json)\n").to_string(),
            );
        }
        out
    }
}

impl Changed {
    fn of(row: &HistoryRow, from: Option<State>, state: Option<State>, time: UnixNs) -> Self {
        Self {
            id: row.id.clone(),
            service: row.service.clone(),
            method: row.method.clone(),
            path_template: row.path_template.clone(),
            from,
            state,
            time_unix_ns: time,
        }
    }
}

#[cfg(test)]
mod tests {
    use sensor_core::inventory::StateChange;

    use super::*;

    fn row(id: &str, changes: &[(u64, Option<State>)]) -> HistoryRow {
        let change = |(time, state): &(u64, Option<State>)| StateChange {
            time_unix_ns: UnixNs(*time),
            state: *state,
        };
        HistoryRow {
            id: id.into(),
            changes: changes.iter().map(change).collect(),
            ..HistoryRow::default()
        }
    }

    #[test]
    fn then_and_now_are_compared() {
        use State::{Declared, Missing, Observed};
        let history = HistoryView {
            time_unix_ns: UnixNs(100),
            endpoints: vec![
                row("same", &[(10, Some(Declared))]),
                row("back", &[(10, Some(Declared)), (60, Some(Missing)), (70, Some(Declared))]),
                row("new", &[(60, Some(Observed))]),
                row("gone", &[(10, Some(Observed)), (70, None)]),
                row("changed", &[(10, Some(Declared)), (60, Some(Observed)), (70, Some(Missing))]),
                row("passed", &[(60, Some(Observed)), (70, None)]),
                row("long-gone", &[(10, Some(Observed)), (20, None)]),
            ],
            ..HistoryView::default()
        };
        let diff = Diff::of(&history, UnixNs(50));
        let ids = |list: &[Changed]| list.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&diff.new), ["new"]);
        assert_eq!(ids(&diff.gone), ["gone"]);
        assert_eq!(ids(&diff.changed), ["changed"]);
        assert_eq!(ids(&diff.passed), ["passed"]);
        assert_eq!((diff.changed[0].from, diff.changed[0].state), (Some(Declared), Some(Missing)));
        assert!(diff.text().contains("~  declared -> missing"), "{}", diff.text());
        assert!(Diff::of(&history, UnixNs(80)).is_empty());
    }
}
