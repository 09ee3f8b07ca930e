//! Consumes one segment: window by window, line by line, head by head.
//!
//! Bound: [`STEPS_MAX`] steps for a segment; each is a load of a window, 64 bytes of a line, a line, or a body skipped.
//! What lies beyond is counted (`LoopLimit`), and the stream's position is in doubt.

use core::ops::ControlFlow;

use super::flow::{CARRY_BYTES, Class, Common, Flow, Stream, flow_flag, state, stream_flag};
use crate::{
    abi::counter::Counter,
    http_head::{self, Detect, Prefix, RequestKind},
    packet::PacketBytes,
    tables::{Step, Tables},
    work::{Window, Work},
};

/// Steps for one segment: 64 KiB of heads of 32-byte lines fit.
pub const STEPS_MAX: u32 = 4096;

/// One segment on its way through the state machine of its stream.
pub(super) struct Run<'a, P, T> {
    pub(super) packet: &'a P,
    pub(super) tables: &'a T,
    pub(super) work: &'a mut Work,
    pub(super) stream: &'a mut Stream,
    pub(super) common: &'a mut Common,
}

/// Consumes the segment's payload from offset `skip` on.
#[inline(always)]
pub fn run<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
    flow: &mut Flow,
    skip: u32,
) {
    let cursor = &mut work.cursor;
    cursor.segment_len = work.headers.payload_len;
    cursor.next = skip;
    cursor.end = 0;
    cursor.scan = 0;
    cursor.line = 0;
    cursor.emit_from = 0;
    go_on(packet, tables, work, flow);
}

/// Consumes the segment from where the cursor is.
#[inline(always)]
pub fn go_on<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work, flow: &mut Flow) {
    let side = work.cursor.side;
    let end_seq = work.headers.seq.wrapping_add(work.headers.payload_len);
    let [low, high] = &mut flow.streams;
    let stream = if side == 0 { low } else { high };
    let may_refuse = work.requests.over != 0;
    if may_refuse {
        work.before = *stream;
    }
    let mut run = Run { packet, tables, work, stream, common: &mut flow.common };
    if !tables.repeat(STEPS_MAX, &mut run) {
        tables.count(Counter::LoopLimit);
        run.truncate();
        run.stream.doubt();
    }
    if may_refuse && run.work.requests.refused != 0 {
        // The segment is dropped: it comes again, and is looked at as if it were the first time.
        *run.stream = run.work.before;
        return;
    }
    run.stream.next_seq = end_seq;
}

impl<P: PacketBytes, T: Tables> Step for Run<'_, P, T> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        match self.stream.state {
            state::BODY | state::CHUNK_DATA => self.skip_body(),
            state::UNTIL_CLOSE | state::DOUBT => ControlFlow::Break(()),
            _ if self.work.cursor.scan >= self.work.cursor.end => self.refill(),
            state::EXPECT => self.expect(),
            state::HELLO => self.hello(),
            state::PROXY if self.stream.left != 0 => self.hello(),
            _ => self.find_line_end(),
        }
    }
}

