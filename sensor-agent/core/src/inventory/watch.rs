//! When the sensor was watching, and when it missed something: what coverage over the window rests on.
//!
//! Spans of attachment survive restarts (the time between two runs is a gap). At most [`SPANS_MAX`] are kept; the
//! oldest are forgotten first, which can only make less covered.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{limits::COVERED_PERMILLE_MIN, state::Observed, time::UnixNs};

const SPANS_MAX: usize = 256;

/// A time in which the sensor was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Attached from.
    pub from: UnixNs,
    /// Attached to.
    pub to: UnixNs,
}

/// Whether the last span goes on by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attached {
    /// Live: attached now, whatever arrives.
    Now,
    /// A capture: to its last packet.
    #[default]
    ToLastPacket,
}

/// Attachment, losses and sampling over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    spans: VecDeque<Span>,
    attached: Attached,
    /// Last time heads were lost before they could be counted for a listener.
    pub(super) lost: UnixNs,
    /// Last time a connection found no room in the table of listeners.
    pub(super) uncounted: UnixNs,
    /// Last time flows were sampled out.
    pub(super) sampled: UnixNs,
}

impl Watch {
    /// Starts a span.
    pub(super) fn begin(&mut self, now: UnixNs, attached: Attached) {
        self.attached = attached;
        self.spans.push_back(Span { from: now, to: now });
        while self.spans.len() > SPANS_MAX {
            self.spans.pop_front();
        }
    }

    /// The sensor is still there (or a packet is in the capture).
    pub(super) fn extend(&mut self, now: UnixNs) {
        match self.spans.back_mut() {
            Some(span) => {
                span.to = span.to.max(now);
                // Packets of a capture need not be in order.
                if self.attached == Attached::ToLastPacket
                    && self.spans.len() == 1
                    && let Some(first) = self.spans.front_mut()
                {
                    first.from = first.from.min(now);
                }
            }
            None => self.begin(now, Attached::ToLastPacket),
        }
    }

    /// When watching began, first of all.
    pub(super) fn since(&self) -> Option<UnixNs> {
        self.spans.front().map(|span| span.from)
    }

    /// Whether the window before `now` was watched from its start.
    pub(super) fn observed(&self, now: UnixNs, window_ns: u64) -> Observed {
        let start = now.0.saturating_sub(window_ns);
        match self.since() {
            Some(since) if since.0 <= start => Observed::WholeWindow,
            _ => Observed::Shorter,
        }
    }

    /// Whether the sensor was attached for enough of the window before `now`.
    pub(super) fn is_attached_enough(&self, now: UnixNs, window_ns: u64) -> bool {
        self.attached_ns(now, window_ns) * 1_000
            >= u128::from(window_ns) * u128::from(COVERED_PERMILLE_MIN)
    }

    /// For how long of the window before `now` the sensor was attached.
    pub(super) fn attached_ns(&self, now: UnixNs, window_ns: u64) -> u128 {
        let start = now.0.saturating_sub(window_ns);
        let last = self.spans.len().saturating_sub(1);
        let mut until = start;
        let mut attached = 0_u128;
        for (at, span) in self.spans.iter().enumerate() {
            let open = at == last && self.attached == Attached::Now;
            let to = if open { now.0 } else { span.to.0.min(now.0) };
            // Spans can overlap when a clock was set back.
            let from = span.from.0.max(until);
            attached += u128::from(to.saturating_sub(from));
            until = until.max(to);
        }
        attached
    }

    /// The spans, oldest first.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.spans.iter().copied().collect()
    }

    /// Puts spans of earlier runs before this one's.
    pub(super) fn restore(&mut self, spans: &[Span]) {
        for span in spans.iter().rev().take(SPANS_MAX / 2) {
            self.spans.push_front(*span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(seconds: u64) -> UnixNs {
        UnixNs((1_000_000 + seconds) * S)
    }

    #[test]
    fn live_run_is_covered_once_it_lasted_for_the_window() {
        let mut watch = Watch::default();
        watch.begin(at(0), Attached::Now);
        assert_eq!(watch.observed(at(59), 60 * S), Observed::Shorter);
        assert!(!watch.is_attached_enough(at(59), 60 * S));
        assert_eq!(watch.observed(at(60), 60 * S), Observed::WholeWindow);
        assert!(watch.is_attached_enough(at(60), 60 * S));
    }

    #[test]
    fn capture_covers_to_its_last_packet_only() {
        let mut watch = Watch::default();
        watch.extend(at(0));
        watch.extend(at(120));
        assert!(watch.is_attached_enough(at(120), 60 * S));
        assert!(!watch.is_attached_enough(at(122), 60 * S), "two seconds of sixty after its end");
    }

    #[test]
    fn away_for_more_than_one_percent_is_not_covered() {
        for (away, covered) in [(0, true), (1, true), (2, false), (30, false)] {
            let mut watch = Watch::default();
            watch.begin(at(100 + away), Attached::Now);
            watch.restore(&[Span { from: at(0), to: at(100) }]);
            assert_eq!(watch.is_attached_enough(at(200), 100 * S), covered, "{away} s");
            assert_eq!(watch.observed(at(200), 100 * S), Observed::WholeWindow);
        }
    }

    #[test]
    fn overlapping_spans_count_once() {
        let mut watch = Watch::default();
        watch.begin(at(50), Attached::Now);
        watch.restore(&[Span { from: at(0), to: at(10) }, Span { from: at(5), to: at(20) }]);
        assert!(!watch.is_attached_enough(at(100), 100 * S));
    }
}
