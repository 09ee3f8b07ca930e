//! Evidence of one segment among those of its position: is it a literal beside the parameter?
//!
//! `/users/me` is called as often as an operation is, is a word of APIs, and what follows is not what follows a user. A
//! value is called as its popularity has it, and goes on like the others.

use super::{
    evidence::{Known, has_digit, yes},
    position::{Position, Shares, Sibling, Tail, real},
    words,
};

/// Kinds of evidence of a segment.
pub(super) const SIBLING: usize = 37;

/// All of a position, for comparing one segment with the rest.
#[derive(Debug, Default)]
pub(super) struct Pool {
    ends: Shares,
    next: Shares,
    after: Shares,
}

impl Pool {
    pub(super) fn of(tails: &[Tail]) -> Self {
        let mut pool = Self::default();
        for tail in tails {
            add(&mut pool.ends, &tail.ends);
            add(&mut pool.next, &tail.next);
            add(&mut pool.after, &tail.after);
        }
        pool
    }
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
    place: usize,
    parameter: f64,
    known: &Known,
) -> [f64; SIBLING] {
    let siblings = &position.literals;
    let Some(own) = siblings.get(place) else { return [0.0; SIBLING] };
    let (count, sum) = (real(siblings.len() as u64), position.sum());
    let share = |test: &dyn Fn(&Sibling) -> bool| {
        real(siblings.iter().filter(|it| test(it)).count() as u64) / count.max(1.0)
    };
    let unlike = |test: &dyn Fn(&Sibling) -> bool| {
        if test(own) { 1.0 - share(test) } else { share(test) }
    };
    let others = ((sum - own.sum) / (count - 1.0).max(1.0)).max(0.5);
    let (ends, next) = (divergence(&tail.ends, &pool.ends), divergence(&tail.next, &pool.next));
    let (like_ends, like_next, like_after) = (
        Likeness::of(&tail.ends, &pool.ends),
        Likeness::of(&tail.next, &pool.next),
        Likeness::of(&tail.after, &pool.after),
    );
    let api = words::is_api(&own.text);
    let api_share = share(&|it| words::is_api(&it.text));
    let first = place == 0;
    let second = siblings.get(1).map_or(0.5, |it| it.sum);
    let ratio = (own.sum / others).ln();
    let calls = known.calls;
    [
        1.0,
        yes(api),
        yes(api && words::is_one_word(&own.text)),
        yes(api) * (1.0 - api_share),
        api_share,
        yes(RESERVED.contains(&&*own.text)),
        own.sum.ln(),
        ratio,
        own.sum / sum,
        if first { (own.sum / second).ln().min(4.0) } else { 0.0 },
        yes(first),
        ends.ln_1p(),
        (ends / own.sum).min(4.0),
        next.ln_1p(),
        (next / own.sum).min(4.0),
        yes(own.sum <= 1.0),
        yes(own.sum <= 2.0),
        parameter.clamp(-8.0, 8.0) / 4.0,
        unlike(&|it| has_digit(&it.text)),
        unlike(&|it| it.text.contains('-')),
        unlike(&|it| it.text.bytes().any(|byte| byte.is_ascii_uppercase())),
        yes(api) * ratio.max(0.0),
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
        share(&|it| it.sum >= own.sum * 0.5 && it.sum <= own.sum * 2.0),
    ]
}

/// Whether it is a word that stands in the place of an identifier, called more than the others.
pub(super) fn stands_out(position: &Position, place: usize) -> bool {
    let siblings = &position.literals;
    let Some(own) = siblings.get(place) else { return false };
    let others = (position.sum() - own.sum) / (real(siblings.len() as u64) - 1.0).max(1.0);
    RESERVED.contains(&&*own.text) && own.sum >= 5.0 && own.sum >= 3.0 * others
}

/// How far what follows is from what follows the rest: a log-likelihood ratio, zero where nothing follows.
fn divergence(own: &Shares, pool: &Shares) -> f64 {
    let total: f64 = own.values().sum();
    if total < 1.0 {
        return 0.0;
    }
    let rest = pool.values().sum::<f64>() - total;
    let kinds = real(pool.len() as u64) + 1.0;
    let sum: f64 = own
        .iter()
        .map(|(token, share)| {
            let others = (pool.get(token).copied().unwrap_or_default() - share).max(0.0);
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
    fn of(own: &Shares, pool: &Shares) -> Self {
        let total: f64 = own.values().sum();
        if total < 1.0 {
            return Self::default();
        }
        let mut like = Self::default();
        for (token, share) in own {
            if pool.get(token).copied().unwrap_or_default() > *share {
                like.share += share / total;
                like.tokens += 1.0;
            }
        }
        like
    }
}

/// Share of the rest's requests that go on as some of this segment do.
fn covered(own: &Shares, pool: &Shares) -> f64 {
    let rest = pool.values().sum::<f64>() - own.values().sum::<f64>();
    if rest < 1.0 {
        return 0.0;
    }
    let both: f64 = own
        .iter()
        .map(|(token, share)| (pool.get(token).copied().unwrap_or_default() - share).max(0.0))
        .sum();
    both / rest
}

/// Words that stand in the place of an identifier.
const RESERVED: &[&str] = &[
    "me", "self", "search", "export", "import", "latest", "current", "new", "all", "count",
    "batch", "bulk", "default", "mine", "stats", "status",
];
