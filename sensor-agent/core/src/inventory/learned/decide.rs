//! The trie to templates: from the root down, which segments of each position are literals.
//!
//! Two passes: the second knows the values, the literals and the calls of a typical operation that the first found
//! anywhere in the service. What is no literal is one parameter, and what follows all its values is decided together.
//! A pure function of the trie. Cost: each node is looked at a few times; recursion goes as deep as the trie.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::segment::{SegmentType, is_version},
    common::Common,
    evidence::{self, Context, Known},
    position::{Counted, Position, Sibling, Tail, real},
    sibling::{self, Pool},
    templates::{Place, Templates},
    trie::{METHODS, Part, ROOT, Trie, VALUES_MAX},
    weights::{PASSES, Weights},
    words,
};

/// Reads the templates of a service.
pub(super) fn templates(trie: &Trie) -> Templates {
    let sums = trie.sums();
    let counted = Counted { trie, sums: &sums };
    let mut known = Known::default();
    let mut root = Place::default();
    for weights in &PASSES {
        let mut pass = Pass { counted, weights, known, found: Known::default() };
        root = pass.place(&[ROOT], &Context::default());
        known = pass.found;
        known.calls = root.typical_calls();
    }
    Templates::new(root)
}

struct Pass<'a> {
    counted: Counted<'a>,
    weights: &'a Weights,
    known: Known,
    found: Known,
}

/// Nodes of a position, told apart.
#[derive(Default)]
struct Split {
    literals: Vec<Sibling>,
    parameter: Vec<u32>,
}

