//! GCRA (ITU-T I.371, the "virtual scheduling" form) on one u64 per client, updated by compare-and-swap: exact under concurrency,
//! no lock, no division.
//!
//! Bounds: [`CAS_TRIES_MAX`] swaps, then the packet is admitted and counted; `LOOKUPS_MAX` limits for one packet.

use core::ops::ControlFlow;

use super::{
    failsafe::{high, low, mask},
    rules::{End, applies, first_lookup, now},
};
use crate::{
    abi::{
        counter::Counter,
        policy::{LIMIT_FRACTION_BITS, LOOKUPS_MAX, Limit, LimitKind},
    },
    packet::{PacketBytes, TcpFlags},
    tables::{CHARGED_CONNECTION, CHARGED_PACKET, List, Step, Tables},
    work::Work,
};

/// Swaps that are tried before a packet is admitted uncharged.
pub const CAS_TRIES_MAX: u32 = 4;

/// A segment seen again within this time at another hook is the same one.
const SAME_SEGMENT_NS: u64 = 1_000_000_000;
/// A SYN with the same numbers within this time is a retransmission (RFC 6298: 1, 2, 4, ... 32 s).
const SAME_SYN_NS: u64 = 64_000_000_000;

/// A theoretical arrival time shared between CPUs.
pub trait TatCell {
    /// Reads it.
    fn load(&self) -> u64;
    /// Stores `new` if it still is `old`; returns whether it was.
    fn swap_if(&self, old: u64, new: u64) -> bool;
}

/// What became of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Within the limit, and charged.
    Admitted,
    /// Over the limit, not charged.
    Exceeded,
    /// Other CPUs were faster each time: admitted, not charged.
    Contended,
}

/// Charges `count` packets or connections at `now` (in units of the limit).
#[inline(always)]
pub fn charge<C: TatCell>(cell: &C, limit: &Limit, count: u32, now: u64) -> Charge {
    // Beyond this many units a single packet costs more than any burst of packets: no overflow (and no 128-bit product).
    let product = if limit.increment >> 40 == 0 {
        limit.increment.wrapping_mul(u64::from(count & 0xff_ffff))
    } else {
        limit.increment
    };
    let cost = if product < limit.tolerance { product } else { limit.tolerance };
    let mut tries = 0;
    while tries < CAS_TRIES_MAX {
        let old = cell.load();
        // A later time stored by another CPU's clock is not "negative elapsed": take the larger.
        let new = if old > now { old } else { now }.wrapping_add(cost);
        if new.wrapping_sub(now) > limit.tolerance {
            return Charge::Exceeded;
        }
        if cell.swap_if(old, new) {
            return Charge::Admitted;
        }
        tries += 1;
    }
    Charge::Contended
}

/// Charges all limits of the packet's source; true when one is exceeded (its rule is `work.search.found`).
#[inline(never)]
pub(super) fn exceeds<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> bool {
    if !first_lookup(List::Limit, End::Source, tables, work) {
        return false;
    }
    work.search.found = 0;
    work.search.exceeded = 0;
    tables.repeat(LOOKUPS_MAX, &mut ChargeEach { packet, tables, work });
    work.search.exceeded != 0
}

struct ChargeEach<'a, P, T> {
    packet: &'a P,
    tables: &'a T,
    work: &'a mut Work,
}

impl<P: PacketBytes, T: Tables> Step for ChargeEach<'_, P, T> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        let work = &mut *self.work;
        let index = work.search.pending;
        if index == 0 {
            return shorter(self.tables, work);
        }
        work.search.pending = 0;
        let Some(limit) = self.tables.limit(index) else { return ControlFlow::Continue(()) };
        work.search.pending = limit.next;
        let Some(rule) = self.tables.rule(limit.rule) else { return ControlFlow::Continue(()) };
        if !applies(rule, self.tables, work) {
            return ControlFlow::Continue(());
        }
        // The first limit that applies ends the walk to shorter prefixes; its `next` ones are charged too.
        work.search.prefix_len = 0;
        let connections = limit.kind == LimitKind::Connections as u8;
        if connections && work.headers.tcp_flags & (TcpFlags::SYN | TcpFlags::ACK) != TcpFlags::SYN
        {
            return ControlFlow::Continue(());
        }
        let (count, purpose) = if connections {
            (1, CHARGED_CONNECTION)
        } else {
            (work.search.packets, CHARGED_PACKET)
        };
        if seen_before(purpose, self.packet, self.tables, work) {
            return ControlFlow::Continue(());
        }
        let now = now(self.tables, work) << LIMIT_FRACTION_BITS;
        limit_key(index, limit, work);
        let Some(cell) = self.tables.limit_cell(&work.limit) else {
            self.tables.count(Counter::LimitTableFull);
            return ControlFlow::Continue(());
        };
        match charge(&cell, limit, count, now) {
            Charge::Admitted => ControlFlow::Continue(()),
            Charge::Contended => {
                self.tables.count(Counter::LimitContended);
                ControlFlow::Continue(())
            }
            Charge::Exceeded => {
                work.search.found = limit.rule;
                work.search.exceeded = 1;
                ControlFlow::Break(())
            }
        }
    }
}

#[inline(always)]
fn shorter<T: Tables>(tables: &T, work: &mut Work) -> ControlFlow<()> {
    if work.search.prefix_len == 0 {
        return ControlFlow::Break(());
    }
    let len = work.search.prefix_len - 1;
    let entry = if work.headers.family == 4 {
        work.lpm4.prefix_len = len;
        tables.lookup4(List::Limit, &work.lpm4)
    } else {
        work.lpm6.prefix_len = len;
        tables.lookup6(List::Limit, &work.lpm6)
    };
    let Some(entry) = entry else { return ControlFlow::Break(()) };
    work.search.pending = entry.rule;
    work.search.prefix_len = u32::from(entry.prefix_len);
    ControlFlow::Continue(())
}

#[inline(always)]
fn limit_key(index: u32, limit: &Limit, work: &mut Work) {
    let len = if work.headers.family == 4 {
        96 + u32::from(limit.prefix_v4)
    } else {
        u32::from(limit.prefix_v6)
    };
    let src = &work.headers.tuple.src;
    let (first, second) = (high(src) & mask(len), low(src) & mask(len.saturating_sub(64)));
    work.limit.client = ((u128::from(first) << 64) | u128::from(second)).to_be_bytes();
    work.limit.limit = index;
}

/// Whether this packet was charged already. A sighting by another hook within a second is the same packet, one by the
/// same hook a real repeat (charged again, but for a SYN). Only asked where more than one hook is attached, or for a SYN.
#[inline(always)]
fn seen_before<P: PacketBytes, T: Tables>(
    purpose: u8,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> bool {
    if tables.settings().hooks < 2 && purpose == CHARGED_PACKET {
        return false;
    }
    let now = now(tables, work);
    crate::judge::recent_key(purpose, packet, work);
    if tables.recent(&work.recent, &mut work.seen) {
        let first = &work.seen;
        let age = now.saturating_sub(first.time_ns);
        let same_hook = first.ifindex == tables.ifindex() && first.hook == tables.hook(work);
        if purpose == CHARGED_CONNECTION && age < SAME_SYN_NS {
            return true;
        }
        if !same_hook && age < SAME_SEGMENT_NS {
            return true;
        }
    }
    crate::judge::remember(now, tables, work);
    false
}
