//! Walks a chunked body (RFC 9112 section 7.1) without copying it: size lines, data by arithmetic, trailers.
//!
//! Bound: a size is at most 2^48, a size line or the trailers at most [`LINE_BYTES_MAX`] bytes; beyond, the
//! position in the stream counts as lost.

/// Longest size line with extensions, and most bytes of trailers.
pub(super) const LINE_BYTES_MAX: u32 = 64 * 1024;

/// Position inside a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    size: u64,
    line_bytes: u32,
    /// Bytes of chunk data so far.
    pub data_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    Extension,
    Data,
    DataEnd,
    TrailerStart,
    Trailer,
    TrailerBlank,
}

/// Outcome of a step over input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// All input was used; the body goes on.
    More,
    /// The body ended after this many bytes of the input.
    Done(usize),
    /// Not a chunked body.
    Bad,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::SizeStart, size: 0, line_bytes: 0, data_bytes: 0 }
    }
}

impl Chunked {
    /// Walks over `input`.
    pub fn advance(&mut self, input: &[u8]) -> ChunkStep {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let rest = (input.len() - at) as u64;
                    let step = rest.min(self.size);
                    self.skip_data(step);
                    at += usize::try_from(step).unwrap_or(input.len());
                    continue;
                }
                State::Extension | State::Trailer => {
                    let rest = input.get(at..).unwrap_or_default();
                    let found = memchr::memchr(b'\n', rest);
                    let used = found.map_or(rest.len(), |index| index + 1);
                    at += used;
                    if !self.count_line(used) {
                        return ChunkStep::Bad;
                    }
                    if found.is_some() {
                        self.state = if self.state == State::Trailer {
                            State::TrailerStart
                        } else {
                            self.after_size()
                        };
                    }
                    continue;
                }
                _ => {}
            }
            at += 1;
            if !self.count_line(1) || !self.byte(byte) {
                return ChunkStep::Bad;
            }
            if self.state == State::TrailerBlank && byte == b'\n' {
                return ChunkStep::Done(at);
            }
        }
        ChunkStep::More
    }

    /// Whether `len` bytes that were not captured lie inside one chunk's data.
    #[must_use]
    pub fn skips(&self, len: u64) -> bool {
        self.state == State::Data && len <= self.size
    }

    /// Skips such bytes.
    pub fn skip(&mut self, len: u64) {
        self.skip_data(len.min(self.size));
    }

    fn skip_data(&mut self, len: u64) {
        self.size = self.size.saturating_sub(len);
        self.data_bytes = self.data_bytes.saturating_add(len);
        if self.size == 0 {
            self.state = State::DataEnd;
        }
    }

    fn count_line(&mut self, len: usize) -> bool {
        self.line_bytes = self.line_bytes.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        self.line_bytes <= LINE_BYTES_MAX
    }

    fn after_size(&mut self) -> State {
        self.line_bytes = 0;
        if self.size == 0 { State::TrailerStart } else { State::Data }
    }

    fn byte(&mut self, byte: u8) -> bool {
        self.state = match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.size = (self.size << 4) | u64::from(digit);
                if self.size >> 48 != 0 {
                    return false;
                }
                State::Size
            }
            (State::Size, b'\n') => self.after_size(),
            (State::Size, b'\r' | b';' | b' ' | b'\t') => State::Extension,
            (State::DataEnd, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => {
                self.line_bytes = 0;
                State::SizeStart
            }
            (State::TrailerStart, b'\r' | b'\n') | (State::TrailerBlank, b'\n') => {
                State::TrailerBlank
            }
            (State::TrailerStart, _) => State::Trailer,
            _ => return false,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(body: &[u8], piece: usize) -> Option<(usize, u64)> {
        let mut chunked = Chunked::default();
        let mut at = 0;
        for part in body.chunks(piece) {
            match chunked.advance(part) {
                ChunkStep::More => at += part.len(),
                ChunkStep::Done(used) => return Some((at + used, chunked.data_bytes)),
                ChunkStep::Bad => return None,
            }
        }
        None
    }

    #[test]
    fn any_cut_of_a_body_ends_at_the_same_byte() {
        let body = b"5\r\nhello\r\n1A;ext=\"x\"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\r\n0\r\nX-T: 1\r\nY: 2\r\n\r\nrest";
        for piece in 1..=body.len() {
            assert_eq!(walk(body, piece), Some((body.len() - 4, 31)), "{piece}");
        }
        assert_eq!(walk(b"0\n\nrest", 7), Some((3, 0)));
    }

    #[test]
    fn garbage_is_refused() {
        for body in [&b"x\r\n"[..], b"\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"1\r\nabc"] {
            assert_eq!(walk(body, 1), None);
            assert_eq!(
                Chunked::default().advance(body),
                ChunkStep::Bad,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }
}