impl Pass<'_> {
    /// What follows nodes that have the same template.
    fn place(&mut self, nodes: &[u32], context: &Context) -> Place {
        let mut place = Place { calls: self.calls(nodes), ..Place::default() };
        let mut position = Position::below(self.counted, nodes);
        if context.after_parameter && !position.suffixes.is_empty() {
            self.fold_suffixes(nodes, &mut position, &mut place);
        }
        let mut split = Split::default();
        self.split_typed(&position, context, &mut split, &mut place);
        if !position.literals.is_empty() {
            self.split_literals(&position, context, &mut split);
        }
        for literal in split.literals {
            *self.found.literals.entry(literal.text.clone()).or_default() += 1;
            let context = Context {
                depth: context.depth + 1,
                after_plural: words::is_plural(&literal.text),
                after_api: words::is_api(&literal.text),
                after_v: is_version(literal.text.as_bytes()),
                after_version: context.after_version,
                ..Context::default()
            };
            let below = self.place(&literal.nodes, &context);
            place.literals.insert(literal.text.into(), below);
        }
        if !split.parameter.is_empty() {
            let context = Context {
                depth: context.depth + 1,
                after_parameter: true,
                parameters: context.parameters + 1,
                after_version: context.after_version,
                ..Context::default()
            };
            let kind = self.common_type(&split.parameter);
            let strict = self.is_strict(&split.parameter);
            let below = self.place(&split.parameter, &context);
            place.parameter = Some(Box::new(Place { is_value: true, kind, strict, ..below }));
        }
        for suffix in position.suffixes {
            let below = self.place(&suffix.nodes, context);
            place.suffixes.insert(suffix.text.into(), below);
        }
        place
    }

    fn calls(&self, nodes: &[u32]) -> [u64; METHODS] {
        let mut calls = [0; METHODS];
        for node in nodes.iter().filter_map(|id| self.counted.trie.node(*id)) {
            for (sum, count) in calls.iter_mut().zip(node.counts) {
                *sum += u64::from(count);
            }
        }
        calls
    }

    /// What looks like an extension but is rare, or has more behind it, belongs to the value.
    fn fold_suffixes(&self, nodes: &[u32], position: &mut Position, place: &mut Place) {
        let total: f64 = nodes.iter().map(|id| self.counted.sum(*id)).sum();
        let folds = |suffix: &Sibling| {
            let goes_on =
                suffix.nodes.iter().any(|id| self.counted.trie.children(*id).next().is_some());
            goes_on || (suffix.sum < SUFFIX_CALLS_MIN && suffix.sum < total * 0.1)
        };
        let suffixes = std::mem::take(&mut position.suffixes);
        let (folded, kept): (Vec<Sibling>, Vec<Sibling>) = suffixes.into_iter().partition(folds);
        if !folded.is_empty() {
            let mut wider = nodes.to_vec();
            wider.extend(folded.iter().flat_map(|suffix| &suffix.nodes));
            place.calls = self.calls(&wider);
            *position = Position::below(self.counted, &wider);
        }
        position.suffixes = kept;
    }

    /// Values of types are a parameter's; but few numbers or dates, each asked often with several things behind them, are
    /// versions (`/2015-03-31/functions`, `/3/movie`).
    fn split_typed(
        &mut self,
        position: &Position,
        context: &Context,
        split: &mut Split,
        place: &mut Place,
    ) {
        let may_be_version = |kind| matches!(kind, SegmentType::Integer | SegmentType::Date);
        let nodes = |test: &dyn Fn(SegmentType) -> bool| -> Vec<u32> {
            position.typed.iter().filter(|(kind, _)| test(*kind)).map(|(_, id)| *id).collect()
        };
        split.parameter.extend(&position.known);
        split.parameter.extend(nodes(&|kind| !may_be_version(kind)));
        let candidates = nodes(&may_be_version);
        let values: BTreeSet<&str> = candidates
            .iter()
            .filter_map(|id| self.counted.trie.node(*id))
            .flat_map(|node| node.values.iter().map(|value| &*value.text))
            .collect();
        let dates = !context.after_parameter
            && position
                .typed
                .iter()
                .all(|(kind, _)| *kind == SegmentType::Date || !may_be_version(*kind));
        let (values_max, calls_min) = if dates { (VALUES_MAX - 1, 5.0) } else { (2, 8.0) };
        let children: BTreeSet<&str> = candidates
            .iter()
            .flat_map(|id| self.counted.trie.children(*id))
            .filter_map(|id| self.counted.trie.node(id))
            .map(|node| &*node.text)
            .collect();
        let calls: f64 = candidates.iter().map(|id| self.counted.sum(*id)).sum();
        let calls = calls / real(values.len().max(1) as u64);
        // What nothing follows is an id that is asked often; at the root, words after a few dates say enough.
        let followed = (calls >= calls_min
            && (children.len() >= 2 || (calls >= 20.0 && !children.is_empty())))
            || (dates && context.depth == 0 && children.iter().any(|text| !text.is_empty()));
        let version = !candidates.is_empty()
            && !context.after_version
            && values.len() <= values_max
            && !values.contains("")
            && followed;
        if !version {
            split.parameter.extend(candidates);
            return;
        }
        let texts: Vec<Box<str>> = values.into_iter().map(Into::into).collect();
        let context =
            Context { depth: context.depth + 1, after_version: true, ..Context::default() };
        // The same behind each of them, and read once: else a path of many versions would be read anew for each way through it.
        let below = self.place(&candidates, &context);
        for text in texts {
            place.literals.insert(text, below.clone());
        }
    }

    fn split_literals(&mut self, position: &Position, context: &Context, split: &mut Split) {
        let was_parameter = !position.known.is_empty();
        if was_parameter && position.literals.iter().filter(|it| !it.kept).count() < STRANGERS_MIN {
            self.split_as_before(position, split);
            return;
        }
        let prior = if was_parameter { KNOWN_BEFORE } else { 0.0 };
        let tails: Vec<Tail> =
            position.literals.iter().map(|it| Tail::of(self.counted, it)).collect();
        let common = Common::of(position, &tails);
        let facts =
            evidence::of_position(self.counted, position, &tails, &common, context, &self.known);
        let parameter = self.weights.parameter(&facts) + prior;
        let apart = !was_parameter && is_typed_apart(self.counted, position);
        if parameter <= self.parameter_min(position.literals.len()) || apart {
            split.literals.extend(position.literals.iter().cloned());
            return;
        }
        let pool = Pool::of(position, &tails);
        let outliers = sibling::outliers(&position.literals);
        for (place, (literal, tail)) in position.literals.iter().zip(&tails).enumerate() {
            let facts =
                sibling::of_sibling(position, tail, &pool, &common, place, parameter, &self.known);
            if (place < outliers && sibling::is_alone(literal, tail, &pool))
                || sibling::stands_out(position, &pool, place)
                || is_version(literal.text.as_bytes())
                || self.weights.literal(&facts) + if literal.kept { prior } else { 0.0 } > 0.0
            {
                split.literals.push(literal.clone());
            } else {
                self.take_for_value(literal, split);
            }
        }
    }

    /// How sure a parameter must be: where the service is little known surer, most of all among few segments, which show little that only
    /// values would do.
    fn parameter_min(&self, segments: usize) -> f64 {
        let is_first_pass = self.known.calls <= 0.0;
        match segments {
            _ if is_first_pass || self.known.literals.len() >= LITERALS_MIN => PARAMETER_MIN,
            ..=4 => 4.0,
            5..=8 => 2.5,
            _ => 1.5,
        }
    }

    /// Where an earlier run knew a parameter, and too little came since to say otherwise: its literals stay, all else is a value.
    fn split_as_before(&mut self, position: &Position, split: &mut Split) {
        for literal in &position.literals {
            let stays = literal.kept
                || is_version(literal.text.as_bytes())
                || sibling::is_reserved(&literal.text);
            if stays {
                split.literals.push(literal.clone());
            } else {
                self.take_for_value(literal, split);
            }
        }
    }

    fn take_for_value(&mut self, literal: &Sibling, split: &mut Split) {
        *self.found.values.entry(literal.text.clone()).or_default() += 1;
        split.parameter.extend(&literal.nodes);
    }

    fn is_strict(&self, nodes: &[u32]) -> bool {
        nodes
            .iter()
            .filter_map(|id| self.counted.trie.node(*id))
            .all(|node| matches!(node.part, Part::Typed(kind) if kind.is_strict()))
    }

    /// The type that nearly all values have.
    fn common_type(&self, nodes: &[u32]) -> Option<SegmentType> {
        let mut sums: BTreeMap<Option<SegmentType>, f64> = BTreeMap::new();
        for id in nodes {
            let Some(node) = self.counted.trie.node(*id) else { continue };
            let kind = match node.part {
                Part::Typed(kind) => Some(kind),
                _ => None,
            };
            *sums.entry(kind).or_default() += self.counted.sum(*id);
        }
        let total: f64 = sums.values().sum();
        sums.into_iter().find(|(_, sum)| *sum >= total * 0.9).and_then(|(kind, _)| kind)
    }
}

