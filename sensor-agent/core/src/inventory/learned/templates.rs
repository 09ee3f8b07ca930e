//! Templates as a tree, and the template of a path.
//!
//! A literal is tried before a parameter; the parameter is taken where the literal leads nowhere. Where nothing was
//! learned (yet), shapes decide: a segment with a type is a parameter, any other a literal, and so is a date at the root that a
//! word follows (`/2015-03-31/functions`): a version. Parameters are named after the literal before them and their type: `/users/{user_id}`, `/reports/{date}`; a name that is taken gets a number.

use std::collections::BTreeMap;

use super::{
    super::{path::push_encoded, segment::SegmentType},
    segments::{Parts, Segments},
    trie::METHODS,
    words,
};

/// What follows a template so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) literals: BTreeMap<Box<str>, Place>,
    pub(super) suffixes: BTreeMap<Box<str>, Place>,
    pub(super) parameter: Option<Box<Place>>,
    /// Whether this follows a parameter: an unknown suffix is part of the value.
    pub(super) is_value: bool,
    /// Type of that parameter's values.
    pub(super) kind: Option<SegmentType>,
    /// All of them have types that no word has.
    pub(super) strict: bool,
    /// Requests that end here, by method.
    pub(super) calls: [u64; METHODS],
}

impl Place {
    /// Whether a segment is a word where all values are numbers or the like: `/users/me` beside `/users/17`.
    fn is_foreign(&self, parts: &Parts<'_>) -> bool {
        self.strict && parts.kind.is_none()
    }
}

/// Templates of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Templates {
    root: Place,
}

impl Templates {
    pub(super) fn new(root: Place) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Place {
        &self.root
    }

    /// Whether another has the same templates, whatever their calls.
    pub(super) fn is_same_tree(&self, other: &Self) -> bool {
        is_same(&self.root, &other.root)
    }

    /// Writes the template of a path into `out`, which is cleared first.
    pub(in super::super) fn write(&self, segments: &Segments, bytes_max: usize, out: &mut Vec<u8>) {
        self.write_keeping(segments, bytes_max, &|_| Vec::new(), out);
    }

    /// As [`Self::write`]; what `stays` says of the segments stays a literal.
    pub(in super::super) fn write_keeping(
        &self,
        segments: &Segments,
        bytes_max: usize,
        stays: Stays<'_>,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        let segments: Vec<&str> = segments.iter().collect();
        let mut way = Vec::with_capacity(segments.len());
        if !find(&self.root, &segments, &mut way) {
            way.clear();
            self.guess(&segments, &mut way);
        }
        keep(&mut way, &stays(&segments));
        let mut writer = Writer { out, parent: "" };
        for (segment, step) in segments.iter().zip(&way) {
            let start = writer.out.len();
            writer.segment(segment, *step);
            if writer.out.len() + REST.len() > bytes_max {
                writer.out.truncate(start);
                writer.out.extend_from_slice(REST.as_bytes());
                return;
            }
        }
        if writer.out.is_empty() {
            writer.out.push(b'/');
        }
    }

    /// The way as far as it was learned, then by shape.
    fn guess(&self, segments: &[&str], way: &mut Vec<Step>) {
        let mut place = Some(&self.root);
        for segment in segments {
            let parts = Parts::of(segment);
            let known = place.and_then(|place| {
                let literal = place.literals.get(parts.stem).map(|next| (next, false));
                let value = place.parameter.as_deref().filter(|next| !next.is_foreign(&parts));
                literal.or_else(|| value.map(|next| (next, true)))
            });
            let suffix = parts.suffix.is_some_and(|suffix| {
                known.is_none_or(|(next, _)| next.suffixes.contains_key(suffix))
            });
            let version = way.is_empty()
                && parts.kind == Some(SegmentType::Date)
                && segments.get(1).is_some_and(|next| Parts::of(next).kind.is_none());
            way.push(match known {
                None if version => Step::Literal,
                Some((next, true)) => Step::Parameter { kind: next.kind, suffix },
                None if parts.kind.is_some() => Step::Parameter { kind: parts.kind, suffix },
                Some((_, false)) | None => Step::Literal,
            });
            place = known.and_then(|(next, _)| match parts.suffix {
                Some(suffix) if next.suffixes.contains_key(suffix) => next.suffixes.get(suffix),
                Some(_) if !next.is_value => None,
                _ => Some(next),
            });
        }
    }

    /// The template that a template has now: what was a literal may be a value, and the other way round it stays.
    pub(in super::super) fn renew(
        &self,
        template: &str,
        stays: Stays<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        let segments: Vec<&str> = template.split('/').filter(|it| !it.is_empty()).collect();
        let mut way = Vec::with_capacity(segments.len());
        if segments.iter().any(|it| it.contains('%')) || !renewed(&self.root, &segments, &mut way) {
            return false;
        }
        keep(&mut way, &stays(&segments));
        let mut writer = Writer { out, parent: "" };
        for (segment, step) in segments.iter().zip(&way) {
            writer.segment(segment, *step);
        }
        !writer.out.is_empty()
    }
}

fn is_same(one: &Place, other: &Place) -> bool {
    let all = |one: &BTreeMap<Box<str>, Place>, other: &BTreeMap<Box<str>, Place>| {
        one.len() == other.len()
            && one
                .iter()
                .zip(other)
                .all(|((text, place), (same, also))| text == same && is_same(place, also))
    };
    one.kind == other.kind
        && one.strict == other.strict
        && all(&one.literals, &other.literals)
        && all(&one.suffixes, &other.suffixes)
        && match (&one.parameter, &other.parameter) {
            (None, None) => true,
            (Some(one), Some(other)) => is_same(one, other),
            _ => false,
        }
}

