//! `drops`: what was dropped, one line for each client and rule, and with `--follow` what is being dropped.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sensor_proto::json::rfc3339;
use serde_json::json;

use super::{Exit, Prerequisite, output, place::Place};
use crate::control::{DropRecord, DropsView, Question, ask};

/// How often the agent is asked.
const EVERY: Duration = Duration::from_millis(500);

/// Shows what was dropped: rule, reason, client, connection, interface.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent drops --follow
  sensor-agent drops --follow --json | jq -c 'select(.rule == \"bad-client\")'

The first drop of a client by a rule is always shown, then one line a second with the number of packets since the last one. The numbers
of all lines, and of what could not be told apart, sum to `blocked` and `limited` of the ledger (sensor-agent status).")]
pub(super) struct Args {
    /// Go on showing what is dropped
    #[arg(long, short = 'f')]
    follow: bool,
    #[command(flatten)]
    place: Place,
    /// Print JSON: one document, or with --follow a line each
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let socket = args.place.resolve()?.socket;
    let mut shown = Shown::default();
    loop {
        let value = ask(&socket, &Question::Drops { after: shown.last })
            .map_err(|error| Prerequisite::new(error.to_string()))?;
        let view: DropsView =
            serde_json::from_value(value).context("the agent is of another version")?;
        if args.json && !args.follow {
            output::print_json(&view)?;
            return Ok(Exit::Done);
        }
        let more = !view.records.is_empty();
        match print(&shown.lines(&view, args.json)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            other => other?,
        }
        if !more {
            if !args.follow {
                return Ok(Exit::Done);
            }
            std::thread::sleep(EVERY);
        }
    }
}

fn print(lines: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(lines.as_bytes())?;
    out.flush()
}

/// What was shown so far.
#[derive(Default)]
struct Shown {
    last: u64,
    packets: u64,
    unattributed: u64,
}

impl Shown {
    fn lines(&mut self, view: &DropsView, json: bool) -> String {
        let mut out = String::new();
        let mut line = |text: String, value: serde_json::Value| {
            out.push_str(&if json { value.to_string() } else { output::clean(&text).into_owned() });
            out.push('\n');
        };
        if let Some(first) = view.records.first().filter(|_| view.missed_records > 0) {
            let packets =
                first.packets_so_far.saturating_sub(first.packets).saturating_sub(self.packets);
            self.packets += packets;
            let text =
                format!("... {} records of {packets} packets were not kept", view.missed_records);
            line(
                text,
                json!({"type": "missed", "records": view.missed_records, "packets": packets}),
            );
        }
        for record in &view.records {
            self.packets += record.packets;
            let mut value = serde_json::to_value(record).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("type".into(), "drop".into());
            }
            line(text(record), value);
        }
        if view.unattributed > self.unattributed {
            let packets = view.unattributed - self.unattributed;
            self.unattributed = view.unattributed;
            let text = format!(
                "... {packets} packets of clients that found no room in the kernel's table"
            );
            line(text, json!({"type": "unattributed", "packets": packets}));
        }
        self.last = view.last;
        out
    }
}

fn text(record: &DropRecord) -> String {
    format!(
        "{} {} {} {} {} > {} {} {} x{}{}",
        rfc3339(record.time_unix_ns / 1_000_000_000 * 1_000_000_000),
        record.rule,
        record.reason,
        record.client,
        record.source,
        record.destination,
        record.protocol,
        record.interface,
        record.packets,
        if record.first { " first" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_sums_to_what_was_dropped() {
        let record = |number, packets, packets_so_far| DropRecord {
            number,
            packets,
            packets_so_far,
            rule: "bad\u{1b}".into(),
            ..DropRecord::default()
        };
        let mut shown = Shown::default();
        let view = DropsView { last: 1, records: vec![record(1, 5, 5)], ..DropsView::default() };
        assert!(shown.lines(&view, false).contains("bad\\u{1b}"));
        let view = DropsView {
            last: 9,
            missed_records: 7,
            records: vec![record(9, 2, 107)],
            unattributed: 3,
            ..DropsView::default()
        };
        let lines = shown.lines(&view, true);
        assert_eq!(lines.lines().count(), 3, "{lines}");
        assert!(lines.contains("\"packets\":100") && lines.contains("\"type\":\"unattributed\""));
        assert_eq!((shown.packets, shown.unattributed, shown.last), (107, 3, 9));
    }
}
