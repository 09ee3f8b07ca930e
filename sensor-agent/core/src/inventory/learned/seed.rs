//! What an earlier run learned, back into the trie: a stored template, and what its parameters were values of.
//!
//! Only templates are stored, not the values behind them, so a parameter comes back as one child that stands for all its values
//! ([`Part::Values`](super::trie::Part), or their type where they have one) and a literal as one that was kept beside it. Calls come back
//! up to [`CALLS_MAX`] a template: more of them say no more, and what is new must not wait for as many again. Pure; does not decide.

use serde::{Deserialize, Serialize};

use super::{
    super::segment::SegmentType,
    segments::{Parts, Segments},
    templates::{Place, Templates},
    trie::{Part, ROOT, Trie},
};

/// What the values of a parameter were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Values {
    /// The type that nearly all had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<SegmentType>,
    /// None of them was a word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
}

impl Templates {
    /// What the parameters of a template stand for, in their order; `None` for one that was not learned.
    pub(in super::super) fn values_of(&self, template: &str) -> Option<Vec<Values>> {
        let mut found = Vec::new();
        let mut place = self.root();
        for raw in template.split('/').filter(|it| !it.is_empty()) {
            let step = Step::of(raw);
            let (next, suffix) = match &step {
                Step::Values { suffix } => {
                    let next = place.parameter.as_deref()?;
                    found.push(Values { kind: next.kind, strict: next.strict });
                    (next, *suffix)
                }
                Step::Text(segments) => {
                    let parts = Parts::of(segments.iter().next()?);
                    (place.literals.get(parts.stem)?, parts.suffix)
                }
            };
            place = behind(next, suffix)?;
        }
        Some(found)
    }
}

fn behind<'a>(place: &'a Place, suffix: Option<&str>) -> Option<&'a Place> {
    match suffix {
        Some(suffix) => place.suffixes.get(suffix),
        None => Some(place),
    }
}

/// Puts a template that was learned before into the trie; false where a bound keeps no place for it.
pub(super) fn sow(
    trie: &mut Trie,
    template: &str,
    values: &[Values],
    (method, calls): (usize, u64),
    room: usize,
) -> bool {
    let calls = u32::try_from(calls.clamp(1, CALLS_MAX)).unwrap_or(1);
    let Some(leaf) = way(trie, template, values, Mixed::ByType, room) else { return false };
    trie.add(leaf, method, calls);
    // Words among typed values: few, but some.
    if values.iter().any(|it| it.kind.is_some() && !it.strict)
        && let Some(leaf) = way(trie, template, values, Mixed::ByWords, room)
    {
        trie.add(leaf, method, 1);
    }
    true
}

/// Which child stands for values that nearly all have one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mixed {
    ByType,
    ByWords,
}

fn way(
    trie: &mut Trie,
    template: &str,
    values: &[Values],
    mixed: Mixed,
    room: usize,
) -> Option<u32> {
    let mut values = values.iter();
    let mut at = ROOT;
    for raw in template.split('/').filter(|it| !it.is_empty()) {
        let step = Step::of(raw);
        let suffix = match &step {
            Step::Values { suffix } => {
                let Values { kind, strict } = *values.next()?;
                let kind = kind.filter(|_| strict || mixed == Mixed::ByType);
                // Of several types, one is as good as the other: no word is of any.
                let kind = kind.or(strict.then_some(SegmentType::Integer));
                at = trie.known(at, kind.map_or(Part::Values, Part::Typed), "", room)?;
                *suffix
            }
            Step::Text(segments) => {
                let parts = Parts::of(segments.iter().next()?);
                at = trie.known(
                    at,
                    parts.kind.map_or(Part::Literal, Part::Typed),
                    parts.stem,
                    room,
                )?;
                parts.suffix
            }
        };
        if let Some(suffix) = suffix {
            at = trie.known(at, Part::Suffix, suffix, room)?;
        }
    }
    Some(at)
}

/// A segment of a template.
enum Step<'a> {
    /// `{user_id}.json`.
    Values { suffix: Option<&'a str> },
    /// Decoded: one.
    Text(Segments),
}

impl<'a> Step<'a> {
    fn of(raw: &'a str) -> Self {
        if let Some((_, suffix)) = raw.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            return Self::Values { suffix: Some(suffix).filter(|suffix| !suffix.is_empty()) };
        }
        let mut segments = Segments::default();
        // Never more than this one: it has no `/`.
        let _is_one = segments.read(raw.as_bytes(), 1);
        Self::Text(segments)
    }
}

/// Calls that a stored template brings back at the most.
const CALLS_MAX: u64 = 150;
