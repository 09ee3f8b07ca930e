//! Is this the start of a request, a response, an HTTP/2 preface, a TLS ClientHello or a PROXY protocol header? Judged on any prefix.
//!
//! Three outcomes: it is, it is not, and "not enough yet"; the last only below [`DECIDED_BYTES`] bytes. Sources: RFC 9112 sections 3
//! and 4, RFC 9113 section 3.4, RFC 8446 section 5.1, IANA's "HTTP Method Registry", and haproxy's
//! proxy-protocol.txt sections 2.1 and 2.2.
//! Works on three words of eight bytes (first byte lowest), because the kernel has no cheap byte loops.

/// With so many bytes every outcome is decided.
pub const DECIDED_BYTES: u32 = 24;

/// What a prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detect {
    /// None of these, whatever follows.
    No,
    /// It could still be one.
    NotEnough,
    /// A request line begins: a registered method, a space, the first byte of a target.
    Request(RequestKind),
    /// A status line begins, with this status.
    Response(u32),
    /// The HTTP/2 connection preface.
    Preface,
    /// A TLS ClientHello; bytes of its record, header included.
    Hello(u32),
    /// A PROXY protocol header: its bytes (version 2, behind the blank lines that it begins with), or 0 for one that ends with its line.
    Proxy(u32),
}

/// What matters of a method for the framing of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Its response has no body.
    Head,
    /// A 2xx response ends HTTP on the flow.
    Connect,
    /// Any other.
    Other,
}

impl Detect {
    const RESPONSE: u32 = 1 << 28;
    const HELLO: u32 = 1 << 29;
    const PROXY: u32 = 1 << 27;
    const HELLO_LEN: u32 = 0xff_ffff;

    /// As one word (what a separately verified function can return).
    #[inline(always)]
    pub fn to_word(self) -> u32 {
        match self {
            Self::No => 0,
            Self::NotEnough => 1,
            Self::Preface => 2,
            Self::Request(RequestKind::Other) => 3,
            Self::Request(RequestKind::Head) => 4,
            Self::Request(RequestKind::Connect) => 5,
            Self::Response(status) => Self::RESPONSE | status,
            Self::Hello(len) => Self::HELLO | len,
            Self::Proxy(len) => Self::PROXY | len,
        }
    }

    /// The opposite of [`Self::to_word`].
    #[inline(always)]
    pub fn from_word(word: u32) -> Self {
        match word {
            1 => Self::NotEnough,
            2 => Self::Preface,
            3 => Self::Request(RequestKind::Other),
            4 => Self::Request(RequestKind::Head),
            5 => Self::Request(RequestKind::Connect),
            _ if word & Self::RESPONSE != 0 => Self::Response(word & 0x3ff),
            _ if word & Self::HELLO != 0 => Self::Hello(word & Self::HELLO_LEN),
            _ if word & Self::PROXY != 0 => Self::Proxy(word & Self::HELLO_LEN),
            _ => Self::No,
        }
    }
}

/// The first bytes of a stream position.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// Bytes 0 to 7, the first lowest.
    pub first: u64,
    /// Bytes 8 to 15.
    pub second: u64,
    /// Bytes 16 to 23.
    pub third: u64,
    /// How many of them are there (more than 24 are as good as 24).
    pub len: u32,
}

/// Bytes of the longest method (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: u32 = 17;

/// A method's bytes as words, zero behind its end.
#[derive(Clone, Copy)]
struct Token {
    first: u64,
    second: u64,
    third: u64,
}

const SLOTS: usize = 128;
/// Found by trial: with it no two methods share a slot (a clash stops the build).
const SLOT_FACTOR: u64 = 0x8d8e_3b13_e83b_3ab1;

impl Token {
    #[inline(always)]
    const fn slot(self) -> usize {
        let folded = self.first ^ (self.second << 1) ^ (self.third << 2);
        (folded.wrapping_mul(SLOT_FACTOR) >> 57) as usize
    }

