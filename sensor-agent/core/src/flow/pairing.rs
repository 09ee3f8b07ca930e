//! Pairs the heads of one connection: requests wait in order, each final response answers the first.
//!
//! Bounds: [`PENDING_MAX`] requests of [`PENDING_BYTES_MAX`]; those beyond are given up at once, counted, and their
//! responses counted off. Knows what RFC 9110 says about interim responses, CONNECT and Upgrade.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::counts::{FlowCounter, FlowCounts};
use super::seq::SeqNo;
use crate::http::{Exchange, Framing, Kind, Method, Position, Reader, RequestHead, ResponseHead};
use crate::time::UnixNs;

/// Most requests that wait for a response on one connection.
pub(super) const PENDING_MAX: usize = 16 * 1024;
/// Most bytes that they hold.
const PENDING_BYTES_MAX: usize = 6 << 20;
/// What a request holds beside its target, roughly.
const PENDING_BYTES: usize = size_of::<Pending>() + 64;

/// An empty queue with more room than this gives it back.
const PENDING_KEPT_MAX: usize = 64;

/// A request that waits for its response.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) exchange: Exchange,
    /// What the client had received when it sent this.
    pub(super) ack: SeqNo,
    pub(super) expects_continue: bool,
}

/// Where a head began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadStart {
    pub(super) time: UnixNs,
    pub(super) seq: SeqNo,
    pub(super) ack: SeqNo,
}

/// What a response head means for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// HTTP goes on, after this body.
    Body(Framing),
    /// The connection is a tunnel from here on.
    Tunnel,
}

/// The HTTP state of one connection.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) readers: [Reader; 2],
    pub(super) starts: [HeadStart; 2],
    pub(super) pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// Requests beyond the bound, after the pending ones: so many responses have no request here.
    unfollowed: u64,
    /// A response whose body (of unknown length) goes on.
    pub(super) current: Option<Box<Exchange>>,
    /// A hole may have swallowed heads: pairing is checked by acknowledgement numbers.
    pub(super) heads_missed: bool,
    /// Requests of this connection are not captured: do not wait for them.
    pub(super) requests_blind: bool,
    /// Where the response began that answered a request which expected `100 Continue`: its body may never come.
    pub(super) answered_early: Option<SeqNo>,
}

impl Http {
    pub(super) fn new(position: Position) -> Self {
        Self {
            readers: [Reader::new(position), Reader::new(position)],
            starts: [HeadStart::default(); 2],
            pending: VecDeque::new(),
            pending_bytes: 0,
            unfollowed: 0,
            current: None,
            heads_missed: false,
            requests_blind: false,
            answered_early: None,
        }
    }

    /// Bytes held for this connection, roughly.
    pub(super) fn held_bytes(&self) -> usize {
        let readers: usize = self.readers.iter().map(Reader::held_bytes).sum();
        // One request a connection is bounded by the number of connections.
        readers + self.pending_bytes.saturating_sub(PENDING_BYTES)
    }

    /// The ends are known better now.
    pub(super) fn set_ends(&mut self, client: SocketAddr, server: SocketAddr) {
        let waiting = self.pending.iter_mut().map(|pending| &mut pending.exchange);
        for exchange in waiting.chain(self.current.as_deref_mut()) {
            (exchange.client, exchange.server) = (client, server);
        }
    }

    /// Takes a request head; `exchange` has the addresses.
    pub(super) fn request(
        &mut self,
        head: RequestHead,
        start: HeadStart,
        exchange: Exchange,
        counts: &mut FlowCounts,
        emit: &mut dyn FnMut(Exchange),
    ) {
        counts.one(FlowCounter::RequestHeads);
        self.answered_early = None;
        self.requests_blind = false;
        let expects_continue = head.expect_continue && !matches!(head.framing, Framing::None);
        let exchange = Exchange {
            time: start.time,
            method: head.method,
            host: head.host,
            target: head.target,
            request: head.facts,
            ..exchange
        };
        let bytes = self.pending_bytes + PENDING_BYTES + exchange.target.len();
        let full = self.pending.len() >= PENDING_MAX || bytes > PENDING_BYTES_MAX;
        if self.unfollowed > 0 || (full && !self.pending.is_empty()) {
            self.unfollowed += 1;
            counts.one(FlowCounter::RequestsOverflow);
            counts.one(FlowCounter::RequestsUnanswered);
            return emit(exchange);
        }
        self.pending_bytes = bytes;
        if self.pending.capacity() == 0 {
            // Nearly all connections have one at a time: room for more is a kilobyte each.
            self.pending.reserve_exact(1);
        }
        self.pending.push_back(Pending { exchange, ack: start.ack, expects_continue });
    }

    fn take_first(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        self.pending_bytes =
            self.pending_bytes.saturating_sub(PENDING_BYTES + pending.exchange.target.len());
        if self.pending.is_empty() && self.pending.capacity() > PENDING_KEPT_MAX {
            self.pending = VecDeque::new();
        }
        Some(pending)
    }

