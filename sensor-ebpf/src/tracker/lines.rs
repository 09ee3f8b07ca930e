//! Finds line ends eight bytes at a time and reads the few lines that matter for framing (RFC 9112 sections 5 and 6).
//!
//! Bound: 64 bytes for one step. Fields read: Content-Length and Transfer-Encoding, names in any case.

use core::ops::ControlFlow;

use super::{
    flow::{Class, state, stream_flag},
    number::{first_mark, parse_decimal, parse_hex},
    run::Run,
};
use crate::{packet::PacketBytes, tables::Tables, work::Window};

const ONES: u64 = 0x0101_0101_0101_0101;
const LOWS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
pub(super) const CASE: u64 = 0x2020_2020_2020_2020;

pub(super) const CONTENT: u64 = u64::from_le_bytes(*b"content-");
pub(super) const LENGTH: u64 = u64::from_le_bytes(*b"length:\0");
pub(super) const TRANSFER: u64 = u64::from_le_bytes(*b"transfer");
pub(super) const ENCODIN: u64 = u64::from_le_bytes(*b"-encodin");
const G_COLON: u64 = u64::from_le_bytes(*b"g:\0\0\0\0\0\0");
const CHUNKED: u64 = u64::from_le_bytes(*b"chunked\0");
pub(super) const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
pub(super) const SEVEN_BYTES: u64 = 0x00ff_ffff_ffff_ffff;
const WORDS_PER_STEP: u32 = 8;

