//! One TCP connection of a capture: reassembles both directions, classifies it, reads HTTP.
//!
//! A response that comes before its request in the file waits for it; an undecided start waits for more bytes; what is no
//! HTTP is ignored from then on and costs one look-up per packet. Bounds: those of its halves, readers and pairing.

mod order;
mod reading;
mod start;

use std::cmp::Reverse;
use std::net::SocketAddr;

use sensor_ebpf::abi::flow_key::FlowKey;

use self::order::Patience;
use super::assembled::{Assembled, FlowClass, socket_addr};
use super::counts::{FlowCounter, FlowCounts};
use super::half::{Fit, Half};
use super::pairing::Http;
use super::segment::{Segment, tcp_flag};
use super::seq::SeqNo;
use super::table::{Entry, Rank};
use super::twin::Twin;
use crate::http::{self, ClientHello, Position};
use crate::time::UnixNs;

/// A SYN this far before what was seen belongs to the connection joined (it came late in the file).
const LATE_SYN_MAX: i32 = 64 * 1024;
/// A segment of a twin this far from where the connection is belongs to another one (no window is larger, RFC 7323).
const TWIN_DISTANCE_MAX: u32 = 1 << 30;

/// Of a connection whose first packets are not its SYNs, so many segments are looked at before its start counts as not
/// captured: they may only be out of order in the file ..
const PRELUDE_SEGMENTS: u8 = 16;
/// .. or so many bytes held.
const PRELUDE_BYTES_MAX: usize = 256 * 1024;
/// After the end of a connection, bytes this far from it are of another one.
const FAR_BYTES: u32 = 1 << 20;
/// The same initial sequence number begins a new connection only after this time: before, it is a copy.
const SAME_ISN_AFTER_NS: u64 = 1_000_000_000;

/// Where results go, with the counters.
pub(super) struct Out<'a> {
    pub(super) counts: &'a mut FlowCounts,
    pub(super) sink: &'a mut dyn FnMut(Assembled),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing decided yet.
    Undecided,
    /// HTTP/1.
    Http,
    /// A ClientHello is being collected.
    Hello,
    /// Nothing more is read.
    Ignored,
}

#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was seen or not")]
#[derive(Debug)]
pub(super) struct Connection {
    key: FlowKey,
    pub(super) last: UnixNs,
    first: UnixNs,
    halves: [Half; 2],
    /// Which half is the client's.
    client: Option<usize>,
    mode: Mode,
    class: Option<FlowClass>,
    /// Classified when, and whether that was said.
    classified: UnixNs,
    announced: bool,
    hello: Option<Box<ClientHello>>,
    reset: bool,
    saw_payload: bool,
    /// Half that delivered last.
    last_from: Option<usize>,
    /// Whether what is being delivered follows bytes of the other direction: there heads begin.
    turned: bool,
    /// Segments seen while the start of a direction was not known; `None` once it is, or counts as not captured.
    prelude: Option<u8>,
    /// Bytes are missing before the first that was read.
    start_missed: bool,
    /// A SYN with another number: a new connection on the same ports, if it is answered.
    new_syn: Option<(usize, SeqNo)>,
    early: Vec<u8>,
    http: Option<Box<Http>>,
    /// Payload segments that others may know under other addresses.
    pub(super) remembered: u8,
    /// This is another connection, seen under other addresses.
    pub(super) twin: Option<Box<Twin>>,
    /// Ends as a twin knows them, by side.
    other_ends: Option<Box<[Option<SocketAddr>; 2]>>,
}

impl Connection {
    pub(super) fn new(key: FlowKey, time: UnixNs) -> Self {
        Self {
            key,
            last: time,
            first: time,
            halves: [Half::default(), Half::default()],
            client: None,
            mode: Mode::Undecided,
            class: None,
            classified: time,
            announced: false,
            hello: None,
            reset: false,
            saw_payload: false,
            last_from: None,
            turned: true,
            prelude: Some(0),
            start_missed: false,
            new_syn: None,
            early: Vec::new(),
            http: None,
            remembered: 0,
            twin: None,
            other_ends: None,
        }
    }

    /// Another sighting of the connection `twin.first`: from now on its segments go there.
    pub(super) fn of_twin(key: FlowKey, time: UnixNs, twin: Twin) -> Self {
        Self { twin: Some(Box::new(twin)), mode: Mode::Http, ..Self::new(key, time) }
    }

