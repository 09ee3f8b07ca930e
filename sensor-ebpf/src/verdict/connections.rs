//! Limits of open connections: a connection counts from the segment that completes its handshake until both ends sent FIN, one sent
//! RST, or the agent finds it idle.
//!
//! A SYN is refused while the client has as many as it may; so is the completion of a handshake, because SYNs that came together all found
//! room. A connection that was there before the limit counts, and is left alone. Bounds: `CONNECTIONS_MAX` connections,
//! [`CONNECTION_LIMITS_MAX`] limits for each.

use super::{
    client::limit_key,
    limit::{CAS_TRIES_MAX, TatCell},
    proof::{Completion, TCP, completion, flow},
    rules::now,
};
use crate::{
    abi::{
        counter::Counter, dynamic::CONNECTION_LIMITS_MAX, image::Limit,
        settings::POLICY_CONNECTIONS,
    },
    packet::TcpFlags,
    tables::Tables,
    work::Work,
};

const PLACES: u64 = CONNECTION_LIMITS_MAX as u64;

/// Whether the client has no room for the packet's connection. What completes a handshake is counted, and [`settle`]d at the end of the walk.
#[inline(always)]
pub(super) fn exceeds<T: Tables>(
    limit: &Limit,
    monitors: bool,
    tables: &T,
    work: &mut Work,
) -> bool {
    const ENDS: u8 = TcpFlags::FIN | TcpFlags::RST;
    let flags = work.headers.tcp_flags;
    if work.headers.tuple.protocol != TCP || work.search.no_ports != 0 || flags & ENDS != 0 {
        return false;
    }
    if flags & TcpFlags::SYN != 0 {
        limit_key(limit, work);
        let open = tables.find_open(&work.limit).map_or(0, |open| open.load());
        return flags & TcpFlags::ACK == 0 && open >= limit.tolerance;
    }
    opens(limit, monitors, tables, work)
}

#[inline(never)]
fn opens<T: Tables>(limit: &Limit, monitors: bool, tables: &T, work: &mut Work) -> bool {
    if work.connection.count == UNASKED {
        work.connection.count = ask(tables, work);
    }
    let count = work.connection.count;
    if count >= PLACES {
        if count == PLACES {
            tables.count(Counter::LookupLimit);
        }
        return false;
    }
    limit_key(limit, work);
    let Some(open) = tables.open_cell(&work.limit) else {
        tables.count(Counter::ConnectionsFull);
        return false;
    };
    let fresh = matches!(completion(tables, work), Completion::Fresh);
    let mut tries = 0;
    while tries < CAS_TRIES_MAX {
        let before = open.load();
        let over = fresh && before >= limit.tolerance;
        if over && !monitors {
            return true;
        }
        if open.swap_if(before, before.wrapping_add(1)) {
            if let Some(place) = work.connection.keys.get_mut((count & (PLACES - 1)) as usize) {
                *place = work.limit;
            }
            work.connection.count = count + 1;
            return over;
        }
        tries += 1;
    }
    tables.count(Counter::LimitContended);
    false
}

/// Not asked yet whether the connection counts.
const UNASKED: u64 = PLACES + 1;
/// It does already, or nobody knows that it is there.
const NOTHING: u64 = PLACES + 2;

/// 0 for a connection that is to be counted, else [`NOTHING`].
#[inline(always)]
fn ask<T: Tables>(tables: &T, work: &mut Work) -> u64 {
    let time = now(tables, work);
    flow(tables, work);
    if tables.touch_connection(&work.key, time)
        || matches!(completion(tables, work), Completion::No)
    {
        return NOTHING;
    }
    0
}

/// Before the first limit.
#[inline(always)]
pub(super) fn begin(work: &mut Work) {
    work.connection.count = UNASKED;
}

/// Behind the last limit: remembers the connection, unless its packet is dropped.
#[inline(always)]
pub(super) fn settle<T: Tables>(dropped: bool, tables: &T, work: &mut Work) {
    let count = work.connection.count;
    if count != 0 && count <= PLACES {
        remember(dropped, tables, work);
    }
}

#[inline(never)]
fn remember<T: Tables>(dropped: bool, tables: &T, work: &mut Work) {
    flow(tables, work);
    work.connection.ended = 0;
    work.connection.last_ns = now(tables, work);
    if !dropped {
        if tables.make_connection(&work.key, &work.connection) {
            return;
        }
        tables.count(Counter::ConnectionsFull);
    }
    release(tables, work);
}

/// Takes `work.connection` out of the numbers of open ones.
#[inline(always)]
fn release<T: Tables>(tables: &T, work: &Work) {
    for (at, key) in (0_u64..).zip(&work.connection.keys) {
        if at >= work.connection.count {
            return;
        }
        if let Some(open) = tables.find_open(key) {
            less(&open, tables);
        }
    }
}

#[inline(always)]
fn less<T: Tables>(open: &T::Cell, tables: &T) {
    let mut tries = 0;
    while tries < CAS_TRIES_MAX {
        let before = open.load();
        if before == 0 || open.swap_if(before, before.wrapping_sub(1)) {
            return;
        }
        tries += 1;
    }
    tables.count(Counter::LimitContended);
}

/// Whether the packet may end a counted connection.
#[inline(always)]
pub(super) fn may_end(work: &Work) -> bool {
    work.search.policy & POLICY_CONNECTIONS != 0
        && work.headers.tuple.protocol == TCP
        && work.search.no_ports == 0
}

/// Notes the FIN of an end, or with `both` the end of the connection.
#[inline(never)]
pub(super) fn end<T: Tables>(both: bool, tables: &T, work: &mut Work) {
    let side = flow(tables, work);
    let Some(ended) = tables.connection(&work.key, &mut work.connection) else { return };
    let own = if both { 3 } else { 1 << (side & 1) };
    let mut tries = 0;
    while tries < CAS_TRIES_MAX {
        let before = ended.load();
        let after = before | own;
        if before == after {
            return;
        }
        if ended.swap_if(before, after) {
            if after == 3 && tables.remove_connection(&work.key) {
                release(tables, work);
            }
            return;
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests;
