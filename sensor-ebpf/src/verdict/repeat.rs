//! Drops that come again: the verdict of a block rule, remembered for packets that are the same in all that it was asked about.
//!
//! Exact, not a guess. A row holds for one installed image, before the next moment at which a rule that was asked begins or ends, and for
//! one address, port, protocol, hook and interface. The source port is left open where nothing asks for it: no allow rule, and no failsafe entry
//! for that port. What depends on more than that (verdicts of the agent, shared sources, fragments, ends of connections,
//! rules that monitor, resets, a switch that opens by time) is never answered from here.
//!
//! Bound: `REPEATS_PER_CPU` rows. A packet takes a row that another has only when it comes twice and that one not in between.

use super::{end::take_in, header::line, rules::now};
use crate::{
    abi::{
        counter::Counter,
        dynamic::DropReason,
        image::{INSTALL_LINE, INSTALL_WORD, port_bit},
        repeat::{
            REPEATS_PER_CPU, Repeat, TALLY_FULL, TALLY_SHIFT, WHAT_SOURCE_PORT,
            WHAT_SOURCE_PORT_MASK, tallied,
        },
        settings::{POLICY_ALLOW4, POLICY_ALLOW6},
    },
    packet::{Outcome, PacketBytes, TcpFlags},
    tables::{Hit, Tables},
    work::Work,
};

/// The clock is read for one in so many drops of a row that has no time.
const CLOCK_EVERY: u64 = 16;

/// Whether the packet is one that may be answered from a row.
#[inline(always)]
fn fits<T: Tables>(outcome: Outcome, tables: &T, work: &Work) -> bool {
    let settings = tables.settings();
    matches!(outcome, Outcome::Tcp | Outcome::Udp)
        && work.headers.first_fragment == 0
        && work.headers.tcp_flags & (TcpFlags::FIN | TcpFlags::RST) == 0
        && settings.verdicts == 0
        && settings.enforcement_off == 0
        && settings.stale_open_after_ns == 0
        && (settings.shared_sources == 0 || tables.shared_until(&work.headers.tuple.src) == 0)
}

/// See [`Repeat::what`].
#[inline(always)]
fn what<T: Tables>(tables: &T, work: &Work) -> u64 {
    let tuple = &work.headers.tuple;
    u64::from(tuple.dst_port)
        | u64::from(tuple.src_port) << WHAT_SOURCE_PORT
        | u64::from(tuple.protocol) << 32
        | u64::from(work.headers.family) << 40
        | u64::from(tables.hook(work)) << 48
}

