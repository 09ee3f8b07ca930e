//! A request's path, or a template's, as segments that can be compared.
//!
//! Query and fragment are cut off. Split at raw `/`, then each segment percent-decoded once (`%2F` is part of a segment;
//! a bad escape stays as it is). Empty segments (`//`) are dropped; a trailing slash is remembered. Case counts.
//! Bound: [`SEGMENTS_MAX`] segments. No allocation unless there is a `%`.

use std::borrow::Cow;

use super::limits::SEGMENTS_MAX;

/// Decoded segments of one path.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    bytes: Cow<'a, [u8]>,
    ranges: [(u32, u32); SEGMENTS_MAX],
    count: usize,
    pub(super) trailing_slash: bool,
}

impl<'a> Segments<'a> {
    /// Splits a path; `None` when it does not start with `/` or has too many segments.
    pub(super) fn parse(target: &'a [u8]) -> Option<Self> {
        let end =
            target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
        let path = target.get(..end)?;
        if path.first() != Some(&b'/') || u32::try_from(path.len()).is_err() {
            return None;
        }
        let mut segments = Self {
            bytes: Cow::Borrowed(path),
            ranges: [(0, 0); SEGMENTS_MAX],
            count: 0,
            trailing_slash: path.len() > 1 && path.last() == Some(&b'/'),
        };
        if path.contains(&b'%') {
            let mut decoded = Vec::with_capacity(path.len());
            for raw in path.split(|byte| *byte == b'/') {
                let start = decoded.len();
                decode_into(&mut decoded, raw);
                segments.push(start, decoded.len())?;
            }
            segments.bytes = Cow::Owned(decoded);
        } else {
            let mut start = 0;
            for slash in memchr::memchr_iter(b'/', path).chain(std::iter::once(path.len())) {
                segments.push(start, slash)?;
                start = slash + 1;
            }
        }
        Some(segments)
    }

    fn push(&mut self, start: usize, end: usize) -> Option<()> {
        if start < end {
            *self.ranges.get_mut(self.count)? =
                (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
            self.count += 1;
        }
        Some(())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn segment(&self, index: usize) -> Option<&[u8]> {
        if index >= self.count {
            return None;
        }
        let (start, end) = *self.ranges.get(index)?;
        self.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// Appends `raw` with its percent escapes decoded; what is not an escape stays as it is.
pub(super) fn decode_into(decoded: &mut Vec<u8>, raw: &[u8]) {
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(byte);
            rest = tail;
        }
    }
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &[&str], trailing_slash: bool) {
        let segments = Segments::parse(path.as_bytes()).expect(path);
        let found: Vec<String> = (0..segments.len())
            .filter_map(|i| segments.segment(i))
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .collect();
        assert_eq!(found, expected, "{path}");
        assert_eq!(segments.trailing_slash, trailing_slash, "{path}");
    }

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        check("/", &[], false);
        check("/a/b", &["a", "b"], false);
        check("/a/b/", &["a", "b"], true);
        check("//a//b", &["a", "b"], false);
        check("/a%2Fb/c", &["a/b", "c"], false);
        check("/%7Bid%7d?x=/y", &["{id}"], false);
        check("/a#b/c", &["a"], false);
        check("/100%/%zz/%4", &["100%", "%zz", "%4"], false);
        check("/%2541", &["%41"], false);
    }

    #[test]
    fn what_is_no_path_is_none() {
        assert!(Segments::parse(b"").is_none());
        assert!(Segments::parse(b"*").is_none());
        assert!(Segments::parse(b"a/b").is_none());
        assert!(Segments::parse(&b"/a".repeat(SEGMENTS_MAX)).is_some());
        assert!(Segments::parse(&b"/a".repeat(SEGMENTS_MAX + 1)).is_none());
    }
}
