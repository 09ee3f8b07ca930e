//! GCRA (ITU-T I.371, the "virtual scheduling" form) on one u64 per client, updated by compare-and-swap: exact under concurrency,
//! no lock, no division.
//!
//! Bounds: [`CAS_TRIES_MAX`] swaps, then the packet is admitted and counted; `STEPS_MAX` steps for one packet.

use core::ops::ControlFlow;

use zerocopy::transmute_ref;

use super::{
    client::{cell, penalise},
    connections,
    end::{in_force, is_exempt, may_be_exempt, note},
    header::line,
    lookup::{End, rule},
    proof::flow,
    requests::{has_payload, look_ahead, remember},
    rules::{applies, now},
    server,
};
use crate::{
    abi::{
        counter::Counter,
        dynamic::DropReason,
        image::{Action, BYTES_SHIFT, Limit, LimitKind, ListId, Rule, STEPS_MAX},
        policy::LIMIT_FRACTION_BITS,
    },
    packet::{PacketBytes, TcpFlags},
    tables::{CHARGED_ANYWHERE, CHARGED_CONNECTION, CHARGED_PACKET, Step, Tables},
    work::{ASK_EXEMPT, NOT_EXEMPT, WALKED_AGAIN, Work},
};

/// Swaps that are tried before a packet is admitted uncharged.
pub const CAS_TRIES_MAX: u32 = 4;

/// State of a client that was moved to those over their limit.
pub(super) const MOVED: u64 = u64::MAX;

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

/// What a thing costs, in units of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Room that the allowance must have; never more than the whole of it, so that a GSO packet larger than the burst passes.
    pub needs: u64,
    /// What is taken from it: everything, so that what passes in one piece is paid for before the next.
    pub takes: u64,
}

impl Cost {
    /// `count` things that are admitted or not as one.
    #[inline(always)]
    #[must_use]
    pub const fn of(limit: &Limit, count: u32) -> Self {
        let shift = if limit.kind == LimitKind::Bytes as u8 { BYTES_SHIFT } else { 0 };
        let takes = multiply(limit.increment, count) >> shift;
        Self { needs: if takes < limit.tolerance { takes } else { limit.tolerance }, takes }
    }
}

/// No overflow, and no 128-bit product: of things that cost more than 275 s each no more than 512 are charged at once.
#[inline(always)]
const fn multiply(increment: u64, count: u32) -> u64 {
    let most = if increment >> 36 == 0 {
        0x3ff_ffff
    } else if increment >> 44 == 0 {
        0x3_ffff
    } else {
        512
    };
    increment.wrapping_mul(if count < most { count } else { most } as u64)
}

/// Charges a cost at `now`, in units of the limit, whose tolerance is [`Limit::tolerance`].
#[inline(always)]
pub fn charge<C: TatCell>(cell: &C, cost: Cost, tolerance: u64, now: u64) -> Charge {
    let mut tries = 0;
    while tries < CAS_TRIES_MAX {
        let old = cell.load();
        // A later time stored by another CPU's clock is not "negative elapsed": take the larger.
        let from = if old > now { old } else { now };
        if from.wrapping_sub(now).saturating_add(cost.needs) > tolerance {
            return Charge::Exceeded;
        }
        if cell.swap_if(old, from.wrapping_add(cost.takes)) {
            return Charge::Admitted;
        }
        tries += 1;
    }
    Charge::Contended
}

/// Why a packet over a limit is dropped.
#[inline(always)]
pub(super) fn reason(work: &Work) -> DropReason {
    if work.search.of_network != 0 { DropReason::Network } else { DropReason::Limit }
}

/// Charges all limits of the packet's source, unless it is the server of its connection; true when one that drops is exceeded (its rule is in `work.search`). Whom failsafe or an
/// allow rule keeps is charged nothing: else it would use up what it shares with others.
#[inline(never)]
pub(super) fn exceeds<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> bool {
    connections::begin(work);
    if !walk(packet, tables, work) {
        return false;
    }
    if work.search.exempt == ASK_EXEMPT {
        // The walk stopped at the first limit that applies, with nothing charged; these look-ups take its place in the scratch.
        if is_exempt(tables, work) {
            return false;
        }
        work.search.exempt = WALKED_AGAIN;
        if !walk(packet, tables, work) {
            return false;
        }
    }
    let found = work.search.found != 0;
    connections::settle(found, tables, work);
    if work.search.packet_seen == FIRST_TIME || work.search.syn_seen == FIRST_TIME {
        charged(found, packet, tables, work);
    }
    note(DropReason::Limit, work);
    found
}

