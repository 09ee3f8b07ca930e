//! Which states each endpoint has had, and when: rows as they are now and then to what changed between two times.
//!
//! A change is dated by the look that found it, a new endpoint by its first request. Bounds: [`HISTORY_CHANGES_MAX`] changes of an
//! endpoint, the oldest make room; [`HISTORY_ENDPOINTS_MAX`] endpoints, those that left longest ago make room, and what finds none
//! is counted; what left is kept for [`HISTORY_DAYS`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::row::EndpointRow;
use crate::{
    limits::{HISTORY_CHANGES_MAX, HISTORY_DAYS, HISTORY_ENDPOINTS_MAX},
    state::State,
    time::UnixNs,
};

/// Version of the published JSON.
pub const HISTORY_SCHEMA: &str = "sensor.history/v1";

/// The history as published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryView {
    /// Always [`HISTORY_SCHEMA`].
    pub schema: String,
    /// When it was made.
    pub time_unix_ns: UnixNs,
    /// The first look: before that only first requests are known.
    pub since_unix_ns: UnixNs,
    /// Changes and endpoints that found no room.
    pub forgotten: u64,
    /// Endpoints by id.
    pub endpoints: Vec<HistoryRow>,
}

/// The history of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryRow {
    /// Its id.
    pub id: String,
    /// Service.
    pub service: String,
    /// Request method.
    pub method: String,
    /// Path template, as it was called last.
    pub path_template: String,
    /// Oldest first.
    pub changes: Vec<StateChange>,
    /// Older changes that are not kept.
    #[serde(default)]
    pub dropped: u32,
}

/// From a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateChange {
    /// When it was found.
    pub time_unix_ns: UnixNs,
    /// The state; none: it is not listed any more.
    pub state: Option<State>,
}

/// One endpoint, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// Its id.
    pub key: String,
    /// Its last change.
    pub time: UnixNs,
    /// As [`History::restore`] takes it.
    pub body: Vec<u8>,
}

/// History of all endpoints.
#[derive(Clone, Debug, Default)]
pub struct History {
    known: BTreeMap<String, Known>,
    round: u64,
    since: Option<UnixNs>,
    forgotten: u64,
    /// Endpoints that found no room in this look, and in the one with most: each counts once.
    unplaced: u64,
    unplaced_max: u64,
    removed: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    row: HistoryRow,
    round: u64,
    dirty: bool,
}

impl Known {
    fn state(&self) -> Option<State> {
        self.row.changes.last().and_then(|change| change.state)
    }

    fn note(&mut self, time: UnixNs, state: Option<State>) -> u64 {
        self.dirty = true;
        self.row.changes.push(StateChange { time_unix_ns: time, state });
        if self.row.changes.len() <= HISTORY_CHANGES_MAX {
            return 0;
        }
        self.row.changes.remove(0);
        self.row.dropped = self.row.dropped.saturating_add(1);
        1
    }
}

impl History {
    /// Begins a look at all endpoints; [`Self::see`] each of them, then [`Self::end`].
    pub fn begin(&mut self, now: UnixNs) {
        self.round += 1;
        self.unplaced = 0;
        self.since.get_or_insert(now);
    }

    /// Notes an endpoint as it is now.
    pub fn see(&mut self, row: &EndpointRow, now: UnixNs) {
        let round = self.round;
        if let Some(known) = self.known.get_mut(&row.id) {
            // One entry for each look, whatever else is listed by this id.
            if std::mem::replace(&mut known.round, round) == round {
                return;
            }
            if known.row.path_template != row.path_template {
                known.row.path_template.clone_from(&row.path_template);
                known.dirty = true;
            }
            if known.state() != Some(row.state) {
                self.forgotten += known.note(now, Some(row.state));
            }
            return;
        }
        // A large catalogue that nobody calls must leave room for what is found.
        let called = row.last_seen_unix_ns.is_some();
        let room = if called { HISTORY_ENDPOINTS_MAX } else { HISTORY_ENDPOINTS_MAX / 2 };
        if self.known.len() >= room {
            self.unplaced += 1;
            if self.unplaced > self.unplaced_max {
                self.unplaced_max = self.unplaced;
                self.forgotten += 1;
            }
            return;
        }
        let first = StateChange {
            time_unix_ns: row.first_seen_unix_ns.unwrap_or(now).min(now),
            state: Some(row.state),
        };
        let new = HistoryRow {
            id: row.id.clone(),
            service: row.service.clone(),
            method: row.method.clone(),
            path_template: row.path_template.clone(),
            changes: vec![first],
            dropped: 0,
        };
        self.known.insert(row.id.clone(), Known { row: new, round, dirty: true });
    }