    /// A twin was seen to end.
    pub(super) fn end_twin(&mut self) {
        self.reset = true;
    }

    /// Whether what it is was not decided yet.
    pub(super) fn is_undecided(&self) -> bool {
        self.mode == Mode::Undecided && self.class.is_none()
    }

    /// Notes an end as a twin knows it, for the requests that wait too.
    pub(super) fn note_end(&mut self, side: usize, end: SocketAddr) {
        let Some(place) = self.other_ends.get_or_insert_default().get_mut(side) else { return };
        if place.replace(end) == Some(end) {
            return;
        }
        let (client, server) = self.ends();
        if let Some(http) = &mut self.http {
            http.set_ends(client, server);
        }
    }

    /// Whether a segment of a twin can be one of this connection: a SYN by its number, others by their distance.
    pub(super) fn takes(&self, side: usize, segment: &Segment<'_>) -> bool {
        let half = self.half(side);
        if segment.has(tcp_flag::SYN) {
            return half.isn == Some(SeqNo(segment.seq));
        }
        let near = |next: SeqNo| SeqNo(segment.seq).since(next).unsigned_abs() < TWIN_DISTANCE_MAX;
        half.next.is_none_or(near)
    }

    /// Bytes held, roughly.
    pub(super) fn held_bytes(&self) -> usize {
        let halves: usize = self.halves.iter().map(|half| half.held_bytes).sum();
        halves + self.early.capacity() + self.http.as_ref().map_or(0, |http| http.held_bytes())
    }

    /// Whether both ends are done with it.
    pub(super) fn is_closed(&self) -> bool {
        self.reset || self.halves.iter().all(Half::is_finished)
    }

    /// Takes one segment sent by side `from`.
    pub(super) fn on_segment(&mut self, from: usize, segment: &Segment<'_>, out: &mut Out<'_>) {
        let silent_ns = segment.time.0.saturating_sub(self.last.0);
        self.last = self.last.max(segment.time);
        if !self.announced && segment.wire_len > 0 && self.client == Some(1 - from) {
            self.announce(out);
        }
        if segment.has(tcp_flag::SYN) && !segment.has(tcp_flag::RST) {
            self.on_syn(from, segment, silent_ns, out);
        } else if self.is_after_end(from, segment) {
            self.finish(out);
            *self = Self::new(self.key, segment.time);
            out.counts.one(FlowCounter::FlowsOpened);
        } else if let Some((side, isn)) = self.new_syn
            && side == from
            && self.half(from).next != Some(SeqNo(segment.seq))
            && SeqNo(segment.seq) == isn.plus(1)
        {
            self.restart(from, isn, segment.time, out);
        }
        let to = 1 - from;
        if segment.has(tcp_flag::ACK) && !segment.has(tcp_flag::RST) {
            let guess = self.prelude.is_none();
            self.half_mut(to).note_ack(SeqNo(segment.ack), guess);
        }
        if segment.has(tcp_flag::RST) {
            self.reset = true;
        }
        let seq = SeqNo(segment.seq).plus(u32::from(segment.has(tcp_flag::SYN)));
        if segment.has(tcp_flag::FIN) && !segment.has(tcp_flag::RST) {
            self.half_mut(from).fin.get_or_insert(seq.plus(segment.wire_len));
        }
        if segment.wire_len > 0 && !segment.has(tcp_flag::RST) {
            self.on_payload(from, seq, segment, out);
        }
        if self.prelude.is_some() {
            self.on_prelude();
        }
        if self.halves.iter().any(|half| !half.held.is_empty()) {
            self.halves.iter_mut().for_each(Half::tick);
            self.drain(segment.time, Patience::Wait, out);
        }
        if segment.has(tcp_flag::FIN) {
            self.settle(from, out);
        }
    }

    /// Counts a segment that came before the start of both directions was known.
    fn on_prelude(&mut self) {
        let known = self.halves.iter().all(|half| half.next.is_some());
        let held_bytes: usize = self.halves.iter().map(|half| half.held_bytes).sum();
        self.prelude = self.prelude.map(|seen| seen + 1).filter(|seen| *seen < PRELUDE_SEGMENTS);
        if known || self.prelude.is_none() || held_bytes > PRELUDE_BYTES_MAX {
            self.end_prelude();
        }
    }

