//! Cuts one direction of a connection into heads and bodies; bodies are skipped by arithmetic, never copied.
//!
//! Takes ordered bytes cut anywhere and gaps of known length. Bound: a head of [`HEAD_BYTES_MAX`]. A body keeps its
//! position across a gap where its framing allows it; otherwise the position is lost and the reader looks for a
//! plausible head at the start of a segment, and only where the caller says that one may begin.

use std::borrow::Cow;

use super::chunked::{ChunkStep, Chunked};
use super::detect::{self, Detect};
use super::framing::Framing;
use super::lenient::unfold;

/// Longest head that is read (common servers accept 8 to 64 KiB).
pub(super) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Which kind of head a direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Client to server.
    Request,
    /// Server to client.
    Response,
}

/// Where in the stream the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The next byte begins a head, or `buf` holds the first part of one.
    Head,
    /// Inside a body of which this much is left.
    Length(u64),
    /// Inside a chunked body.
    Chunked(Chunked),
    /// The rest of the stream is a body.
    UntilClose,
    /// Unknown.
    Lost,
}

/// What came out of a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The input is used up.
    Idle,
    /// A whole head; the caller says by [`Reader::body`] what follows.
    Head(Cow<'a, [u8]>),
    /// A body ended; `bytes` of it were counted.
    BodyEnd {
        /// Body bytes without framing.
        bytes: u64,
    },
    /// What is here is no head: the position is lost, the rest of the segment was skipped.
    NotHttp,
    /// A head longer than the bound: its beginning. The position is lost.
    TooLong(Vec<u8>),
}

/// Reader of one direction.
#[derive(Debug)]
pub struct Reader {
    position: Position,
    buf: Vec<u8>,
    /// Bytes of `buf` already searched for the blank line.
    scanned: usize,
    /// Whether a line of it begins with white space (obs-fold).
    folded: bool,
    /// Whether the head in `buf` begins at an unproven position.
    doubtful: bool,
    /// Whether the first line of `buf` was found plausible.
    line_checked: bool,
    body_bytes: u64,
}

impl Reader {
    /// A reader at the proven start of a stream, or lost in the middle of one.
    #[must_use]
    pub const fn new(position: Position) -> Self {
        Self {
            position,
            buf: Vec::new(),
            scanned: 0,
            folded: false,
            doubtful: false,
            line_checked: false,
            body_bytes: 0,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Whether the next byte is the first of a head.
    #[must_use]
    pub fn at_head_start(&self) -> bool {
        self.position == Position::Head && self.buf.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.buf.capacity()
    }

    /// Says what follows the head that was just returned.
    pub fn body(&mut self, framing: Framing) {
        self.body_bytes = 0;
        self.position = match framing {
            Framing::None => Position::Head,
            Framing::Length(length) => Position::Length(length),
            Framing::Chunked => Position::Chunked(Chunked::default()),
            Framing::UntilClose => Position::UntilClose,
            Framing::Unknown => Position::Lost,
        };
    }

    /// Gives up the position.
    pub fn lose(&mut self) {
        self.position = Position::Lost;
        self.clear();
    }

    /// Takes a plausible head at the start of this segment although the body before it is not over.
    pub fn restart(&mut self) {
        self.position = Position::Head;
        self.clear();
    }

    /// Reads on. `may_begin`: this is the start of a segment and a head may begin here although the position is lost.
    pub fn advance<'a>(&mut self, kind: Kind, input: &mut &'a [u8], may_begin: bool) -> Step<'a> {
        if input.is_empty() {
            return Step::Idle;
        }
        match self.position {
            Position::Head => self.head(kind, input),
            Position::Length(left) => {
                let step = left.min(input.len() as u64);
                *input =
                    input.get(usize::try_from(step).unwrap_or(usize::MAX)..).unwrap_or_default();
                self.body_bytes += step;
                self.position = Position::Length(left - step);
                if left == step { self.body_end() } else { Step::Idle }
            }
            Position::Chunked(mut chunked) => {
                let outcome = chunked.advance(input);
                self.position = Position::Chunked(chunked);
                self.body_bytes = chunked.data_bytes;
                match outcome {
                    ChunkStep::More => {
                        *input = &[];
                        Step::Idle
                    }
                    ChunkStep::Done(used) => {
                        *input = input.get(used..).unwrap_or_default();
                        self.body_end()
                    }
                    ChunkStep::Bad => self.not_http(input),
                }
            }
            Position::UntilClose => {
                self.body_bytes += input.len() as u64;
                *input = &[];
                Step::Idle
            }
            Position::Lost => {
                let plausible = may_begin
                    && match kind {
                        Kind::Request => detect::request(input, true),
                        Kind::Response => detect::response(input),
                    } != Detect::No;
                if !plausible {
                    *input = &[];
                    return Step::Idle;
                }
                self.restart();
                self.doubtful = true;
                self.head(kind, input)
            }
        }
    }

    /// `len` bytes are missing. Returns the beginning of a head that was cut by it.
    pub fn gap(&mut self, len: u64) -> Option<Vec<u8>> {
        match self.position {
            Position::Length(left) if len < left => {
                self.position = Position::Length(left - len);
                self.body_bytes += len;
            }
            Position::Length(left) if len == left => {
                self.body_bytes += len;
                self.position = Position::Head;
                self.clear();
            }
            Position::UntilClose => self.body_bytes += len,
            Position::Chunked(mut chunked) if chunked.skips(len) => {
                chunked.skip(len);
                self.body_bytes = chunked.data_bytes;
                self.position = Position::Chunked(chunked);
            }
            _ => {
                self.position = Position::Lost;
                let cut = std::mem::take(&mut self.buf);
                self.clear();
                return (!cut.is_empty()).then_some(cut);
            }
        }
        None
    }

