//! Head records of the kernel to exchanges: joins the records of one head, parses it, pairs by ordinal.
//!
//! A head in one record (nearly all are) is parsed where it lies. Bounds: connections of [`Limits`], [`PENDING_MAX`]
//! requests a connection, [`HEAD_BYTES_MAX`] bytes a head; each loss is counted.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use sensor_ebpf::abi::flow_key::{FlowKey, Tuple};
use sensor_ebpf::abi::sample::{SampleHeader, SampleKind, flag};
use zerocopy::FromBytes as _;

use super::assembled::{Assembled, socket_addr};
use super::assembler::Limits;
use super::connection::Out;
use super::counts::FlowCounter;
use super::segment::flow_key;
use super::table::{Entry, Rank, Slot, Table};
use crate::http::{self, Exchange, HelloError, KnownHeads, OwnerHint, ProxyHeader, ResponseFacts};
use crate::sample::Sample;
use crate::time::{MonoNs, UnixNs};

/// Most requests that wait for a response on one connection.
const PENDING_MAX: usize = 256;
/// Longest head that is joined from records.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A request is given up once one this much later was answered.
const ORDINALS_BEHIND_MAX: u32 = 16;
/// Connections looked at per tick.
const TICK_ENTRIES: usize = 1024;

#[derive(Debug)]
pub(super) struct Live {
    table: Table<Flow>,
    pub(super) reading: Reading,
}

/// What reading a head needs beside its connection.
#[derive(Debug)]
pub(super) struct Reading {
    heads: KnownHeads,
    /// Wall clock minus boot clock.
    pub(super) wall_offset_ns: u64,
}

impl Reading {
    const fn unix(&self, header: &SampleHeader) -> UnixNs {
        UnixNs(header.time_ns.wrapping_add(self.wall_offset_ns))
    }
}

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    epoch: u64,
    last: MonoNs,
    partial: [Option<Box<Partial>>; 2],
    pending: VecDeque<Pending>,
    alias: Alias,
    /// The client that a proxy named before the first request (PROXY protocol).
    proxied: Option<IpAddr>,
}

/// Ends of the connection as seen under other addresses, by the half that sent: canonical source, other destination.
#[derive(Clone, Copy, Debug, Default)]
struct Alias {
    from_low: Option<(SocketAddr, SocketAddr)>,
    from_high: Option<(SocketAddr, SocketAddr)>,
}

#[derive(Debug)]
struct Partial {
    kind: SampleKind,
    ordinal: u32,
    next_seq: u32,
    first: SampleHeader,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Pending {
    ordinal: u32,
    from: usize,
    seen: MonoNs,
    exchange: Exchange,
}

impl Entry for Flow {
    fn key(&self) -> &FlowKey {
        &self.key
    }

    fn rank(&self) -> Rank {
        (false, self.pending.is_empty(), Reverse(self.last.0))
    }
}

impl Live {
    pub(super) fn new(seed: u64) -> Self {
        let reading = Reading { heads: KnownHeads::new(seed), wall_offset_ns: 0 };
        Self { table: Table::new(seed), reading }
    }

    pub(super) fn on_sample(&mut self, sample: &Sample<'_>, limits: &Limits, out: &mut Out<'_>) {
        out.counts.one(FlowCounter::Samples);
        let header = &sample.header;
        let (key, from) = flow_key(&header.tuple);
        match sample.kind {
            SampleKind::FlowAlias => self.on_alias(sample, limits, out),
            SampleKind::FlowClosed => {
                if let Some(slot) = self.table.find(&key)
                    && self.table.get_mut(slot).is_some_and(|flow| flow.epoch == header.flow_epoch)
                {
                    self.give_up(slot, out);
                }
            }
            SampleKind::Http2Preface => {}
            SampleKind::RequestHead
            | SampleKind::ResponseHead
            | SampleKind::ClientHello
            | SampleKind::ProxyHeader => {
                let slot = self.open(key, header, limits, out);
                let Some(flow) = self.table.get_mut(slot) else { return };
                flow.on_head_record(sample, from, &mut self.reading, out);
            }
        }
    }

