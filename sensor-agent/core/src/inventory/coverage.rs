//! Connections of one listener by what they carried, and whether enough of them could be read over the window.

use std::collections::VecDeque;

use super::names::{NameSet, Names};
use crate::{limits::COVERED_PERMILLE_MIN, time::UnixNs};

/// Totals of one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerTotals {
    /// Connections opened, and those joined in the middle.
    pub opened: u64,
    /// HTTP/1.
    pub http: u64,
    /// HTTP/2 with prior knowledge.
    pub h2c: u64,
    /// TLS.
    pub tls: u64,
    /// Something else.
    pub other: u64,
    /// Ended.
    pub closed: u64,
    /// Ended without payload.
    pub silent: u64,
}

impl ListenerTotals {
    /// Connections that carried something this version cannot read.
    pub(super) const fn unreadable(&self) -> u64 {
        self.h2c + self.tls + self.other
    }

    /// Share of the connections with payload that were read.
    #[expect(clippy::cast_precision_loss, reason = "a share, shown")]
    pub(super) fn readable(&self) -> Option<f64> {
        let all = self.http + self.unreadable();
        (all > 0).then(|| self.http as f64 / all as f64)
    }

    fn zip(self, other: Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            opened: with(self.opened, other.opened),
            http: with(self.http, other.http),
            h2c: with(self.h2c, other.h2c),
            tls: with(self.tls, other.tls),
            other: with(self.other, other.other),
            closed: with(self.closed, other.closed),
            silent: with(self.silent, other.silent),
        }
    }
}

/// Connections of a listener over time.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Of earlier lives of the kernel's table.
    base: ListenerTotals,
    current: ListenerTotals,
    /// (time, totals), oldest first: what the window's share is taken from.
    checkpoints: VecDeque<(UnixNs, ListenerTotals)>,
    pub(super) server_names: NameSet,
    pub(super) alpn: NameSet,
}

impl Coverage {
    /// All connections so far.
    pub(super) fn totals(&self) -> ListenerTotals {
        self.base.zip(self.current, u64::saturating_add)
    }

    /// Takes totals of a counting table; when they went back, the table has begun anew.
    pub(super) fn set(&mut self, totals: ListenerTotals) {
        if totals.opened < self.current.opened || totals.closed < self.current.closed {
            self.base = self.totals();
        }
        self.current = totals;
    }

    /// Counts single connections (a capture).
    pub(super) fn add(&mut self, count: impl FnOnce(&mut ListenerTotals)) {
        count(&mut self.current);
    }

    /// Notes the totals of now, [`CHECKPOINTS`] times in a window.
    pub(super) fn checkpoint(&mut self, now: UnixNs, window_ns: u64) {
        let step = window_ns / CHECKPOINTS;
        if self.checkpoints.back().is_some_and(|(time, _)| now.0.saturating_sub(time.0) < step) {
            return;
        }
        self.checkpoints.push_back((now, self.totals()));
        // One from before the window must stay: the difference to it covers the whole window.
        while self
            .checkpoints
            .get(1)
            .is_some_and(|(time, _)| time.0 <= now.0.saturating_sub(window_ns))
        {
            self.checkpoints.pop_front();
        }
    }

    /// Whether nearly all connections of the window could be read; true when there was none.
    pub(super) fn is_readable(&self, now: UnixNs, window_ns: u64) -> bool {
        let start = now.0.saturating_sub(window_ns);
        let before = self.checkpoints.iter().take_while(|(time, _)| time.0 <= start).last();
        let since = self
            .totals()
            .zip(before.map(|(_, totals)| *totals).unwrap_or_default(), u64::saturating_sub);
        let all = since.http + since.unreadable();
        since.http * 1_000 >= all * COVERED_PERMILLE_MIN
    }

    /// Notes names of a ClientHello.
    pub(super) fn hello(
        &mut self,
        names: &mut Names,
        server_name: Option<&str>,
        alpn: &[Box<str>],
        max: usize,
    ) {
        if let Some(name) = server_name {
            self.server_names.add(names, name, max);
        }
        for protocol in alpn {
            self.alpn.add(names, protocol, max);
        }
    }
}

const CHECKPOINTS: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(seconds: u64) -> UnixNs {
        UnixNs((1_000_000 + seconds) * S)
    }

    #[test]
    fn one_unreadable_in_a_hundred_is_covered_and_two_are_not() {
        for (tls, readable) in [(0, true), (1, true), (2, false)] {
            let mut coverage = Coverage::default();
            coverage.set(ListenerTotals {
                opened: 100,
                http: 100 - tls,
                tls,
                ..Default::default()
            });
            assert_eq!(coverage.is_readable(at(0), 60 * S), readable, "{tls}");
        }
        assert!(Coverage::default().is_readable(at(0), 60 * S), "nobody connected, nobody called");
    }

    #[test]
    fn what_was_unreadable_before_the_window_does_not_count() {
        let mut coverage = Coverage::default();
        coverage.set(ListenerTotals { opened: 10, tls: 10, ..Default::default() });
        for second in 0..200 {
            coverage.checkpoint(at(second), 60 * S);
        }
        assert!(coverage.is_readable(at(200), 60 * S));
        coverage.set(ListenerTotals { opened: 11, tls: 11, ..Default::default() });
        assert!(!coverage.is_readable(at(200), 60 * S));
        assert!(coverage.checkpoints.len() <= 33);
    }

    #[test]
    fn a_table_that_begins_anew_loses_nothing() {
        let mut coverage = Coverage::default();
        coverage.set(ListenerTotals { opened: 10, http: 10, ..Default::default() });
        coverage.set(ListenerTotals { opened: 3, http: 2, ..Default::default() });
        assert_eq!(coverage.totals().opened, 13);
        assert_eq!(coverage.totals().http, 12);
    }
}
