//! Makes records of heads and flow events, and counts each head and each loss exactly once.
//!
//! Bounds: `head_bytes_max` of a head, one window for a record. After a lost record of a head none of its later ones is sent.

use core::ops::ControlFlow;

use super::{
    flow::{Class, Common, Flow, Stream, flow_flag, state, stream_flag},
    run::Run,
};
use crate::{
    abi::{
        ABI_VERSION,
        counter::Counter,
        sample::{SampleHeader, SampleKind, flag},
        settings::ListenerKey,
    },
    packet::PacketBytes,
    tables::{ListenerEvent, Tables},
    verdict::now,
    work::Work,
};

impl<P: PacketBytes, T: Tables> Run<'_, P, T> {
    /// Sends the bytes of the current head from `emit_from` up to `end`; breaks off at a request that is refused.
    #[inline(always)]
    pub(super) fn flush(&mut self, end: u32, end_flag: u16) -> ControlFlow<()> {
        if self.refuses() {
            return ControlFlow::Break(());
        }
        self.send_part(end, end_flag);
        ControlFlow::Continue(())
    }

    /// Whether the current head is a new request of a client without room for one.
    #[inline(always)]
    fn refuses(&mut self) -> bool {
        let request = self.stream.state == state::HEAD && !self.stream.has(stream_flag::RESPONSE);
        if self.work.requests.over == 0 || !request || self.stream.has(stream_flag::ANNOUNCED) {
            return false;
        }
        self.work.requests.refused = 1;
        self.common.requests = self.common.requests.wrapping_sub(1);
        true
    }

    #[inline(never)]
    fn send_part(&mut self, end: u32, end_flag: u16) {
        if !self.stream.has(stream_flag::ANNOUNCED) {
            self.announce();
        }
        let from = self.work.cursor.emit_from;
        self.work.cursor.emit_from = end;
        if self.stream.flags & (stream_flag::MUTE | stream_flag::LOST | stream_flag::CUT) != 0 {
            return;
        }
        self.work.cursor.head_seen = 1;
        let max = self.tables.settings().head_bytes_max;
        let room = max.saturating_sub(self.stream.head_bytes);
        let (mut len, mut flags) = (end.wrapping_sub(from), end_flag);
        if len > room {
            len = room;
            flags = flag::TRUNCATED;
            self.stream.flags |= stream_flag::CUT;
            self.tables.count(Counter::HeadsTruncated);
        }
        self.work.window.header.seq = self.work.cursor.window_seq.wrapping_add(from);
        self.work.window.header.data_len = len;
        self.work.window.header.flags = flags;
        send_head(self.tables, self.work, self.stream, self.common, from);
    }

    /// Says that no more of the current head will come.
    #[inline(never)]
    pub(super) fn truncate(&mut self) {
        truncate(self.tables, self.work, self.stream, self.common);
    }

    /// Counts the head, and classifies the flow by its first.
    #[inline(always)]
    fn announce(&mut self) {
        self.stream.flags |= stream_flag::ANNOUNCED;
        let hello = self.stream.state == state::HELLO;
        let proxy = self.stream.state == state::PROXY;
        if self.common.class == Class::Unknown as u8 && !proxy {
            self.classify(if hello { Class::Tls } else { Class::Http });
        }
        if !hello && !proxy && !self.stream.has(stream_flag::RESPONSE) {
            self.work.requests.heads = self.work.requests.heads.wrapping_add(1);
        }
        if !self.common.has(flow_flag::SAMPLED) {
            self.stream.flags |= stream_flag::MUTE;
        }
        if hello || proxy || self.stream.has(stream_flag::MUTE) {
            return;
        }
        self.tables.count(if self.stream.has(stream_flag::RESPONSE) {
            Counter::ResponseHeads
        } else {
            Counter::RequestHeads
        });
        if self.stream.has(stream_flag::ON_DOUBT) {
            self.tables.count(Counter::HeadsOnDoubt);
        }
    }

    /// Settles what the flow carries; all but HTTP/1 and a ClientHello still to be read are negative from now on.
    #[inline(never)]
    pub(super) fn classify(&mut self, class: Class) {
        self.common.class = class as u8;
        let hello = self.stream.state == state::HELLO;
        if !matches!(class, Class::Http) && !hello {
            self.common.flags |= flow_flag::NEGATIVE;
        }
        let event = match class {
            Class::Http => ListenerEvent::Http,
            Class::H2c => ListenerEvent::H2c,
            Class::Tls => ListenerEvent::Tls,
            Class::Other | Class::Unknown => ListenerEvent::Other,
        };
        open_listener(self.tables, self.work, self.common);
        let time = now(self.tables, self.work);
        self.tables.listener(&self.work.listener, event, time);
    }

    /// Reports HTTP/2 with prior knowledge.
    #[inline(never)]
    pub(super) fn preface(&mut self) {
        self.work.cursor.head_seen = 1;
        flow_event(self.tables, self.work, self.common, SampleKind::Http2Preface, 0);
    }
}