/// By what the source port does not change.
#[inline(always)]
fn hash(what: u64, work: &Work) -> u64 {
    let (src, dst) = (work.headers.source(), work.headers.destination());
    let (src, dst) = (src.1 ^ src.0, dst.1 ^ dst.0);
    let word = src ^ dst.rotate_left(24) ^ (what & !WHAT_SOURCE_PORT_MASK) << 40;
    // 2^64 over the golden ratio.
    let word = (word ^ word >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 29
}

/// The first place of a packet; the second is the other of the pair.
#[inline(always)]
fn row_of(hash: u64) -> u32 {
    (hash >> 32) as u32 & (REPEATS_PER_CPU - 1)
}

const OTHER: u32 = 1;

/// Number of the installation of the policy in force for this packet; 0 = it has none.
#[inline(always)]
fn install<T: Tables>(tables: &T, work: &Work) -> u64 {
    line(INSTALL_LINE, tables, work).and_then(|line| line.get(INSTALL_WORD)).copied().unwrap_or(0)
}

/// Whether a row says that the packet is dropped; counts it.
#[inline(always)]
pub(super) fn drops<P: PacketBytes, T: Tables>(
    outcome: Outcome,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> bool {
    if !fits(outcome, tables, work) {
        return false;
    }
    let what = what(tables, work);
    let first = row_of(hash(what, work));
    known(first, what, packet, tables, work) || known(first ^ OTHER, what, packet, tables, work)
}

#[inline(always)]
fn known<P: PacketBytes, T: Tables>(
    number: u32,
    what: u64,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> bool {
    let Some(mut row) = tables.take_repeat(number) else { return false };
    let dropped = names(&row, what, tables, work) && holds(&mut row, packet, tables, work);
    tables.put_repeat(row);
    dropped
}

/// Whether the row is the packet's.
#[inline(always)]
#[expect(clippy::many_single_char_names, reason = "four words of each")]
fn names<T: Tables>(row: &Repeat, what: u64, tables: &T, work: &Work) -> bool {
    let tuple = &work.headers.tuple;
    let ([a, b, c, d], [e, f, g, h]) = (row.addresses(), work.headers.addresses());
    let different = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h);
    if different != 0 || row.install == 0 || row.ifindex != tables.ifindex() {
        return false;
    }
    let changed = row.what ^ what;
    changed & row.mask == 0
        && (changed == 0 || row.ports & port_bit(tuple.src_port) == 0)
        && row.install == install(tables, work)
}

/// Counts the drop, unless the row's time is over.
#[inline(always)]
fn holds<P: PacketBytes, T: Tables>(
    row: &mut Repeat,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> bool {
    let timed = row.until_ns != u64::MAX;
    if timed || row.tally & (CLOCK_EVERY - 1) == 0 {
        if row.tally & TALLY_FULL != 0 {
            empty(row, tables, work);
        }
        let now = now(tables, work);
        if now >= row.until_ns {
            return false;
        }
        row.last_ns = now;
    }
    row.next = 0;
    let (packets, bytes) = (tables.wire_packets().max(1), packet.len());
    tables.hit(row.hits, Hit::Dropped, packets.into(), bytes.into(), row.last_ns);
    tables.add(&mut row.tally, u64::from(bytes) << TALLY_SHIFT | 1);
    true
}

/// Puts what the row counted where its packet's drops are.
#[inline(never)]
fn empty<T: Tables>(row: &mut Repeat, tables: &T, work: &mut Work) {
    let (count, bytes) = tallied(tables.exchange(&mut row.tally, 0));
    if count != 0 && !take_in(row, count, bytes, tables, work) {
        tables.count_by(Counter::DropsUnattributed, count);
    }
}

/// Remembers the drop of a block rule that lists the sender.
#[inline(never)]
pub(super) fn remember<T: Tables>(outcome: Outcome, tables: &T, work: &mut Work) {
    if work.search.noted_count != 0
        || work.search.end != 0
        || work.search.no_ports != 0
        || !fits(outcome, tables, work)
    {
        return;
    }
    let install = install(tables, work);
    let what = what(tables, work);
    let hash = hash(what, work);
    if install == 0 {
        return;
    }
    let first = row_of(hash);
    let mut turn = 0;
    while turn <= OTHER {
        let Some(mut row) = tables.take_repeat(first ^ turn) else { return };
        // Empty, or of a policy that is gone; else whoever has it keeps it, unless this packet comes once more before that one.
        let free = row.install != install || row.next == hash;
        if free {
            give(&mut row, what, install, tables, work);
        }
        tables.put_repeat(row);
        if free {
            return;
        }
        turn += 1;
    }
    if let Some(mut row) = tables.take_repeat(first) {
        row.next = hash;
        tables.put_repeat(row);
    }
}

/// Gives the row to the packet at hand; what it counted for another goes where that one's drops are.
#[inline(never)]
fn give<T: Tables>(row: &mut Repeat, what: u64, install: u64, tables: &T, work: &mut Work) {
    let turn = row.turn;
    tables.exchange(&mut row.turn, turn + 1);
    empty(row, tables, work);
    let tuple = &work.headers.tuple;
    row.src = tuple.src;
    row.dst = tuple.dst;
    row.what = what;
    row.install = install;
    row.until_ns = work.search.until_ns;
    row.ifindex = work.search.ifindex;
    row.hits = work.search.hits;
    row.last_ns = work.cursor.now_ns;
    row.next = 0;
    row.mask = u64::MAX;
    row.ports = 0;
    let allow = if work.headers.family == 4 { POLICY_ALLOW4 } else { POLICY_ALLOW6 };
    if work.search.policy & allow == 0
        && let Some([.., ports]) = line(2, tables, work)
    {
        row.mask = !WHAT_SOURCE_PORT_MASK;
        row.ports = *ports;
    }
    tables.exchange(&mut row.turn, turn + 2);
}

/// Why a row's packets were dropped.
pub(super) const REASON: DropReason = DropReason::Block;