/// What a segment is in its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Literal,
    Parameter {
        kind: Option<SegmentType>,
        /// Whether what is behind its stem stays.
        suffix: bool,
    },
}

/// Says for each segment of a path whether it stays a literal, whatever was learned; what is beyond its answer does not.
pub(in super::super) type Stays<'a> = &'a dyn Fn(&[&str]) -> Vec<bool>;

fn keep(way: &mut [Step], stays: &[bool]) {
    for (step, stays) in way.iter_mut().zip(stays) {
        if *stays {
            *step = Step::Literal;
        }
    }
}

fn find(place: &Place, segments: &[&str], way: &mut Vec<Step>) -> bool {
    let Some((first, rest)) = segments.split_first() else { return true };
    let parts = Parts::of(first);
    let depth = way.len();
    if let Some(next) = place.literals.get(parts.stem) {
        way.push(Step::Literal);
        let behind = match parts.suffix {
            None => Some(next),
            Some(suffix) => next.suffixes.get(suffix),
        };
        if behind.is_some_and(|next| find(next, rest, way)) {
            return true;
        }
        way.truncate(depth);
    }
    let value = place.parameter.as_deref().filter(|next| !next.is_foreign(&parts));
    let Some(next) = value else { return false };
    let behind = parts.suffix.and_then(|suffix| next.suffixes.get(suffix));
    way.push(Step::Parameter { kind: next.kind, suffix: behind.is_some() });
    if find(behind.unwrap_or(next), rest, way) {
        return true;
    }
    way.truncate(depth);
    false
}

/// As [`find`], for a template: a parameter is only a parameter.
fn renewed(place: &Place, segments: &[&str], way: &mut Vec<Step>) -> bool {
    let Some((first, rest)) = segments.split_first() else { return true };
    let parts = Parts::of(first);
    let behind_name = first.split_once('}').map(|(_, suffix)| suffix);
    let is_parameter = behind_name.is_some();
    let (stem, suffix) = match behind_name {
        Some(suffix) => ("", Some(suffix).filter(|suffix| !suffix.is_empty())),
        None => (parts.stem, parts.suffix),
    };
    let depth = way.len();
    let literal = if is_parameter { None } else { place.literals.get(stem) };
    if let Some(next) = literal {
        way.push(Step::Literal);
        let behind = match suffix {
            None => Some(next),
            Some(suffix) => next.suffixes.get(suffix),
        };
        if behind.is_some_and(|next| renewed(next, rest, way)) {
            return true;
        }
        way.truncate(depth);
    }
    let Some(next) = place.parameter.as_deref() else { return false };
    let behind = suffix.and_then(|suffix| next.suffixes.get(suffix));
    if is_parameter && suffix.is_some() && behind.is_none() {
        return false;
    }
    way.push(Step::Parameter { kind: next.kind, suffix: behind.is_some() });
    if renewed(behind.unwrap_or(next), rest, way) {
        return true;
    }
    way.truncate(depth);
    false
}

struct Writer<'a, 'o> {
    out: &'o mut Vec<u8>,
    /// The last literal.
    parent: &'a str,
}

impl<'a> Writer<'a, '_> {
    fn segment(&mut self, segment: &'a str, step: Step) {
        let Step::Parameter { kind, suffix } = step else {
            self.out.push(b'/');
            push_encoded(segment.as_bytes(), self.out);
            self.parent = segment;
            return;
        };
        let name = self.name(kind);
        self.out.extend_from_slice(b"/{");
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'}');
        let behind = segment
            .split_once('}')
            .map(|(_, behind)| behind)
            .or_else(|| Parts::of(segment).suffix)
            .filter(|_| suffix);
        self.out.extend_from_slice(behind.unwrap_or_default().as_bytes());
    }

    /// A name that the template does not have yet.
    fn name(&self, kind: Option<SegmentType>) -> String {
        let name = base_name(self.parent, kind);
        (1..=self.out.len() + 1)
            .map(|number| if number == 1 { name.clone() } else { format!("{name}_{number}") })
            .find(|name| {
                let braced = format!("{{{name}}}");
                memchr::memmem::find(self.out, braced.as_bytes()).is_none()
            })
            .unwrap_or_default()
    }
}

fn base_name(parent: &str, kind: Option<SegmentType>) -> String {
    use SegmentType as T;
    if let Some(
        kind @ (T::Date | T::Timestamp | T::Ip | T::Email | T::Phone | T::Card | T::Iban | T::Jwt),
    ) = kind
    {
        return kind.parameter().trim_matches(['{', '}']).to_owned();
    }
    let mut name = String::new();
    if !super::super::segment::is_version(parent.as_bytes()) {
        let mut last = 0;
        words::each_word(parent, |word| {
            last = name.len();
            name.push_str(word);
            name.push('_');
            true
        });
        if let Some(word) = name.get(last..name.len().saturating_sub(1)) {
            let word = words::singular(word);
            name.truncate(last);
            name.push_str(&word);
        }
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX { "id".to_owned() } else { name + "_id" }
}

/// Longest name of a parameter, without `_id`.
const NAME_BYTES_MAX: usize = 40;
/// What stands for the end of a path that is too long.
const REST: &str = "/{rest}";
