//! One direction of a connection: what byte comes next, and the segments that came too early.
//!
//! Bound: [`HELD_SEGMENTS_MAX`] segments and [`HELD_BYTES_MAX`] bytes; beyond, the hole counts as lost. Where two copies of
//! a byte differ, the first one wins. Retransmissions and overlaps are cut by sequence number alone.

use std::collections::VecDeque;

use super::segment::Segment;
use super::seq::SeqNo;
use crate::time::UnixNs;

/// Most segments that wait in one direction.
pub(super) const HELD_SEGMENTS_MAX: usize = 4096;
/// Most bytes that wait in one direction.
pub(super) const HELD_BYTES_MAX: usize = 4 << 20;
/// A segment further away than any window (RFC 7323) is not of this stream.
const WINDOW_MAX: i32 = 1 << 30;
/// So many segments outside in a row: the stream has moved on.
const OUTSIDE_MAX: u8 = 16;
/// A hole whose bytes the receiver has acknowledged is lost once this many further segments were seen ..
const LOST_SEGMENTS: u32 = 64;
/// .. or this many, and this much time has passed.
const LOST_SEGMENTS_LATE: u32 = 16;
const LOST_AFTER_NS: u64 = 1_000_000_000;
/// A hole of which nobody says that it was received is lost after this time.
const LOST_UNACKED_NS: u64 = 60_000_000_000;

/// A segment that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) seq: SeqNo,
    pub(super) ack: SeqNo,
    pub(super) time: UnixNs,
    pub(super) wire_len: u32,
    pub(super) data: Box<[u8]>,
}

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Nothing new in it.
    Old,
    /// In order after cutting this many bytes off its front.
    Next(u32),
    /// Bytes before it are missing.
    Early,
    /// Not of this stream.
    Outside,
}

#[derive(Debug, Default)]
pub(super) struct Half {
    /// Next byte to deliver; `None` until the direction was seen or acknowledged.
    pub(super) next: Option<SeqNo>,
    /// Initial sequence number, where the SYN was seen.
    pub(super) isn: Option<SeqNo>,
    /// Position after the last byte.
    pub(super) fin: Option<SeqNo>,
    /// How far the receiver has acknowledged.
    acked: Option<SeqNo>,
    /// The lowest acknowledgement while the start was not known.
    acked_first: Option<SeqNo>,
    /// What the sender had received when it sent what was delivered last.
    pub(super) delivered_ack: Option<SeqNo>,
    /// Whether bytes were delivered.
    pub(super) started: bool,
    outside: u8,
    pub(super) held: VecDeque<Held>,
    pub(super) held_bytes: usize,
    wait_since: UnixNs,
    wait_segments: u32,
}

impl Half {
    /// A direction of which the next byte is known.
    pub(super) fn at(next: SeqNo) -> Self {
        Self { next: Some(next), ..Self::default() }
    }

    /// Where a segment lies.
    pub(super) fn fit(&mut self, seq: SeqNo, len: u32) -> Fit {
        let Some(next) = self.next else {
            self.next = Some(seq);
            return Fit::Next(0);
        };
        let ahead = seq.since(next);
        if !(-WINDOW_MAX..=WINDOW_MAX).contains(&ahead) {
            self.outside = self.outside.saturating_add(1);
            return Fit::Outside;
        }
        self.outside = 0;
        if ahead > 0 {
            return Fit::Early;
        }
        if ahead < 0 && self.isn.is_none() && !self.started && self.held.is_empty() && len > 1 {
            // Joined in the middle, and `next` was only guessed from an acknowledgement.
            self.next = Some(seq);
            return Fit::Next(0);
        }
        let behind = ahead.unsigned_abs();
        if behind >= len { Fit::Old } else { Fit::Next(behind) }
    }

    /// Whether so much came from outside that the stream must have moved on.
    pub(super) const fn has_moved(&self) -> bool {
        self.outside >= OUTSIDE_MAX
    }

    /// The receiver acknowledged up to `ack`; `guess`: where nothing was seen yet, the stream goes on from there.
    pub(super) fn note_ack(&mut self, ack: SeqNo, guess: bool) {
        if self.acked.is_none_or(|before| ack.since(before) > 0) {
            self.acked = Some(ack);
        }
        if guess {
            self.next = self.next.or(Some(ack));
        } else if self.acked_first.is_none_or(|before| before.since(ack) > 0) {
            self.acked_first = Some(ack);
        }
    }

    /// No SYN will come: the stream begins with what is there, or, where its receiver was seen from its start on, with
    /// the first byte that it acknowledged.
    pub(super) fn begin(&mut self, receiver_known: bool) {
        let first = self.held.front().map(|held| held.seq);
        let acked = self.acked_first.filter(|_| receiver_known && self.next.is_none());
        self.next = self.next.or(match (first, acked) {
            (Some(first), Some(acked)) if acked.since(first) < 0 => Some(acked),
            (first, acked) => first.or(acked),
        });
        if let (None, Some(_), Some(next)) = (self.isn, acked, self.next) {
            self.isn = Some(SeqNo(next.0.wrapping_sub(1)));
        }
    }

