//! A request target to path, query and template text.
//!
//! Handled on purpose: an absolute-form target loses scheme and authority; empty segments (`//`) and a trailing slash
//! are dropped (`/a//b/` is `/a/b`; servers differ, an inventory with both rows helps nobody); percent-encoded
//! unreserved characters are decoded, other encodings are upper-cased and kept (`%2f` stays one segment), bytes that
//! are not printable ASCII and braces are encoded; path parameters (`;jsessionid=..`) are cut; dot segments stay as
//! they are. `/package.Service/Method` of gRPC keeps its text. Bounds: `template_bytes`, `template_segments`.

use std::borrow::Cow;

use super::{
    learned::SEGMENT_BYTES_MAX,
    segment::{SegmentType, with_extension},
};

/// A target in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// A path that starts with `/`, and the query without `?`.
    Path { path: &'a [u8], query: &'a [u8] },
    /// `*`, an authority, or noise: not an operation of a service.
    NoPath,
}

impl<'a> Target<'a> {
    /// Splits a request target (RFC 9112 section 3.2).
    pub(super) fn parse(target: &'a [u8]) -> Self {
        let rest = match target.first() {
            Some(b'/') => target,
            _ => match after_authority(target) {
                Some(rest) => rest,
                None => return Self::NoPath,
            },
        };
        let rest = memchr::memchr(b'#', rest).and_then(|at| rest.get(..at)).unwrap_or(rest);
        let at = memchr::memchr(b'?', rest).unwrap_or(rest.len());
        let path = rest.get(..at).unwrap_or_default();
        Self::Path {
            path: if path.is_empty() { b"/" } else { path },
            query: rest.get(at + 1..).unwrap_or_default(),
        }
    }
}

fn after_authority(target: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', target)?;
    let scheme = target.get(..colon)?;
    if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let authority = target.get(colon..)?.strip_prefix(b"://")?;
    let at =
        authority.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(authority.len());
    authority.get(at..)
}

/// Whether identifiers in the path are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Templating {
    /// Segments with a type become parameters.
    Typed,
    /// gRPC: the path names the method.
    Verbatim,
}

/// Writes the template of `path` into `out`, which is cleared first.
pub(super) fn write_template(
    path: &[u8],
    templating: Templating,
    bytes_max: usize,
    segments_max: usize,
    out: &mut Vec<u8>,
) {
    out.clear();
    let mut decoded = [0_u8; SEGMENT_BYTES_MAX];
    let segments = path
        .split(|byte| *byte == b'/')
        .map(without_parameters)
        .filter(|segment| !segment.is_empty());
    for (count, raw) in segments.enumerate() {
        let start = out.len();
        out.push(b'/');
        if count >= segments_max {
            out.extend_from_slice(REST.as_bytes());
            return;
        }
        write_segment(raw, templating, &mut decoded, out);
        if out.len() + REST.len() + 1 > bytes_max {
            out.truncate(start);
            out.push(b'/');
            out.extend_from_slice(REST.as_bytes());
            return;
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
}

/// Writes the template of a file: its first folder, and one parameter for what is below it.
pub(super) fn write_file(path: &[u8], extension: &str, bytes_max: usize, out: &mut Vec<u8>) {
    out.clear();
    let mut decoded = [0_u8; SEGMENT_BYTES_MAX];
    let mut segments = path
        .split(|byte| *byte == b'/')
        .map(without_parameters)
        .filter(|segment| !segment.is_empty());
    let first = segments.next().unwrap_or_default();
    if let Some(below) = segments.next() {
        out.push(b'/');
        write_segment(first, Templating::Typed, &mut decoded, out);
        if out.len() + FILE.len() * 2 + extension.len() > bytes_max {
            out.clear();
        }
        if !below.is_empty() && segments.next().is_some() {
            out.extend_from_slice(b"/{path}");
        }
    }
    out.extend_from_slice(FILE.as_bytes());
    out.extend_from_slice(extension.as_bytes());
}

/// Whether a template is that of files.
pub(super) fn is_file_template(template: &str) -> bool {
    template.rfind('/').and_then(|at| template.get(at..)).is_some_and(|name| {
        name.strip_prefix(FILE).is_some_and(|extension| extension.starts_with('.'))
    })
}

/// The segment of any file.
const FILE: &str = "/{file}";

fn without_parameters(segment: &[u8]) -> &[u8] {
    memchr::memchr(b';', segment).and_then(|at| segment.get(..at)).unwrap_or(segment)
}

fn write_segment(
    raw: &[u8],
    templating: Templating,
    decoded: &mut [u8; SEGMENT_BYTES_MAX],
    out: &mut Vec<u8>,
) {
    let Some(length) = decode(raw, decoded) else {
        out.extend_from_slice(SegmentType::Text.parameter().as_bytes());
        return;
    };
    let segment = decoded.get(..length).unwrap_or_default();
    if templating == Templating::Typed {
        if let Some(kind) = SegmentType::of(segment) {
            out.extend_from_slice(kind.parameter().as_bytes());
            return;
        }
        if let Some((kind, extension)) = with_extension(segment) {
            out.extend_from_slice(kind.parameter().as_bytes());
            out.extend_from_slice(extension.as_bytes());
            return;
        }
    }
    push_encoded(segment, out);
}

/// Adds a decoded segment in the one spelling that templates have.
pub(super) fn push_encoded(segment: &[u8], out: &mut Vec<u8>) {
    for byte in segment {
        if is_plain(*byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

/// Percent-decodes into `into`; `None` when it does not fit. A bad escape stays as it is.
pub(super) fn decode(raw: &[u8], into: &mut [u8; SEGMENT_BYTES_MAX]) -> Option<usize> {
    let mut length = 0;
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, next) = match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (*first, tail),
            },
            _ => (*first, tail),
        };
        *into.get_mut(length)? = byte;
        length += 1;
        rest = next;
    }
    Some(length)
}

/// A segment of a path or template as it is without percent-encoding; as it stands where it is too long for that, or no text then.
pub(super) fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = [0_u8; SEGMENT_BYTES_MAX];
    let text = decode(segment.as_bytes(), &mut bytes)
        .and_then(|length| std::str::from_utf8(bytes.get(..length)?).ok());
    text.map_or(Cow::Borrowed(segment), |text| Cow::Owned(text.to_owned()))
}

