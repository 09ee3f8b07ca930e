//! Path templates: text to segments, and how literal each is.
//!
//! A segment is a literal, a parameter (`{id}`), a mixture (`{name}.json`, `v{n}`, `{a}-{b}`, `{id}:cancel`), or, at the
//! end only, the rest (`{path+}`, `{path*}`, `{path:.*}`, `**`: one or more segments). Text after `:` in braces is a
//! hint and not evaluated; `{name=shelves/*/books/*}` (HTTP rules of gRPC) is `shelves/{name}/books/{name}`. A parameter stands for at least one byte and never for `.` or `..`.

use std::borrow::Cow;

use super::{
    limits::{SEGMENTS_MAX, TEMPLATE_BYTES_MAX},
    path::decode_into,
};

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// These bytes, percent-decoded.
    Literal(Box<[u8]>),
    /// Literals and parameters in turn.
    Partial(Partial),
    /// One whole segment.
    Parameter,
    /// One or more segments.
    Rest,
}

/// A mixture within one segment: `lead`, then for each of `after` a parameter and that literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partial {
    lead: Box<[u8]>,
    after: Box<[Box<[u8]>]>,
}

impl Partial {
    /// Whether a segment fits. Each inner literal is taken at its first place: enough, since any fit can be moved left.
    pub(super) fn matches(&self, segment: &[u8]) -> bool {
        let Some(mut rest) = segment.strip_prefix(&*self.lead) else { return false };
        let Some((last, inner)) = self.after.split_last() else { return rest.is_empty() };
        for literal in inner {
            // The parameter before it takes one byte at least.
            let Some(at) = rest.get(1..).and_then(|tail| find(tail, literal)) else { return false };
            let Some(tail) = rest.get(1 + at + literal.len()..) else { return false };
            rest = tail;
        }
        rest.len() > last.len() && rest.ends_with(last)
    }

    /// Order among partial segments: more literal bytes first, then fewer parameters, then by text.
    pub(super) fn rank(&self) -> impl Ord + use<'_> {
        let literal: usize =
            self.lead.len() + self.after.iter().map(|part| part.len()).sum::<usize>();
        (std::cmp::Reverse(literal), self.after.len(), &self.lead, &self.after)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// A template as written and as compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
    pub(super) trailing_slash: bool,
}

/// Why a text is not a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateError {
    NoSlash,
    TooManySegments,
    Bad(&'static str),
}

impl Template {
    /// Reads a template such as `/users/{id}/files/{name}.json`; query and fragment are cut off.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::Bad("a path must not be longer than 8192 bytes"));
        }
        let path = &*expand_rules(cut_query(text));
        if !path.starts_with('/') {
            return Err(TemplateError::NoSlash);
        }
        let mut segments = Vec::new();
        let raw = split_segments(path)?;
        for (index, part) in raw.iter().enumerate() {
            let segment = parse_segment(part)?;
            if segment == Segment::Rest && index + 1 != raw.len() {
                return Err(TemplateError::Bad(
                    "a parameter for several segments must be the last segment",
                ));
            }
            segments.push(segment);
        }
        if segments.len() > SEGMENTS_MAX {
            return Err(TemplateError::TooManySegments);
        }
        let trailing_slash = path.len() > 1 && path.ends_with('/') && !segments.is_empty();
        Ok(Self { segments, trailing_slash })
    }

    /// How literal the template is, for comparing templates that fit the same path: smaller is more literal.
    /// Two bits a segment from the left (literal, partial, parameter, rest); beyond 32 segments all are equal.
    pub(super) fn generality(&self) -> u64 {
        let bits = |segment: &Segment| match segment {
            Segment::Literal(_) => 0_u64,
            Segment::Partial(_) => 1,
            Segment::Parameter => 2,
            Segment::Rest => 3,
        };
        self.segments
            .iter()
            .take(32)
            .zip(0_u32..)
            .fold(0, |sum, (segment, at)| sum | bits(segment) << (62 - 2 * at))
    }
}

/// Writes `{name=shelves/*/books/**}` as the segments that it stands for.
fn expand_rules(path: &str) -> Cow<'_, str> {
    if !path.contains('=') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, tail)) = rest.split_once('{') {
        out.push_str(before);
        let inner =
            closing(tail).and_then(|close| Some((tail.get(..close)?, tail.get(close + 1..)?)));
        let Some((inner, after)) = inner else {
            // Never closed: nothing behind it is a rule.
            out.push('{');
            rest = tail;
            break;
        };
        match inner.split_once('=') {
            Some((name, pattern)) if is_rule(name, pattern) => {
                let segments = pattern.split('/').map(|segment| match segment {
                    "*" => format!("{{{name}}}"),
                    "**" => format!("{{{name}+}}"),
                    literal => literal.to_owned(),
                });
                out.push_str(&segments.collect::<Vec<_>>().join("/"));
            }
            _ => out.extend(["{", inner, "}"]),
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `a/*/b/**`: a pattern of google.api.http.
fn is_rule(name: &str, pattern: &str) -> bool {
    let plain = |text: &str| !text.is_empty() && !text.contains(['{', '}', '=']);
    plain(name) && plain(pattern) && pattern.split('/').any(|it| it == "*" || it == "**")
}

/// The part of a path before `?` or `#` outside of braces.
pub(super) fn cut_query(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'?' | b'#' if depth == 0 => return text.get(..at).unwrap_or(text),
            _ => {}
        }
    }
    text
}

