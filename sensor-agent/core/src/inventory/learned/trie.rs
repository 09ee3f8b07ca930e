//! What was asked of one service, counted: a trie of segments in which every type of value is one child.
//!
//! The same in whatever order it was asked, and two of them merge into that of all traffic, at the bounds too: a node keeps
//! the [`CHILDREN_MAX`] children of the lowest rank it ever saw (a rank only depends on the text; words of APIs and
//! versions come first, so that `me` stays beside ten thousand names), so a child that is kept was kept from its first request on.
//! Requests of the others are counted together, at the node that has no place for them; how many names those were is estimated from the ranks.
//! Of a type's values the [`VALUES_MAX`] of the lowest hash are kept, in clear only where a literal may come of them.
//!
//! [`NODES_MAX`] bounds the whole. Values below values multiply (`/repos/{owner}/{repo}`), so there the next of [`STEPS`] is
//! taken: a node keeps fewer names, below other names first, and those of the lowest rank still, as if it had been so from the
//! first request on. The steps go by the most that there ever was: near a step, orders in which names with much behind them
//! were there before others took their place may differ by one. So does the largest trie where all services together have no
//! room (`teach`). Only where nothing is left to give are new nodes refused and counted.

use hashbrown::HashMap;

use super::{
    super::segment::{SegmentType, is_version},
    position::real,
    segments::{Parts, Segments},
    words,
};
use crate::keyed_hash::siphash24;

/// Children of a node.
pub(super) const CHILDREN_MAX: u32 = 256;
/// Nodes of a trie, about 150 B each.
pub(super) const NODES_MAX: usize = 100_000;
/// Values of a type that are told apart at a node.
pub(super) const VALUES_MAX: usize = 32;
/// Methods that are told apart; the last is any other.
pub(super) const METHODS: usize = 8;
/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Literal,
    Typed(SegmentType),
    /// Values of a parameter that an earlier run learned: they are not known any more.
    Values,
    /// An extension or custom verb behind the stem above.
    Suffix,
}

/// Why there is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoNode {
    /// Others of lower rank are kept at this node.
    TurnedAway(u32),
    /// The whole is full.
    NoRoom,
}

/// A value of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    hash: u64,
    /// Empty for types whose values are never shown.
    pub(super) text: Box<str>,
}

/// One segment after those above it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) text: Box<str>,
    pub(super) part: Part,
    /// Requests that end here, by method.
    pub(super) counts: [u32; METHODS],
    pub(super) values: Vec<Value>,
    parent: u32,
    first: u32,
    next: u32,
    children: u32,
    /// Children that are names, as values are: neither typed nor words of APIs nor versions.
    names: u32,
    /// Names on the way to it, itself among them.
    depth: u8,
    /// An earlier run kept it as a literal.
    pub(super) kept: bool,
    rank: u64,
    /// Lowest rank that was turned away.
    cut: u64,
    /// Requests of children that were turned away, whenever that was: the rest.
    rest: u64,
}

/// The trie.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    index: HashMap<(u32, u64), u32, foldhash::fast::FixedState>,
    free: Vec<u32>,
    /// How far names were given up for room.
    given_up: usize,
    /// Nodes that found no room.
    pub(super) refused: u64,
    /// Some node was removed: leaves that are remembered elsewhere are no more.
    pub(super) evicted: bool,
}

