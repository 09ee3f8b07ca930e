//! Limits of HTTP requests: found with all limits, charged once the tracker has said how many request heads begin in the packet.
//!
//! A client without room for one request is told apart before the tracker looks: its packet is dropped when there is a head in it, and
//! the tracker goes back to where it was, so that the same bytes are judged again when they come again. A client with room for one is
//! admitted with all heads of its packet, and pays for all of them. Bound: [`REQUEST_LIMITS_MAX`] limits for one packet.

use core::ops::ControlFlow;

use zerocopy::transmute_ref;

use super::{
    client::{cell, penalise},
    end::{end, in_force, monitored, note},
    header::line,
    limit::{Charge, Cost, TatCell, charge, reason},
    lookup::{End, rule},
    order::Decision,
    rules::now,
};
use crate::{
    abi::{
        counter::Counter,
        dynamic::DropReason,
        image::{Action, Limit, Rule},
        policy::LIMIT_FRACTION_BITS,
    },
    tables::{Step, Tables},
    work::{REQUEST_LIMITS_MAX, Work},
};

const TCP: u8 = 6;

/// Whether a head can be in the packet.
#[inline(always)]
pub(super) fn has_payload(work: &Work) -> bool {
    work.headers.tuple.protocol == TCP && work.search.no_ports == 0 && work.headers.payload_len != 0
}

/// Remembers a limit of requests for when the heads are known.
#[inline(always)]
pub(super) fn remember<T: Tables>(number: u32, tables: &T, work: &mut Work) {
    let requests = &mut work.requests;
    let count = requests.limits;
    if count == 0 {
        requests.heads = 0;
        requests.refused = 0;
    }
    if count >= REQUEST_LIMITS_MAX {
        tables.count(Counter::LookupLimit);
        return;
    }
    if let Some(place) = requests.places.get_mut((count & (REQUEST_LIMITS_MAX - 1)) as usize) {
        *place = number;
    }
    requests.limits = count + 1;
}

/// Whether the limit has no room for one request; the first such is kept.
#[inline(always)]
pub(super) fn look_ahead<T: Tables>(limit: &Limit, rule: &Rule, tables: &T, work: &mut Work) {
    if work.requests.over != 0 {
        return;
    }
    let now = now(tables, work) << LIMIT_FRACTION_BITS;
    let Some(cell) = cell(limit, tables, work) else { return };
    let ahead = cell.load().saturating_sub(now);
    if ahead.saturating_add(Cost::of(limit, 1).needs) > limit.tolerance {
        penalise(&cell, limit, tables, work);
        work.requests.over = limit.rule;
        work.requests.of_network = work.search.of_network;
        work.requests.hits = rule.hits;
        work.requests.action = u32::from(rule.action);
    }
}

/// Forgets that there is no room where nothing would be dropped in the end: then the tracker goes on, and what it finds is charged.
#[inline(always)]
pub(super) fn settle<T: Tables>(tables: &T, work: &mut Work) {
    if work.requests.over != 0 && !(tables.enforcing() && in_force(tables, work)) {
        work.requests.over = 0;
    }
}

/// Decides about the packet by the request heads that were found in it.
#[inline(always)]
pub fn charge_requests<T: Tables>(tables: &T, work: &mut Work) -> Decision {
    work.search.end = End::Source as u32;
    // What the verdict noted is counted already.
    work.search.noted_count = 0;
    if work.requests.refused != 0 {
        work.search.hits = work.requests.hits;
        work.search.action = work.requests.action;
        work.search.of_network = work.requests.of_network;
        return end(reason(work), tables, work);
    }
    work.search.found = 0;
    work.search.monitored = 0;
    work.search.pending = 0;
    tables.repeat(REQUEST_LIMITS_MAX, &mut ChargeHeads { tables, work });
    let found = work.search.found != 0;
    note(DropReason::Limit, work);
    let decision = if found { end(reason(work), tables, work) } else { Decision::Pass };
    if work.search.noted_count != 0 {
        monitored(decision, tables, work);
    }
    decision
}

struct ChargeHeads<'a, T> {
    tables: &'a T,
    work: &'a mut Work,
}

impl<T: Tables> Step for ChargeHeads<'_, T> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        let work = &mut *self.work;
        let at = work.search.pending;
        if at >= work.requests.limits {
            return ControlFlow::Break(());
        }
        work.search.pending = at + 1;
        let places = &work.requests.places;
        let number = places.get((at & (REQUEST_LIMITS_MAX - 1)) as usize).copied().unwrap_or(0);
        let place = work.search.limits.wrapping_add(number);
        let Some(line) = line(place, self.tables, work) else { return ControlFlow::Continue(()) };
        let limit: &Limit = transmute_ref!(line);
        let Some(rule) = rule(limit.rule, self.tables, work) else {
            return ControlFlow::Continue(());
        };
        let now = now(self.tables, work) << LIMIT_FRACTION_BITS;
        let Some(cell) = cell(limit, self.tables, work) else {
            self.tables.count(Counter::LimitTableFull);
            return ControlFlow::Continue(());
        };
        let monitors = rule.action == Action::Monitor as u8;
        let mut cost = Cost::of(limit, work.requests.heads);
        if !monitors {
            // It had room for one.
            cost.needs = Cost::of(limit, 1).needs;
        }
        match charge(&cell, cost, limit.tolerance, now) {
            Charge::Contended => self.tables.count(Counter::LimitContended),
            Charge::Exceeded if monitors => {
                if work.search.monitored == 0 {
                    work.search.monitored = rule.hits + 1;
                }
            }
            Charge::Exceeded if work.search.found == 0 => {
                work.search.found = limit.rule;
                work.search.hits = rule.hits;
                work.search.action = u32::from(rule.action);
            }
            Charge::Admitted | Charge::Exceeded => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