    /// The size of a request body became known.
    pub(super) fn request_body(&mut self, bytes: u64) {
        if self.unfollowed == 0
            && let Some(last) = self.pending.back_mut()
        {
            last.exchange.request.body_bytes.get_or_insert(bytes);
        }
    }

    /// Takes a response head.
    pub(super) fn response(
        &mut self,
        head: ResponseHead,
        start: HeadStart,
        counts: &mut FlowCounts,
        emit: &mut dyn FnMut(Exchange),
    ) -> After {
        self.flush_current(None, emit);
        counts.one(FlowCounter::ResponseHeads);
        if (100..200).contains(&head.status) && head.status != 101 {
            counts.one(FlowCounter::ResponsesInterim);
            return After::Body(Framing::None);
        }
        if self.heads_missed && self.realign(start, counts, emit) {
            counts.one(FlowCounter::ResponsesOrphan);
            return After::Body(head.framing_for(None));
        }
        let Some(mut pending) = self.take_first() else {
            self.unfollowed = self.unfollowed.saturating_sub(1);
            counts.one(FlowCounter::ResponsesOrphan);
            return After::Body(head.framing_for(None));
        };
        let framing = head.framing_for(Some(&pending.exchange.method));
        let connected =
            pending.exchange.method == Method::Connect && (200..300).contains(&head.status);
        let early = pending.expects_continue && head.status >= 400 && self.pending.is_empty();
        self.answered_early = early.then_some(start.seq);
        counts.one(FlowCounter::RequestsAnswered);
        counts.one(FlowCounter::ResponsesAnswered);
        let exchange = &mut pending.exchange;
        exchange.status = Some(head.status);
        exchange.latency_ns = Some(start.time.0.saturating_sub(exchange.time.0));
        exchange.response = head.facts;
        if connected || head.status == 101 {
            exchange.response.body_bytes = None;
            emit(pending.exchange);
            counts.add(FlowCounter::RequestsTunnelled, self.pending.len() as u64);
            self.pending.clear();
            return After::Tunnel;
        }
        match framing {
            Framing::None => exchange.response.body_bytes = Some(0),
            Framing::Chunked | Framing::UntilClose => {
                self.current = Some(Box::new(pending.exchange));
                return After::Body(framing);
            }
            Framing::Length(_) | Framing::Unknown => {}
        }
        emit(pending.exchange);
        After::Body(framing)
    }

    /// Emits the exchange whose response body was still going on.
    pub(super) fn flush_current(
        &mut self,
        body_bytes: Option<u64>,
        emit: &mut dyn FnMut(Exchange),
    ) {
        if let Some(mut exchange) = self.current.take() {
            exchange.response.body_bytes = body_bytes;
            emit(*exchange);
        }
    }

    /// Gives up all that waits.
    pub(super) fn finish(&mut self, counts: &mut FlowCounts, emit: &mut dyn FnMut(Exchange)) {
        self.flush_current(None, emit);
        while !self.pending.is_empty() {
            self.give_up_first(counts, emit);
        }
    }

    /// Whether a response that begins now has to wait for its request.
    pub(super) fn wants_request(&self, server: usize) -> bool {
        !self.requests_blind
            && self.pending.is_empty()
            && self.unfollowed == 0
            && self.readers.get(server).is_some_and(Reader::at_head_start)
    }

    /// Whether a head may begin where the position is lost: a request only once the one before has its answer (or the
    /// answers cannot be followed either); after `100 Continue` comes a body.
    pub(super) fn may_begin(&self, kind: Kind, other: usize) -> bool {
        kind == Kind::Response
            || self.pending.is_empty()
            || self.readers.get(other).is_some_and(|reader| reader.position() == Position::Lost)
    }

    /// Whether a request may begin where a body was announced: the client had the final response when it sent this.
    pub(super) fn may_restart(&self, kind: Kind, half: usize, ack: SeqNo) -> bool {
        kind == Kind::Request
            && self.answered_early.is_some_and(|response| ack.since(response) > 0)
            && self
                .readers
                .get(half)
                .is_some_and(|reader| matches!(reader.position(), Position::Length(_)))
    }

    /// After a hole: drops requests that were answered inside it. Returns whether the response is not the first one's.
    fn realign(
        &mut self,
        start: HeadStart,
        counts: &mut FlowCounts,
        emit: &mut dyn FnMut(Exchange),
    ) -> bool {
        while let (Some(first), Some(second)) = (self.pending.front(), self.pending.get(1)) {
            // The client had received more when it sent the second, and all that it had came before this response.
            let answered = second.ack.since(first.ack) > 0 && start.seq.since(second.ack) >= 0;
            if !answered {
                break;
            }
            self.give_up_first(counts, emit);
        }
        // The client had received (part of) this response when it sent the request.
        self.pending.front().is_some_and(|first| first.ack.since(start.seq) > 0)
    }

    fn give_up_first(&mut self, counts: &mut FlowCounts, emit: &mut dyn FnMut(Exchange)) {
        if let Some(pending) = self.take_first() {
            counts.one(FlowCounter::RequestsUnanswered);
            emit(pending.exchange);
        }
    }
}
