//! What a rule that wants to drop comes to: failsafe, the allowlist, the rule's action, the mode; and who is told.

use super::{
    failsafe,
    lookup::{End, resolve},
    order::Decision,
    rules::now,
};
use crate::{
    abi::{
        counter::Counter,
        dynamic::DropReason,
        image::{Action, ListId},
    },
    tables::{Hit, Tables},
    work::Work,
};

/// IP protocol number of TCP: nothing else can be reset.
const TCP: u8 = 6;

/// The verdict `work.search.hits` with `work.search.action` on the end `work.search.end` wants to drop.
#[inline(never)]
pub(super) fn end<T: Tables>(reason: DropReason, tables: &T, work: &mut Work) -> Decision {
    let (hits, action, side) = (work.search.hits, work.search.action, work.search.end);
    if failsafe::is_failsafe(tables, work) {
        tables.count(Counter::Failsafe);
        return Decision::Pass;
    }
    if allowed(tables, work) {
        tables.count(Counter::Allowed);
        return Decision::Pass;
    }
    work.search.hits = hits;
    work.search.end = side;
    if action == Action::Monitor as u32 || !tables.enforcing() {
        would(reason, tables, work);
        return Decision::Pass;
    }
    if !in_force(tables, work) {
        tables.count(Counter::NotEnforced);
        would(reason, tables, work);
        return Decision::Pass;
    }
    dropped(reason, tables, work);
    let limit = matches!(reason, DropReason::Limit);
    let headers = &work.headers;
    let told =
        headers.tuple.protocol == TCP && work.search.no_ports == 0 && headers.first_fragment == 0;
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
    work.drop_key.client = if search.end == 0 { tuple.src } else { tuple.dst };
    work.drop_key.hits = search.hits;
    work.drop_key.reason = reason as u32;
    work.drop.count = 1;
    work.drop.bytes = search.bytes.into();
    work.drop.first_ns = now;
    work.drop.last_ns = now;
    work.drop.tuple = *tuple;
    work.drop.ifindex = search.ifindex;
    work.drop.hook = u32::from(tables.hook(work));
    if !tables.dropped(&work.drop_key, &work.drop) {
        tables.count(Counter::DropsUnattributed);
    }
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
    let (counter, bit) = if matches!(reason, DropReason::Limit) {
        (Counter::WouldLimit, 2)
    } else {
        (Counter::WouldBlock, 1)
    };
    if work.search.would_counted & bit == 0 {
        work.search.would_counted |= bit;
        tables.count(counter);
    }
}

/// Counts the rule that matched and only monitors, if there was one. The packet is counted unless another rule `found` it.
#[inline(never)]
pub(super) fn monitored<T: Tables>(found: bool, reason: DropReason, tables: &T, work: &mut Work) {
    let monitored = work.search.monitored;
    if monitored == 0 {
        return;
    }
    work.search.monitored = 0;
    let now = now(tables, work);
    let search = &work.search;
    tables.hit(monitored - 1, Hit::Would, search.packets.into(), search.bytes.into(), now);
    if !found {
        count_would(reason, tables, work);
    }
}

#[inline(always)]
fn allowed<T: Tables>(tables: &T, work: &mut Work) -> bool {
    allows(End::Source, tables, work) || allows(End::Destination, tables, work)
}

#[inline(never)]
fn allows<T: Tables>(end: End, tables: &T, work: &mut Work) -> bool {
    if !tables.begin(ListId::Allow, end, work) || !resolve(ListId::Allow, tables, work) {
        return false;
    }
    let now = now(tables, work);
    let search = &work.search;
    tables.hit(search.hits, Hit::Would, search.packets.into(), search.bytes.into(), now);
    true
}
