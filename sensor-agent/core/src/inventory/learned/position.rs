//! One position of a template: the segments seen there, below everything that has the same template before it.

use std::collections::BTreeMap;

use super::{
    super::segment::SegmentType,
    trie::{METHODS, Part, Trie},
    words,
};

/// A trie with its sums, as decisions read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted<'a> {
    pub(super) trie: &'a Trie,
    pub(super) sums: &'a [u64],
}

impl Counted<'_> {
    pub(super) fn sum(self, id: u32) -> f64 {
        real(self.sums.get(id as usize).copied().unwrap_or_default())
    }
}

/// A segment, with the nodes that have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sibling {
    pub(super) text: String,
    pub(super) nodes: Vec<u32>,
    /// Requests at and below it.
    pub(super) sum: f64,
    /// An earlier run kept it as a literal.
    pub(super) kept: bool,
}

/// What follows a set of nodes.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// Most called first.
    pub(super) literals: Vec<Sibling>,
    pub(super) typed: Vec<(SegmentType, u32)>,
    /// Values that an earlier run knew.
    pub(super) known: Vec<u32>,
    pub(super) suffixes: Vec<Sibling>,
}

impl Position {
    /// Gathers the children of nodes.
    pub(super) fn below(counted: Counted<'_>, nodes: &[u32]) -> Self {
        let mut literals = BTreeMap::new();
        let mut suffixes = BTreeMap::new();
        let (mut typed, mut known) = (Vec::new(), Vec::new());
        for child in nodes.iter().flat_map(|id| counted.trie.children(*id)) {
            let Some(node) = counted.trie.node(child) else { continue };
            if counted.sum(child) < 1.0 {
                continue;
            }
            let group = match node.part {
                Part::Typed(kind) => {
                    typed.push((kind, child));
                    continue;
                }
                Part::Values => {
                    known.push(child);
                    continue;
                }
                Part::Literal => &mut literals,
                Part::Suffix => &mut suffixes,
            };
            let sibling: &mut Sibling = group.entry(&*node.text).or_default();
            sibling.nodes.push(child);
            sibling.sum += counted.sum(child);
            sibling.kept |= node.kept;
        }
        typed.sort_unstable();
        Self { literals: sorted(literals), typed, known, suffixes: sorted(suffixes) }
    }

    /// Requests of the literals.
    pub(super) fn sum(&self) -> f64 {
        self.literals.iter().map(|sibling| sibling.sum).sum::<f64>().max(1.0)
    }
}

fn sorted(group: BTreeMap<&str, Sibling>) -> Vec<Sibling> {
    let mut siblings: Vec<Sibling> = group
        .into_iter()
        .map(|(text, sibling)| Sibling { text: text.to_owned(), ..sibling })
        .collect();
    siblings.sort_by(|one, other| other.sum.total_cmp(&one.sum).then(one.text.cmp(&other.text)));
    siblings
}

/// How requests are shared between what follows; keys are hashes.
pub(super) type Shares = BTreeMap<u64, f64>;

/// What follows one sibling.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Methods that end there, and going on.
    pub(super) ends: Shares,
    /// Next segments.
    pub(super) next: Shares,
    /// Segments after the next.
    pub(super) after: Shares,
    pub(super) below: f64,
    pub(super) below_api: f64,
    pub(super) below_typed: f64,
}

impl Tail {
    pub(super) fn of(counted: Counted<'_>, sibling: &Sibling) -> Self {
        let trie = counted.trie;
        let mut tail = Self::default();
        for id in &sibling.nodes {
            let Some(node) = trie.node(*id) else { continue };
            for (method, count) in (0_u64..).zip(node.counts).filter(|(_, count)| *count > 0) {
                *tail.ends.entry(method).or_default() += f64::from(count);
            }
            for child in trie.children(*id) {
                let Some(node) = trie.node(child) else { continue };
                let sum = counted.sum(child);
                *tail.next.entry(token(node.part, &node.text)).or_default() += sum;
                *tail.ends.entry(METHODS as u64).or_default() += sum;
                tail.below += sum;
                match node.part {
                    Part::Typed(_) | Part::Values => tail.below_typed += sum,
                    Part::Suffix => tail.below_api += sum,
                    Part::Literal if words::is_api(&node.text) => tail.below_api += sum,
                    Part::Literal => {}
                }
                for after in trie.children(child) {
                    let Some(node) = trie.node(after) else { continue };
                    *tail.after.entry(token(node.part, &node.text)).or_default() +=
                        counted.sum(after);
                }
            }
        }
        tail
    }
}

fn token(part: Part, text: &str) -> u64 {
    let kind = u64::from(matches!(part, Part::Literal | Part::Suffix));
    crate::keyed_hash::siphash24([5, kind], text.as_bytes())
}

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) const fn real(count: u64) -> f64 {
    count as f64
}
