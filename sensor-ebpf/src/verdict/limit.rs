//! GCRA (ITU-T I.371, the "virtual scheduling" form) on one u64 per client, updated by compare-and-swap: exact under concurrency,
//! no lock, no division.
//!
//! Bounds: [`CAS_TRIES_MAX`] swaps, then the packet is admitted and counted; `STEPS_MAX` steps for one packet.

use core::ops::ControlFlow;

use zerocopy::transmute_ref;

use super::{
    address::{high, low, mask},
    end::note,
    header::line,
    lookup::{End, rule},
    rules::{applies, now},
};
use crate::{
    abi::{
        counter::Counter,
        dynamic::DropReason,
        image::{Action, Limit, LimitKind, ListId, STEPS_MAX},
        policy::LIMIT_FRACTION_BITS,
    },
    packet::{PacketBytes, TcpFlags},
    tables::{CHARGED_CONNECTION, CHARGED_PACKET, Step, Tables},
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

/// Charges `count` things at `now`, in units of the limit, whose terms are increment and tolerance ([`Limit`]).
#[inline(always)]
pub fn charge<C: TatCell>(
    cell: &C,
    (increment, tolerance): (u64, u64),
    count: u32,
    now: u64,
) -> Charge {
    // Beyond this many units a single packet costs more than any burst of packets: no overflow (and no 128-bit product).
    let product = if increment >> 40 == 0 {
        increment.wrapping_mul(u64::from(count & 0xff_ffff))
    } else {
        increment
    };
    let cost = if product < tolerance { product } else { tolerance };
    let mut tries = 0;
    while tries < CAS_TRIES_MAX {
        let old = cell.load();
        // A later time stored by another CPU's clock is not "negative elapsed": take the larger.
        let new = if old > now { old } else { now }.wrapping_add(cost);
        if new.wrapping_sub(now) > tolerance {
            return Charge::Exceeded;
        }
        if cell.swap_if(old, new) {
            return Charge::Admitted;
        }
        tries += 1;
    }
    Charge::Contended
}

/// Charges all limits of the packet's source; true when one that drops is exceeded (its rule is in `work.search`).
#[inline(never)]
pub(super) fn exceeds<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> bool {
    if !tables.begin(ListId::Limit, End::Source, work) {
        return false;
    }
    work.search.found = 0;
    work.search.monitored = 0;
    work.search.packet_seen = UNKNOWN;
    work.search.syn_seen = UNKNOWN;
    if !tables.repeat(STEPS_MAX, &mut ChargeEach { packet, tables, work }) {
        tables.count(Counter::LookupLimit);
    }
    let found = work.search.found != 0;
    note(DropReason::Limit, work);
    found
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
        let number = work.search.pending;
        if number == 0 {
            return self.tables.next_entry(ListId::Limit, work);
        }
        work.search.pending = 0;
        let place = work.search.limits.wrapping_add(number);
        let Some(line) = line(place, self.tables, work) else { return ControlFlow::Continue(()) };
        let limit: &Limit = transmute_ref!(line);
        work.search.pending = limit.next;
        let Some(rule) = rule(limit.rule, self.tables, work) else {
            return ControlFlow::Continue(());
        };
        if limit.by_agent != 0 || !applies(ListId::Limit, rule, self.tables, work) {
            return ControlFlow::Continue(());
        }
        let monitors = rule.action == Action::Monitor as u8;
        if !monitors {
            // The first limit that applies ends the walk to shorter prefixes; its `next` ones are charged too.
            work.search.lengths = [0; 4];
        }
        let Some(count) = things(limit.kind, work) else { return ControlFlow::Continue(()) };
        let connections = limit.kind == LimitKind::Connections as u8;
        let purpose = if connections { CHARGED_CONNECTION } else { CHARGED_PACKET };
        if charged_before(purpose, self.packet, self.tables, work) {
            return ControlFlow::Continue(());
        }
        let now = now(self.tables, work) << LIMIT_FRACTION_BITS;
        limit_key(limit, work);
        let Some(cell) = self.tables.limit_cell(&work.limit) else {
            self.tables.count(Counter::LimitTableFull);
            return ControlFlow::Continue(());
        };
        match charge(&cell, (limit.increment, limit.tolerance), count, now) {
            Charge::Admitted => ControlFlow::Continue(()),
            Charge::Contended => {
                self.tables.count(Counter::LimitContended);
                ControlFlow::Continue(())
            }
            Charge::Exceeded if monitors => {
                if work.search.monitored == 0 {
                    work.search.monitored = rule.hits + 1;
                }
                ControlFlow::Continue(())
            }
            Charge::Exceeded => {
                work.search.found = limit.rule;
                work.search.hits = rule.hits;
                work.search.action = u32::from(rule.action);
                ControlFlow::Break(())
            }
        }
    }
}

/// What of the packet a limit of this kind charges; `None` for nothing.
#[inline(always)]
fn things(kind: u8, work: &Work) -> Option<u32> {
    let syn = work.headers.tcp_flags & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN;
    if kind == LimitKind::Packets as u8 {
        Some(work.search.packets)
    } else if kind == LimitKind::Bytes as u8 {
        Some(work.search.bytes.saturating_sub(work.headers.network))
    } else if kind == LimitKind::Connections as u8 && syn {
        Some(1)
    } else {
        None
    }
}

#[inline(always)]
fn limit_key(limit: &Limit, work: &mut Work) {
    let len = if work.headers.family == 4 {
        96 + u32::from(limit.prefix_v4)
    } else {
        u32::from(limit.prefix_v6)
    };
    let src = &work.headers.tuple.src;
    let (first, second) = (high(src) & mask(len), low(src) & mask(len.saturating_sub(64)));
    work.limit.client = ((u128::from(first) << 64) | u128::from(second)).to_be_bytes();
    work.limit.limit = limit.state;
}

/// [`seen_before`], asked once for a packet however many limits it has: the first of them remembers the packet.
#[inline(always)]
fn charged_before<P: PacketBytes, T: Tables>(
    purpose: u8,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> bool {
    let connection = purpose == CHARGED_CONNECTION;
    let known = if connection { work.search.syn_seen } else { work.search.packet_seen };
    if known != UNKNOWN {
        return known == SEEN;
    }
    let seen = if seen_before(purpose, packet, tables, work) { SEEN } else { FIRST_TIME };
    if connection {
        work.search.syn_seen = seen;
    } else {
        work.search.packet_seen = seen;
    }
    seen == SEEN
}

const UNKNOWN: u32 = 0;
const FIRST_TIME: u32 = 1;
const SEEN: u32 = 2;

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