impl<P: PacketBytes, T: Tables> Run<'_, P, T> {
    /// Looks for the end of the current line.
    #[inline(always)]
    pub(super) fn find_line_end(&mut self) -> ControlFlow<()> {
        let cursor = &mut self.work.cursor;
        let window = &self.work.window;
        let base = cursor.scan & !7;
        let mut marks = newlines(window.aligned_word(base)) & (u64::MAX << ((cursor.scan & 7) * 8));
        let mut at = base;
        let mut word = 1;
        while marks == 0 && word < WORDS_PER_STEP {
            at = base + word * 8;
            marks = newlines(window.aligned_word(at));
            word += 1;
        }
        if marks == 0 {
            cursor.scan = at + 8;
            if cursor.scan > cursor.end {
                cursor.scan = cursor.end;
            }
            return ControlFlow::Continue(());
        }
        let newline = at + first_mark(marks);
        if newline >= cursor.end {
            cursor.scan = cursor.end;
            return ControlFlow::Continue(());
        }
        let line = cursor.line;
        cursor.scan = newline + 1;
        cursor.line = newline + 1;
        self.line(line, newline)
    }

    /// Acts on a whole line: bytes `line` up to the newline at `newline`.
    #[inline(always)]
    fn line(&mut self, line: u32, newline: u32) -> ControlFlow<()> {
        let long = self.stream.has(stream_flag::LONG);
        self.stream.flags &= !stream_flag::LONG;
        if self.stream.state == state::CHUNK_SIZE {
            return self.chunk_size(line, long);
        }
        if self.stream.state == state::PROXY {
            self.flush(newline + 1, crate::abi::sample::flag::HEAD_END)?;
            return self.end_of_proxy();
        }
        if self.stream.has(stream_flag::FIRST_LINE) && self.stream.state == state::HEAD {
            self.stream.flags &= !stream_flag::FIRST_LINE;
            if !long && !self.stream.has(stream_flag::RESPONSE) {
                return self.request_line(line, newline);
            }
            return ControlFlow::Continue(());
        }
        if long {
            return ControlFlow::Continue(());
        }
        if is_blank(&self.work.window, line, newline) {
            if self.stream.state == state::TRAILERS {
                self.stream.state = state::EXPECT;
                return ControlFlow::Continue(());
            }
            return self.end_of_head(newline + 1);
        }
        if self.stream.state == state::HEAD {
            self.field(line, newline);
        }
        ControlFlow::Continue(())
    }

    /// A request line must end in HTTP/1 (RTSP and SIP have the same shape).
    #[inline(always)]
    fn request_line(&mut self, line: u32, newline: u32) -> ControlFlow<()> {
        let window = &self.work.window;
        let end = without_cr(window, newline);
        let version = window.word_at(end.wrapping_sub(8)) & SEVEN_BYTES;
        if (end.wrapping_sub(line) >= 12 && version == VERSION)
            || self.stream.has(stream_flag::ANNOUNCED)
        {
            return ControlFlow::Continue(());
        }
        self.common.requests = self.common.requests.wrapping_sub(1);
        if self.common.class == Class::Unknown as u8 && !self.stream.has(stream_flag::ON_DOUBT) {
            self.classify(Class::Other);
        }
        self.stream.doubt();
        ControlFlow::Break(())
    }

    #[inline(always)]
    fn chunk_size(&mut self, line: u32, long: bool) -> ControlFlow<()> {
        let window = &self.work.window;
        let size = if long {
            self.stream.left
        } else if let Some((size, _)) = parse_hex(window.word_at(line), window.word_at(line + 8)) {
            size
        } else {
            return self.lost_position();
        };
        if size == 0 {
            self.stream.state = state::TRAILERS;
        } else {
            self.stream.state = state::CHUNK_DATA;
            self.stream.left = size + 2;
        }
        ControlFlow::Continue(())
    }

    #[inline(never)]
    fn lost_position(&mut self) -> ControlFlow<()> {
        self.tables.count(crate::abi::counter::Counter::GapsInFlow);
        self.stream.doubt();
        ControlFlow::Break(())
    }

    /// Reads a header field if it matters.
    #[inline(always)]
    fn field(&mut self, line: u32, newline: u32) {
        let window = &self.work.window;
        let first = window.word_at(line) | CASE;
        if first == CONTENT {
            if (window.word_at(line + 8) | CASE) & SEVEN_BYTES == LENGTH {
                self.content_length(line + 15);
            }
        } else if first == TRANSFER
            && window.word_at(line + 8) | CASE == ENCODIN
            && (window.word_at(line + 16) | CASE) & 0xffff == G_COLON
        {
            self.transfer_encoding(newline);
        }
    }

    #[inline(never)]
    fn content_length(&mut self, value: u32) {
        let window = &self.work.window;
        let word = window.word_at(value);
        // Optional whitespace: at most 7 bytes of it, more is no honest client.
        let blanks = equal(word, b' ') | equal(word, b'\t');
        let skip = first_mark(!blanks & !LOWS);
        let at = value + skip;
        let parsed = parse_decimal(window.word_at(at), window.word_at(at + 8));
        let Some((length, digits)) = parsed else {
            self.stream.flags |= stream_flag::UNCLEAR;
            return;
        };
        let behind = (window.word_at(at + digits) & 0xff) as u8;
        let second = self.stream.has(stream_flag::LENGTH) && self.stream.left != length;
        if second || !matches!(behind, b'\r' | b'\n' | b' ' | b'\t') {
            self.stream.flags |= stream_flag::UNCLEAR;
        }
        self.stream.flags |= stream_flag::LENGTH;
        self.stream.left = length;
    }

    #[inline(never)]
    fn transfer_encoding(&mut self, newline: u32) {
        let window = &self.work.window;
        let end = without_cr(window, newline);
        let last = (window.word_at(end.wrapping_sub(7)) | CASE) & SEVEN_BYTES;
        self.stream.flags &= !(stream_flag::CHUNKED | stream_flag::CODED);
        self.stream.flags |=
            if last == CHUNKED { stream_flag::CHUNKED } else { stream_flag::CODED };
    }

    /// Judges a line by its first bytes before they are forgotten.
    #[inline(never)]
    pub(super) fn long_line(&mut self) {
        self.stream.flags |= stream_flag::LONG;
        let line = self.work.cursor.line;
        let window = &self.work.window;
        if self.stream.state == state::CHUNK_SIZE {
            match parse_hex(window.word_at(line), window.word_at(line + 8)) {
                Some((size, _)) => self.stream.left = size,
                None => self.stream.doubt(),
            }
        } else if self.stream.state == state::HEAD {
            let first = window.word_at(line) | CASE;
            let second = window.word_at(line + 8) | CASE;
            if (first == CONTENT && second & SEVEN_BYTES == LENGTH)
                || (first == TRANSFER && second == ENCODIN)
            {
                self.stream.flags |= stream_flag::UNCLEAR;
            }
        }
    }
}

/// High bit of each byte that is a newline; exact for every byte.
#[inline(always)]
pub(super) fn newlines(word: u64) -> u64 {
    equal(u64::from_le(word), b'\n')
}

#[inline(always)]
fn equal(word: u64, value: u8) -> u64 {
    let difference = word ^ (ONES * u64::from(value));
    !(((difference & LOWS) + LOWS) | difference | LOWS)
}

#[inline(always)]
fn is_blank(window: &Window, line: u32, newline: u32) -> bool {
    newline == line || (newline == line + 1 && (window.word_at(line) & 0xff) as u8 == b'\r')
}

#[inline(always)]
pub(super) fn without_cr(window: &Window, newline: u32) -> u32 {
    let before = newline.wrapping_sub(1);
    if (window.word_at(before) & 0xff) as u8 == b'\r' { before } else { newline }
}
