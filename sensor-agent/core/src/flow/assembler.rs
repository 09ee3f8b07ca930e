//! Segments of a capture, or records of the kernel, in; exchanges and classified connections out.
//!
//! Bounds: [`Limits`]. Every connection given up for want of room is counted, and what it had is emitted first.

use sensor_ebpf::abi::flow_key::FlowKey;

use super::assembled::Assembled;
use super::connection::{Connection, Out};
use super::counts::{FlowCounter, FlowCounts};
use super::live::Live;
use super::segment::{Segment, flow_key, tcp_flag};
use super::table::{Slot, Table};
use super::twin::{REMEMBERED_MAX, Recent, Twin};
use crate::sample::Sample;
use crate::time::{MonoNs, UnixNs};

/// Bounds of the flow stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub flows_max: usize,
    /// Bytes held at a time, over all connections.
    pub held_bytes_max: usize,
    /// A connection silent for this long is given up once a quarter of the table is used, ns.
    pub idle_timeout_ns: u64,
    /// A closed connection is remembered for this long, ns.
    pub closed_timeout_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows_max: 65_536,
            held_bytes_max: 16 << 20,
            idle_timeout_ns: 600_000_000_000,
            closed_timeout_ns: 30_000_000_000,
        }
    }
}

/// The flow stage.
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    table: Table<Connection>,
    recent: Recent,
    held_bytes: usize,
    counts: FlowCounts,
    live: Live,
    last: Option<(FlowKey, Slot)>,
    turn: u8,
}

