//! Evidence of one segment among those of its position: is it a literal beside the parameter?
//!
//! `/users/me` is called as often as an operation is, is a word of APIs, and what follows is not what follows a user. A
//! value is called as its popularity has it, and goes on like the others.

use super::{
    common::Common,
    evidence::{Known, MANY, has_digit, yes},
    position::{Position, Shares, Sibling, Tail, real},
    words,
};

/// Kinds of evidence of a segment.
pub(super) const SIBLING: usize = 44;

/// All of a position, for comparing one segment with the rest: read once for all of its segments.
#[derive(Debug, Default)]
pub(super) struct Pool {
    ends: Pooled,
    next: Pooled,
    after: Pooled,
    count: f64,
    sum: f64,
    /// Shares of the segments.
    api: f64,
    digits: f64,
    hyphens: f64,
    capitals: f64,
    /// Calls of each, ascending.
    sums: Vec<f64>,
}

/// What follows all of them, and how much that is.
#[derive(Debug, Default)]
struct Pooled {
    shares: Shares,
    total: f64,
}

impl Pooled {
    fn of<'a>(tails: impl Iterator<Item = &'a Shares>) -> Self {
        let mut shares = Shares::new();
        for tail in tails {
            add(&mut shares, tail);
        }
        Self { total: shares.values().sum(), shares }
    }

    fn get(&self, token: u64) -> f64 {
        self.shares.get(&token).copied().unwrap_or_default()
    }
}

impl Pool {
    pub(super) fn of(position: &Position, tails: &[Tail]) -> Self {
        let siblings = &position.literals;
        let count = real(siblings.len() as u64);
        let share = |test: fn(&str) -> bool| {
            real(siblings.iter().filter(|it| test(&it.text)).count() as u64) / count.max(1.0)
        };
        let mut sums: Vec<f64> = siblings.iter().map(|it| it.sum).collect();
        sums.sort_by(f64::total_cmp);
        Self {
            ends: Pooled::of(tails.iter().map(|tail| &tail.ends)),
            next: Pooled::of(tails.iter().map(|tail| &tail.next)),
            after: Pooled::of(tails.iter().map(|tail| &tail.after)),
            count,
            sum: position.sum(),
            api: share(words::is_api),
            digits: share(has_digit),
            hyphens: share(has_hyphen),
            capitals: share(has_capital),
            sums,
        }
    }

    /// Share of the segments that are called at least half as often, and at most twice.
    fn about_as_often(&self, sum: f64) -> f64 {
        let below = self.sums.partition_point(|it| *it < sum * 0.5);
        let up_to = self.sums.partition_point(|it| *it <= sum * 2.0);
        real(up_to.saturating_sub(below) as u64) / self.count.max(1.0)
    }
}

fn has_hyphen(text: &str) -> bool {
    text.contains('-')
}

