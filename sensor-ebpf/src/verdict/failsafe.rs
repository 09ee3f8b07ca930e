//! Whether a packet belongs to what keeps the host manageable. Asked only for packets that would be dropped.
//!
//! Bound: `FAILSAFE_MAX` entries of the image, in its order.

use core::ops::ControlFlow;

use zerocopy::transmute_ref;

use super::{
    address::{high, low, mask},
    header::{Field, line},
};
use crate::{
    abi::{
        image::{Failsafe, first_byte_bit, port_bit},
        policy::{FAILSAFE_MAX, FailsafeSide},
    },
    tables::{Step, Tables},
    work::Work,
};

/// Leading bits that all v4-mapped addresses share.
const MAPPED_BITS: u8 = 96;

/// Whether a failsafe entry names this packet.
#[inline(never)]
pub(super) fn is_failsafe<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let Some(lists) = line(1, tables, work) else { return false };
    let count = Field::FAILSAFE_COUNT.of(lists);
    work.search.pending = Field::FAILSAFE.of(lists);
    work.search.found = 0;
    if count == 0 || !may_name(tables, work) {
        return false;
    }
    let count = if count > FAILSAFE_MAX { FAILSAFE_MAX } else { count };
    tables.repeat(count, &mut Walk { tables, work });
    work.search.found != 0
}

/// Whether a failsafe entry may name this packet; leaves the look-up at hand as it is.
#[inline(always)]
pub(super) fn may_be<T: Tables>(tables: &T, work: &Work) -> bool {
    let Some(lists) = line(1, tables, work) else { return false };
    Field::FAILSAFE_COUNT.of(lists) != 0 && may_name(tables, work)
}

/// Whether an entry may name the packet, by its ports and the first bytes of its addresses. Most floods end here.
#[inline(always)]
fn may_name<T: Tables>(tables: &T, work: &Work) -> bool {
    let Some([.., ports]) = line(2, tables, work) else { return true };
    let Some([nets, ..]) = line(3, tables, work) else { return true };
    let tuple = &work.headers.tuple;
    let first_byte = |address: &[u8; 16]| {
        if work.headers.family == 4 { low(address) >> 24 } else { high(address) >> 56 }
    };
    if nets & (first_byte_bit(first_byte(&tuple.src)) | first_byte_bit(first_byte(&tuple.dst))) != 0
    {
        return true;
    }
    work.search.no_ports == 0 && ports & (port_bit(tuple.src_port) | port_bit(tuple.dst_port)) != 0
}

struct Walk<'a, T> {
    tables: &'a T,
    work: &'a mut Work,
}

impl<T: Tables> Step for Walk<'_, T> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        let Some(line) = line(self.work.search.pending, self.tables, self.work) else {
            return ControlFlow::Break(());
        };
        self.work.search.pending += 1;
        let entry: &Failsafe = transmute_ref!(line);
        if names(entry, self.work) {
            self.work.search.found = 1;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

#[inline(always)]
fn names(entry: &Failsafe, work: &Work) -> bool {
    let tuple = &work.headers.tuple;
    // All of IPv6 (::/0) is not IPv4, which lies within it only because addresses are mapped.
    if work.headers.family == 4 && entry.prefix_len < MAPPED_BITS {
        return false;
    }
    if entry.protocol != 0 && entry.protocol != tuple.protocol {
        return false;
    }
    if entry.direction != 0 && u32::from(entry.direction) != work.search.direction {
        return false;
    }
    let (ours_if_src, ours_if_dst) = (tuple.dst_port, tuple.src_port);
    let peer_side = entry.side == FailsafeSide::Peer as u8;
    let port_if_src = if peer_side { tuple.src_port } else { ours_if_src };
    let port_if_dst = if peer_side { tuple.dst_port } else { ours_if_dst };
    (port_in(entry, port_if_src, work) && in_prefix(&tuple.src, entry))
        || (port_in(entry, port_if_dst, work) && in_prefix(&tuple.dst, entry))
}

#[inline(always)]
fn port_in(entry: &Failsafe, port: u16, work: &Work) -> bool {
    if entry.port_min == 0 && entry.port_max == u16::MAX {
        return true;
    }
    work.search.no_ports == 0 && port >= entry.port_min && port <= entry.port_max
}

#[inline(always)]
fn in_prefix(address: &[u8; 16], entry: &Failsafe) -> bool {
    let difference = [high(address) ^ high(&entry.addr), low(address) ^ low(&entry.addr)];
    let len = u32::from(entry.prefix_len);
    let [first, second] = difference;
    (first & mask(len)) == 0 && (second & mask(len.saturating_sub(64))) == 0
}
