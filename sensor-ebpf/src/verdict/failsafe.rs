//! Whether a packet belongs to what keeps the host manageable. Asked only for packets that would be dropped.
//!
//! Bound: `FAILSAFE_MAX` entries, the first unused one ends the walk.

use core::ops::ControlFlow;

use crate::{
    abi::policy::{FAILSAFE_MAX, FailsafeEntry, FailsafeSide},
    tables::{Step, Tables},
    work::Work,
};

/// Whether a failsafe entry names this packet.
#[inline(never)]
pub(super) fn is_failsafe<T: Tables>(tables: &T, work: &mut Work) -> bool {
    work.search.pending = 0;
    work.search.found = 0;
    tables.repeat(FAILSAFE_MAX, &mut Walk { tables, work });
    work.search.found != 0
}

struct Walk<'a, T> {
    tables: &'a T,
    work: &'a mut Work,
}

impl<T: Tables> Step for Walk<'_, T> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        let Some(entry) = self.tables.failsafe(self.work.search.pending) else {
            return ControlFlow::Break(());
        };
        self.work.search.pending += 1;
        if entry.side == 0 {
            return ControlFlow::Break(());
        }
        if names(entry, self.work) {
            self.work.search.found = 1;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

#[inline(always)]
fn names(entry: &FailsafeEntry, work: &Work) -> bool {
    let tuple = &work.headers.tuple;
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
fn port_in(entry: &FailsafeEntry, port: u16, work: &Work) -> bool {
    if entry.port_min == 0 && entry.port_max == u16::MAX {
        return true;
    }
    work.search.no_ports == 0 && port >= entry.port_min && port <= entry.port_max
}

#[inline(always)]
fn in_prefix(address: &[u8; 16], entry: &FailsafeEntry) -> bool {
    let difference = [high(address) ^ high(&entry.addr), low(address) ^ low(&entry.addr)];
    let len = u32::from(entry.prefix_len);
    let [first, second] = difference;
    (first & mask(len)) == 0 && (second & mask(len.saturating_sub(64))) == 0
}

/// The leading `len` bits of a word, all for 64 and more.
#[inline(always)]
pub(super) fn mask(len: u32) -> u64 {
    if len >= 64 { u64::MAX } else { !(u64::MAX >> (len & 63)) }
}

#[inline(always)]
pub(crate) fn high(address: &[u8; 16]) -> u64 {
    address.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[inline(always)]
pub(crate) fn low(address: &[u8; 16]) -> u64 {
    address.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
