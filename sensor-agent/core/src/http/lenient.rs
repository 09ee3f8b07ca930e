//! Reads heads that httparse refuses although their first line is one: odd bytes in the target, the reason phrase or a
//! field, or more fields than usual; and joins folded lines (obs-fold, RFC 9112 section 5.2).
//!
//! Strict in the first line, and in nothing else: a field line without a name is skipped. Bound: the head, which its
//! reader bounds.

use httparse::Header;

/// A head in its lines.
pub(super) struct Lines<'a> {
    first: &'a [u8],
    pub(super) fields: Vec<Header<'a>>,
}

impl<'a> Lines<'a> {
    /// Cuts a head into its first line and its fields.
    pub(super) fn of(head: &'a [u8]) -> Self {
        let mut lines =
            super::detect::skip_blank_lines(head).split(|byte| *byte == b'\n').map(without_return);
        let first = lines.next().unwrap_or_default();
        Self { first, fields: lines.filter_map(field).collect() }
    }

    /// Method and target, where the first line is that of a request.
    pub(super) fn request_line(&self) -> Option<(&'a str, &'a [u8])> {
        let mut parts = self.first.split(|byte| *byte == b' ');
        let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && matches!(version, b"HTTP/1.0" | b"HTTP/1.1");
        let plain = !target.is_empty() && !target.iter().any(|byte| *byte < b' ' || *byte == 0x7f);
        (whole && plain).then_some((std::str::from_utf8(method).ok()?, target))
    }

    /// The status, where the first line is that of a response.
    pub(super) fn status(&self) -> Option<u16> {
        let rest = self.first.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
        let (digits, reason) = rest.split_at_checked(3)?;
        let ends = reason.first().is_none_or(|byte| *byte == b' ');
        let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
        (ends && digits.iter().all(u8::is_ascii_digit)).then_some(status)
    }
}

/// Joins folded lines to the one before; what is folded onto the first line is no field and stays (to be skipped).
pub(super) fn unfold(head: &[u8]) -> Vec<u8> {
    let mut joined = head.to_vec();
    let mut has_field = false;
    let mut at = memchr::memchr(b'\n', head).unwrap_or(head.len());
    while let Some(next) = head.get(at + 1) {
        let folded = matches!(next, b' ' | b'\t');
        if folded && has_field {
            for place in [at.checked_sub(1), Some(at)].into_iter().flatten() {
                if let Some(end @ (b'\r' | b'\n')) = joined.get_mut(place) {
                    *end = b' ';
                }
            }
        }
        has_field |= !folded;
        let rest = head.get(at + 1..).unwrap_or_default();
        at = memchr::memchr(b'\n', rest).map_or(head.len(), |end| at + 1 + end);
    }
    joined
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn field(line: &[u8]) -> Option<Header<'_>> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at(colon);
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))?;
    Some(Header { name, value: value.get(1..)?.trim_ascii() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_lines_are_joined_to_their_field_only() {
        let head = b"GET / HTTP/1.1\r\n X: y\r\nHost:\r\n a\r\nB: c\n\td\r\n\r\n";
        let joined = unfold(head);
        assert_eq!(joined, b"GET / HTTP/1.1\r\n X: y\r\nHost:   a\r\nB: c \td\r\n\r\n");
        let lines = Lines::of(&joined);
        let fields: Vec<_> = lines.fields.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(fields, [("Host", &b"a"[..]), ("B", b"c \td")]);
    }

    #[test]
    fn only_a_first_line_of_http_1_counts() {
        let request = |line: &[u8]| Lines::of(line).request_line().is_some();
        assert!(request(b"GET /\xff HTTP/1.1\r\n\r\n"));
        for wrong in [
            &b"GET / HTTP/1.1 x\r\n"[..],
            b"GET  / HTTP/1.1\r\n",
            b"GET / HTTP/2.0\r\n",
            b"GET /\r\n",
        ] {
            assert!(!request(wrong), "{}", wrong.escape_ascii());
        }
        let status = |line: &[u8]| Lines::of(line).status();
        assert_eq!(status(b"HTTP/1.1 200 \x01\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 404\n\n"), Some(404));
        assert_eq!((status(b"HTTP/1.1 20x\r\n"), status(b"HTTP/1.1 2000\r\n")), (None, None));
    }
}
