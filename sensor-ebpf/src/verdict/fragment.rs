//! Later fragments take the verdict of their first (RFC 791 section 3.2; only the first has ports).
//!
//! Bound: the `FRAGMENTS` table and [`REASSEMBLY_NS`]. Unknown: rules without a port condition still apply, counted.

use super::{order::Decision, rules};
use crate::{
    abi::counter::Counter,
    tables::{FragmentVerdict, Tables},
    work::Work,
};

/// Linux keeps fragments for 30 s (IPv4) or 60 s (IPv6).
const REASSEMBLY_NS: u64 = 60_000_000_000;

#[inline(always)]
fn key(work: &mut Work) {
    work.fragment.src = work.headers.tuple.src;
    work.fragment.dst = work.headers.tuple.dst;
    work.fragment.id = work.headers.ip_id;
    work.fragment.protocol = work.headers.tuple.protocol;
}

/// The verdict of the first fragment; `None` when it was not seen.
#[inline(never)]
pub(super) fn later<T: Tables>(tables: &T, work: &mut Work) -> Option<Decision> {
    key(work);
    let now = rules::now(tables, work);
    let first = tables
        .fragment(&work.fragment)
        .filter(|first| now.saturating_sub(first.time_ns) < REASSEMBLY_NS);
    let Some(first) = first else {
        tables.count(Counter::FragmentUnknown);
        return None;
    };
    if first.rule == 0 || !tables.enforcing() {
        return Some(Decision::Pass);
    }
    tables.hit(first.rule, true, work.search.packets.into(), work.search.bytes.into(), now);
    Some(if first.limited != 0 { Decision::Limited } else { Decision::Blocked })
}

/// Remembers the verdict of a first fragment.
#[inline(never)]
pub(super) fn remember<T: Tables>(decision: Decision, tables: &T, work: &mut Work) {
    key(work);
    let now = rules::now(tables, work);
    let verdict = FragmentVerdict {
        time_ns: now,
        rule: if matches!(decision, Decision::Pass) { 0 } else { work.search.found },
        limited: u32::from(matches!(decision, Decision::Limited | Decision::LimitedReset)),
    };
    tables.set_fragment(&work.fragment, &verdict);
}
