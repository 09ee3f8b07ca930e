//! The states that endpoints had, noted while the agent runs.

use sensor_core::{
    inventory::{HistoryRecord, RowFilter},
    time::MonoNs,
};

use super::live::Live;
use crate::{
    kernel,
    store::{Row, Table},
    telemetry::Own,
};

/// States of endpoints are looked at this often,
const LOOK_NS: u64 = 10_000_000_000;
/// or this many times as far apart as one look takes.
const LOOK_SHARE: u64 = 200;

impl Live {
    /// What the store has to write of them, and to remove.
    pub(super) fn take_history(&mut self) -> (Vec<Row>, Vec<(Table, String)>) {
        let (records, removed) = self.history.take_changes();
        let row = |record: HistoryRecord| Row {
            table: Table::History,
            key: record.key,
            last_seen: record.time.0,
            body: record.body,
        };
        let removed = removed.into_iter().map(|key| (Table::History, key));
        (records.into_iter().map(row).collect(), removed.collect())
    }

    /// Notes the states of all endpoints. Each look is at all of them: the longer it takes, the rarer it is.
    pub(super) fn look(&mut self, now: MonoNs) {
        let time = self.pipeline.unix(now);
        let (history, pipeline) = (&mut self.history, &self.pipeline);
        let before = history.forgotten();
        history.begin(time);
        pipeline.each_row(time, &RowFilter::default(), |row| history.see(&row, time));
        history.end(time);
        Own::HistoryForgotten.add(history.forgotten().saturating_sub(before));
        let took = kernel::now().since(now);
        self.look_due = MonoNs(now.0.saturating_add(LOOK_NS.max(took.saturating_mul(LOOK_SHARE))));
    }
}