    /// Whether this is where the first waiting segment belongs to: there, or not far behind.
    pub(super) fn begins_soon_after(&self, start: SeqNo, bytes: i32) -> bool {
        let first = self.held.front().map(|held| held.seq).or(self.next);
        first.is_some_and(|first| (0..=bytes).contains(&first.since(start)))
    }

    /// Keeps a copy until what lies before it has come; the first copy of a byte wins.
    pub(super) fn hold(&mut self, segment: &Segment<'_>, seq: SeqNo) {
        if self.held.is_empty() {
            self.wait_since = segment.time;
            self.wait_segments = 0;
        }
        let end = seq.plus(segment.wire_len);
        let mut from = seq;
        let mut at =
            self.held.partition_point(|held| held.seq.plus(held.wire_len).since(from) <= 0);
        while end.since(from) > 0 && self.held.len() < HELD_SEGMENTS_MAX {
            if segment.wire_len > 1
                && self
                    .held
                    .get(at)
                    .is_some_and(|held| held.wire_len == 1 && held.seq.since(end) < 0)
            {
                // A byte alone may be a keep-alive probe that came early in the file, and its byte is made up.
                self.remove(at);
                continue;
            }
            let (gap_end, resume) = match self.held.get(at) {
                Some(held) if held.seq.since(end) < 0 => (held.seq, held.seq.plus(held.wire_len)),
                _ => (end, end),
            };
            if gap_end.since(from) > 0 {
                self.insert(at, segment, seq, from, gap_end);
                at += 1;
            }
            from = resume;
            at += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(held) = self.held.remove(at) {
            self.held_bytes = self.held_bytes.saturating_sub(held.data.len() + size_of::<Held>());
        }
    }

    fn insert(&mut self, at: usize, segment: &Segment<'_>, seq: SeqNo, from: SeqNo, to: SeqNo) {
        let offset = |position: SeqNo| {
            usize::try_from(position.since(seq)).unwrap_or(0).min(segment.payload.len())
        };
        let data: Box<[u8]> =
            segment.payload.get(offset(from)..offset(to)).unwrap_or_default().into();
        self.held_bytes += data.len() + size_of::<Held>();
        let wire_len = to.since(from).unsigned_abs();
        self.held.insert(
            at,
            Held { seq: from, ack: SeqNo(segment.ack), time: segment.time, wire_len, data },
        );
    }

    /// Keeps the rest of a segment that was delivered in part.
    pub(super) fn put_back(&mut self, rest: Held) {
        if self.held.is_empty() {
            self.wait_since = rest.time;
            self.wait_segments = 0;
        }
        self.next = Some(rest.seq);
        self.held_bytes += rest.data.len() + size_of::<Held>();
        self.held.push_front(rest);
    }

    /// Another segment of the connection was seen while something waits here.
    pub(super) fn tick(&mut self) {
        self.wait_segments = self.wait_segments.saturating_add(1);
    }

    /// Takes the first waiting segment.
    pub(super) fn take_held(&mut self, now: UnixNs) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.held_bytes = self.held_bytes.saturating_sub(held.data.len() + size_of::<Held>());
        self.wait_since = now;
        self.wait_segments = 0;
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        Some(held)
    }

    /// Whether waiting is over for want of room or patience, with everything acknowledged.
    pub(super) fn waited_enough(&self, now: UnixNs) -> bool {
        let waited = now.0.saturating_sub(self.wait_since.0);
        self.held.len() >= HELD_SEGMENTS_MAX
            || self.held_bytes >= HELD_BYTES_MAX
            || self.wait_segments >= LOST_SEGMENTS
            || (self.wait_segments >= LOST_SEGMENTS_LATE && waited >= LOST_AFTER_NS)
    }

    /// Whether the hole before the first waiting segment counts as lost.
    pub(super) fn hole_is_lost(&self, now: UnixNs) -> bool {
        let Some(first) = self.held.front() else { return false };
        if self.acked.is_some_and(|acked| acked.since(first.seq) >= 0) && self.waited_enough(now) {
            return true;
        }
        self.held.len() >= HELD_SEGMENTS_MAX
            || self.held_bytes >= HELD_BYTES_MAX
            || now.0.saturating_sub(self.wait_since.0) >= LOST_UNACKED_NS
    }

    /// Whether the end of the stream was delivered.
    pub(super) fn is_finished(&self) -> bool {
        matches!((self.fin, self.next), (Some(fin), Some(next)) if next.since(fin) >= 0)
    }
}