    /// Ends the look: what was not seen is not listed any more.
    pub fn end(&mut self, now: UnixNs) {
        let mut gone: Vec<(UnixNs, String)> = Vec::new();
        for (id, known) in &mut self.known {
            if known.round != self.round && known.state().is_some() {
                self.forgotten += known.note(now, None);
            }
            if let Some(StateChange { time_unix_ns, state: None }) = known.row.changes.last() {
                gone.push((*time_unix_ns, id.clone()));
            }
        }
        gone.sort_unstable();
        let old = UnixNs(now.0.saturating_sub(HISTORY_DAYS * DAY_NS));
        let over = self.known.len().saturating_sub(HISTORY_ENDPOINTS_MAX / 10 * 9);
        for (number, (left, id)) in gone.into_iter().enumerate() {
            if left >= old && number >= over {
                break;
            }
            self.forgotten += u64::from(left >= old);
            self.known.remove(&id);
            self.removed.push(id);
        }
    }

    /// The history, of one endpoint or of all.
    #[must_use]
    pub fn view(&self, now: UnixNs, id: Option<&str>) -> HistoryView {
        let wanted = |known: &&Known| id.is_none_or(|id| known.row.id == id);
        HistoryView {
            schema: HISTORY_SCHEMA.to_owned(),
            time_unix_ns: now,
            since_unix_ns: self.since.unwrap_or(now),
            forgotten: self.forgotten,
            endpoints: self.known.values().filter(wanted).map(|known| known.row.clone()).collect(),
        }
    }

    /// What found no room so far.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Records to write and keys to remove, since the last call.
    pub fn take_changes(&mut self) -> (Vec<HistoryRecord>, Vec<String>) {
        let mut records = Vec::new();
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.dirty) {
            known.dirty = false;
            let time = known.row.changes.last().map_or(UnixNs(0), |change| change.time_unix_ns);
            let record = Record { since: self.since.unwrap_or_default(), row: known.row.clone() };
            let body = serde_json::to_vec(&record).ok();
            records.extend(body.map(|body| HistoryRecord { key: id.clone(), time, body }));
        }
        (records, std::mem::take(&mut self.removed))
    }

    /// Takes a record back; false when it is not one.
    pub fn restore(&mut self, body: &[u8]) -> bool {
        let Ok(Record { since, mut row }) = serde_json::from_slice::<Record>(body) else {
            return false;
        };
        if row.changes.is_empty() || self.known.len() >= HISTORY_ENDPOINTS_MAX {
            return false;
        }
        let over = row.changes.len().saturating_sub(HISTORY_CHANGES_MAX);
        row.changes.drain(..over);
        self.since = Some(self.since.map_or(since, |known| known.min(since)));
        self.known.insert(row.id.clone(), Known { row, round: self.round, dirty: false });
        true
    }
}

impl HistoryRow {
    /// The state at a time; none where it was not listed. What is not kept any more was as it is known first.
    #[must_use]
    pub fn state_at(&self, time: UnixNs) -> Option<State> {
        let before = self.changes.iter().rev().find(|change| change.time_unix_ns <= time);
        match before {
            Some(change) => change.state,
            None if self.dropped > 0 => self.changes.first().and_then(|change| change.state),
            None => None,
        }
    }
}

/// As stored; the first look is in each, so that no record is needed for it alone.
#[derive(Serialize, Deserialize)]
struct Record {
    since: UnixNs,
    #[serde(flatten)]
    row: HistoryRow,
}

