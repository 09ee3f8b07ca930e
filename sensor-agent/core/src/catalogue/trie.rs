//! Templates of one group of services in a trie of segments, and the look-up of a path in it.
//!
//! At each place a literal is tried first, then partial segments (most literal bytes first), then a parameter, then the
//! rest: the first template that fits is the most literal from the left. Time: hash look-ups on the way, and at most
//! [`STEPS_MAX`] steps where templates overlap (a document would need thousands of overlapping templates for that).

use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};

use super::{
    limits::{PARTIAL_MAX, STEPS_MAX},
    path::Segments,
    template::{Partial, Segment, Template},
};
use crate::http::Method;

/// An operation at a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Index in the catalogue's operations.
    pub(super) operation: u32,
    /// From a retired document.
    pub(super) retired: bool,
}

/// The end of a template: its text and its operations by method.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    pub(super) template: Box<str>,
    pub(super) generality: u64,
    pub(super) operations: Vec<(Method, Entry)>,
}

impl Terminal {
    /// The operation for a method, current before retired; HEAD is there where GET is.
    pub(super) fn find(&self, method: &Method) -> Option<Entry> {
        let of = |wanted: &Method, retired: bool| {
            self.operations
                .iter()
                .find(|(have, entry)| have == wanted && entry.retired == retired)
                .map(|(_, entry)| *entry)
        };
        let head = *method == Method::Head;
        let any = |retired| {
            of(method, retired).or_else(|| head.then(|| of(&Method::Get, retired)).flatten())
        };
        any(false).or_else(|| any(true))
    }

    /// Whether a look-up for `method` ends here: something current is declared, or this method was.
    fn answers(&self, method: &Method) -> bool {
        self.operations.iter().any(|(_, entry)| !entry.retired) || self.find(method).is_some()
    }
}

#[derive(Debug, Default)]
struct Node {
    partial: Vec<(Partial, u32)>,
    parameter: Option<u32>,
    rest: Option<u32>,
    end: Option<u32>,
    end_slash: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
struct LiteralKey {
    parent: u32,
    segment: Box<[u8]>,
}

impl Hash for LiteralKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        LiteralRef { parent: self.parent, segment: &self.segment }.hash(state);
    }
}

#[derive(Hash)]
struct LiteralRef<'a> {
    parent: u32,
    segment: &'a [u8],
}

impl Equivalent<LiteralKey> for LiteralRef<'_> {
    fn equivalent(&self, key: &LiteralKey) -> bool {
        self.parent == key.parent && *self.segment == *key.segment
    }
}

/// Templates and their operations.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    literals: HashMap<LiteralKey, u32, RandomState>,
    terminals: Vec<Terminal>,
}

/// A look-up took more than [`STEPS_MAX`] steps: what it found so far need not be the most literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepsExceeded;

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    New,
    /// Added to a template that is there under another text, first by this operation.
    Renamed(u32),
    /// The method is there already, by this operation; the earlier one stays.
    Taken(u32),
    /// Too many partial segments in one place.
    PartialFull,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], literals: HashMap::default(), terminals: Vec::new() }
    }
}

impl Trie {
    /// Adds an operation; `text` is what the template is called if no equal one is there yet.
    pub(super) fn insert(
        &mut self,
        template: &Template,
        text: &str,
        method: &Method,
        entry: Entry,
    ) -> Inserted {
        let Some((node, rest)) = self.node_of(template) else { return Inserted::PartialFull };
        let next = number(self.terminals.len());
        let Some(node) = self.nodes.get_mut(index(node)) else { return Inserted::PartialFull };
        let slot = if rest {
            &mut node.rest
        } else if template.trailing_slash {
            &mut node.end_slash
        } else {
            &mut node.end
        };
        let terminal = *slot.get_or_insert(next);
        if terminal == next {
            let generality = template.generality();
            self.terminals.push(Terminal {
                template: text.into(),
                generality,
                operations: Vec::new(),
            });
        }
        let Some(terminal) = self.terminals.get_mut(index(terminal)) else { return Inserted::New };
        let same = |(have, old): &&(Method, Entry)| have == method && old.retired == entry.retired;
        if let Some((_, old)) = terminal.operations.iter().find(same) {
            return Inserted::Taken(old.operation);
        }
        let first = terminal.operations.first().map(|(_, first)| first.operation);
        terminal.operations.push((method.clone(), entry));
        match first {
            Some(first) if *terminal.template != *text => Inserted::Renamed(first),
            _ => Inserted::New,
        }
    }