/// Splits at `/` outside of braces, dropping empty segments.
fn split_segments(path: &str) -> Result<Vec<&str>, TemplateError> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                return Err(TemplateError::Bad("`}` without `{`; write %7D for the character"));
            }
            b'}' => depth -= 1,
            b'/' if depth == 0 => {
                parts.push(path.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 {
        return Err(TemplateError::Bad("`{` is not closed; write %7B for the character"));
    }
    parts.push(path.get(start..).unwrap_or_default());
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

fn parse_segment(text: &str) -> Result<Segment, TemplateError> {
    if text == "**" {
        return Ok(Segment::Rest);
    }
    let mut literals: Vec<Box<[u8]>> = Vec::new();
    let mut rest = text;
    let mut whole = None;
    while let Some((before, tail)) = rest.split_once('{') {
        let close = closing(tail).ok_or(TemplateError::Bad("`{` is not closed"))?;
        let name = tail.get(..close).unwrap_or_default();
        if name.is_empty() {
            return Err(TemplateError::Bad("`{}` has no name; write `{id}`"));
        }
        if before.is_empty() && !literals.is_empty() {
            // `{a}{b}` cannot be told apart: together they are one parameter.
        } else {
            literals.push(decoded(before));
        }
        whole = Some(name);
        rest = tail.get(close + 1..).unwrap_or_default();
    }
    let Some(name) = whole else { return Ok(Segment::Literal(decoded(text))) };
    let lead = literals.remove(0);
    if lead.is_empty() && literals.is_empty() && rest.is_empty() {
        let (_, hint) = name.split_once(':').unwrap_or((name, ""));
        let many =
            name.ends_with(['+', '*']) && hint.is_empty() || matches!(hint, ".*" | ".+" | "**");
        return Ok(if many || name.starts_with(['+', '*']) {
            Segment::Rest
        } else {
            Segment::Parameter
        });
    }
    literals.push(decoded(rest));
    Ok(Segment::Partial(Partial { lead, after: literals.into() }))
}

/// Where the brace that is open at the start closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn decoded(text: &str) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(text.len());
    decode_into(&mut bytes, text.as_bytes());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial(template: &str) -> Partial {
        match Template::parse(template).expect(template).segments.pop() {
            Some(Segment::Partial(partial)) => partial,
            other => panic!("{template}: {other:?}"),
        }
    }

    #[test]
    fn what_a_rule_stands_for_is_bounded() {
        let long = format!("/{{{}={}}}", "a".repeat(5_000), "*/".repeat(2_000));
        assert!(Template::parse(&long).is_err());
        assert!(Template::parse(&format!("/={}", "{".repeat(8_000))).is_err());
    }

    #[test]
    fn segments_are_read_for_what_they_are() {
        let kinds =
            |text: &str| Template::parse(text).map(|t| (t.generality() >> 56, t.segments.len()));
        assert_eq!(kinds("/"), Ok((0, 0)));
        assert_eq!(kinds("/a/{b}/{c}.json/{d+}"), Ok((0b00_10_01_11, 4)));
        assert_eq!(kinds("/{id:[0-9]{2}/?}"), Ok((0b10_00_00_00, 1)));
        assert_eq!(kinds("/files/{path:.*}"), Ok((0b00_11_00_00, 2)));
        assert_eq!(kinds("/{a}{b}"), Ok((0b10_00_00_00, 1)));
        assert_eq!(kinds("/v1/{name=shelves/*/books/*}:move"), Ok((0b00_00_10_00, 5)));
        assert_eq!(kinds("/{name=files/**}"), Ok((0b00_11_00_00, 2)));
        assert_eq!(kinds("/a=b/{x=1}"), Ok((0b00_10_00_00, 2)));
        assert_eq!(kinds("a"), Err(TemplateError::NoSlash));
        for bad in ["/{", "/}", "/{}", "/{a", "/a}", "/{p+}/x", "/**/x"] {
            assert!(matches!(kinds(bad), Err(TemplateError::Bad(_))), "{bad}");
        }
        assert_eq!(kinds(&"/a".repeat(65)), Err(TemplateError::TooManySegments));
    }

    #[test]
    fn partial_segments_take_at_least_one_byte_for_each_parameter() {
        let cases = [
            ("/{name}.json", "a.json", true),
            ("/{name}.json", ".json", false),
            ("/{name}.json", "a.json.json", true),
            ("/{name}.json", "a.jsonx", false),
            ("/v{n}", "v1", true),
            ("/v{n}", "v", false),
            ("/{a}-{b}", "x-y", true),
            ("/{a}-{b}", "-y-z", true),
            ("/{a}-{b}", "-y", false),
            ("/{a}-{b}", "x-", false),
            ("/{a}-{b}-x", "1-x-x", true),
            ("/{a}-{b}-x", "1-x", false),
            ("/{id}:cancel", "7:cancel", true),
            ("/{id}:cancel", "7:cancelled", false),
        ];
        for (template, segment, expected) in cases {
            assert_eq!(
                partial(template).matches(segment.as_bytes()),
                expected,
                "{template} {segment}"
            );
        }
    }

    #[test]
    fn a_partial_segment_is_matched_in_linear_time() {
        let template = format!("/{}x", "{a}a".repeat(30));
        assert!(!partial(&template).matches(&b"a".repeat(60_000)));
    }
}