impl<P: PacketBytes, T: Tables> Run<'_, P, T> {
    /// Goes over body bytes without looking at them.
    #[inline(always)]
    fn skip_body(&mut self) -> ControlFlow<()> {
        let cursor = &mut self.work.cursor;
        let in_window = cursor.end.wrapping_sub(cursor.scan);
        let ahead = cursor.segment_len.wrapping_sub(cursor.next);
        let available = u64::from(in_window) + u64::from(ahead);
        let left = self.stream.left;
        if left > available {
            self.stream.left = left - available;
            return ControlFlow::Break(());
        }
        self.stream.left = 0;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most `available`, the bytes of one packet"
        )]
        let left = left as u32;
        if left < in_window {
            cursor.scan += left;
            cursor.line = cursor.scan;
        } else {
            cursor.next += left - in_window;
            cursor.scan = 0;
            cursor.end = 0;
            cursor.line = 0;
        }
        self.stream.state =
            if self.stream.state == state::BODY { state::EXPECT } else { state::CHUNK_SIZE };
        ControlFlow::Continue(())
    }

    /// The window is used up: keeps the unfinished line, sends what belongs to a head, loads the next window.
    #[inline(always)]
    fn refill(&mut self) -> ControlFlow<()> {
        if self.work.cursor.end != 0 {
            // First the line: a record's header is written over what lies before its data.
            if self.stream.state == state::HELLO
                || (self.stream.state == state::PROXY && self.stream.left != 0)
            {
                self.stream.carry_len = 0;
            } else {
                self.keep_line();
            }
            if matches!(self.stream.state, state::HEAD | state::HELLO | state::PROXY) {
                let end = self.work.cursor.end;
                self.flush(end, 0)?;
            }
        }
        let cursor = &mut self.work.cursor;
        if cursor.next >= cursor.segment_len {
            return ControlFlow::Break(());
        }
        let kept = u32::from(self.stream.carry_len);
        if kept != 0 {
            let [word0, word1, word2, word3, word4, word5] = self.stream.carry;
            let window = &mut self.work.window;
            window.put_word(0, word0);
            window.put_word(8, word1);
            window.put_word(16, word2);
            window.put_word(24, word3);
            window.put_word(32, word4);
            window.put_word(40, word5);
            self.stream.carry_len = 0;
        }
        let rest = cursor.segment_len - cursor.next;
        let room = Window::DATA_BYTES - CARRY_BYTES;
        let len = if rest < room { rest } else { room };
        let offset = self.work.headers.payload + cursor.next;
        if !self.packet.load_window(offset, len, kept, &mut self.work.window) {
            self.truncate();
            self.stream.doubt();
            return ControlFlow::Break(());
        }
        cursor.window_seq = self.work.headers.seq.wrapping_add(cursor.next).wrapping_sub(kept);
        cursor.next += len;
        cursor.end = kept + len;
        cursor.line = 0;
        let fresh = self.stream.state == state::EXPECT;
        cursor.scan = if fresh { 0 } else { kept };
        cursor.emit_from = cursor.scan;
        ControlFlow::Continue(())
    }

    /// Puts the unfinished line's bytes into the flow entry; a longer one is judged by what is there.
    #[inline(always)]
    fn keep_line(&mut self) {
        let cursor = &self.work.cursor;
        let (line, kept) = (cursor.line, cursor.end.wrapping_sub(cursor.line));
        if kept > CARRY_BYTES || self.stream.has(stream_flag::LONG) {
            self.stream.carry_len = 0;
            if !self.stream.has(stream_flag::LONG) {
                self.long_line();
            }
            return;
        }
        if kept != 0 {
            let window = &self.work.window;
            self.stream.carry = [
                window.word_at(line),
                window.word_at(line + 8),
                window.word_at(line + 16),
                window.word_at(line + 24),
                window.word_at(line + 32),
                window.word_at(line + 40),
            ];
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most CARRY_BYTES")]
        {
            self.stream.carry_len = kept as u8;
        }
    }

    /// At the place of a head: what is it?
    #[inline(always)]
    fn expect(&mut self) -> ControlFlow<()> {
        let cursor = &mut self.work.cursor;
        let prefix = prefix_at(&self.work.window, cursor.scan, cursor.end);
        if matches!((prefix.first & 0xff) as u8, b'\r' | b'\n') {
            // RFC 9112 section 2.2: empty lines before a request are ignored.
            cursor.scan += 1;
            cursor.line = cursor.scan;
            return ControlFlow::Continue(());
        }
        cursor.line = cursor.scan;
        cursor.emit_from = cursor.scan;
        match self.tables.detect(self.work, self.common) {
            Detect::NotEnough => {
                self.work.cursor.scan = self.work.cursor.end;
                ControlFlow::Continue(())
            }
            found => self.decided(found),
        }
    }

    #[inline(never)]
    fn decided(&mut self, found: Detect) -> ControlFlow<()> {
        if self.stream.has(stream_flag::REFUSE) && !matches!(found, Detect::No) {
            self.tables.count(Counter::HeadsRefused);
            self.stream.doubt();
            return ControlFlow::Break(());
        }
        match found {
            Detect::Request(kind) => self.begin_request(kind),
            Detect::Response(status) => self.begin_response(status),
            Detect::Hello(len) => {
                let side = self.work.cursor.side;
                self.common.set_client(side);
                self.begin_head(state::HELLO);
                self.stream.left = u64::from(len);
                ControlFlow::Continue(())
            }
            Detect::Proxy(len) => {
                let side = self.work.cursor.side;
                self.common.set_client(side);
                self.begin_head(state::PROXY);
                self.stream.left = u64::from(len);
                ControlFlow::Continue(())
            }
            Detect::Preface => {
                let side = self.work.cursor.side;
                self.common.set_client(side);
                self.classify(Class::H2c);
                self.preface();
                ControlFlow::Break(())
            }
            Detect::No | Detect::NotEnough => {
                self.not_a_head();
                ControlFlow::Break(())
            }
        }
    }

    /// Whether this direction is known to be the server's.
    #[inline(always)]
    fn is_server(&self) -> bool {
        self.common.client_side().is_some_and(|client| client != self.work.cursor.side)
    }

    #[inline(always)]
    fn not_a_head(&mut self) {
        let unknown = self.common.class == Class::Unknown as u8;
        if self.stream.has(stream_flag::TRYING) {
            let cursor = &self.work.cursor;
            let prefix = prefix_at(&self.work.window, cursor.scan, cursor.end);
            if unknown && http_head::is_tls_application_data(&prefix) {
                self.classify(Class::Tls);
            }
            self.stream.doubt();
        } else if unknown && self.is_server() {
            // A server may speak first and still speak HTTP (its SETTINGS, RFC 9113 section 3.4): what
            // the client says decides.
            self.stream.state = state::UNTIL_CLOSE;
        } else if unknown {
            self.classify(Class::Other);
        } else {
            self.tables.count(Counter::GapsInFlow);
            self.stream.doubt();
        }
    }

    #[inline(always)]
    fn begin_head(&mut self, to: u8) {
        let trying = self.stream.has(stream_flag::TRYING);
        self.stream.flags &= !(stream_flag::OF_HEAD | stream_flag::UNPROVEN);
        self.stream.flags |= stream_flag::FIRST_LINE;
        if trying {
            self.stream.flags |= stream_flag::ON_DOUBT | stream_flag::UNPROVEN;
        }
        self.stream.state = to;
        self.stream.left = 0;
        self.stream.head_bytes = 0;
        self.stream.ordinal = 0;
        self.stream.head_ack = self.work.headers.ack;
    }

    #[inline(always)]
    fn begin_request(&mut self, kind: RequestKind) -> ControlFlow<()> {
        let side = self.work.cursor.side;
        self.common.set_client(side);
        self.begin_head(state::HEAD);
        let ordinal = self.common.requests.wrapping_add(1);
        self.common.requests = ordinal;
        self.stream.ordinal = ordinal;
        if self.stream.has(stream_flag::ON_DOUBT) {
            // Nothing that came before can be waiting for an answer any more.
            self.common.responses = ordinal.wrapping_sub(1);
        }
        let bit = 1u64 << (ordinal & 63);
        self.common.head_bits &= !bit;
        self.common.connect_bits &= !bit;
        match kind {
            RequestKind::Head => self.common.head_bits |= bit,
            RequestKind::Connect => self.common.connect_bits |= bit,
            RequestKind::Other => {}
        }
        ControlFlow::Continue(())
    }

    #[inline(always)]
    fn begin_response(&mut self, status: u32) -> ControlFlow<()> {
        let client = self.work.cursor.side ^ 1;
        self.common.set_client(client);
        self.begin_head(state::HEAD);
        self.stream.flags |= stream_flag::RESPONSE;
        #[expect(clippy::cast_possible_truncation, reason = "three digits")]
        {
            self.stream.status = status as u16;
        }
        let waiting = self.common.requests.wrapping_sub(self.common.responses);
        if (100..200).contains(&status) && status != 101 {
            // An interim response answers nothing yet and is of no interest.
            self.stream.flags |= stream_flag::MUTE;
        } else if waiting == 0 {
            self.stream.flags |= stream_flag::ORPHAN;
        } else {
            let on_doubt = self.stream.has(stream_flag::ON_DOUBT);
            let ordinal =
                if on_doubt { self.common.requests } else { self.common.responses.wrapping_add(1) };
            self.common.responses = ordinal;
            self.stream.ordinal = ordinal;
            let bit = 1u64 << (ordinal & 63);
            if waiting <= 64 && self.common.head_bits & bit != 0 {
                self.stream.flags |= stream_flag::HEAD_METHOD;
            }
            if waiting <= 64 && self.common.connect_bits & bit != 0 {
                self.stream.flags |= stream_flag::CONNECT;
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes bytes of a ClientHello's record, or of a PROXY protocol header of known length.
    #[inline(always)]
    fn hello(&mut self) -> ControlFlow<()> {
        let cursor = &mut self.work.cursor;
        let here = cursor.end - cursor.scan;
        if self.stream.left > u64::from(here) {
            self.stream.left -= u64::from(here);
            cursor.scan = cursor.end;
            return ControlFlow::Continue(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most `here`")]
        let end = cursor.scan + self.stream.left as u32;
        cursor.scan = end;
        self.flush(end, crate::abi::sample::flag::HEAD_END)?;
        if self.stream.state == state::PROXY {
            return self.end_of_proxy();
        }
        self.stream.doubt();
        self.common.flags |= flow_flag::NEGATIVE;
        ControlFlow::Break(())
    }
}

impl<P: PacketBytes, T: Tables> Run<'_, P, T> {
    /// What the proxy forwards begins here, as at the start of a connection.
    #[inline(always)]
    pub(super) fn end_of_proxy(&mut self) -> ControlFlow<()> {
        self.work.cursor.line = self.work.cursor.scan;
        self.stream.left = 0;
        self.stream.flags &= !stream_flag::OF_HEAD;
        self.stream.state = state::EXPECT;
        ControlFlow::Continue(())
    }
}

/// The bytes at an index of the window.
#[inline(always)]
pub(super) fn prefix_at(window: &Window, index: u32, end: u32) -> Prefix {
    Prefix {
        first: window.word_at(index),
        second: window.word_at(index + 8),
        third: window.word_at(index + 16),
        len: end.wrapping_sub(index),
    }
}

/// Judges the bytes at `work.cursor.scan` by what this end of the flow may send.
#[inline(always)]
pub fn detect(work: &Work, common: &Common) -> Detect {
    let prefix = &prefix_at(&work.window, work.cursor.scan, work.cursor.end);
    let unknown = common.class == Class::Unknown as u8;
    let client = common.client_side();
    let mut found = Detect::No;
    if client.is_none_or(|client| client == work.cursor.side) {
        found = http_head::request(prefix);
        if unknown {
            found = or(found, http_head::opening(prefix));
        }
    }
    if client.is_none_or(|client| client != work.cursor.side) {
        found = or(found, http_head::response(prefix));
    }
    found
}

#[inline(always)]
fn or(first: Detect, second: Detect) -> Detect {
    match (first, second) {
        (Detect::NotEnough, Detect::No) => Detect::NotEnough,
        (Detect::No | Detect::NotEnough, second) => second,
        (first, _) => first,
    }
}