fn has_capital(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn add(to: &mut Shares, from: &Shares) {
    for (token, share) in from {
        *to.entry(*token).or_default() += share;
    }
}

/// Reads the evidence of the segment at `place`; the names are in `weights`. `parameter` is how surely the position has one.
pub(super) fn of_sibling(
    position: &Position,
    tail: &Tail,
    pool: &Pool,
    common: &Common,
    place: usize,
    parameter: f64,
    known: &Known,
) -> [f64; SIBLING] {
    let siblings = &position.literals;
    let Some(own) = siblings.get(place) else { return [0.0; SIBLING] };
    let (count, sum) = (pool.count, pool.sum);
    let unlike = |is: bool, share: f64| if is { 1.0 - share } else { share };
    let others = ((sum - own.sum) / (count - 1.0).max(1.0)).max(0.5);
    let (ends, next) = (divergence(&tail.ends, &pool.ends), divergence(&tail.next, &pool.next));
    let (like_ends, like_next, like_after) = (
        Likeness::of(&tail.ends, &pool.ends),
        Likeness::of(&tail.next, &pool.next),
        Likeness::of(&tail.after, &pool.after),
    );
    let api = words::is_api(&own.text);
    let api_share = pool.api;
    let first = place == 0;
    let second = siblings.get(1).map_or(0.5, |it| it.sum);
    let ratio = (own.sum / others).ln().clamp(-4.0, 4.0);
    let calls = known.calls;
    let part = common.part(own.sum, tail);
    [
        1.0,
        yes(api),
        yes(api && words::is_one_word(&own.text)),
        yes(api) * (1.0 - api_share),
        api_share,
        yes(is_reserved(&own.text)),
        own.sum.ln().min(MANY),
        ratio,
        own.sum / sum,
        if first { (own.sum / second).ln().min(4.0) } else { 0.0 },
        yes(first),
        ends.ln_1p().min(MANY),
        (ends / own.sum).min(4.0),
        next.ln_1p().min(MANY),
        (next / own.sum).min(4.0),
        yes(own.sum <= 1.0),
        yes(own.sum <= 2.0),
        parameter.clamp(-8.0, 8.0) / 4.0,
        unlike(has_digit(&own.text), pool.digits),
        unlike(has_hyphen(&own.text), pool.hyphens),
        unlike(has_capital(&own.text), pool.capitals),
        yes(api) * ratio.clamp(0.0, 4.0),
        count.ln(),
        like_ends.share,
        like_next.share,
        like_after.share,
        like_next.tokens.ln_1p(),
        like_after.tokens.ln_1p(),
        covered(&tail.ends, &pool.ends),
        covered(&tail.next, &pool.next),
        yes(known.values.get(&own.text).is_some_and(|positions| *positions >= 2)),
        yes(known.literals.contains_key(&own.text)),
        if calls > 0.0 { (own.sum / calls).ln().clamp(-4.0, 4.0) } else { 0.0 },
        yes(calls > 0.0 && own.sum < calls * 0.5),
        api_share * count.ln(),
        yes(calls > 0.0 && own.sum >= 0.7 * calls),
        pool.about_as_often(own.sum),
        part.share,
        part.held,
        part.own,
        yes(!api) * part.held,
        yes(!api) * part.own,
        yes(api) * part.held,
        yes(api) * part.own,
    ]
}

/// Whether a word stands in the place of an identifier.
pub(super) fn is_reserved(text: &str) -> bool {
    RESERVED.contains(&text)
}

/// Whether it is a word that stands in the place of an identifier, called more than the others.
pub(super) fn stands_out(position: &Position, pool: &Pool, place: usize) -> bool {
    let siblings = &position.literals;
    let Some(own) = siblings.get(place) else { return false };
    let others = (pool.sum - own.sum) / (pool.count - 1.0).max(1.0);
    is_reserved(&own.text) && own.sum >= 5.0 && own.sum >= 3.0 * others
}

/// How many of the first are called so much more than the next that no popularity of values explains it: literals, where they go
/// on as no other does.
pub(super) fn outliers(siblings: &[Sibling]) -> usize {
    let pairs = siblings.iter().zip(siblings.iter().skip(1));
    (1..=OUTLIERS_MAX)
        .zip(pairs)
        .filter(|(count, (one, next))| {
            siblings.len() > count + 2
                && one.sum >= OUTLIER_CALLS_MIN
                && one.sum >= OUTLIER_RATIO * next.sum
        })
        .map(|(count, _)| count)
        .last()
        .unwrap_or(0)
}

/// Whether a good part of its requests goes on, or ends, as those of no other segment do.
pub(super) fn is_alone(sibling: &Sibling, tail: &Tail, pool: &Pool) -> bool {
    let own = |shares: &Shares, pool: &Pooled| -> f64 {
        shares.iter().filter(|(token, share)| pool.get(**token) <= **share).map(|it| it.1).sum()
    };
    own(&tail.ends, &pool.ends) + own(&tail.next, &pool.next) >= sibling.sum * ALONE_SHARE
}

/// How far what follows is from what follows the rest: a log-likelihood ratio, zero where nothing follows.
fn divergence(own: &Shares, pool: &Pooled) -> f64 {
    let total: f64 = own.values().sum();
    if total < 1.0 {
        return 0.0;
    }
    let rest = pool.total - total;
    let kinds = real(pool.shares.len() as u64) + 1.0;
    let sum: f64 = own
        .iter()
        .map(|(token, share)| {
            let others = (pool.get(*token) - share).max(0.0);
            share * ((share / total) / ((others + 0.5) / (rest + 0.5 * kinds))).ln()
        })
        .sum();
    sum.max(0.0)
}

/// What of a segment's continuations the rest has too.
#[derive(Clone, Copy, Debug, Default)]
struct Likeness {
    /// Share of its requests.
    share: f64,
    /// Different continuations.
    tokens: f64,
}

impl Likeness {
    fn of(own: &Shares, pool: &Pooled) -> Self {
        let total: f64 = own.values().sum();
        if total < 1.0 {
            return Self::default();
        }
        let mut like = Self::default();
        for (token, share) in own {
            if pool.get(*token) > *share {
                like.share += share / total;
                like.tokens += 1.0;
            }
        }
        like
    }
}

/// Share of the rest's requests that go on as some of this segment do.
fn covered(own: &Shares, pool: &Pooled) -> f64 {
    let rest = pool.total - own.values().sum::<f64>();
    if rest < 1.0 {
        return 0.0;
    }
    let both: f64 = own.iter().map(|(token, share)| (pool.get(*token) - share).max(0.0)).sum();
    both / rest
}

/// By Zipf's law the first is called twice as often as the second.
const OUTLIER_RATIO: f64 = 8.0;
const OUTLIER_CALLS_MIN: f64 = 12.0;
const OUTLIERS_MAX: usize = 8;
const ALONE_SHARE: f64 = 0.25;
/// Words that stand in the place of an identifier.
const RESERVED: &[&str] = &[
    "me", "self", "search", "export", "import", "latest", "current", "new", "all", "count",
    "batch", "bulk", "default", "mine", "stats", "status",
];