/// A path that has this template: for asking a catalogue about a template that was made without it.
pub(super) fn example_path(template: &str) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, after)) = tail.split_once('}') else { break };
        let with_braces = tail.len() - after.len() + 1;
        let start = rest.len() - tail.len() - 1;
        debug_assert_eq!(with_braces, name.len() + 2);
        out.push_str(SegmentType::example_of(
            rest.get(start..start + with_braces).unwrap_or_default(),
        ));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether a template has a parameter.
pub(super) fn has_parameter(template: &str) -> bool {
    template.contains('{')
}

fn is_plain(byte: u8) -> bool {
    // `pchar` of RFC 3986 without `%` and `;`; the rest is encoded, braces included.
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn hex(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'A' + value - 10 }
}

/// What stands for the end of a path that is too long.
const REST: &str = "{rest}";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(path: &str) -> String {
        let mut out = Vec::new();
        write_template(path.as_bytes(), Templating::Typed, 512, 64, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn targets_are_split() {
        let path = |path: &'static str, query: &'static str| Target::Path {
            path: path.as_bytes(),
            query: query.as_bytes(),
        };
        assert_eq!(Target::parse(b"/a?b=1#c"), path("/a", "b=1"));
        assert_eq!(Target::parse(b"http://x.example:80/a/b?c"), path("/a/b", "c"));
        assert_eq!(Target::parse(b"http://x.example"), path("/", ""));
        assert_eq!(Target::parse(b"http://x.example?q=1"), path("/", "q=1"));
        assert_eq!(Target::parse(b"*"), Target::NoPath);
        assert_eq!(Target::parse(b"x.example:443"), Target::NoPath);
        assert_eq!(Target::parse(b""), Target::NoPath);
    }

    #[test]
    fn spellings_of_a_path_have_one_template() {
        for spelling in ["/a/b", "/a/b/", "//a///b", "/%61/b", "/a;v=1/b", "/a/b;jsessionid=1A2B"] {
            assert_eq!(template(spelling), "/a/b", "{spelling}");
        }
        assert_eq!(template("/"), "/");
        assert_eq!(template("//"), "/");
        assert_eq!(template("/users/17/orders/5f2b1c9e"), "/users/{integer}/orders/{hex}");
        assert_eq!(template("/users/%31%37"), "/users/{integer}");
        assert_eq!(template("/a%2fb/c"), "/a%2Fb/c");
        assert_eq!(template("/a/{id}"), "/a/{text}");
        assert_eq!(template("/%E7%94%A8"), "/%E7%94%A8");
        assert_eq!(template("/17.json"), "/{integer}.json");
    }

    #[test]
    fn grpc_paths_keep_their_text() {
        let mut out = Vec::new();
        write_template(b"/shop.v1.Orders/Get20240101", Templating::Verbatim, 512, 64, &mut out);
        assert_eq!(out, b"/shop.v1.Orders/Get20240101");
    }

    #[test]
    fn long_paths_end_in_rest() {
        assert!(template(&"/abc".repeat(65)).ends_with("/abc/{rest}"));
        let long = template(&format!("/{}", "word-word/".repeat(60)));
        assert!(long.len() <= 512 && long.ends_with("/{rest}"), "{long}");
        assert_eq!(template(&format!("/{}", "x".repeat(65_536))), "/{text}");
    }

    #[test]
    fn example_path_has_the_template_it_came_from() {
        for path in [
            "/users/17/orders/5f2b1c9e",
            "/",
            "/a/b",
            "/d/2024-01-01",
            "/17.json",
            "/550e8400-e29b-41d4-a716-446655440000",
        ] {
            let first = template(path);
            assert_eq!(template(&example_path(&first)), first);
        }
    }

    proptest! {
        #[test]
        fn templates_are_bounded_printable_and_stable(path in proptest::collection::vec(any::<u8>(), 0..700)) {
            let mut out = Vec::new();
            write_template(&path, Templating::Typed, 512, 64, &mut out);
            prop_assert!(out.len() <= 512 && out.first() == Some(&b'/'));
            prop_assert!(out.iter().all(u8::is_ascii_graphic));
            prop_assert!(!out.windows(2).any(|two| two == b"//"), "{}", String::from_utf8_lossy(&out));
        }

        #[test]
        fn normalising_twice_changes_nothing(path in "(/[a-z%0-9;.A-F~-]{0,12}){1,6}") {
            let mut once = Vec::new();
            write_template(path.as_bytes(), Templating::Verbatim, 512, 64, &mut once);
            let mut twice = Vec::new();
            write_template(&once, Templating::Verbatim, 512, 64, &mut twice);
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn any_target_is_split_without_panic(target in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _parts = Target::parse(&target);
        }
    }
}