    /// What was not captured so far will not come: each direction begins with what is there.
    fn end_prelude(&mut self) {
        self.prelude = None;
        for side in 0..2 {
            let receiver_known = self.half(1 - side).isn.is_some();
            self.half_mut(side).begin(receiver_known);
        }
    }

    /// Gives up waiting for what may not come, to hold less. Whether it held anything that could be let go.
    pub(super) fn relieve(&mut self, out: &mut Out<'_>) -> bool {
        let waits = self.prelude.is_some();
        if waits {
            self.end_prelude();
            self.drain(self.last, Patience::Wait, out);
        }
        waits
    }

    /// Whether a segment lies beyond the end of a closed connection: the ports are used again, and the SYN was not captured.
    fn is_after_end(&self, from: usize, segment: &Segment<'_>) -> bool {
        if segment.wire_len < 2 || !self.is_closed() || segment.has(tcp_flag::RST) {
            return false;
        }
        let half = self.half(from);
        let seq = SeqNo(segment.seq);
        match (half.fin, half.next) {
            (Some(fin), _) => {
                let after = seq.since(fin);
                after > 0 || after.unsigned_abs() > FAR_BYTES
            }
            (None, Some(next)) => seq.since(next).unsigned_abs() > FAR_BYTES,
            (None, None) => false,
        }
    }

    /// Ends it: what waits is read as far as it goes, the rest is given up.
    pub(super) fn finish(&mut self, out: &mut Out<'_>) {
        self.drain(self.last, Patience::Over, out);
        self.end_http(out);
        if self.class.is_none()
            && (self.halves.iter().any(|half| half.isn.is_some()) || self.saw_payload)
        {
            let class = if self.saw_payload { FlowClass::Other } else { FlowClass::Silent };
            self.classify(class, self.first);
        }
        self.announce(out);
    }

    fn end_http(&mut self, out: &mut Out<'_>) {
        let client = self.client.unwrap_or(0);
        if let Some(mut http) = self.http.take() {
            let body = http.readers.get_mut(1 - client).and_then(http::Reader::close);
            http.flush_current(body, &mut |exchange| (out.sink)(Assembled::Exchange(exchange)));
            http.finish(out.counts, &mut |exchange| (out.sink)(Assembled::Exchange(exchange)));
        }
        self.early = Vec::new();
        self.mode = Mode::Ignored;
    }

    /// After a FIN: once both directions are delivered to their end, nothing can follow.
    fn settle(&mut self, from: usize, out: &mut Out<'_>) {
        if self.halves.iter().all(Half::is_finished) {
            self.finish(out);
        } else if self.client == Some(1 - from) && self.half(from).is_finished() {
            // The server is done: a body until close is whole.
            if let Some(http) = &mut self.http {
                let body = http.readers.get_mut(from).and_then(|reader| {
                    (reader.position() == Position::UntilClose).then(|| reader.close()).flatten()
                });
                if body.is_some() {
                    http.flush_current(body, &mut |exchange| {
                        (out.sink)(Assembled::Exchange(exchange));
                    });
                }
            }
        }
    }

    fn on_syn(&mut self, from: usize, segment: &Segment<'_>, silent_ns: u64, out: &mut Out<'_>) {
        let isn = SeqNo(segment.seq);
        let answers = segment.has(tcp_flag::ACK);
        let to = 1 - from;
        if let Some((side, new)) = self.new_syn
            && answers
            && side == to
            && SeqNo(segment.ack) == new.plus(1)
        {
            self.restart(to, new, segment.time, out);
        }
        let prelude_over = self.prelude.is_none();
        let half = self.half(from);
        if half.isn == Some(isn) {
            if !answers && self.is_closed() && silent_ns >= SAME_ISN_AFTER_NS {
                self.restart(from, isn, segment.time, out);
            }
            return;
        }
        let late = half.isn.is_none() && half.begins_soon_after(isn.plus(1), LATE_SYN_MAX);
        let fresh = half.isn.is_none() && !half.started && half.held.is_empty();
        if late || fresh {
            let half = self.half_mut(from);
            half.isn = Some(isn);
            if !half.started {
                half.next = Some(isn.plus(1));
            }
            if self.client.is_none() {
                self.client = Some(if answers { to } else { from });
            }
            // Where the client's SYN was not captured, its number is acknowledged here (with the data that it carried, RFC
            // 7413: as long as the SYN may still come, it is waited for).
            let peer = self.half_mut(to);
            if answers
                && prelude_over
                && peer.isn.is_none()
                && !peer.started
                && peer.held.is_empty()
            {
                peer.isn = Some(SeqNo(segment.ack.wrapping_sub(1)));
                peer.next = Some(SeqNo(segment.ack));
            }
        } else if answers {
            // A SYN-ACK that fits nothing.
        } else if self.is_closed() || !self.saw_payload {
            self.restart(from, isn, segment.time, out);
        } else {
            self.new_syn = Some((from, isn));
        }
    }