    const fn table(names: &[&str]) -> [Self; SLOTS] {
        let mut table = [Self { first: 0, second: 0, third: 0 }; SLOTS];
        let mut index = 0;
        while index < names.len() {
            #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
            let bytes = names[index].as_bytes();
            let token =
                Self { first: word(bytes, 0), second: word(bytes, 8), third: word(bytes, 16) };
            #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
            let slot = &mut table[token.slot()];
            assert!(slot.first == 0, "two methods share a slot: choose another factor");
            *slot = token;
            index += 1;
        }
        table
    }
}

macro_rules! methods {
    ($($name:literal)*) => {
        /// Every registered method but `PRI` (and `*`, which is not one to send).
        pub const METHOD_NAMES: &[&str] = &[$($name,)*];
        static METHODS: [Token; SLOTS] = Token::table(METHOD_NAMES);
    };
}

methods! {
    "GET" "POST" "PUT" "DELETE" "PATCH" "HEAD" "OPTIONS" "CONNECT" "TRACE" "QUERY"
    "PROPFIND" "PROPPATCH" "REPORT" "MKCOL" "COPY" "MOVE" "LOCK" "UNLOCK" "SEARCH"
    "ACL" "BASELINE-CONTROL" "BIND" "CHECKIN" "CHECKOUT" "LABEL" "LINK" "MERGE" "MKACTIVITY"
    "MKCALENDAR" "MKREDIRECTREF" "MKWORKSPACE" "ORDERPATCH" "REBIND" "UNBIND" "UNCHECKOUT"
    "UNLINK" "UPDATE" "UPDATEREDIRECTREF" "VERSION-CONTROL"
}

