//! The commonest segments in one pass: one that begins with a head where one is expected, and whose head ends in the first
//! window; and one that is body from end to end.
//!
//! Takes a segment of a flow that is known to carry HTTP/1; sends the head's record and leaves the stream as the steps of `run`
//! would (a test compares the two), or touches nothing and says `Unfit`: then those steps are taken, which know every
//! state but pay a call for each line and part. Bounds: one window, [`SCAN_STEPS_MAX`] steps.

use core::ops::ControlFlow;

use super::{
    emit::send_whole,
    flow::{CARRY_BYTES, Class, Common, Flow, Stream, flow_flag, state, stream_flag},
    framing::after_head,
    lines::{CASE, CONTENT, ENCODIN, LENGTH, SEVEN_BYTES, TRANSFER, VERSION, newlines, without_cr},
    number::{eight_decimal, first_mark},
    run::prefix_at,
};
use crate::{
    abi::{counter::Counter, settings::Settings},
    http_head::{self, DECIDED_BYTES, Detect, RequestKind},
    judge::HOOKS_OF_ONE_DEVICE,
    packet::PacketBytes,
    tables::{Step, Tables},
    work::{Lines, Window, Work},
};

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Not such a segment; nothing was touched.
    Unfit,
    /// All of it was consumed: a head, and perhaps body.
    Head,
    /// All of it was consumed: body.
    Body,
    /// Its first head was; the cursor stands behind it.
    Rest,
}

/// Steps at most, each a line or 64 bytes of one: so many lines in one window are an unusual head.
const SCAN_STEPS_MAX: u32 = 80;
/// Words looked at for a line's end in one go.
const WORDS_PER_LOOK: u32 = 8;
/// Payload bytes loaded at most, as in `run`.
const LOAD_BYTES_MAX: u32 = Window::DATA_BYTES - CARRY_BYTES;
const CRLF: u64 = u64::from_le_bytes(*b"\r\n\0\0\0\0\0\0");
/// Behind `transfer-encodin`, [`CASE`] applied.
const G_CHUNK: u64 = u64::from_le_bytes(*b"g: chunk");
const ED_CRLF: u64 = u64::from_le_bytes(*b"ed\r\n\0\0\0\0");

/// Reads a segment that begins with a whole head.
#[inline(always)]
pub fn whole_head<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
    flow: &mut Flow,
) -> Whole {
    let settings = tables.settings();
    let side = work.cursor.side;
    let [low, high] = &mut flow.streams;
    let (stream, common) = (if side == 0 { low } else { high }, &mut flow.common);
    let payload_len = work.headers.payload_len;
    if !stands(settings, work, stream, common) {
        return Whole::Unfit;
    }
    if stream.state == state::BODY && stream.left >= u64::from(payload_len) {
        stream.last_ack = work.headers.ack;
        stream.next_seq = work.headers.seq.wrapping_add(payload_len);
        is_over(stream, payload_len);
        return Whole::Body;
    }
    if stream.state != state::EXPECT || payload_len < DECIDED_BYTES {
        return Whole::Unfit;
    }
    let len = if payload_len < LOAD_BYTES_MAX { payload_len } else { LOAD_BYTES_MAX };
    if !packet.load_window(work.headers.payload, len, 0, &mut work.window) {
        return Whole::Unfit;
    }
    // What is read of the others was written by the scan. (Clearing all is a call of memset.)
    work.lines.first = 0;
    work.lines.flags = 0;
    work.lines.at = 0;
    let mut scan = Scan { window: &work.window, lines: &mut work.lines, end: len };
    if !tables.repeat(SCAN_STEPS_MAX, &mut scan) {
        return Whole::Unfit;
    }
    let lines = work.lines;
    if lines.end == 0 || lines.end > settings.head_bytes_max {
        return Whole::Unfit;
    }
    let request = common.client_side() == Some(side);
    let begun = if request {
        begin_request(&work.window, lines.first, len, common)
    } else {
        begin_response(&work.window, len, stream, common)
    };
    let Some((ordinal, flags)) = begun else { return Whole::Unfit };
    work.tuple = work.headers.tuple;
    stream.flags &= !stream_flag::OF_HEAD;
    stream.flags |= flags | lines.flags | stream_flag::ANNOUNCED;
    stream.ordinal = ordinal;
    stream.left = if lines.flags & stream_flag::LENGTH != 0 { lines.length } else { 0 };
    stream.head_bytes = 0;
    stream.head_ack = work.headers.ack;
    stream.last_ack = work.headers.ack;
    stream.state = state::HEAD;
    stream.next_seq = work.headers.seq.wrapping_add(payload_len);
    if request {
        work.requests.heads = 1;
    }
    tables.count(if request { Counter::RequestHeads } else { Counter::ResponseHeads });
    send_whole(tables, work, stream, common, lines.end);
    after_head(stream);
    if is_over(stream, payload_len.wrapping_sub(lines.end)) {
        return Whole::Head;
    }
    let cursor = &mut work.cursor;
    cursor.segment_len = payload_len;
    cursor.next = len;
    cursor.window_seq = work.headers.seq;
    cursor.end = len;
    cursor.scan = lines.end;
    cursor.line = lines.end;
    cursor.emit_from = lines.end;
    Whole::Rest
}