impl Assembler {
    /// A new stage; `seed` keys the flow table, so that nobody can choose colliding flows.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            table: Table::new(seed),
            recent: Recent::new(seed),
            held_bytes: 0,
            counts: FlowCounts::default(),
            live: Live::new(seed),
            last: None,
            turn: 0,
        }
    }

    /// The agent's half of the ledger.
    #[must_use]
    pub fn counts(&self) -> &FlowCounts {
        &self.counts
    }

    /// Takes one segment of a capture.
    pub fn on_segment(&mut self, segment: &Segment<'_>, sink: &mut dyn FnMut(Assembled)) {
        self.counts.one(FlowCounter::Segments);
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(4) {
            self.expire_next(segment.time, sink);
        }
        let (key, from) = flow_key(&segment.tuple);
        let known = match self.last {
            Some((last, slot)) if last == key => Some(slot),
            _ => self.table.find_recent(&key),
        };
        let slot = match known {
            Some(slot) => slot,
            None if segment.wire_len == 0 && !segment.has(tcp_flag::SYN) => return,
            None if segment.has(tcp_flag::RST) => return,
            None => {
                self.make_room(sink);
                self.counts.one(FlowCounter::FlowsOpened);
                self.table.insert(Connection::new(key, segment.time))
            }
        };
        self.last = Some((key, slot));
        let Some(connection) = self.table.get_mut(slot) else { return };
        if connection.twin.is_some() {
            return self.on_twin(slot, from, segment, sink);
        }
        if segment.wire_len > 0 && connection.remembered < REMEMBERED_MAX {
            connection.remembered += 1;
            let undecided = connection.is_undecided();
            if self.meet((key, slot), from, segment, undecided) {
                return self.on_twin(slot, from, segment, sink);
            }
        }
        self.take(slot, from, segment, sink);
    }

    /// Looks whether a connection is one that is known under other addresses; remembers its segment where not.
    fn meet(
        &mut self,
        (key, slot): (FlowKey, Slot),
        from: usize,
        segment: &Segment<'_>,
        undecided: bool,
    ) -> bool {
        let tag = self.recent.tag(segment);
        let found = undecided.then(|| self.recent.find(tag, &key, segment)).flatten();
        let Some(sighting) = found else {
            self.recent.remember(tag, key, from, segment);
            return false;
        };
        let first = self.table.find(&sighting.key).and_then(|first| self.table.get_mut(first));
        let fits =
            |first: &mut Connection| first.twin.is_none() && first.takes(sighting.from, segment);
        if !first.is_some_and(fits) {
            return false;
        }
        let Some(connection) = self.table.get_mut(slot) else { return false };
        self.held_bytes = self.held_bytes.saturating_sub(connection.held_bytes());
        let twin = Twin::new(&sighting, from, segment);
        *connection = Connection::of_twin(key, segment.time, twin);
        self.counts.one(FlowCounter::Aliases);
        true
    }

    /// A segment of a connection seen under other addresses goes to the first one, which knows what it has of it.
    #[cold]
    fn on_twin(
        &mut self,
        slot: Slot,
        from: usize,
        segment: &Segment<'_>,
        sink: &mut dyn FnMut(Assembled),
    ) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let Some(twin) = connection.twin.as_deref().copied() else { return };
        connection.last = connection.last.max(segment.time);
        let side = twin.side(from);
        let first = self.table.find(&twin.first);
        let fits = |first: &Connection| first.twin.is_none() && first.takes(side, segment);
        let known = first.filter(|first| self.table.get_mut(*first).is_some_and(|it| fits(it)));
        let Some(first) = known else {
            // The other one is gone, or these addresses have a new meaning.
            let (key, _) = flow_key(&segment.tuple);
            if let Some(connection) = self.table.get_mut(slot) {
                *connection = Connection::new(key, segment.time);
            }
            return self.take(slot, from, segment, sink);
        };
        if let Some(entry) = self.table.get_mut(first) {
            entry.note_end(twin.end.0, twin.end.1);
        }
        self.take(first, side, segment, sink);
        let ended = self.table.get_mut(first).is_none_or(|entry| entry.is_closed());
        if ended && let Some(connection) = self.table.get_mut(slot) {
            connection.end_twin();
        }
    }

    /// Gives a segment to its connection.
    #[expect(
        clippy::inline_always,
        reason = "a call of its own costs what the look-up before it does"
    )]
    #[inline(always)]
    fn take(
        &mut self,
        slot: Slot,
        from: usize,
        segment: &Segment<'_>,
        sink: &mut dyn FnMut(Assembled),
    ) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let before = connection.held_bytes();
        connection.on_segment(from, segment, &mut Out { counts: &mut self.counts, sink });
        let after = connection.held_bytes();
        self.held_bytes = (self.held_bytes + after).saturating_sub(before);
        if self.held_bytes > self.limits.held_bytes_max {
            self.shed(slot, sink);
        }
    }

    /// Says what to add to the kernel's boot clock to get wall-clock time.
    pub fn set_wall_offset(&mut self, offset_ns: u64) {
        self.live.reading.wall_offset_ns = offset_ns;
    }

    /// Takes one record of the kernel.
    pub fn on_sample(&mut self, sample: &Sample<'_>, sink: &mut dyn FnMut(Assembled)) {
        self.live.on_sample(sample, &self.limits, &mut Out { counts: &mut self.counts, sink });
    }

    /// Lets time pass (live): looks at some connections whether they are idle.
    pub fn on_tick(&mut self, now: MonoNs, sink: &mut dyn FnMut(Assembled)) {
        self.live.on_tick(now, &self.limits, &mut Out { counts: &mut self.counts, sink });
    }

    /// Ends the capture, or the agent: everything that waits is given up and emitted.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Assembled)) {
        self.last = None;
        for mut connection in self.table.drain() {
            connection.finish(&mut Out { counts: &mut self.counts, sink });
        }
        self.held_bytes = 0;
        self.live.finish(&mut Out { counts: &mut self.counts, sink });
    }

    fn expire_next(&mut self, now: UnixNs, sink: &mut dyn FnMut(Assembled)) {
        let limits = self.limits;
        // With room to spare, nothing is gained by giving up: a response may take long, clocks in a file may differ.
        let crowded = self.table.len() >= limits.flows_max / 4;
        let Some((slot, entry)) = self.table.next_in_turn() else { return };
        let silent = now.0.saturating_sub(entry.last.0);
        let closed = entry.is_closed();
        let idle = silent >= limits.idle_timeout_ns && crowded;
        if idle || (closed && silent >= limits.closed_timeout_ns) {
            if !closed {
                self.counts.one(FlowCounter::FlowsIdle);
            }
            self.give_up(slot, sink);
        }
    }

    fn make_room(&mut self, sink: &mut dyn FnMut(Assembled)) {
        while self.table.len() >= self.limits.flows_max {
            let Some(slot) = self.table.victim() else { return };
            if self.table.get_mut(slot).is_some_and(|entry| !entry.is_closed()) {
                self.counts.one(FlowCounter::FlowsEvicted);
            }
            self.give_up(slot, sink);
        }
    }

    /// Too many bytes are held: the connection that asked for more gives up what it holds, then others in turn.
    fn shed(&mut self, current: Slot, sink: &mut dyn FnMut(Assembled)) {
        self.relieve(current, sink);
        for _ in 0..self.limits.flows_max {
            if self.held_bytes <= self.limits.held_bytes_max {
                return;
            }
            if let Some((slot, entry)) = self.table.next_in_turn()
                && entry.held_bytes() > 0
            {
                self.relieve(slot, sink);
            }
        }
    }

    /// Makes a connection hold less: it stops to wait for its start, or is given up.
    fn relieve(&mut self, slot: Slot, sink: &mut dyn FnMut(Assembled)) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let before = connection.held_bytes();
        if connection.relieve(&mut Out { counts: &mut self.counts, sink }) {
            let after = connection.held_bytes();
            self.held_bytes = (self.held_bytes + after).saturating_sub(before);
        } else {
            self.counts.one(FlowCounter::FlowsOverBudget);
            self.give_up(slot, sink);
        }
    }

    fn give_up(&mut self, slot: Slot, sink: &mut dyn FnMut(Assembled)) {
        self.last = None;
        if let Some(mut connection) = self.table.remove(slot) {
            self.held_bytes = self.held_bytes.saturating_sub(connection.held_bytes());
            connection.finish(&mut Out { counts: &mut self.counts, sink });
        }
    }
}
