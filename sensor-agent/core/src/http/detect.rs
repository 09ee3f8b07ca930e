//! Detectors: what do the first bytes of a stream or of a segment begin?
//!
//! Each looks at a prefix and says yes, no, or that it needs more; none reads further than one request line
//! ([`LINE_BYTES_MAX`]). "Not my protocol" and "not enough yet" are answers, not errors.

/// Longest request line that is waited for.
pub(super) const LINE_BYTES_MAX: usize = 128 * 1024;

/// By then every detector is done with its fixed part; blank lines before it are few.
const METHOD_BYTES_MAX: usize = 64;

/// Answer of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detect {
    /// It is.
    Yes,
    /// It is not, whatever follows.
    No,
    /// More bytes are needed.
    More,
}

/// Methods of the IANA registry (RFC 9110 section 16.1.1), with the space that ends them.
const REGISTERED: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"HEAD ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"ACL ",
    b"BASELINE-CONTROL ",
    b"BIND ",
    b"CHECKIN ",
    b"CHECKOUT ",
    b"COPY ",
    b"LABEL ",
    b"LINK ",
    b"LOCK ",
    b"MERGE ",
    b"MKACTIVITY ",
    b"MKCALENDAR ",
    b"MKCOL ",
    b"MKREDIRECTREF ",
    b"MKWORKSPACE ",
    b"MOVE ",
    b"ORDERPATCH ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"QUERY ",
    b"REBIND ",
    b"REPORT ",
    b"SEARCH ",
    b"UNBIND ",
    b"UNCHECKOUT ",
    b"UNLINK ",
    b"UNLOCK ",
    b"UPDATE ",
    b"UPDATEREDIRECTREF ",
    b"VERSION-CONTROL ",
];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether `bytes` begin an HTTP/1 request. With `registered_only` (position not proven) other tokens are refused.
#[must_use]
pub fn request(bytes: &[u8], registered_only: bool) -> Detect {
    let bytes = skip_blank_lines(bytes);
    let Some(space) = memchr::memchr(b' ', bytes.get(..bytes.len().min(26)).unwrap_or(bytes))
    else {
        return undecided_method(bytes, registered_only);
    };
    let (method, rest) = bytes.split_at(space + 1);
    if registered_only && !REGISTERED.contains(&method) {
        return Detect::No;
    }
    if space == 0 || space > 24 || !method.iter().take(space).all(|byte| is_token_byte(*byte)) {
        return Detect::No;
    }
    request_line_rest(rest)
}

/// Whether `bytes` begin an HTTP/1 response: the version, a space and three digits.
#[must_use]
pub fn response(bytes: &[u8]) -> Detect {
    let bytes = skip_blank_lines(bytes);
    let pattern = b"HTTP/1.";
    let common = bytes.len().min(pattern.len());
    if bytes.get(..common) != pattern.get(..common) {
        return Detect::No;
    }
    for (index, byte) in bytes.iter().enumerate().skip(pattern.len()).take(6) {
        let fits = match index {
            7 => matches!(byte, b'0' | b'1'),
            8 => *byte == b' ',
            9 => (b'1'..=b'9').contains(byte),
            10 | 11 => byte.is_ascii_digit(),
            _ => matches!(byte, b' ' | b'\r' | b'\n'),
        };
        if !fits {
            return Detect::No;
        }
    }
    if bytes.len() > 12 { Detect::Yes } else { Detect::More }
}

/// Whether `bytes` begin the HTTP/2 connection preface (RFC 9113 section 3.4).
#[must_use]
pub fn preface(bytes: &[u8]) -> Detect {
    prefix(bytes, PREFACE)
}

/// Whether `bytes` begin a TLS record with a ClientHello (RFC 8446 section 5.1).
#[must_use]
pub fn tls(bytes: &[u8]) -> Detect {
    for (index, byte) in bytes.iter().enumerate().take(6) {
        let fits = match index {
            0 => *byte == 0x16,
            1 => *byte == 3,
            2 => *byte <= 4,
            3 => *byte <= 0x40,
            5 => *byte == 1,
            _ => true,
        };
        if !fits {
            return Detect::No;
        }
    }
    if bytes.len() >= 6 { Detect::Yes } else { Detect::More }
}

/// Drops empty lines before a head (RFC 9112 section 2.2).
pub(crate) fn skip_blank_lines(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.get(blank..).unwrap_or_default()
}

