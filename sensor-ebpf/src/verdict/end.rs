//! What a rule that wants to drop comes to: failsafe, the allowlist, the rule's action, the mode; and who is told.

use super::{
    failsafe,
    lookup::{End, resolve},
    order::Decision,
    repeat,
    rules::now,
};
use crate::{
    abi::{
        counter::Counter,
        dynamic::DropReason,
        image::{Action, ListId},
        repeat::Repeat,
        settings::{POLICY_ALLOW4, POLICY_ALLOW6},
    },
    tables::{Hit, Tables},
    work::{EXEMPT, NOT_EXEMPT, NOTED_MAX, OF_A_LIMIT, Work},
};

/// IP protocol number of TCP: nothing else can be reset.
const TCP: u8 = 6;

/// The verdict `work.search.hits` with `work.search.action` on the end `work.search.end` wants to drop.
#[inline(never)]
pub(super) fn end<T: Tables>(reason: DropReason, tables: &T, work: &mut Work) -> Decision {
    let (hits, action, side) = (work.search.hits, work.search.action, work.search.end);
    if work.search.exempt != NOT_EXEMPT {
        work.search.exempt = EXEMPT;
        if failsafe::is_failsafe(tables, work) {
            tables.count(Counter::Failsafe);
            return Decision::Pass;
        }
        if allowed(tables, work) {
            tables.count(Counter::Allowed);
            let now = now(tables, work);
            let search = &work.search;
            tables.hit(search.hits, Hit::Would, search.packets.into(), search.bytes.into(), now);
            return Decision::Pass;
        }
        work.search.exempt = NOT_EXEMPT;
    }
    work.search.hits = hits;
    work.search.end = side;
    if !tables.enforcing() {
        would(reason, tables, work);
        return Decision::Pass;
    }
    if !in_force(tables, work) {
        tables.count(Counter::NotEnforced);
        would(reason, tables, work);
        return Decision::Pass;
    }
    dropped(reason, tables, work);
    let limit = matches!(reason, DropReason::Limit | DropReason::Network);
    let headers = &work.headers;
    let fragment = headers.first_fragment | headers.later_fragment != 0;
    let told = headers.tuple.protocol == TCP && work.search.no_ports == 0 && !fragment;
    match (limit, action == Action::Reset as u32 && told) {
        (false, false) => Decision::Blocked,
        (false, true) => Decision::BlockedReset,
        (true, false) => Decision::Limited,
        (true, true) => Decision::LimitedReset,
    }
}

/// Whether rules drop: enforcement was not switched off, and the agent is not silent for longer than it said.
#[inline(always)]
pub(super) fn in_force<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let settings = tables.settings();
    if settings.enforcement_off != 0 {
        return false;
    }
    let (stale, heartbeat) = (settings.stale_open_after_ns, settings.heartbeat_ns);
    stale == 0 || now(tables, work).saturating_sub(heartbeat) <= stale
}

/// Counts a drop of the rule `work.search.hits`, and puts it into the table of drops.
#[inline(never)]
pub(super) fn dropped<T: Tables>(reason: DropReason, tables: &T, work: &mut Work) {
    let now = now(tables, work);
    let search = &work.search;
    tables.hit(search.hits, Hit::Dropped, search.packets.into(), search.bytes.into(), now);
    let tuple = &work.headers.tuple;
    work.drop_key.client = if matches!(reason, DropReason::Network) {
        work.network.client
    } else if search.end == 0 {
        tuple.src
    } else {
        tuple.dst
    };
    work.drop_key.hits = search.hits;
    work.drop_key.reason = reason as u32;
    work.drop.count = 1;
    work.drop.bytes = search.bytes.into();
    work.drop.first_ns = now;
    work.drop.last_ns = now;
    work.drop.tuple = *tuple;
    work.drop.ifindex = search.ifindex;
    work.drop.hook = u32::from(tables.hook(work));
    if !tables.dropped(&work.drop_key, &work.drop, now, &mut work.drops_full_until_ns) {
        tables.count(Counter::DropsUnattributed);
    }
}

