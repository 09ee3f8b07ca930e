//! A path to decoded segments, and a segment to its parts: a stem, its type, and an extension or custom verb behind it.
//!
//! `17.json` is `17` and `.json`, `documents:batchGet` is `documents` and `:batchGet`: what follows the stem is told apart
//! from the value. Segments are decoded once (RFC 3986 section 2.4), path parameters (`;v=1`) are cut. Bound: a segment
//! of more than [`SEGMENT_BYTES_MAX`] bytes, or one that is not UTF-8, is text.

use super::super::segment::SegmentType;

/// Decoded segments of a path, in one buffer that is used again.
#[derive(Debug, Default)]
pub(in super::super) struct Segments {
    text: String,
    ends: Vec<usize>,
}

impl Segments {
    /// Reads a path; false when it has more than `max` segments.
    pub(in super::super) fn read(&mut self, path: &[u8], max: usize) -> bool {
        self.text.clear();
        self.ends.clear();
        for raw in path.split(|byte| *byte == b'/') {
            let end = memchr::memchr(b';', raw).unwrap_or(raw.len());
            let raw = raw.get(..end).unwrap_or_default();
            if raw.is_empty() {
                continue;
            }
            if self.ends.len() >= max {
                return false;
            }
            self.push(raw);
            self.ends.push(self.text.len());
        }
        true
    }

    fn push(&mut self, raw: &[u8]) {
        let mut bytes = [0_u8; SEGMENT_BYTES_MAX];
        let decoded = super::super::path::decode(raw, &mut bytes)
            .and_then(|length| bytes.get(..length))
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        self.text.push_str(decoded.unwrap_or(UNREADABLE));
    }

    /// The segments.
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let segment = self.text.get(start..*end).unwrap_or_default();
            start = *end;
            segment
        })
    }
}

/// A segment in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) stem: &'a str,
    pub(super) kind: Option<SegmentType>,
    /// `.json`, `:cancel`.
    pub(super) suffix: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(segment: &'a str) -> Self {
        let whole = SegmentType::of(segment.as_bytes());
        if !matches!(whole, None | Some(SegmentType::Text | SegmentType::Token)) {
            return Self { stem: segment, kind: whole, suffix: None };
        }
        let cut = verb(segment).or_else(|| extension(segment));
        match cut.and_then(|at| segment.split_at_checked(at)) {
            Some((stem, suffix)) => {
                Self { stem, kind: SegmentType::of(stem.as_bytes()), suffix: Some(suffix) }
            }
            None => Self { stem: segment, kind: whole, suffix: None },
        }
    }
}

fn verb(segment: &str) -> Option<usize> {
    let at = segment.rfind(':')?;
    let (stem, word) = (segment.get(..at)?, segment.get(at + 1..)?);
    let is_verb = word.len() >= 3
        && word.starts_with(|first: char| first.is_ascii_lowercase())
        && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    (is_verb && !stem.is_empty() && !stem.contains(':')).then_some(at)
}

fn extension(segment: &str) -> Option<usize> {
    let at = segment.rfind('.')?;
    (at > 0 && EXTENSIONS.contains(&segment.get(at + 1..)?)).then_some(at)
}

/// Longest decoded segment that is looked at.
pub(in super::super) const SEGMENT_BYTES_MAX: usize = 256;

/// Stands for what cannot be read; typed as text.
const UNREADABLE: &str = "\u{0}";

/// Extensions that are told apart from the name before them.
const EXTENSIONS: &[&str] = &[
    "json", "xml", "csv", "html", "htm", "txt", "pdf", "yaml", "yml", "zip", "xlsx", "js", "css",
    "png", "jpg", "jpeg", "gif", "svg", "tsv", "rss", "atom", "ics", "php", "jsonl", "ndjson",
    "md", "gz", "tar", "do", "aspx",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(segment: &str, stem: &str, kind: Option<SegmentType>, suffix: Option<&str>) {
        assert_eq!(Parts::of(segment), Parts { stem, kind, suffix }, "{segment}");
    }

    #[test]
    fn extensions_and_verbs_are_told_apart() {
        check("17.json", "17", Some(SegmentType::Integer), Some(".json"));
        check("report.json", "report", None, Some(".json"));
        check("documents:batchGet", "documents", None, Some(":batchGet"));
        check("a@example.com", "a@example.com", Some(SegmentType::Email), None);
        check("example.com", "example.com", None, None);
        check("urn:isbn:x", "urn:isbn:x", None, None);
        check("v1.0", "v1.0", None, None);
    }

    #[test]
    fn segments_are_decoded_once() {
        let mut segments = Segments::default();
        assert!(segments.read(b"//a%2fb/%7Ex;v=1/%ff/", 8));
        assert_eq!(segments.iter().collect::<Vec<_>>(), ["a/b", "~x", UNREADABLE]);
        assert!(!segments.read(b"/a/b/c", 2));
    }
}