impl Trie {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::new("", Part::Literal, 0, NONE, 0)],
            index: HashMap::with_hasher(foldhash::fast::FixedState::default()),
            free: Vec::new(),
            given_up: 0,
            refused: 0,
            evicted: false,
        }
    }

    /// Counts a request; the leaf, or `NONE` where a bound keeps no node for it. `room` is how many nodes there may be.
    pub(super) fn insert(&mut self, segments: &Segments, method: usize, room: usize) -> u32 {
        loop {
            match self.way(segments, room.min(NODES_MAX)) {
                Ok(leaf) => {
                    self.count(leaf, method);
                    return leaf;
                }
                Err(NoNode::TurnedAway(at)) => {
                    self.add_to_rest(at, 1);
                    return NONE;
                }
                Err(NoNode::NoRoom) if self.len() >= NODES_MAX && self.give_way() => {}
                Err(NoNode::NoRoom) => {
                    self.refused += 1;
                    return NONE;
                }
            }
        }
    }

    /// The leaf of a path, made where there is room.
    fn way(&mut self, segments: &Segments, room: usize) -> Result<u32, NoNode> {
        let mut at = ROOT;
        for segment in segments.iter() {
            let parts = Parts::of(segment);
            let part = parts.kind.map_or(Part::Literal, Part::Typed);
            at = self.step(at, parts.stem, part, room)?;
            if let Some(suffix) = parts.suffix {
                at = self.step(at, suffix, Part::Suffix, room)?;
            }
        }
        Ok(at)
    }

    /// Counts one more request at a leaf.
    pub(super) fn count(&mut self, leaf: u32, method: usize) {
        self.add(leaf, method, 1);
    }

    /// Counts requests at a leaf.
    pub(super) fn add(&mut self, leaf: u32, method: usize, calls: u32) {
        let node = self.nodes.get_mut(leaf as usize);
        if let Some(count) = node.and_then(|node| node.counts.get_mut(method)) {
            *count = count.saturating_add(calls);
        }
    }

    /// The child for what an earlier run learned; values have no text then.
    pub(super) fn known(&mut self, at: u32, part: Part, text: &str, room: usize) -> Option<u32> {
        let id = match part {
            // That there is a value which is not shown says that it is no version.
            Part::Typed(_) | Part::Literal | Part::Suffix => self.step(at, text, part, room),
            Part::Values => self.child(at, VALUES, part, room),
        }
        .ok()?;
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.kept |= part == Part::Literal;
        }
        Some(id)
    }

    /// Takes back what was counted at the node of a template, and nodes that are empty then. A parameter stands for the only
    /// type there is; where there are more, nothing is taken back.
    pub(super) fn forget(&mut self, segments: &Segments) {
        let mut at = ROOT;
        for segment in segments.iter() {
            let found = if segment.starts_with('{') {
                self.only_type(at)
            } else {
                let parts = Parts::of(segment);
                let literal = self.index.get(&(at, hash_of(parts.stem, Part::Literal))).copied();
                match (literal, parts.suffix) {
                    (Some(stem), Some(suffix)) => {
                        self.index.get(&(stem, hash_of(suffix, Part::Suffix))).copied()
                    }
                    (literal, _) => literal,
                }
            };
            let Some(found) = found else { return };
            at = found;
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.counts = [0; METHODS];
        }
        while at != ROOT {
            let Some(node) = self.node(at) else { return };
            let parent = node.parent;
            if node.children > 0 || node.rest > 0 || node.counts.iter().any(|count| *count > 0) {
                return;
            }
            self.remove(at);
            at = parent;
        }
    }

    fn only_type(&self, at: u32) -> Option<u32> {
        let mut types = self.children(at).filter(|id| {
            self.node(*id).is_some_and(|it| matches!(it.part, Part::Typed(_) | Part::Values))
        });
        let only = types.next()?;
        types.next().is_none().then_some(only)
    }

    /// Adds all that another counted.
    pub(super) fn merge(&mut self, other: &Self) {
        while self.given_up < other.given_up && self.give_way() {}
        let mut waiting = vec![(ROOT, ROOT)];
        while let Some((from, to)) = waiting.pop() {
            let Some(theirs) = other.node(from) else { continue };
            if let Some(node) = self.nodes.get_mut(to as usize) {
                for (sum, count) in node.counts.iter_mut().zip(theirs.counts) {
                    *sum = sum.saturating_add(count);
                }
            }
            self.add_to_rest(to, theirs.rest);
            self.lower_cut(to, theirs.cut);
            for node in other.children(from).filter_map(|child| other.node(child)) {
                // What finds no place is turned away here as it would have been there.
                let _turned_away = self.child(to, &node.text, node.part, usize::MAX);
            }
            // Only now it is known which children stay.
            for child in other.children(from) {
                let Some(node) = other.node(child) else { continue };
                let key = (to, hash_of(&node.text, node.part));
                let Some(id) = self.index.get(&key).copied() else {
                    self.add_to_rest(to, other.whole(child));
                    continue;
                };
                if let Some(ours) = self.nodes.get_mut(id as usize) {
                    ours.kept |= node.kept;
                }
                for value in &node.values {
                    self.note_value(id, value.hash, &value.text);
                }
                waiting.push((child, id));
            }
        }
        while self.len() > NODES_MAX && self.give_way() {}
        self.refused += other.refused;
    }

    /// A node.
    pub(super) fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// Children of a node, in no order that means anything.
    pub(super) fn children(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.node(id).map_or(NONE, |node| node.first);
        std::iter::from_fn(move || {
            let node = self.node(next)?;
            Some(std::mem::replace(&mut next, node.next))
        })
    }

    /// Requests at and below each node.
    pub(super) fn sums(&self) -> Vec<u64> {
        let mut sums = vec![0; self.nodes.len()];
        let mut order = vec![ROOT];
        let mut at = 0;
        while let Some(id) = order.get(at).copied() {
            order.extend(self.children(id));
            at += 1;
        }
        for id in order.into_iter().rev() {
            let Some(node) = self.node(id) else { continue };
            let own: u64 = node.counts.iter().map(|count| u64::from(*count)).sum();
            let sum = sums.get_mut(id as usize).map_or(0, |sum| {
                *sum += own;
                *sum
            });
            if let Some(above) = sums.get_mut(node.parent as usize) {
                *above += sum;
            }
        }
        sums
    }

    /// Nodes that are there.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// The child for a text, with the value noted where it is typed.
    fn step(&mut self, at: u32, text: &str, part: Part, room: usize) -> Result<u32, NoNode> {
        let Part::Typed(kind) = part else {
            return self.child(at, text, part, room);
        };
        let id = self.child(at, kind.parameter(), part, room)?;
        let shown = match kind {
            SegmentType::Integer => text.len() <= VERSION_BYTES_MAX,
            kind => kind == SegmentType::Date,
        };
        let hash = siphash24(VALUE_KEY, text.as_bytes());
        self.note_value(id, hash, if shown { text } else { "" });
        Ok(id)
    }

    /// The child of a key, made where there is room.
    fn child(&mut self, at: u32, key: &str, part: Part, room: usize) -> Result<u32, NoNode> {
        let hash = hash_of(key, part);
        match self.index.get(&(at, hash)) {
            Some(id) => Ok(*id),
            None => self.make(at, key, part, hash, room),
        }
    }

    fn make(
        &mut self,
        at: u32,
        text: &str,
        part: Part,
        hash: u64,
        room: usize,
    ) -> Result<u32, NoNode> {
        let parent = self.node(at).ok_or(NoNode::NoRoom)?;
        let ahead = matches!(part, Part::Typed(_) | Part::Values)
            || words::is_api(text)
            || is_version(text.as_bytes());
        let rank = if ahead { hash >> 1 } else { hash >> 1 | NAME };
        let full = parent.children >= CHILDREN_MAX
            || (rank >= NAME && parent.names >= self.names_max(parent.depth));
        let depth = child_depth(parent.depth, rank);
        if rank >= parent.cut || (full && !self.make_room(at, rank)) {
            return Err(NoNode::TurnedAway(at));
        }
        if self.len() >= room {
            return Err(NoNode::NoRoom);
        }
        let id = self.put(Node::new(text, part, rank, at, depth)).ok_or(NoNode::NoRoom)?;
        self.index.insert((at, hash), id);
        Ok(id)
    }

    /// Puts a node among its parent's children.
    fn put(&mut self, mut node: Node) -> Option<u32> {
        let (at, is_name) = (node.parent as usize, node.rank >= NAME);
        let id = self.free.last().copied();
        let id = id.or_else(|| u32::try_from(self.nodes.len()).ok())?;
        let parent = self.nodes.get_mut(at)?;
        node.next = std::mem::replace(&mut parent.first, id);
        parent.children += 1;
        parent.names += u32::from(is_name);
        match self.free.pop().and_then(|id| self.nodes.get_mut(id as usize)) {
            Some(free) => *free = node,
            None => self.nodes.push(node),
        }
        Some(id)
    }

    fn names_max(&self, depth: u8) -> u32 {
        let step = STEPS.get(self.given_up).or(STEPS.last());
        step.and_then(|names| names.get(usize::from(depth))).copied().unwrap_or(CHILDREN_MAX)
    }

    /// Takes the next step; false where there is none.
    pub(super) fn give_way(&mut self) -> bool {
        if self.given_up + 1 >= STEPS.len() {
            return false;
        }
        self.given_up += 1;
        let mut waiting = vec![ROOT];
        while let Some(at) = waiting.pop() {
            let Some(node) = self.node(at) else { continue };
            let max = self.names_max(node.depth) as usize;
            if node.names as usize > max {
                let names = self.children(at).filter_map(|id| Some(self.node(id)?.rank));
                let mut names: Vec<u64> = names.filter(|rank| *rank >= NAME).collect();
                names.sort_unstable();
                if let Some(cut) = names.get(max) {
                    self.lower_cut(at, *cut);
                }
            }
            waiting.extend(self.children(at));
        }
        true
    }

    /// Turns the highest rank away: that of a child, which goes, or the new one.
    fn make_room(&mut self, at: u32, rank: u64) -> bool {
        let ranks = self.children(at).filter_map(|id| Some(self.node(id)?.rank));
        let highest = ranks.max().unwrap_or(0);
        self.lower_cut(at, rank.max(highest));
        rank < highest
    }

    /// Nothing at or above a cut is kept: it was turned away, here or in a trie that was merged.
    fn lower_cut(&mut self, at: u32, cut: u64) {
        let Some(node) = self.nodes.get_mut(at as usize) else { return };
        if cut >= node.cut {
            return;
        }
        node.cut = cut;
        let above: Vec<u32> = self
            .children(at)
            .filter(|id| self.node(*id).is_some_and(|node| node.rank >= cut))
            .collect();
        for id in above {
            let whole = self.whole(id);
            self.add_to_rest(at, whole);
            self.remove(id);
        }
    }

    fn add_to_rest(&mut self, at: u32, requests: u64) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.rest = node.rest.saturating_add(requests);
        }
    }

    /// Requests at and below a node, those that were turned away there included.
    pub(super) fn whole(&self, id: u32) -> u64 {
        let mut sum = 0_u64;
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            let Some(node) = self.node(id) else { continue };
            let own: u64 = node.counts.iter().map(|count| u64::from(*count)).sum();
            sum = sum.saturating_add(own).saturating_add(node.rest);
            waiting.extend(self.children(id));
        }
        sum
    }

    /// Requests whose segments are not kept, because more names were asked for at some place than are.
    pub(super) fn rest(&self) -> u64 {
        self.nodes.iter().map(|node| node.rest).sum()
    }

    /// How many names those are, estimated: where the lowest ranks are kept and ranks are spread evenly, the cut says how many
    /// there are in all (Beyer et al., "On synopses for distinct-value estimation under multiset operations", 2007).
    pub(super) fn rest_names(&self) -> f64 {
        let beyond = |node: &Node| {
            let share = real(node.cut.saturating_sub(NAME)) / real(NAME);
            if share > 0.0 { f64::from(node.names) * (1.0 / share - 1.0) } else { 0.0 }
        };
        self.nodes.iter().filter(|node| node.rest > 0).map(beyond).sum()
    }

    fn remove(&mut self, id: u32) {
        let Some(node) = self.node(id) else { return };
        let (parent, next, rank) = (node.parent, node.next, node.rank);
        let before =
            self.children(parent).find(|child| self.node(*child).is_some_and(|it| it.next == id));
        let link = match before {
            Some(before) => self.nodes.get_mut(before as usize).map(|node| &mut node.next),
            None => self.nodes.get_mut(parent as usize).map(|node| &mut node.first),
        };
        if let Some(link) = link {
            *link = next;
        }
        if let Some(parent) = self.nodes.get_mut(parent as usize) {
            parent.children -= 1;
            parent.names -= u32::from(rank >= NAME);
        }
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            waiting.extend(self.children(id));
            let Some(node) = self.nodes.get_mut(id as usize) else { continue };
            let key = (node.parent, hash_of(&node.text, node.part));
            *node = Node::new("", Part::Literal, 0, NONE, 0);
            self.index.remove(&key);
            self.free.push(id);
        }
        self.evicted = true;
    }

    fn note_value(&mut self, id: u32, hash: u64, text: &str) {
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        if let Err(at) = node.values.binary_search_by_key(&hash, |value| value.hash)
            && at < VALUES_MAX
        {
            node.values.insert(at, Value { hash, text: text.into() });
            node.values.truncate(VALUES_MAX);
        }
    }
}