/// Whether the segment goes on where its stream stands, with nothing left over and nothing in doubt.
#[inline(always)]
fn stands(settings: &Settings, work: &Work, stream: &Stream, common: &Common) -> bool {
    const POSITION: u32 = stream_flag::SEEN
        | stream_flag::UNPROVEN
        | stream_flag::TRYING
        | stream_flag::REFUSE
        | stream_flag::LONG;
    stream.next_seq == work.headers.seq
        && stream.carry_len == 0
        && stream.flags & POSITION == stream_flag::SEEN
        && common.class == Class::Http as u8
        && common.has(flow_flag::PAYLOAD)
        && common.client != 0
        // Else it is to be remembered first.
        && (settings.hooks <= HOOKS_OF_ONE_DEVICE
            || u32::from(common.recent_hooks) == settings.hooks & 0xffff)
}

/// Goes over lines up to the blank one, one in a step. (Two, four or eight in a step were not faster.)
struct Scan<'a> {
    window: &'a Window,
    lines: &'a mut Lines,
    /// Bytes in the window.
    end: u32,
}

/// What one line, or 64 bytes without a line's end, gave.
enum Found {
    /// Another line begins.
    Line,
    /// It was the blank one.
    Blank,
    /// It is not there, or a line needs a closer look.
    Unfit,
}

impl Step for Scan<'_> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        match self.line() {
            Found::Line => ControlFlow::Continue(()),
            Found::Blank => ControlFlow::Break(()),
            Found::Unfit => {
                self.lines.end = 0;
                ControlFlow::Break(())
            }
        }
    }
}

impl Scan<'_> {
    #[inline(always)]
    fn line(&mut self) -> Found {
        let window = self.window;
        let base = self.lines.at & !7;
        let mut at = base;
        let mut marks =
            newlines(window.aligned_word(base)) & (u64::MAX << ((self.lines.at & 7) * 8));
        let mut word = 1;
        while marks == 0 && word < WORDS_PER_LOOK {
            at = base + word * 8;
            marks = newlines(window.aligned_word(at));
            word += 1;
        }
        if marks == 0 {
            self.lines.at = at + 8;
            return if self.lines.at < self.end { Found::Line } else { Found::Unfit };
        }
        let newline = at + first_mark(marks);
        if newline >= self.end {
            return Found::Unfit;
        }
        if self.lines.first == 0 {
            self.lines.first = newline;
        }
        let next = newline + 1;
        self.lines.at = next;
        let word = window.word_at(next);
        let blank = if word & 0xff == u64::from(b'\n') {
            1
        } else if word & 0xffff == CRLF {
            2
        } else {
            0
        };
        if blank != 0 {
            self.lines.end = next + blank;
            return if self.lines.end <= self.end { Found::Blank } else { Found::Unfit };
        }
        if field(window, self.lines, next, word | CASE) { Found::Line } else { Found::Unfit }
    }
}