/// Puts drops that a row of `REPEATS` counted into the table of drops; false when there is no room.
#[inline(always)]
pub(super) fn take_in<T: Tables>(
    row: &Repeat,
    count: u64,
    bytes: u64,
    tables: &T,
    work: &mut Work,
) -> bool {
    work.drop_key.client = row.src;
    work.drop_key.hits = row.hits;
    work.drop_key.reason = repeat::REASON as u32;
    work.drop.count = count;
    work.drop.bytes = bytes;
    work.drop.first_ns = row.last_ns;
    work.drop.last_ns = row.last_ns;
    work.drop.tuple = row.tuple();
    work.drop.ifindex = row.ifindex;
    work.drop.hook = row.hook();
    let now = now(tables, work);
    tables.dropped(&work.drop_key, &work.drop, now, &mut work.drops_full_until_ns)
}

/// Counts what the rule `work.search.hits` would have dropped.
#[inline(always)]
fn would<T: Tables>(reason: DropReason, tables: &T, work: &mut Work) {
    let now = now(tables, work);
    let search = &work.search;
    tables.hit(search.hits, Hit::Would, search.packets.into(), search.bytes.into(), now);
    count_would(reason, tables, work);
}

/// Counts the packet once, whichever of its ends and however many rules say so.
#[inline(always)]
fn count_would<T: Tables>(reason: DropReason, tables: &T, work: &mut Work) {
    let (counter, bit) = if matches!(reason, DropReason::Limit | DropReason::Network) {
        (Counter::WouldLimit, 2)
    } else {
        (Counter::WouldBlock, 1)
    };
    if work.search.would_counted & bit == 0 {
        work.search.would_counted |= bit;
        tables.count(counter);
    }
}

/// Notes the rule that matched and only monitors, if there was one, for [`monitored`].
#[inline(always)]
pub(super) fn note(reason: DropReason, work: &mut Work) {
    let search = &mut work.search;
    if search.monitored == 0 {
        return;
    }
    let limit =
        if matches!(reason, DropReason::Limit | DropReason::Network) { OF_A_LIMIT } else { 0 };
    if let Some(slot) = search.noted.get_mut(search.noted_count as usize & (NOTED_MAX - 1)) {
        *slot = search.monitored | limit;
    }
    search.noted_count += 1;
    search.monitored = 0;
}

/// Counts the rules that were noted, unless the packet is one that no rule could drop; the packet itself, unless it is dropped.
#[inline(never)]
pub(super) fn monitored<T: Tables>(decision: Decision, tables: &T, work: &mut Work) {
    if is_exempt(tables, work) {
        return;
    }
    let now = now(tables, work);
    let mut at = 0;
    while at < NOTED_MAX {
        if at as u32 >= work.search.noted_count {
            return;
        }
        let noted = work.search.noted.get(at).copied().unwrap_or(1);
        let search = &work.search;
        let (packets, bytes) = (search.packets.into(), search.bytes.into());
        tables.hit((noted & !OF_A_LIMIT).wrapping_sub(1), Hit::Would, packets, bytes, now);
        if matches!(decision, Decision::Pass) {
            let limit = noted & OF_A_LIMIT != 0;
            count_would(if limit { DropReason::Limit } else { DropReason::Block }, tables, work);
        }
        at += 1;
    }
}

/// Whether no rule drops the packet, because failsafe or an allow rule keeps it. Counts nothing.
#[inline(never)]
pub(super) fn is_exempt<T: Tables>(tables: &T, work: &mut Work) -> bool {
    if work.search.exempt != EXEMPT && work.search.exempt != NOT_EXEMPT {
        let exempt = failsafe::is_failsafe(tables, work) || allowed(tables, work);
        work.search.exempt = if exempt { EXEMPT } else { NOT_EXEMPT };
    }
    work.search.exempt == EXEMPT
}

/// Whether it is worth asking: of most packets it is known at once that nothing keeps them. Leaves the look-up at hand as it is.
#[inline(always)]
pub(super) fn may_be_exempt<T: Tables>(tables: &T, work: &Work) -> bool {
    work.search.policy & allow_flag(work) != 0 || failsafe::may_be(tables, work)
}

#[inline(always)]
fn allow_flag(work: &Work) -> u64 {
    if work.headers.family == 4 { POLICY_ALLOW4 } else { POLICY_ALLOW6 }
}

#[inline(always)]
fn allowed<T: Tables>(tables: &T, work: &mut Work) -> bool {
    if work.search.policy & allow_flag(work) == 0 {
        return false;
    }
    allows(End::Source, tables, work) || allows(End::Destination, tables, work)
}

#[inline(never)]
fn allows<T: Tables>(end: End, tables: &T, work: &mut Work) -> bool {
    tables.begin(ListId::Allow, end, work) && resolve(ListId::Allow, tables, work)
}
