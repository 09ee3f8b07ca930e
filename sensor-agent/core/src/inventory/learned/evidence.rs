//! Evidence of a position as numbers: do its untyped segments have values of a parameter among them?
//!
//! Values are many, rare and new ones keep coming; what follows is the same whatever the value. Literals are few, each
//! called about as often as operations are, made of words of APIs, and what follows differs from one to the other.

use std::collections::HashMap;

use super::{
    super::segment::SegmentType,
    common::Common,
    position::{Counted, Position, Shares, Sibling, Tail, real},
    words,
};

/// What precedes a position.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of evidence of its own")]
pub(super) struct Context {
    pub(super) depth: usize,
    pub(super) after_parameter: bool,
    pub(super) after_plural: bool,
    pub(super) after_api: bool,
    /// After a version as APIs write it (`v1`).
    pub(super) after_v: bool,
    /// Parameters in a row before it.
    pub(super) parameters: usize,
    /// A number or date that is a version was before it: there is only one in a path.
    pub(super) after_version: bool,
}

/// What a first pass found anywhere in the service.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Values of parameters: at how many positions.
    pub(super) values: HashMap<String, u32>,
    /// Literals.
    pub(super) literals: HashMap<String, u32>,
    /// Calls of a typical operation; zero before the first pass.
    pub(super) calls: f64,
}

/// Kinds of evidence of a position.
pub(super) const POSITION: usize = 57;

/// Reads a position's evidence; the names are in `weights`.
pub(super) fn of_position(
    counted: Counted<'_>,
    position: &Position,
    tails: &[Tail],
    common: &Common,
    context: &Context,
    known: &Known,
) -> [f64; POSITION] {
    let siblings = &position.literals;
    let (count, sum) = (real(siblings.len() as u64).max(1.0), position.sum());
    let share = |test: &dyn Fn(&Sibling) -> bool| {
        real(siblings.iter().filter(|it| test(it)).count() as u64) / count
    };
    let once = share(&|it| it.sum <= 1.0);
    let api = share(&|it| words::is_api(&it.text));
    let api_calls: f64 =
        siblings.iter().filter(|it| words::is_api(&it.text)).map(|it| it.sum).sum();
    let entropy: f64 = siblings.iter().map(|it| it.sum / sum).map(|part| -part * part.ln()).sum();
    let ends = Cohesion::of(tails.iter().map(|tail| &tail.ends));
    let next = Cohesion::of(tails.iter().map(|tail| &tail.next));
    let after = Cohesion::of(tails.iter().map(|tail| &tail.after));
    let below = |part: fn(&Tail) -> f64| tails.iter().map(part).sum::<f64>() / sum;
    let typed: f64 = position
        .typed
        .iter()
        .filter(|(kind, _)| *kind != SegmentType::Text)
        .map(|(_, id)| counted.sum(*id))
        .sum();
    let at = |place: usize| siblings.get(place).map_or(1.0, |it| it.sum);
    let (median, low) = (at(siblings.len() / 2), at(siblings.len() * 3 / 4));
    let last = siblings.last().map_or(1.0, |it| it.sum);
    let values = share(&|it| known.values.contains_key(&it.text));
    let calls = known.calls;
    let second_pass = |value: f64| if calls > 0.0 { value } else { 0.0 };
    let much = sum / count > MUCH;
    let when_much = |value: f64| if much { value.clamp(0.0, 0.5) * 10.0 } else { 0.0 };
    let log_count = count.ln();
    // How much the number of requests lets what is seen once stand for what there is.
    let volume = ((sum / count).ln() / 5.0).clamp(0.0, 1.0);
    let log = |value: f64| value.ln().min(MANY);
    [
        1.0,
        log_count,
        log(sum / count),
        once,
        once * count / sum,
        share(&|it| it.sum <= 2.0),
        api,
        share(&|it| words::is_api(&it.text) && words::is_one_word(&it.text)),
        api_calls / sum,
        api * log_count,
        (1.0 - api) * log_count,
        if siblings.len() > 1 { entropy / log_count } else { 1.0 },
        siblings.first().map_or(0.0, |it| it.sum) / sum,
        ends.differs * ends.worth(),
        next.differs * next.worth(),
        after.differs * after.worth(),
        (1.0 - ends.differs) * ends.worth() * log_count / 3.0,
        (1.0 - after.differs) * after.worth() * log_count / 3.0,
        below(|tail| tail.below),
        below(|tail| tail.below_api),
        below(|tail| tail.below_typed),
        yes(typed > 0.0),
        typed / (typed + sum),
        yes(context.after_parameter),
        yes(context.after_plural),
        yes(context.after_api),
        yes(context.depth == 0),
        yes(context.parameters >= 2),
        share(&|it| has_digit(&it.text)),
        share(&|it| it.text.contains('-')),
        share(&|it| it.text.contains(['.', '_'])),
        log(median),
        log(low),
        values,
        share(&|it| known.literals.contains_key(&it.text)),
        second_pass((median / calls).ln().clamp(-4.0, 4.0)),
        share(&|it| it.sum >= 5.0),
        share(&|it| it.sum >= 9.0),
        yes(once <= 0.0),
        log(last),
        second_pass(share(&|it| it.sum >= 0.7 * calls)),
        second_pass(share(&|it| it.sum < 0.5 * calls) * log_count),
        second_pass(share(&|it| it.sum >= 0.7 * calls && it.sum < 1.4 * calls)),
        values * log_count,
        (ends.differs * ends.pairs).clamp(0.0, 6.0),
        when_much(ends.differs),
        when_much(after.differs),
        yes(much),
        common.shared(),
        common.shared() * volume,
        common.lonely(),
        common.lonely() * volume,
        common.busy(),
        volume * (1.0 - api),
        volume * values,
        common.shared() * (1.0 - api),
        yes(context.after_v),
    ]
}

pub(super) fn yes(fact: bool) -> f64 {
    f64::from(u8::from(fact))
}

pub(super) fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

/// How much what follows depends on the segment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cohesion {
    /// How much more often two requests of one segment go on alike than two of different ones do: 0 for values of a
    /// parameter, towards 1 for literals of their own.
    differs: f64,
    /// Logarithm of the pairs that say so.
    pairs: f64,
}

impl Cohesion {
    fn of<'a>(tails: impl Iterator<Item = &'a Shares>) -> Self {
        let (mut same, mut same_pairs, mut count) = (0.0, 0.0, 0.0);
        let mut all = Shares::new();
        for shares in tails {
            let own: f64 = shares.values().sum();
            count += own;
            if own > 1.0 {
                same += pairs(shares);
                same_pairs += own * (own - 1.0);
            }
            for (token, share) in shares {
                *all.entry(*token).or_default() += share;
            }
        }
        let (cross, cross_pairs) = (pairs(&all) - same, count * (count - 1.0) - same_pairs);
        if same_pairs < 1.0 || cross_pairs < 1.0 {
            return Self::default();
        }
        let (within, across) = (same / same_pairs, cross / cross_pairs);
        Self {
            differs: (within - across) / (1.0 - across + 0.05),
            pairs: same_pairs.min(cross_pairs).ln_1p(),
        }
    }

    fn worth(self) -> f64 {
        (self.pairs / 10.0).min(1.0)
    }
}

fn pairs(shares: &Shares) -> f64 {
    shares.values().map(|share| share * (share - 1.0)).sum()
}

/// Logarithm of calls from which on more of them say no more: what is seldom asked has been seen by then.
pub(super) const MANY: f64 = 5.0;
/// Calls a segment from which on a difference is no accident.
const MUCH: f64 = 15.0;