/// Whether a detector that wanted more of the first `before` bytes of `bytes` can say anything else now. What it waits
/// for is a delimiter once the method is known: asking it for each byte of a long target would be quadratic.
pub(crate) fn may_decide(bytes: &[u8], before: usize) -> bool {
    let fresh = bytes.get(before..).unwrap_or_default();
    before < METHOD_BYTES_MAX
        || bytes.len() > LINE_BYTES_MAX
        || fresh.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
}

/// What is worth keeping of an undecided start: of blank lines before a head, one byte is enough.
pub(crate) fn without_blank_lines(bytes: &[u8]) -> &[u8] {
    let rest = skip_blank_lines(bytes);
    bytes.get((bytes.len() - rest.len()).saturating_sub(1)..).unwrap_or_default()
}

fn prefix(bytes: &[u8], pattern: &[u8]) -> Detect {
    let common = bytes.len().min(pattern.len());
    if bytes.get(..common) != pattern.get(..common) {
        return Detect::No;
    }
    if common == pattern.len() { Detect::Yes } else { Detect::More }
}

fn undecided_method(bytes: &[u8], registered_only: bool) -> Detect {
    let possible = if registered_only {
        REGISTERED.iter().any(|method| method.starts_with(bytes))
    } else {
        bytes.len() <= 24 && bytes.iter().all(|byte| is_token_byte(*byte))
    };
    if possible { Detect::More } else { Detect::No }
}

/// After the method: target, one space, `HTTP/1.0` or `HTTP/1.1`, end of line.
fn request_line_rest(rest: &[u8]) -> Detect {
    let Some(end) = rest.iter().position(|byte| *byte <= b' ' || *byte == 0x7f) else {
        return if rest.len() > LINE_BYTES_MAX { Detect::No } else { Detect::More };
    };
    if end == 0 || rest.get(end) != Some(&b' ') {
        return Detect::No;
    }
    let version = rest.get(end + 1..).unwrap_or_default();
    let pattern = b"HTTP/1.";
    let common = version.len().min(pattern.len());
    if version.get(..common) != pattern.get(..common) {
        return Detect::No;
    }
    match (version.get(7), version.get(8), version.get(9)) {
        (None, ..) | (Some(b'0' | b'1'), None, _) | (Some(b'0' | b'1'), Some(b'\r'), None) => {
            Detect::More
        }
        (Some(b'0' | b'1'), Some(b'\n'), _) | (Some(b'0' | b'1'), Some(b'\r'), Some(b'\n')) => {
            Detect::Yes
        }
        _ => Detect::No,
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(detector: impl Fn(&[u8]) -> Detect, input: &[u8], decided_at: usize) {
        for len in 0..decided_at {
            assert_eq!(
                detector(&input[..len]),
                Detect::More,
                "{len} of {}",
                String::from_utf8_lossy(input)
            );
        }
        for len in decided_at..=input.len() {
            assert_eq!(
                detector(&input[..len]),
                Detect::Yes,
                "{len} of {}",
                String::from_utf8_lossy(input)
            );
        }
    }

    #[test]
    fn every_prefix_of_a_request_line_is_undecided_until_its_end() {
        let line = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n";
        check(|bytes| request(bytes, true), line, 19);
        check(|bytes| request(bytes, false), b"FROB * HTTP/1.0\nx", 16);
        check(|bytes| request(bytes, true), b"\r\nPOST / HTTP/1.1\r\n", 19);
        for method in REGISTERED {
            let line = [method, &b"/ HTTP/1.1\r\n"[..]].concat();
            check(|bytes| request(bytes, true), &line, line.len());
        }
    }

    #[test]
    fn other_protocols_are_refused() {
        for other in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"*1\r\n$4\r\nPING\r\n",
            b"SET a b\r\n",
            b"EHLO x\r\n",
            b"\x16\x03\x01",
        ] {
            assert_eq!(request(other, false), Detect::No, "{}", String::from_utf8_lossy(other));
            assert_eq!(response(other), Detect::No);
        }
        assert_eq!(request(b"FROB / HTTP/1.1\r\n", true), Detect::No);
        assert_eq!(request(b"GET / HTTP/2.0\r\n", true), Detect::No);
    }

    #[test]
    fn every_prefix_of_response_preface_and_hello() {
        check(response, b"HTTP/1.1 200 OK\r\n", 13);
        check(response, b"HTTP/1.0 404\r\n", 13);
        check(preface, PREFACE, PREFACE.len());
        check(tls, &[0x16, 3, 1, 2, 0, 1, 0], 6);
    }
}