/// Reads a field that says what follows the head; false when it is not in its plain form.
#[inline(always)]
fn field(window: &Window, lines: &mut Lines, line: u32, name: u64) -> bool {
    if name == CONTENT {
        if (window.word_at(line + 8) | CASE) & SEVEN_BYTES == LENGTH {
            return content_length(window, lines, line + 15);
        }
    } else if name == TRANSFER && window.word_at(line + 8) | CASE == ENCODIN {
        lines.flags |= stream_flag::CHUNKED;
        return is_chunked(window, line + 16);
    }
    true
}

/// The plain form: one blank, up to seven digits, the line's end; and the only one.
#[inline(always)]
fn content_length(window: &Window, lines: &mut Lines, value: u32) -> bool {
    let word = window.word_at(value);
    let (length, digits) = eight_decimal(word >> 8);
    // Above the seven bytes comes a zero byte, which is no digit: `digits` is at most 7.
    let behind = (window.word_at(value + 1 + digits) & 0xff) as u8;
    let only = lines.flags & stream_flag::LENGTH == 0;
    lines.flags |= stream_flag::LENGTH;
    lines.length = length;
    only && word & 0xff == u64::from(b' ') && digits != 0 && matches!(behind, b'\r' | b'\n')
}

/// The plain form: `: chunked` and the line's end, behind `transfer-encodin`.
#[inline(always)]
fn is_chunked(window: &Window, rest: u32) -> bool {
    let last = window.word_at(rest + 8) & 0xffff_ffff;
    window.word_at(rest) | CASE == G_CHUNK && last | (CASE & 0xffff) == ED_CRLF
}

/// What follows is decided: gives the head's ordinal and flags.
#[inline(always)]
fn begin_request(
    window: &Window,
    newline: u32,
    len: u32,
    common: &mut Common,
) -> Option<(u32, u32)> {
    let end = without_cr(window, newline);
    if end < 12 || window.word_at(end - 8) & SEVEN_BYTES != VERSION {
        return None;
    }
    let Detect::Request(kind) = http_head::request(&prefix_at(window, 0, len)) else { return None };
    if kind == RequestKind::Connect {
        return None;
    }
    let ordinal = common.requests.wrapping_add(1);
    common.requests = ordinal;
    let bit = 1u64 << (ordinal & 63);
    common.connect_bits &= !bit;
    common.head_bits &= !bit;
    if kind == RequestKind::Head {
        common.head_bits |= bit;
    }
    Some((ordinal, 0))
}

/// A final response to a request that was seen.
#[inline(always)]
fn begin_response(
    window: &Window,
    len: u32,
    stream: &mut Stream,
    common: &mut Common,
) -> Option<(u32, u32)> {
    let Detect::Response(status) = http_head::response(&prefix_at(window, 0, len)) else {
        return None;
    };
    let waiting = common.requests.wrapping_sub(common.responses);
    let ordinal = common.responses.wrapping_add(1);
    let bit = 1u64 << (ordinal & 63);
    if status < 200 || waiting == 0 || waiting > 64 || common.connect_bits & bit != 0 {
        return None;
    }
    common.responses = ordinal;
    #[expect(clippy::cast_possible_truncation, reason = "three digits")]
    {
        stream.status = status as u16;
    }
    let head = if common.head_bits & bit != 0 { stream_flag::HEAD_METHOD } else { 0 };
    Some((ordinal, stream_flag::RESPONSE | head))
}

/// Goes over the `rest` bytes behind the head when they are body, or nothing; false when they must be read.
#[inline(always)]
fn is_over(stream: &mut Stream, rest: u32) -> bool {
    match stream.state {
        state::BODY if stream.left >= u64::from(rest) => {
            stream.left -= u64::from(rest);
            if stream.left == 0 {
                stream.state = state::EXPECT;
            }
            true
        }
        state::BODY => false,
        state::EXPECT | state::CHUNK_SIZE => rest == 0,
        _ => true,
    }
}