/// Goes through the limits of the packet's source; false when there are none.
#[inline(always)]
fn walk<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> bool {
    if !tables.begin(ListId::Limit, End::Source, work) {
        return false;
    }
    work.search.found = 0;
    work.search.monitored = 0;
    work.search.packet_seen = UNKNOWN;
    work.search.syn_seen = UNKNOWN;
    work.search.standing = 0;
    work.search.completion = 0;
    if !tables.repeat(STEPS_MAX, &mut ChargeEach { packet, tables, work }) {
        tables.count(Counter::LookupLimit);
    }
    true
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
        if server::sends(self.tables, work) {
            return ControlFlow::Break(());
        }
        if work.search.exempt == WALKED_AGAIN {
            work.search.exempt = NOT_EXEMPT;
        } else if work.search.exempt == 0 {
            if may_be_exempt(self.tables, work) {
                work.search.exempt = ASK_EXEMPT;
                return ControlFlow::Break(());
            }
            work.search.exempt = NOT_EXEMPT;
        }
        let monitors = rule.action == Action::Monitor as u8;
        if !monitors {
            // The first limit that applies ends the walk to shorter prefixes; its `next` ones are charged too.
            work.search.lengths = [0; 4];
        }
        if limit.kind == LimitKind::Requests as u8 {
            if !monitors && has_payload(work) {
                look_ahead(limit, rule, self.tables, work);
            }
            if has_payload(work) {
                remember(number, self.tables, work);
            }
            return ControlFlow::Continue(());
        }
        if limit.kind == LimitKind::Concurrent as u8 {
            work.search.of_network = 0;
            let over = connections::exceeds(limit, monitors, self.tables, work);
            return if over { exceeded(limit, rule, work) } else { ControlFlow::Continue(()) };
        }
        let Some(count) = things(limit.kind, work) else { return ControlFlow::Continue(()) };
        let connections = limit.kind == LimitKind::Connections as u8;
        let purpose = if connections { CHARGED_CONNECTION } else { CHARGED_PACKET };
        if charged_before(purpose, self.packet, self.tables, work) {
            return ControlFlow::Continue(());
        }
        let now = now(self.tables, work) << LIMIT_FRACTION_BITS;
        let Some(cell) = cell(limit, self.tables, work) else {
            self.tables.count(Counter::LimitTableFull);
            return ControlFlow::Continue(());
        };
        match charge(&cell, Cost::of(limit, count), limit.tolerance, now) {
            Charge::Admitted => ControlFlow::Continue(()),
            Charge::Contended => {
                self.tables.count(Counter::LimitContended);
                ControlFlow::Continue(())
            }
            Charge::Exceeded => {
                penalise(&cell, limit, self.tables, work);
                exceeded(limit, rule, work)
            }
        }
    }
}

/// Notes which rule the packet exceeds; one that drops ends the walk.
#[inline(always)]
fn exceeded(limit: &Limit, rule: &Rule, work: &mut Work) -> ControlFlow<()> {
    if rule.action == Action::Monitor as u8 {
        if work.search.monitored == 0 {
            work.search.monitored = rule.hits + 1;
        }
        return ControlFlow::Continue(());
    }
    work.search.found = limit.rule;
    work.search.hits = rule.hits;
    work.search.action = u32::from(rule.action);
    ControlFlow::Break(())
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

/// [`seen_before`], asked once for a packet however many limits it has.
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
    let seen = if connection {
        connection_seen(packet, tables, work)
    } else if tables.settings().hooks < 2 {
        ALONE
    } else {
        crate::judge::recent_key(CHARGED_PACKET, packet, work);
        if elsewhere(tables, work) { SEEN } else { FIRST_TIME }
    };
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
/// No other hook can see it.
const ALONE: u32 = 3;

/// Whether `work.recent` was seen by another hook within a second: then it is the same packet, whatever its addresses are now. One by the
/// same hook is a real repeat.
#[inline(always)]
fn elsewhere<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let now = now(tables, work);
    if !tables.recent(&work.recent, &mut work.seen) {
        return false;
    }
    let first = &work.seen;
    let same_hook = first.ifindex == tables.ifindex() && first.hook == tables.hook(work);
    !same_hook && now.saturating_sub(first.time_ns) < SAME_SEGMENT_NS
}

/// Whether a SYN is one that was charged: of the same addresses and ports and with the same number (a retransmission), or the same segment at
/// another hook. What was refused was not remembered, so it is charged when it comes again and there is room.
#[inline(never)]
fn connection_seen<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> u32 {
    let time = now(tables, work);
    crate::judge::recent_key(CHARGED_CONNECTION, packet, work);
    if tables.recent(&work.recent, &mut work.seen)
        && work.seen.tuple == work.headers.tuple
        && time.saturating_sub(work.seen.time_ns) < SAME_SYN_NS
    {
        return if went_on(tables, work) { FIRST_TIME } else { SEEN };
    }
    if tables.settings().hooks < 2 {
        return FIRST_TIME;
    }
    crate::judge::recent_key(CHARGED_ANYWHERE, packet, work);
    if !elsewhere(tables, work) {
        return FIRST_TIME;
    }
    // Under these addresses its retransmissions are known from now on, too.
    work.tuple = work.headers.tuple;
    crate::judge::recent_key(CHARGED_CONNECTION, packet, work);
    crate::judge::remember(time, tables, work);
    SEEN
}

/// Whether the connection of the SYN in `work.seen` sent anything since: its client got an answer, and sends that SYN no more. A flow is made
/// at the first payload or FIN, and goes with the next SYN-ACK.
#[inline(never)]
fn went_on<T: Tables>(tables: &T, work: &mut Work) -> bool {
    flow(tables, work);
    let Some(found) = tables.take_flow(&work.key) else { return false };
    let later = found.common.epoch_ns > work.seen.time_ns;
    tables.put_flow(found);
    later
}

/// Remembers what was charged, if the packet goes on.
#[inline(never)]
fn charged<P: PacketBytes, T: Tables>(found: bool, packet: &P, tables: &T, work: &mut Work) {
    if found && tables.enforcing() && in_force(tables, work) {
        return;
    }
    let time = now(tables, work);
    work.tuple = work.headers.tuple;
    if work.search.packet_seen == FIRST_TIME {
        crate::judge::recent_key(CHARGED_PACKET, packet, work);
        crate::judge::remember(time, tables, work);
    }
    if work.search.syn_seen == FIRST_TIME {
        crate::judge::recent_key(CHARGED_CONNECTION, packet, work);
        crate::judge::remember(time, tables, work);
        if tables.settings().hooks > 1 {
            crate::judge::recent_key(CHARGED_ANYWHERE, packet, work);
            crate::judge::remember(time, tables, work);
        }
    }
}