    pub(super) fn on_tick(&mut self, now: MonoNs, limits: &Limits, out: &mut Out<'_>) {
        for _ in 0..TICK_ENTRIES.min(self.table.len()) {
            if let Some((slot, flow)) = self.table.next_in_turn()
                && now.since(flow.last) >= limits.idle_timeout_ns
            {
                out.counts.one(FlowCounter::FlowsIdle);
                self.give_up(slot, out);
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Out<'_>) {
        for mut flow in self.table.drain() {
            flow.finish(out);
        }
    }

    fn open(
        &mut self,
        key: FlowKey,
        header: &SampleHeader,
        limits: &Limits,
        out: &mut Out<'_>,
    ) -> Slot {
        let now = MonoNs(header.time_ns);
        if let Some(slot) = self.table.find_recent(&key) {
            if let Some(flow) = self.table.get_mut(slot) {
                flow.last = flow.last.max(now);
                if flow.epoch != header.flow_epoch {
                    flow.finish(out);
                    *flow = Flow { alias: flow.alias, ..Flow::new(key, header.flow_epoch, now) };
                }
            }
            return slot;
        }
        while self.table.len() >= limits.flows_max {
            let Some(victim) = self.table.victim() else { break };
            out.counts.one(FlowCounter::FlowsEvicted);
            self.give_up(victim, out);
        }
        out.counts.one(FlowCounter::FlowsOpened);
        self.table.insert(Flow::new(key, header.flow_epoch, now))
    }

    fn on_alias(&mut self, sample: &Sample<'_>, limits: &Limits, out: &mut Out<'_>) {
        let Ok((earlier, _)) = Tuple::read_from_prefix(sample.data) else {
            out.counts.one(FlowCounter::HeadsMalformed);
            return;
        };
        out.counts.one(FlowCounter::Aliases);
        // The connection is known under the earlier tuple, unless its reverse direction was first seen elsewhere.
        let (key, from) = flow_key(&earlier);
        let (other_key, other_from) = flow_key(&sample.header.tuple);
        let (slot, from) = match (self.table.find(&key), self.table.find(&other_key)) {
            (None, Some(slot)) => (slot, other_from),
            (Some(slot), _) => (slot, from),
            (None, None) => (self.open(key, &sample.header, limits, out), from),
        };
        let Some(flow) = self.table.get_mut(slot) else { return };
        let ends = (
            socket_addr(earlier.src, earlier.src_port),
            socket_addr(sample.header.tuple.dst, sample.header.tuple.dst_port),
        );
        let place = if from == 0 { &mut flow.alias.from_low } else { &mut flow.alias.from_high };
        // The first sighting is nearest the sender, the last one nearest the receiver.
        *place = Some((place.map_or(ends.0, |(sender, _)| sender), ends.1));
    }

    fn give_up(&mut self, slot: Slot, out: &mut Out<'_>) {
        if let Some(mut flow) = self.table.remove(slot) {
            flow.finish(out);
        }
    }
}

impl Flow {
    fn new(key: FlowKey, epoch: u64, now: MonoNs) -> Self {
        Self {
            key,
            epoch,
            last: now,
            partial: [None, None],
            pending: VecDeque::new(),
            alias: Alias::default(),
            proxied: None,
        }
    }

    fn on_head_record(
        &mut self,
        sample: &Sample<'_>,
        from: usize,
        reading: &mut Reading,
        out: &mut Out<'_>,
    ) {
        const WHOLE: u16 = flag::HEAD_START | flag::HEAD_END;
        let header = &sample.header;
        let Some(place) = self.partial.get_mut(from) else { return };
        if header.flags & flag::HEAD_START != 0 && place.take().is_some() {
            out.counts.one(FlowCounter::HeadsPartial);
        }
        if header.flags & WHOLE == WHOLE {
            return self.on_head(sample.kind, header, sample.data, from, reading, out);
        }
        let ends = header.flags & (flag::HEAD_END | flag::TRUNCATED) != 0;
        let mut partial = if header.flags & flag::HEAD_START != 0 {
            Box::new(Partial {
                kind: sample.kind,
                ordinal: header.ordinal,
                next_seq: header.seq,
                first: *header,
                data: Vec::with_capacity(sample.data.len() * 2),
            })
        } else {
            let Some(partial) = place.take() else {
                // The records before were lost; the kernel has counted the head.
                if ends {
                    out.counts.one(FlowCounter::HeadsPartial);
                }
                return;
            };
            partial
        };
        let fits = partial.kind == sample.kind
            && partial.ordinal == header.ordinal
            && partial.next_seq == header.seq;
        if !fits {
            out.counts.one(FlowCounter::HeadsPartial);
            return;
        }
        let room = HEAD_BYTES_MAX.saturating_sub(partial.data.len());
        partial
            .data
            .extend_from_slice(sample.data.get(..sample.data.len().min(room)).unwrap_or_default());
        partial.next_seq = header.seq.wrapping_add(header.data_len);
        if !ends {
            *place = Some(partial);
            return;
        }
        let first = SampleHeader { flags: partial.first.flags | header.flags, ..partial.first };
        self.on_head(partial.kind, &first, &partial.data, from, reading, out);
    }

    fn on_head(
        &mut self,
        kind: SampleKind,
        header: &SampleHeader,
        head: &[u8],
        from: usize,
        reading: &mut Reading,
        out: &mut Out<'_>,
    ) {
        let cut = header.flags & flag::HEAD_END == 0;
        let closed;
        let by_line = matches!(kind, SampleKind::RequestHead | SampleKind::ResponseHead);
        let head = if cut && by_line {
            out.counts.one(FlowCounter::HeadsTruncated);
            closed = close_head(head);
            &closed
        } else {
            head
        };
        match kind {
            SampleKind::RequestHead => self.on_request(header, head, from, reading, cut, out),
            SampleKind::ResponseHead => self.on_response(header, head, reading, cut, out),
            SampleKind::ProxyHeader => match http::parse_proxy(head) {
                Some(ProxyHeader::For(client)) => self.proxied = Some(client),
                Some(ProxyHeader::Nobody) => self.proxied = None,
                None => out.counts.one(FlowCounter::HeadsMalformed),
            },
            _ => {
                if let Ok(hello) | Err(HelloError::Partial(hello)) = http::parse_hello(head) {
                    let client = socket_addr(header.tuple.src, header.tuple.src_port);
                    let server = socket_addr(header.tuple.dst, header.tuple.dst_port);
                    let (client, server) = self.alias.apply(from, client, server);
                    let time = reading.unix(header);
                    (out.sink)(Assembled::Hello { time, client, server, hello });
                } else {
                    out.counts.one(FlowCounter::HeadsMalformed);
                }
            }
        }
    }

    fn on_request(
        &mut self,
        header: &SampleHeader,
        head: &[u8],
        from: usize,
        reading: &mut Reading,
        cut: bool,
        out: &mut Out<'_>,
    ) {
        let Ok(mut head) = reading.heads.request(head) else {
            out.counts.one(FlowCounter::HeadsMalformed);
            return;
        };
        head.facts.truncated = cut;
        if let Some(proxied) = self.proxied {
            // The nearest proxy's word comes last.
            head.facts.forwarded.by_proxy_header(proxied);
        }
        out.counts.one(FlowCounter::RequestHeads);
        if self.pending.len() >= PENDING_MAX {
            out.counts.one(FlowCounter::RequestsOverflow);
            self.give_up_first(out);
        }
        self.pending.push_back(Pending {
            ordinal: header.ordinal,
            from,
            seen: MonoNs(header.time_ns),
            exchange: Exchange {
                time: reading.unix(header),
                client: socket_addr(header.tuple.src, header.tuple.src_port),
                server: socket_addr(header.tuple.dst, header.tuple.dst_port),
                method: head.method,
                host: head.host,
                target: head.target,
                status: None,
                latency_ns: None,
                request: head.facts,
                response: ResponseFacts::default(),
                weight: header.weight.max(1),
                client_hint: hint(header),
                server_hint: OwnerHint::default(),
            },
        });
    }

    fn on_response(
        &mut self,
        header: &SampleHeader,
        head: &[u8],
        reading: &mut Reading,
        cut: bool,
        out: &mut Out<'_>,
    ) {
        let Ok(mut head) = reading.heads.response(head) else {
            out.counts.one(FlowCounter::HeadsMalformed);
            return;
        };
        head.facts.truncated = cut;
        out.counts.one(FlowCounter::ResponseHeads);
        if (100..200).contains(&head.status) && head.status != 101 {
            out.counts.one(FlowCounter::ResponsesInterim);
            return;
        }
        let found = match header.ordinal {
            0 => Some(0),
            ordinal => self.pending.iter().position(|pending| pending.ordinal == ordinal),
        };
        // It is completed where it lies: an exchange is half a kilobyte to move.
        let place = found.and_then(|index| Some((index, self.pending.get_mut(index)?)));
        let Some((index, pending)) = place else {
            out.counts.one(FlowCounter::ResponsesOrphan);
            return;
        };
        out.counts.one(FlowCounter::RequestsAnswered);
        out.counts.one(FlowCounter::ResponsesAnswered);
        let exchange = &mut pending.exchange;
        exchange.status = Some(head.status);
        exchange.latency_ns = Some(MonoNs(header.time_ns).since(pending.seen));
        if !matches!(
            head.framing_for(Some(&exchange.method)),
            http::Framing::Length(_) | http::Framing::Unknown
        ) {
            head.facts.body_bytes = None;
        }
        exchange.response = head.facts;
        exchange.server_hint = hint(header);
        let ordinal = pending.ordinal;
        if let Some(pending) = match index {
            0 => self.pending.pop_front(),
            index => self.pending.remove(index),
        } {
            self.emit(pending, out);
        }
        if self.pending.is_empty() {
            // The queue begins again at its first slot: the others stay out of the processor's caches.
            self.pending.clear();
        }
        while self
            .pending
            .front()
            .is_some_and(|first| first.ordinal.saturating_add(ORDINALS_BEHIND_MAX) <= ordinal)
        {
            self.give_up_first(out);
        }
    }

    fn give_up_first(&mut self, out: &mut Out<'_>) {
        if let Some(pending) = self.pending.pop_front() {
            out.counts.one(FlowCounter::RequestsUnanswered);
            self.emit(pending, out);
        }
    }

    #[expect(clippy::inline_always, reason = "the exchange would be moved once more for the call")]
    #[inline(always)]
    fn emit(&self, pending: Pending, out: &mut Out<'_>) {
        let from = pending.from;
        let mut exchange = pending.exchange;
        if self.alias.is_known() {
            (exchange.client, exchange.server) =
                self.alias.apply(from, exchange.client, exchange.server);
        }
        (out.sink)(Assembled::Exchange(exchange));
    }

    fn finish(&mut self, out: &mut Out<'_>) {
        let partial = self.partial.iter_mut().filter_map(Option::take).count();
        out.counts.add(FlowCounter::HeadsPartial, partial as u64);
        while !self.pending.is_empty() {
            self.give_up_first(out);
        }
    }
}

impl Alias {
    const fn is_known(&self) -> bool {
        self.from_low.is_some() || self.from_high.is_some()
    }

    /// Ends of an exchange whose client sends from side `client_side`: the outermost client, the innermost server.
    fn apply(
        &self,
        client_side: usize,
        client: SocketAddr,
        server: SocketAddr,
    ) -> (SocketAddr, SocketAddr) {
        let (requests, responses) = if client_side == 0 {
            (self.from_low, self.from_high)
        } else {
            (self.from_high, self.from_low)
        };
        match (requests, responses) {
            (Some((outer_client, inner_server)), _)
            | (None, Some((inner_server, outer_client))) => (outer_client, inner_server),
            (None, None) => (client, server),
        }
    }
}

/// A head cut short, closed after its last whole line.
fn close_head(head: &[u8]) -> Vec<u8> {
    let whole = memchr::memrchr(b'\n', head).map_or(0, |end| end + 1);
    let mut closed = head.get(..whole).unwrap_or_default().to_vec();
    closed.extend_from_slice(b"\r\n");
    closed
}

fn hint(header: &SampleHeader) -> OwnerHint {
    OwnerHint {
        cgroup_id: header.cgroup_id,
        ifindex: header.ifindex,
        hook: header.hook,
        address: Some(socket_addr(header.tuple.src, header.tuple.src_port)),
        peer: Some(socket_addr(header.tuple.dst, header.tuple.dst_port)),
        flow: header.flow_epoch,
    }
}

#[cfg(test)]
mod tests;