const HEAD_WORD: u64 = word(b"HEAD", 0);
const CONNECT_WORD: u64 = word(b"CONNECT", 0);
const GET_WORD: u64 = word(b"GET     ", 0) & 0xffff_ffff;
const POST_WORD: u64 = word(b"POST    ", 0) & 0xff_ffff_ffff;
const HTTP_WORD: u64 = word(b"HTTP/1.0", 0);
const PREFACE: [u64; 3] = [
    word(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
    word(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 8),
    word(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 16),
];

const PROXY_LINE: u64 = word(b"PROXY   ", 0);
const PROXY_LINE_BYTES: u64 = 0xffff_ffff_ffff;
const PROXY_QUIT: u64 = word(b"\0\r\nQUIT\n", 0);

/// A record of plaintext is at most 2^14 bytes (RFC 8446 section 5.1).
const TLS_RECORD_MAX: u32 = 1 << 14;

/// What a client sends first on a connection, or next on an HTTP/1 one.
#[inline(always)]
pub fn request(prefix: &Prefix) -> Detect {
    // The two most frequent ones without the table.
    let fifth = byte(prefix.first, 4);
    if prefix.len >= 5 && prefix.first & 0xffff_ffff == GET_WORD {
        return target(fifth, RequestKind::Other);
    }
    if prefix.len >= 6 && prefix.first & 0xff_ffff_ffff == POST_WORD {
        return target(byte(prefix.first, 5), RequestKind::Other);
    }
    // All methods begin with a capital letter: most other protocols end here.
    if prefix.len > 0 && !byte(prefix.first, 0).is_ascii_uppercase() {
        return Detect::No;
    }
    registered(prefix)
}

/// What only the first bytes of a connection can be beside a request: an HTTP/2 preface, a PROXY protocol header or a ClientHello.
#[inline(always)]
pub fn opening(prefix: &Prefix) -> Detect {
    if matches_prefix(prefix, &PREFACE) {
        // "PRI * HTTP/2" is enough: no method is called PRI.
        return if prefix.len >= 12 { Detect::Preface } else { Detect::NotEnough };
    }
    match proxy(prefix) {
        Detect::No => hello(prefix),
        found => found,
    }
}

/// What a server sends: "HTTP/1.0 " or "HTTP/1.1 " and three digits.
#[inline(always)]
pub fn response(prefix: &Prefix) -> Detect {
    // The last byte of the first word is '0' or '1'.
    let known = available(prefix.len, 0);
    if (prefix.first ^ HTTP_WORD) & !(1 << 56) & known != 0 {
        return Detect::No;
    }
    if prefix.len >= 9 && byte(prefix.second, 0) != b' ' {
        return Detect::No;
    }
    if prefix.len < 12 {
        return Detect::NotEnough;
    }
    let (hundreds, tens, ones) =
        (digit(prefix.second, 1), digit(prefix.second, 2), digit(prefix.second, 3));
    if hundreds > 9 || hundreds == 0 || tens > 9 || ones > 9 {
        return Detect::No;
    }
    if prefix.len >= 13 && !matches!(byte(prefix.second, 4), b' ' | b'\r' | b'\n') {
        return Detect::No;
    }
    Detect::Response(hundreds * 100 + tens * 10 + ones)
}

/// A PROXY protocol header. The signature of version 2 begins with two blank lines, which nobody sees here.
#[inline(always)]
fn proxy(prefix: &Prefix) -> Detect {
    let known = available(prefix.len, 0);
    if (prefix.first ^ PROXY_LINE) & PROXY_LINE_BYTES & known == 0 {
        return if prefix.len < 6 { Detect::NotEnough } else { Detect::Proxy(0) };
    }
    if (prefix.first ^ PROXY_QUIT) & known != 0 {
        return Detect::No;
    }
    if prefix.len < 12 {
        return Detect::NotEnough;
    }
    let len = (u32::from(byte(prefix.second, 2)) << 8) | u32::from(byte(prefix.second, 3));
    if byte(prefix.second, 0) >> 4 == 2 { Detect::Proxy(12 + len) } else { Detect::No }
}

/// A TLS record of handshake type with a ClientHello in it.
#[inline(always)]
fn hello(prefix: &Prefix) -> Detect {
    let word = prefix.first;
    let len = prefix.len;
    let record = (u32::from(byte(word, 3)) << 8) | u32::from(byte(word, 4));
    if (len >= 1 && byte(word, 0) != 22)
        || (len >= 2 && byte(word, 1) != 3)
        || (len >= 3 && byte(word, 2) > 4)
        || (len >= 5 && !(4..=TLS_RECORD_MAX).contains(&record))
        || (len >= 6 && byte(word, 5) != 1)
    {
        return Detect::No;
    }
    if len < 6 { Detect::NotEnough } else { Detect::Hello(record + 5) }
}

/// Whether a record of TLS application data could begin here (flows joined in the middle).
#[inline(always)]
pub fn is_tls_application_data(prefix: &Prefix) -> bool {
    let word = prefix.first;
    let record = (u32::from(byte(word, 3)) << 8) | u32::from(byte(word, 4));
    prefix.len >= 5
        && byte(word, 0) == 23
        && byte(word, 1) == 3
        && byte(word, 2) == 3
        && (17..=TLS_RECORD_MAX + 256).contains(&record)
}

/// Looks the token before the first space up in a perfect hash table: one probe, no loop for the verifier to unroll.
#[inline(always)]
fn registered(prefix: &Prefix) -> Detect {
    let space = first_space(prefix);
    if space >= prefix.len {
        // No space yet. Letters and hyphens only, and no more of them than the longest method has: may still be one.
        let plausible = prefix.len <= METHOD_BYTES_MAX
            && not_letters(prefix.first) & available(prefix.len, 0) == 0
            && not_letters(prefix.second) & available(prefix.len, 8) == 0
            && not_letters(prefix.third) & available(prefix.len, 16) == 0;
        return if plausible { Detect::NotEnough } else { Detect::No };
    }
    let token = Token {
        first: prefix.first & available(space, 0),
        second: prefix.second & available(space, 8),
        third: prefix.third & available(space, 16),
    };
    let Some(known) = METHODS.get(token.slot()) else { return Detect::No };
    if token.first != known.first || token.second != known.second || token.third != known.third {
        return Detect::No;
    }
    if prefix.len <= space + 1 {
        return Detect::NotEnough;
    }
    let index = space + 1;
    let word = if index < 8 {
        prefix.first
    } else if index < 16 {
        prefix.second
    } else {
        prefix.third
    };
    let kind = if token.first == HEAD_WORD && token.second == 0 {
        RequestKind::Head
    } else if token.first == CONNECT_WORD && token.second == 0 {
        RequestKind::Connect
    } else {
        RequestKind::Other
    };
    target(byte(word, index & 7), kind)
}

/// Index of the first space; 24 when there is none.
#[inline(always)]
fn first_space(prefix: &Prefix) -> u32 {
    let first = spaces(prefix.first);
    if first != 0 {
        return lowest(first);
    }
    let second = spaces(prefix.second);
    if second != 0 {
        return 8 + lowest(second);
    }
    let third = spaces(prefix.third);
    if third != 0 { 16 + lowest(third) } else { 24 }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const LOWS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGHS: u64 = !LOWS;

/// High bit of each byte that is a space.
#[inline(always)]
fn spaces(word: u64) -> u64 {
    let difference = word ^ (ONES * u64::from(b' '));
    !(((difference & LOWS) + LOWS) | difference | LOWS)
}

/// Index of the byte of the lowest set bit, which is a byte's highest.
#[inline(always)]
fn lowest(marks: u64) -> u32 {
    let lowest = marks & marks.wrapping_neg();
    ((((lowest - 1) & ONES).wrapping_mul(ONES) >> 56) & 0xff) as u32 - 1
}

/// High bit of each byte that is neither a capital letter nor a hyphen.
#[inline(always)]
fn not_letters(word: u64) -> u64 {
    let low = word & LOWS;
    let at_least_a = low + ONES * u64::from(0x80 - b'A');
    let above_z = low + ONES * u64::from(0x7f - b'Z');
    let hyphen = {
        let difference = word ^ (ONES * u64::from(b'-'));
        !(((difference & LOWS) + LOWS) | difference | LOWS)
    };
    let letter = at_least_a & !above_z & !word & HIGHS;
    !(letter | hyphen) & HIGHS
}

/// Origin form, asterisk form, absolute form (a scheme), authority form (a host): RFC 9112 section 3.2.
#[inline(always)]
fn target(first: u8, kind: RequestKind) -> Detect {
    if matches!(first, b'/' | b'*' | b'[' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9') {
        Detect::Request(kind)
    } else {
        Detect::No
    }
}

/// Whether the bytes that are there are those of the pattern.
#[inline(always)]
fn matches_prefix(prefix: &Prefix, pattern: &[u64; 3]) -> bool {
    let known = prefix.len;
    let [first, second, third] = *pattern;
    ((prefix.first ^ first) & available(known, 0))
        | ((prefix.second ^ second) & available(known, 8))
        | ((prefix.third ^ third) & available(known, 16))
        == 0
}

/// Mask of those bytes of the word at `from` that lie below `len`.
#[inline(always)]
const fn available(len: u32, from: u32) -> u64 {
    if len >= from + 8 {
        u64::MAX
    } else if len <= from {
        0
    } else {
        (1 << (((len - from) & 7) * 8)) - 1
    }
}

#[inline(always)]
fn byte(word: u64, index: u32) -> u8 {
    ((word >> ((index & 7) * 8)) & 0xff) as u8
}

#[inline(always)]
fn digit(word: u64, index: u32) -> u32 {
    u32::from(byte(word, index).wrapping_sub(b'0'))
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time, where an error stops the build"
)]
const fn word(bytes: &[u8], from: usize) -> u64 {
    let mut word = 0;
    let mut index = 0;
    while index < 8 && from + index < bytes.len() {
        word |= (bytes[from + index] as u64) << (index * 8);
        index += 1;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, vec::Vec};

    fn prefix(bytes: &[u8]) -> Prefix {
        Prefix {
            first: word(bytes, 0),
            second: word(bytes, 8),
            third: word(bytes, 16),
            len: u32::try_from(bytes.len()).unwrap(),
        }
    }

    #[test]
    fn every_method_is_detected_at_its_targets_first_byte_and_not_before() {
        for name in METHOD_NAMES {
            for target in ["/a", "*", "http://h/", "h:443", "[::1]:443"] {
                let line = format!("{name} {target} HTTP/1.1\r\n");
                for len in 0..=line.len() {
                    let expected = if len <= name.len() + 1 {
                        Detect::NotEnough
                    } else {
                        Detect::Request(match *name {
                            "HEAD" => RequestKind::Head,
                            "CONNECT" => RequestKind::Connect,
                            _ => RequestKind::Other,
                        })
                    };
                    assert_eq!(request(&prefix(&line.as_bytes()[..len])), expected, "{line} {len}");
                }
            }
        }
    }

    #[test]
    fn other_protocols_and_near_misses_are_not_requests() {
        for text in [
            "GETS /",
            "get / ",
            "GET\t/",
            "GET  /",
            " GET /",
            "*1\r\n$4\r\nPING",
            "PING\r\n",
            "EHLO x",
            "SSH-2.0-x",
            "GE\0",
            "LONGERTHANANYMETHOD",
            "PRI * HTTP/2.0",
            "\x16\x03\x01",
            "INFO {\"a\":1}",
            "UPDATEX /",
            "VERSION-CONTROLX /",
        ] {
            assert_eq!(request(&prefix(text.as_bytes())), Detect::No, "{text:?}");
        }
    }

    #[test]
    fn every_prefix_of_a_status_line_is_judged() {
        for (line, status) in
            [("HTTP/1.1 200 OK\r\n", 200), ("HTTP/1.0 404\r\n", 404), ("HTTP/1.1 101 X", 101)]
        {
            for len in 0..=line.len() {
                let expected = if len < 12 { Detect::NotEnough } else { Detect::Response(status) };
                assert_eq!(response(&prefix(&line.as_bytes()[..len])), expected, "{line} {len}");
            }
        }
        for text in [
            "HTTP/2 200",
            "HTTP/1.1  20",
            "HTTP/1.1 2x0 ",
            "HTTP/1.1 2000",
            "HTTP/1.2 200 ",
            "http/1.1",
            "X",
        ] {
            assert_eq!(response(&prefix(text.as_bytes())), Detect::No, "{text:?}");
        }
    }

    #[test]
    fn every_prefix_of_a_preface_and_of_a_client_hello_is_judged() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for len in 0..=preface.len() {
            let expected = if len < 12 { Detect::NotEnough } else { Detect::Preface };
            assert_eq!(opening(&prefix(&preface[..len])), expected, "{len}");
        }
        let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0, 0];
        for len in 0..=hello.len() {
            let expected = if len < 6 { Detect::NotEnough } else { Detect::Hello(0x205) };
            assert_eq!(opening(&prefix(&hello[..len])), expected, "{len}");
        }
        for bytes in
            [[22, 3, 1, 2, 0, 2], [22, 3, 1, 0xff, 0, 1], [22, 2, 1, 2, 0, 1], [23, 3, 3, 2, 0, 1]]
        {
            assert_eq!(opening(&prefix(&bytes)), Detect::No, "{bytes:?}");
        }
    }

    #[test]
    fn decided_bytes_are_enough_for_any_input() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..24)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    b"GETPOSUDALH /1.0\r\n23"[usize::try_from(seed >> 33).unwrap() % 20]
                })
                .collect();
            let prefix = prefix(&bytes);
            assert_ne!(request(&prefix), Detect::NotEnough);
            assert_ne!(response(&prefix), Detect::NotEnough);
            assert_ne!(opening(&prefix), Detect::NotEnough);
        }
    }
}