    /// The ports are used by a new connection.
    fn restart(&mut self, client: usize, isn: SeqNo, time: UnixNs, out: &mut Out<'_>) {
        self.finish(out);
        *self = Self::new(self.key, time);
        out.counts.one(FlowCounter::FlowsOpened);
        self.client = Some(client);
        let half = self.half_mut(client);
        half.isn = Some(isn);
        half.next = Some(isn.plus(1));
    }

    fn on_payload(&mut self, from: usize, seq: SeqNo, segment: &Segment<'_>, out: &mut Out<'_>) {
        self.saw_payload = true;
        if self.mode == Mode::Ignored && self.class.is_some() {
            // Keep following the sequence numbers: retransmissions after the end must not look new.
            let end = seq.plus(segment.wire_len);
            let half = self.half_mut(from);
            if half.next.is_none_or(|next| end.since(next) > 0) {
                half.next = Some(end);
            }
            return;
        }
        if self.prelude.is_some() && self.half(from).next.is_none() {
            out.counts.one(FlowCounter::SegmentsHeld);
            self.half_mut(from).hold(segment, seq);
            return;
        }
        match self.half_mut(from).fit(seq, segment.wire_len) {
            Fit::Old => out.counts.one(FlowCounter::SegmentsDuplicate),
            Fit::Outside => {
                out.counts.one(FlowCounter::SegmentsOutside);
                if self.half(from).has_moved() {
                    let half = self.half_mut(from);
                    *half = Half::at(seq);
                    self.lost_heads(from, u64::from(u32::MAX), out);
                    self.deliver(
                        from,
                        seq,
                        SeqNo(segment.ack),
                        segment.time,
                        segment.payload,
                        segment.wire_len,
                        out,
                    );
                }
            }
            Fit::Next(cut) => {
                let ack = SeqNo(segment.ack);
                if self.half(from).held.is_empty() && !self.stalls(from, segment.payload, ack) {
                    let data = segment
                        .payload
                        .get(usize::try_from(cut).unwrap_or(usize::MAX)..)
                        .unwrap_or_default();
                    let (seq, len) = (seq.plus(cut), segment.wire_len - cut);
                    self.deliver(from, seq, SeqNo(segment.ack), segment.time, data, len, out);
                } else {
                    out.counts.one(FlowCounter::SegmentsHeld);
                    self.half_mut(from).hold(segment, seq);
                }
            }
            Fit::Early => {
                out.counts.one(FlowCounter::SegmentsHeld);
                self.half_mut(from).hold(segment, seq);
            }
        }
    }

    /// Client and server; without a known client, the lower port is the server's.
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let low = socket_addr(self.key.low, self.key.low_port);
        let high = socket_addr(self.key.high, self.key.high_port);
        let low_is_client =
            self.client.map_or(self.key.low_port >= self.key.high_port, |client| client == 0);
        let (low, high) = match self.other_ends.as_deref() {
            Some([other_low, other_high]) => (other_low.unwrap_or(low), other_high.unwrap_or(high)),
            None => (low, high),
        };
        if low_is_client { (low, high) } else { (high, low) }
    }

    fn half(&self, side: usize) -> &Half {
        let [low, high] = &self.halves;
        if side == 0 { low } else { high }
    }

    fn half_mut(&mut self, side: usize) -> &mut Half {
        let [low, high] = &mut self.halves;
        if side == 0 { low } else { high }
    }
}

impl Entry for Connection {
    fn key(&self) -> &FlowKey {
        &self.key
    }

    fn rank(&self) -> Rank {
        (self.is_closed(), self.mode != Mode::Http, Reverse(self.last.0))
    }
}

fn first_seq(half: &Half) -> Option<SeqNo> {
    half.held.front().map(|held| held.seq)
}

#[cfg(test)]
mod tests;