    /// The stream ended: a body until close is whole. Returns its size.
    pub fn close(&mut self) -> Option<u64> {
        let ended = self.position == Position::UntilClose;
        self.lose();
        ended.then_some(self.body_bytes)
    }

    fn body_end<'a>(&mut self) -> Step<'a> {
        self.position = Position::Head;
        self.clear();
        Step::BodyEnd { bytes: self.body_bytes }
    }

    fn clear(&mut self) {
        self.buf = Vec::new();
        self.scanned = 0;
        self.folded = false;
        self.doubtful = false;
        self.line_checked = false;
    }

    fn not_http<'a>(&mut self, input: &mut &'a [u8]) -> Step<'a> {
        *input = &[];
        self.lose();
        Step::NotHttp
    }

    fn head<'a>(&mut self, kind: Kind, input: &mut &'a [u8]) -> Step<'a> {
        if self.buf.is_empty() {
            *input = detect::skip_blank_lines(input);
            if input.is_empty() {
                return Step::Idle;
            }
            if !self.plausible(kind, input) {
                return self.not_http(input);
            }
            if let Some(end) = head_end(input, 0, &mut self.folded) {
                let (head, rest) = input.split_at(end);
                *input = rest;
                let folded = self.folded;
                self.clear();
                return Step::Head(if folded {
                    Cow::Owned(unfold(head))
                } else {
                    Cow::Borrowed(head)
                });
            }
        }
        let room = HEAD_BYTES_MAX - self.buf.len();
        let taken = input.get(..input.len().min(room)).unwrap_or_default();
        let before = self.buf.len();
        self.buf.extend_from_slice(taken);
        let end = head_end(&self.buf, self.scanned, &mut self.folded);
        let checked = self.line_checked || !detect::may_decide(&self.buf, before) || {
            let buf = std::mem::take(&mut self.buf);
            let plausible = self.plausible(kind, &buf);
            self.buf = buf;
            plausible
        };
        if !checked {
            return self.not_http(input);
        }
        if let Some(end) = end {
            *input = input.get(end.saturating_sub(before)..).unwrap_or_default();
            let mut head = std::mem::take(&mut self.buf);
            head.truncate(end);
            if self.folded {
                head = unfold(&head);
            }
            self.clear();
            return Step::Head(Cow::Owned(head));
        }
        if self.buf.len() >= HEAD_BYTES_MAX {
            *input = &[];
            let head = std::mem::take(&mut self.buf);
            self.lose();
            return Step::TooLong(head);
        }
        self.scanned = self.buf.len().saturating_sub(3);
        *input = &[];
        Step::Idle
    }

    fn plausible(&mut self, kind: Kind, head: &[u8]) -> bool {
        let detected = match kind {
            Kind::Request => detect::request(head, self.doubtful),
            Kind::Response => detect::response(head),
        };
        self.line_checked = detected == Detect::Yes;
        detected != Detect::No
    }
}

/// End of the head (after its blank line), looking from `from` on; bare LF counts as a line end. Notes folded lines.
fn head_end(bytes: &[u8], from: usize, folded: &mut bool) -> Option<usize> {
    let tail = bytes.get(from..)?;
    for index in memchr::memchr_iter(b'\n', tail) {
        match (tail.get(index + 1), tail.get(index + 2)) {
            (Some(b'\n'), _) => return Some(from + index + 2),
            (Some(b'\r'), Some(b'\n')) => return Some(from + index + 3),
            (Some(b' ' | b'\t'), _) => *folded = true,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads of a request stream with `Content-Length: 3` bodies, cut into pieces.
    fn heads(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut reader = Reader::new(Position::Head);
        let mut heads = Vec::new();
        for part in stream.chunks(piece) {
            let mut input = part;
            while !input.is_empty() {
                if let Step::Head(head) = reader.advance(Kind::Request, &mut input, false) {
                    reader.body(Framing::Length(3));
                    heads.push(head.into_owned());
                }
            }
        }
        heads
    }

    #[test]
    fn any_cut_gives_the_same_heads() {
        let stream = b"\r\nGET /a HTTP/1.1\r\nA: b\r\n\r\nxyzPUT /b HTTP/1.0\nC: d\n\nGETFROB * HTTP/1.1\r\n\r\n...";
        let whole = heads(stream, stream.len());
        assert_eq!(whole.len(), 3);
        for piece in 1..stream.len() {
            assert_eq!(heads(stream, piece), whole, "{piece}");
        }
    }

    #[test]
    fn a_folded_field_is_one_line_wherever_it_is_cut() {
        let stream = b"POST / HTTP/1.1\r\nA:\r\n b\r\n\r\nxyz";
        for piece in 1..=stream.len() {
            assert_eq!(heads(stream, piece), [b"POST / HTTP/1.1\r\nA:   b\r\n\r\n"], "{piece}");
        }
    }

    #[test]
    fn a_gap_inside_a_body_keeps_the_position() {
        let mut reader = Reader::new(Position::Head);
        reader.body(Framing::Length(100));
        assert_eq!(reader.gap(100), None);
        assert_eq!(reader.position(), Position::Head);
        reader.body(Framing::Length(100));
        assert_eq!(reader.gap(101), None);
        assert_eq!(reader.position(), Position::Lost);
    }

    #[test]
    fn a_head_without_end_is_bounded() {
        let mut reader = Reader::new(Position::Head);
        let line = b"GET / HTTP/1.1\r\n".to_vec();
        let endless: Vec<u8> =
            line.into_iter().chain(std::iter::repeat_n(b'x', HEAD_BYTES_MAX)).collect();
        assert!(matches!(
            reader.advance(Kind::Request, &mut &endless[..], false),
            Step::TooLong(_)
        ));
        assert_eq!(reader.position(), Position::Lost);
    }
}
