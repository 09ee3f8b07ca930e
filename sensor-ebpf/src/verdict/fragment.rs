//! Later fragments take the verdict of their first (RFC 791 section 3.2; only the first has ports); where it passed they pay for
//! themselves, to the limits of its ports.
//!
//! Bound: the `FRAGMENTS` table and [`REASSEMBLY_NS`]. Unknown: rules without a port condition still apply, counted.

use super::{
    end::{dropped, in_force},
    order::Decision,
    rules::now,
};
use crate::{
    abi::{counter::Counter, dynamic::DropReason},
    tables::Tables,
    work::{PORTS_KNOWN, Work},
};

/// Linux keeps fragments for 30 s (IPv4) or 60 s (IPv6).
const REASSEMBLY_NS: u64 = 60_000_000_000;

#[inline(always)]
fn key(work: &mut Work) {
    work.fragment.src = work.headers.tuple.src;
    work.fragment.dst = work.headers.tuple.dst;
    work.fragment.id = work.headers.ip_id;
    // IPv6 fragments are one packet by addresses and identification alone (RFC 8200 section 4.5), and a later one may
    // name the extension header that the first begins with.
    work.fragment.protocol = if work.headers.family == 4 { work.headers.tuple.protocol } else { 0 };
}

/// What is known of a later fragment by its first.
pub(super) enum First {
    /// It was not seen.
    Unknown,
    /// It passed; its ports are now the fragment's.
    Passed,
    /// The fragment is dropped as it was.
    Dropped(Decision),
}

/// Asks for the first of a later fragment.
#[inline(never)]
pub(super) fn later<T: Tables>(tables: &T, work: &mut Work) -> First {
    key(work);
    let now = now(tables, work);
    let first = tables
        .fragment(&work.fragment)
        .filter(|first| now.saturating_sub(first.time_ns) < REASSEMBLY_NS);
    let Some(first) = first else {
        tables.count(Counter::FragmentUnknown);
        return First::Unknown;
    };
    if first.reason == 0 || !tables.enforcing() || !in_force(tables, work) {
        work.headers.tuple.src_port = first.src_port;
        work.headers.tuple.dst_port = first.dst_port;
        work.search.no_ports = PORTS_KNOWN;
        return First::Passed;
    }
    work.search.hits = first.hits;
    work.search.end = first.end;
    let (reason, decision) = match DropReason::of_word(first.reason) {
        // Which network was charged is known of the first only: the fragment is its sender's.
        Some(DropReason::Limit | DropReason::Network) => (DropReason::Limit, Decision::Limited),
        Some(reason) => (reason, Decision::Blocked),
        None => (DropReason::Block, Decision::Blocked),
    };
    dropped(reason, tables, work);
    First::Dropped(decision)
}

/// Remembers the verdict of a first fragment.
#[inline(never)]
pub(super) fn remember<T: Tables>(decision: Decision, tables: &T, work: &mut Work) {
    key(work);
    let now = now(tables, work);
    let verdict = &mut work.fragment_verdict;
    verdict.time_ns = now;
    verdict.reason = if matches!(decision, Decision::Pass) { 0 } else { work.drop_key.reason };
    verdict.hits = work.search.hits;
    verdict.end = work.search.end;
    verdict.src_port = work.headers.tuple.src_port;
    verdict.dst_port = work.headers.tuple.dst_port;
    tables.set_fragment(&work.fragment, &work.fragment_verdict);
}