impl Node {
    fn new(text: &str, part: Part, rank: u64, parent: u32, depth: u8) -> Self {
        Self {
            text: text.into(),
            part,
            counts: [0; METHODS],
            values: Vec::new(),
            parent,
            first: NONE,
            next: NONE,
            children: 0,
            names: 0,
            depth,
            kept: false,
            rank,
            cut: u64::MAX,
            rest: 0,
        }
    }
}

/// Names on the way to a child, as far as they are told apart.
fn child_depth(parent: u8, rank: u64) -> u8 {
    (parent + u8::from(rank >= NAME)).min(DEPTH_MAX)
}

/// The same on every host, so that tries of a fleet can be merged.
fn hash_of(text: &str, part: Part) -> u64 {
    let kind = match part {
        Part::Literal => 1,
        Part::Typed(_) => 2,
        Part::Suffix => 3,
        Part::Values => 4,
    };
    siphash24([kind, 0], text.as_bytes())
}

pub(super) const ROOT: u32 = 0;
/// Bit of a rank that names have: they are turned away first.
const NAME: u64 = 1 << 63;
/// Deepest place of [`STEPS`].
const DEPTH_MAX: u8 = 2;
/// Names that a node keeps: with none before it, one, or more; from step to step where the whole has no room.
const STEPS: [[u32; 3]; 6] = [
    [CHILDREN_MAX, CHILDREN_MAX, CHILDREN_MAX],
    [CHILDREN_MAX, 128, 64],
    [CHILDREN_MAX, 64, 32],
    [128, 32, 16],
    [64, 16, 8],
    [32, 8, 4],
];
/// Digits of a number that may be a version; longer ones are not kept in clear.
const VERSION_BYTES_MAX: usize = 4;
const VALUE_KEY: [u64; 2] = [4, 0];
/// Stands for values that are not known any more.
const VALUES: &str = "{}";
