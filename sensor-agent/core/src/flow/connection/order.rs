//! The order in which the bytes of both directions are read: what may go on, what waits for the other side, and for how long.

use super::{Connection, Mode, Out, first_seq};
use crate::flow::counts::FlowCounter;
use crate::flow::half::Held;
use crate::flow::pairing::HeadStart;
use crate::flow::seq::SeqNo;
use crate::http::{self, Detect, Kind};
use crate::time::UnixNs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Wait for what is missing.
    Wait,
    /// It will not come.
    Over,
}

impl Connection {
    /// Delivers what waits, as far as it can be.
    pub(super) fn drain(&mut self, now: UnixNs, patience: Patience, out: &mut Out<'_>) {
        if patience == Patience::Over {
            self.end_prelude();
        }
        loop {
            let first = self.turn();
            if self.drain_one(first, now, Patience::Wait, out)
                || self.drain_one(1 - first, now, Patience::Wait, out)
            {
                continue;
            }
            // Nothing moves by itself: give up a hole, first one that the server had received before it sent what waits.
            let first =
                if self.client_hole_is_received() { self.client.unwrap_or(0) } else { first };
            if patience == Patience::Wait
                || !(self.drain_one(first, now, Patience::Over, out)
                    || self.drain_one(1 - first, now, Patience::Over, out))
            {
                return;
            }
        }
    }

    fn client_hole_is_received(&self) -> bool {
        let client = self.client.unwrap_or(0);
        let (half, server) = (self.half(client), self.half(1 - client));
        match (half.held.front(), half.next, server.held.front(), server.next) {
            (Some(front), Some(next), Some(answer), Some(due)) => {
                front.seq.since(next) > 0
                    && answer.ack.since(next) > 0
                    && answer.seq.since(due) <= 0
            }
            _ => false,
        }
    }

    /// The half whose waiting bytes were sent first: the client's, unless its sender had received what waits of the other.
    fn turn(&self) -> usize {
        let client = self.client.unwrap_or(0);
        let server = self.half(1 - client);
        match (self.half(client).held.front(), server.held.front(), server.next) {
            (Some(front), Some(_), Some(next)) if front.ack.since(next) > 0 => 1 - client,
            _ => client,
        }
    }

    fn drain_one(
        &mut self,
        from: usize,
        now: UnixNs,
        patience: Patience,
        out: &mut Out<'_>,
    ) -> bool {
        let half = self.half(from);
        let (Some(first), Some(next)) = (half.held.front(), half.next) else { return false };
        let ahead = first.seq.since(next);
        if ahead > 0 {
            if patience == Patience::Wait && !half.hole_is_lost(now) {
                return false;
            }
            self.half_mut(from).next = Some(first_seq(self.half(from)).unwrap_or(next));
            out.counts.one(FlowCounter::Gaps);
            out.counts.add(FlowCounter::GapBytes, u64::from(ahead.unsigned_abs()));
            self.lost_heads(from, u64::from(ahead.unsigned_abs()), out);
            return true;
        }
        let stalled = self
            .half(from)
            .held
            .front()
            .is_some_and(|held| self.stalls(from, &held.data, held.ack));
        if stalled {
            if patience == Patience::Wait && !self.half(from).waited_enough(now) {
                return false;
            }
            if let Some(http) = &mut self.http {
                http.requests_blind = true;
            } else {
                self.open_http(Kind::Response, now);
            }
        }
        let Some(held) = self.half_mut(from).take_held(now) else { return false };
        let cut = next.since(held.seq).max(0).unsigned_abs();
        if cut < held.wire_len {
            let data =
                held.data.get(usize::try_from(cut).unwrap_or(usize::MAX)..).unwrap_or_default();
            self.deliver(
                from,
                held.seq.plus(cut),
                held.ack,
                held.time,
                data,
                held.wire_len - cut,
                out,
            );
        }
        true
    }

    /// Whether this data of the server has to wait for the request that it answers: one that was not seen yet, or one
    /// that waits behind a hole although the server had received it.
    pub(super) fn stalls(&self, from: usize, data: &[u8], ack: SeqNo) -> bool {
        if self.client != Some(1 - from) || self.mode == Mode::Ignored {
            return false;
        }
        let received = |held: &Held| ack.since(held.seq) > 0;
        let wants = match &self.http {
            Some(http) => http.wants_request(from) && !http::skip_blank_lines(data).is_empty(),
            None => self.mode == Mode::Undecided && http::response(data) != Detect::No,
        };
        wants || self.half(1 - from).held.front().is_some_and(received)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one in-order piece of a stream with where and when it came"
    )]
    pub(super) fn deliver(
        &mut self,
        from: usize,
        seq: SeqNo,
        ack: SeqNo,
        time: UnixNs,
        data: &[u8],
        len: u32,
        out: &mut Out<'_>,
    ) {
        let half = self.half_mut(from);
        let started = std::mem::replace(&mut half.started, true) || half.isn.is_none();
        half.next = Some(seq.plus(len));
        let newly_acked =
            half.delivered_ack.replace(ack).is_some_and(|before| ack.since(before) > 0);
        self.turned = newly_acked || self.last_from != Some(from);
        let start = HeadStart { time, seq, ack };
        let unread = match self.mode {
            Mode::Undecided => {
                self.decide(from, start, data, started, out);
                0
            }
            Mode::Http => self.read(from, start, data, out),
            Mode::Hello => {
                self.hello(from, data, out);
                0
            }
            Mode::Ignored => 0,
        };
        self.last_from = Some(from);
        if unread > 0 {
            let used = data.len() - unread;
            let data = data.get(used..).unwrap_or_default();
            let used = u32::try_from(used).unwrap_or(len).min(len);
            let rest =
                Held { seq: seq.plus(used), ack, time, wire_len: len - used, data: data.into() };
            self.half_mut(from).put_back(rest);
            return;
        }
        let cut = u64::from(len).saturating_sub(data.len() as u64);
        if cut > 0 {
            out.counts.one(FlowCounter::Gaps);
            out.counts.add(FlowCounter::GapBytes, cut);
            self.lost_heads(from, cut, out);
        }
    }
}