/// Counts the flow as opened at its listener, once; leaves the listener's key in `work`.
#[inline(always)]
pub(crate) fn open_listener<T: Tables>(tables: &T, work: &mut Work, common: &mut Common) {
    let low_first = work.cursor.side == 0;
    // Without a known client the smaller port is the service.
    let tuple = &work.tuple;
    let sender_is_server = match common.client_side() {
        Some(side) => (side == 0) != low_first,
        None => tuple.src_port < tuple.dst_port,
    };
    let (address, port) =
        if sender_is_server { (tuple.src, tuple.src_port) } else { (tuple.dst, tuple.dst_port) };
    work.listener = ListenerKey { address, port, pad: [0; 6] };
    if !common.has(flow_flag::OPENED) {
        common.flags |= flow_flag::OPENED;
        let time = now(tables, work);
        tables.listener(&work.listener, ListenerEvent::Opened, time);
    }
}

/// Sends a record without data about the flow, if it is sampled.
#[inline(never)]
pub fn flow_event<T: Tables>(
    tables: &T,
    work: &mut Work,
    common: &Common,
    kind: SampleKind,
    flags: u16,
) {
    if !common.has(flow_flag::SAMPLED) {
        return;
    }
    work.window.header.seq = work.headers.seq;
    work.window.header.data_len = 0;
    fill(tables, work, common, kind, flags, 0);
    count_record::<false, T>(tables, work, 0);
}

/// Sends the alias record: `work.tuple` is the other name, the window holds the canonical tuple.
#[inline(never)]
pub(crate) fn send_alias<T: Tables>(tables: &T, work: &mut Work, from: u32) {
    work.window.header.seq = work.headers.seq;
    work.window.header.data_len = 40;
    let common = work.fresh.common;
    fill(tables, work, &common, SampleKind::FlowAlias, 0, 0);
    count_record::<false, T>(tables, work, from);
}

/// Says that no more of a stream's current head will come (gap, end of the flow).
#[inline(never)]
pub(crate) fn truncate<T: Tables>(
    tables: &T,
    work: &mut Work,
    stream: &mut Stream,
    common: &Common,
) {
    let silent = stream_flag::MUTE | stream_flag::LOST | stream_flag::CUT;
    if !matches!(stream.state, state::HEAD | state::HELLO)
        || !stream.has(stream_flag::ANNOUNCED)
        || stream.flags & silent != 0
    {
        return;
    }
    tables.count(Counter::HeadsTruncated);
    stream.flags |= stream_flag::CUT;
    work.window.header.seq = stream.next_seq;
    work.window.header.data_len = 0;
    work.cursor.head_seen = 1;
    work.window.header.flags = flag::TRUNCATED;
    send_head(tables, work, stream, common, 0);
}

/// Sends the prepared record of a head (the window's header has its flags, position and length).
#[inline(never)]
fn send_head<T: Tables>(
    tables: &T,
    work: &mut Work,
    stream: &mut Stream,
    common: &Common,
    from: u32,
) {
    send::<false, T>(tables, work, stream, common, from);
}

/// Sends a head that is the window's first bytes, `len` of them.
#[inline(always)]
pub(super) fn send_whole<T: Tables>(
    tables: &T,
    work: &mut Work,
    stream: &mut Stream,
    common: &Common,
    len: u32,
) {
    work.cursor.head_seen = 1;
    let header = &mut work.window.header;
    header.seq = work.headers.seq;
    header.data_len = len;
    header.flags = flag::HEAD_END;
    send::<true, T>(tables, work, stream, common, 0);
}