impl Place {
    /// Calls of the operation that the request in the middle is of: few templates that fell apart into many do not change it.
    fn typical_calls(&self) -> f64 {
        let mut calls = Vec::new();
        let mut waiting = vec![self];
        while let Some(place) = waiting.pop() {
            calls.extend(place.calls.iter().copied().filter(|calls| *calls > 0));
            waiting.extend(place.literals.values().chain(place.suffixes.values()));
            waiting.extend(place.parameter.as_deref());
        }
        calls.sort_unstable();
        let half = calls.iter().sum::<u64>() / 2;
        let mut up_to = 0;
        let middle = calls.iter().find(|calls| {
            up_to += **calls;
            up_to > half
        });
        middle.map_or(0.0, |calls| real(*calls))
    }
}

/// Whether the values of the position are numbers or the like, and few words, of APIs for the most part, are beside them: those are
/// no values.
fn is_typed_apart(counted: Counted<'_>, position: &Position) -> bool {
    let typed: f64 = position.typed.iter().map(|(_, id)| counted.sum(*id)).sum();
    let api = position.literals.iter().filter(|it| words::is_api(&it.text)).count();
    position.typed.iter().all(|(kind, _)| kind.is_strict())
        && position.literals.len() <= TYPED_APART_MAX
        && api * 2 >= position.literals.len()
        && typed * TYPED_SHARE >= position.sum()
}

/// How sure a parameter must be: a template split in two is a lesser mistake than a literal swallowed.
const PARAMETER_MIN: f64 = 1.0;
/// Literals of a service that is known well: fewer say little of what is usual in it.
const LITERALS_MIN: usize = 40;
/// Segments that an earlier run did not know, from which on they decide beside what it knew.
const STRANGERS_MIN: usize = 10;
/// How much surer it is then that a position has a parameter, and that a literal of that run is one.
const KNOWN_BEFORE: f64 = 4.0;
/// How much more often such words may be called.
const TYPED_SHARE: f64 = 4.0;
/// Words beside typed values that are none of them.
const TYPED_APART_MAX: usize = 8;
/// Calls from which on an extension is one.
const SUFFIX_CALLS_MIN: f64 = 8.0;