    /// The node of a template, made if needed, and whether it ends in the rest.
    fn node_of(&mut self, template: &Template) -> Option<(u32, bool)> {
        let mut at = 0;
        for segment in &template.segments {
            at = match segment {
                Segment::Rest => return Some((at, true)),
                Segment::Literal(bytes) => self.literal_child(at, bytes),
                Segment::Parameter => self.parameter_child(at),
                Segment::Partial(partial) => self.partial_child(at, partial)?,
            };
        }
        Some((at, false))
    }

    fn new_node(&mut self) -> u32 {
        self.nodes.push(Node::default());
        number(self.nodes.len() - 1)
    }

    fn literal_child(&mut self, parent: u32, segment: &[u8]) -> u32 {
        if let Some(child) = self.literals.get(&LiteralRef { parent, segment }) {
            return *child;
        }
        let child = self.new_node();
        self.literals.insert(LiteralKey { parent, segment: segment.into() }, child);
        child
    }

    fn parameter_child(&mut self, parent: u32) -> u32 {
        if let Some(child) = self.nodes.get(index(parent)).and_then(|node| node.parameter) {
            return child;
        }
        let child = self.new_node();
        if let Some(node) = self.nodes.get_mut(index(parent)) {
            node.parameter = Some(child);
        }
        child
    }

    fn partial_child(&mut self, parent: u32, partial: &Partial) -> Option<u32> {
        let node = self.nodes.get(index(parent))?;
        if let Some((_, child)) = node.partial.iter().find(|(have, _)| have == partial) {
            return Some(*child);
        }
        if node.partial.len() >= PARTIAL_MAX {
            return None;
        }
        let child = self.new_node();
        let node = self.nodes.get_mut(index(parent))?;
        let at = node.partial.partition_point(|(have, _)| have.rank() < partial.rank());
        node.partial.insert(at, (partial.clone(), child));
        Some(child)
    }

    /// The most literal template that fits and answers for `method`.
    pub(super) fn find(
        &self,
        segments: &Segments<'_>,
        method: &Method,
    ) -> Result<Option<&Terminal>, StepsExceeded> {
        let mut walk = Walk { trie: self, segments, method, steps: 0 };
        let found = walk.from(0, 0);
        if walk.steps > STEPS_MAX { Err(StepsExceeded) } else { Ok(found) }
    }

    /// All templates, in the order of insertion.
    pub(super) fn terminals(&self) -> &[Terminal] {
        &self.terminals
    }
}

struct Walk<'t, 's> {
    trie: &'t Trie,
    segments: &'s Segments<'s>,
    method: &'s Method,
    steps: u32,
}

impl<'t> Walk<'t, '_> {
    /// Depth is bounded by the number of segments, time by the steps.
    fn from(&mut self, node: u32, at: usize) -> Option<&'t Terminal> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return None;
        }
        let trie = self.trie;
        let here = trie.nodes.get(index(node))?;
        let Some(segment) = self.segments.segment(at) else {
            let (first, second) = if self.segments.trailing_slash {
                (here.end_slash, here.end)
            } else {
                (here.end, here.end_slash)
            };
            return self.answer(first).or_else(|| self.answer(second));
        };
        if let Some(child) = trie.literals.get(&LiteralRef { parent: node, segment })
            && let Some(found) = self.from(*child, at + 1)
        {
            return Some(found);
        }
        // A parameter never stands for a step in the hierarchy (RFC 3986, 3.3).
        if matches!(segment, b"." | b"..") {
            return None;
        }
        for (partial, child) in &here.partial {
            self.steps += 1;
            if partial.matches(segment)
                && let Some(found) = self.from(*child, at + 1)
            {
                return Some(found);
            }
        }
        if let Some(child) = here.parameter
            && let Some(found) = self.from(child, at + 1)
        {
            return Some(found);
        }
        let no_steps = (at..self.segments.len())
            .all(|i| !matches!(self.segments.segment(i), Some(b"." | b"..")));
        if no_steps { self.answer(here.rest) } else { None }
    }

    fn answer(&self, terminal: Option<u32>) -> Option<&'t Terminal> {
        self.trie.terminals.get(index(terminal?)).filter(|terminal| terminal.answers(self.method))
    }
}

fn index(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