/// `FIRST`: `from` is 0, and what is done is done in place.
#[inline(always)]
fn send<const FIRST: bool, T: Tables>(
    tables: &T,
    work: &mut Work,
    stream: &mut Stream,
    common: &Common,
    from: u32,
) {
    let response = stream.has(stream_flag::RESPONSE);
    let kind = if stream.class_is_hello() {
        SampleKind::ClientHello
    } else if stream.state == state::PROXY {
        SampleKind::ProxyHeader
    } else if response {
        SampleKind::ResponseHead
    } else {
        SampleKind::RequestHead
    };
    let mut flags = work.window.header.flags;
    if !stream.has(stream_flag::STARTED) {
        flags |= flag::HEAD_START;
    }
    if stream.has(stream_flag::ON_DOUBT) {
        flags |= flag::ON_DOUBT;
    }
    if stream.has(stream_flag::ORPHAN) {
        flags |= flag::ORPHAN;
    }
    fill(tables, work, common, kind, flags, stream.ordinal);
    stream.flags |= stream_flag::STARTED;
    let len = work.window.header.data_len;
    if count_record::<FIRST, T>(tables, work, from) {
        stream.head_bytes = stream.head_bytes.wrapping_add(len);
        return;
    }
    stream.flags |= stream_flag::LOST;
    match kind {
        SampleKind::RequestHead => tables.count(Counter::RequestHeadsLost),
        SampleKind::ResponseHead => tables.count(Counter::ResponseHeadsLost),
        _ => {}
    }
}

/// Emits the prepared record.
#[inline(always)]
fn count_record<const FIRST: bool, T: Tables>(tables: &T, work: &mut Work, from: u32) -> bool {
    let bytes = size_of::<SampleHeader>() as u64 + u64::from(work.window.header.data_len);
    let done = if FIRST { tables.emit_first(work) } else { tables.emit(work, from) };
    if done {
        tables.count(Counter::Records);
        tables.count_by(Counter::RecordBytes, bytes);
        true
    } else {
        tables.count(Counter::RecordsLost);
        false
    }
}

#[inline(always)]
fn fill<T: Tables>(
    tables: &T,
    work: &mut Work,
    common: &Common,
    kind: SampleKind,
    flags: u16,
    ordinal: u32,
) {
    let time = now(tables, work);
    let joined = if common.has(flow_flag::JOINED) { flag::JOINED } else { 0 };
    let hook = tables.hook(work);
    let record = &mut work.window.header;
    record.version = ABI_VERSION;
    record.kind = kind as u8;
    record.flags = flags | joined;
    record.time_ns = time;
    record.flow_epoch = common.epoch_ns;
    record.tuple = work.tuple;
    record.ack = work.headers.ack;
    record.ordinal = ordinal;
    record.weight = common.weight;
    record.ifindex = tables.ifindex();
    record.hook = hook;
    // Zero (writing zeros is a call of memset).
    record.pad = work.tuple.pad;
    record.cgroup_id = tables.cgroup_id();
}

/// What the flow's end means for its streams and its listener. `reset`: by RST.
#[inline(never)]
pub(crate) fn close<T: Tables>(tables: &T, work: &mut Work, flow: &mut Flow, reset: bool) {
    let [low, high] = &mut flow.streams;
    let own_is_low = work.cursor.side == 0;
    let (own, other) = if own_is_low { (low, high) } else { (high, low) };
    own.flags |= stream_flag::FIN;
    truncate(tables, work, own, &flow.common);
    if !reset && !other.has(stream_flag::FIN) {
        return;
    }
    if flow.common.has(flow_flag::CLOSED) {
        return;
    }
    flow.common.flags |= flow_flag::CLOSED;
    tables.count(Counter::FlowsClosed);
    if flow.common.has(flow_flag::OPENED) {
        open_listener(tables, work, &mut flow.common);
        let time = now(tables, work);
        tables.listener(&work.listener, ListenerEvent::Closed, time);
        if !flow.common.has(flow_flag::PAYLOAD) {
            tables.listener(&work.listener, ListenerEvent::Silent, time);
        } else if flow.common.class == Class::Unknown as u8 {
            // Only the server spoke, or too little was said to tell.
            tables.listener(&work.listener, ListenerEvent::Other, time);
        }
    }
    let class = flow.common.class;
    if class == Class::Http as u8 || class == Class::Tls as u8 {
        let flags = if reset { flag::RESET } else { 0 };
        flow_event(tables, work, &flow.common, SampleKind::FlowClosed, flags);
    }
}

impl Stream {
    #[inline(always)]
    fn class_is_hello(&self) -> bool {
        self.state == state::HELLO
    }
}