const DAY_NS: u64 = 86_400_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, state: &str, first: Option<u64>) -> EndpointRow {
        let mut row = crate::inventory::tests::blank_row(id);
        row.state = serde_json::from_value(state.into()).unwrap();
        row.first_seen_unix_ns = first.map(UnixNs);
        row.last_seen_unix_ns = row.first_seen_unix_ns;
        row
    }

    fn look(history: &mut History, now: u64, rows: &[EndpointRow]) {
        history.begin(UnixNs(now));
        for row in rows {
            history.see(row, UnixNs(now));
        }
        history.end(UnixNs(now));
    }

    fn states(history: &History, id: &str) -> Vec<(u64, Option<&'static str>)> {
        let view = history.view(UnixNs(0), Some(id));
        let changes = view.endpoints.iter().flat_map(|row| row.changes.clone());
        changes.map(|it| (it.time_unix_ns.0, it.state.map(State::as_str))).collect()
    }

    #[test]
    fn changes_are_noted_once_and_survive_a_restart() {
        let mut history = History::default();
        look(&mut history, 10, &[row("a", "observed", Some(7)), row("b", "pending", None)]);
        look(&mut history, 20, &[row("a", "observed", Some(7)), row("b", "pending", None)]);
        look(&mut history, 30, &[row("a", "shadow-host", Some(7))]);
        assert_eq!(states(&history, "a"), [(7, Some("observed")), (30, Some("shadow-host"))]);
        assert_eq!(states(&history, "b"), [(10, Some("pending")), (30, None)]);
        let (records, _) = history.take_changes();
        assert_eq!(records.len(), 2);
        assert_eq!(history.take_changes().0.len(), 0, "only what changed");
        let mut again = History::default();
        assert!(records.iter().all(|record| again.restore(&record.body)));
        assert!(!again.restore(b"{}"));
        assert_eq!(again.view(UnixNs(0), None), history.view(UnixNs(0), None));
        look(&mut again, 40, &[row("a", "shadow-host", Some(7)), row("b", "declared", Some(39))]);
        assert_eq!(states(&again, "a").len(), 2);
        assert_eq!(states(&again, "b").last(), Some(&(40, Some("declared"))));
        let b = again.view(UnixNs(0), Some("b")).endpoints.remove(0);
        let at = [9, 10, 29, 30, 39, 40].map(|time| b.state_at(UnixNs(time)).map(State::as_str));
        let pending = Some("pending");
        assert_eq!(at, [None, pending, pending, None, None, Some("declared")]);
    }

    #[test]
    fn the_oldest_changes_make_room_and_are_counted() {
        let mut history = History::default();
        for time in 0..40 {
            let state = if time % 2 == 0 { "declared" } else { "missing" };
            look(&mut history, time, &[row("a", state, None)]);
        }
        assert_eq!(states(&history, "a").len(), HISTORY_CHANGES_MAX);
        assert_eq!(history.forgotten(), 40 - HISTORY_CHANGES_MAX as u64);
        let row = history.view(UnixNs(0), None).endpoints.remove(0);
        assert_eq!(row.state_at(UnixNs(0)), row.changes[0].state, "as it is known first");
    }

    #[test]
    fn what_left_long_ago_makes_room() {
        let mut history = History::default();
        let day = |days: u64| days * DAY_NS;
        look(&mut history, 0, &[row("a", "observed", Some(0)), row("b", "observed", Some(0))]);
        look(&mut history, day(1), &[row("b", "observed", Some(0))]);
        look(&mut history, day(HISTORY_DAYS + 1), &[row("b", "observed", Some(0))]);
        assert_eq!(states(&history, "a").len(), 2);
        look(&mut history, day(HISTORY_DAYS + 2), &[row("b", "observed", Some(0))]);
        assert_eq!(history.view(UnixNs(0), None).endpoints.len(), 1);
        assert_eq!(history.take_changes().1, ["a"]);
        let many: Vec<_> = (0..HISTORY_ENDPOINTS_MAX + 5)
            .map(|number| row(&number.to_string(), "observed", Some(0)))
            .collect();
        look(&mut history, day(900), &many);
        assert_eq!(history.view(UnixNs(0), None).endpoints.len(), HISTORY_ENDPOINTS_MAX - 1);
        assert_eq!(history.forgotten(), 7);
        // Those without room are the same ones at the next look.
        look(&mut history, day(900) + 1, &many);
        assert_eq!(history.forgotten(), 7);
    }

    #[test]
    fn what_is_declared_and_never_called_leaves_room_for_what_is_found() {
        let mut history = History::default();
        let mut many: Vec<_> = (0..HISTORY_ENDPOINTS_MAX + 5)
            .map(|number| row(&number.to_string(), "pending", None))
            .collect();
        many.push(row("found", "shadow-path", Some(1)));
        look(&mut history, 2, &many);
        assert_eq!(history.view(UnixNs(0), None).endpoints.len(), HISTORY_ENDPOINTS_MAX / 2 + 1);
        assert_eq!(states(&history, "found").len(), 1);
    }

    #[test]
    fn two_rows_of_one_id_are_one_entry_of_a_look() {
        let mut history = History::default();
        let rows = [row("a", "declared", Some(0)), row("a", "pending", None)];
        for now in 0..5 {
            look(&mut history, now, &rows);
        }
        assert_eq!(states(&history, "a").len(), 1);
    }
}
