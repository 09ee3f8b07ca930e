//! What is known of a packet's sender, as far as nobody can forge it.
//!
//! An address is *proven* when the kernel itself judged that it completed a handshake: a local socket has the connection, the segment
//! acknowledges the SYN-ACK that we saw, or bytes of the server that we saw. It stays so while it is in `PROVEN`. By UDP a client is *answered* once
//! the server has sent something back. Asked once for a packet, and only for senders that a limit names.

use super::{rules::now, server};
use crate::{
    judge::{HOOKS_OF_ONE_DEVICE, canonical},
    packet::TcpFlags,
    tables::Tables,
    tracker::{flow_flag, stream_flag},
    work::Work,
};

/// What is known of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its address may be forged.
    Unknown = 0,
    /// A UDP server has answered it.
    Answered = 1,
    /// It completed a handshake.
    Proven = 2,
}

/// Whether a connection is there, by a segment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Not that we know.
    No = 0,
    /// This segment completes the handshake.
    Fresh = 1,
    /// It was there before.
    Joined = 2,
}

/// A conversation by UDP ends after so long a silence of the server (as in nf_conntrack).
pub const CONVERSATION_NS: u64 = 180_000_000_000;
/// An answer is noted at most so often.
const NOTED_NS: u64 = 1_000_000_000;
/// What a client may have left unacknowledged of what we saw the server send.
const IN_FLIGHT_MAX: u32 = 1 << 20;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// What is known of the packet's sender.
#[inline(always)]
pub(super) fn standing<T: Tables>(tables: &T, work: &mut Work) -> Standing {
    if work.search.standing == 0 {
        let found = if is_proven(tables, work) { 2 } else { answered(tables, work) };
        work.search.standing = 1 + found;
    }
    match work.search.standing {
        3 => Standing::Proven,
        2 => Standing::Answered,
        _ => Standing::Unknown,
    }
}

#[inline(always)]
fn is_proven<T: Tables>(tables: &T, work: &mut Work) -> bool {
    if tables.proven(&work.headers.tuple.src) {
        return true;
    }
    if matches!(completion(tables, work), Completion::No) {
        return false;
    }
    let time = now(tables, work);
    tables.set_proven(&work.headers.tuple.src, time);
    true
}

/// Whether the packet's connection is there.
#[inline(always)]
pub(super) fn completion<T: Tables>(tables: &T, work: &mut Work) -> Completion {
    if work.search.completion == 0 {
        work.search.completion = 1 + ask(tables, work) as u32;
    }
    match work.search.completion {
        2 => Completion::Fresh,
        3 => Completion::Joined,
        _ => Completion::No,
    }
}

#[inline(never)]
fn ask<T: Tables>(tables: &T, work: &mut Work) -> Completion {
    const NEITHER: u8 = TcpFlags::SYN | TcpFlags::RST;
    let headers = &work.headers;
    if headers.tuple.protocol != TCP
        || work.search.no_ports != 0
        || headers.tcp_flags & (NEITHER | TcpFlags::ACK) != TcpFlags::ACK
    {
        return Completion::No;
    }
    let side = flow(tables, work);
    if tables.handshake(&work.key, &mut work.handshake)
        && work.handshake.server != side
        && work.headers.ack == work.handshake.server_isn.wrapping_add(1)
        && work.headers.tcp_flags & TcpFlags::FIN == 0
    {
        return Completion::Fresh;
    }
    if acknowledges(side, tables, work) || tables.established(work) {
        return Completion::Joined;
    }
    Completion::No
}

/// Whether the segment acknowledges what we saw the other end send: nobody else knows those numbers.
#[inline(always)]
fn acknowledges<T: Tables>(side: u32, tables: &T, work: &Work) -> bool {
    let Some(flow) = tables.take_flow(&work.key) else { return false };
    let [low, high] = &flow.streams;
    let other = if side == 0 { high } else { low };
    let unacknowledged = other.next_seq.wrapping_sub(work.headers.ack);
    let over = flow.common.has(flow_flag::CLOSED);
    let found = other.has(stream_flag::SEEN) && unacknowledged < IN_FLIGHT_MAX && !over;
    tables.put_flow(flow);
    found
}

/// Puts the key of the packet's flow, under the name that its first hook gave it, into `work.key`; gives the sender's side.
#[inline(always)]
pub(super) fn flow<T: Tables>(tables: &T, work: &mut Work) -> u32 {
    let renamed = tables.settings().hooks > HOOKS_OF_ONE_DEVICE
        && tables.alias(&work.headers.tuple, &mut work.tuple);
    if !renamed {
        work.tuple = work.headers.tuple;
    }
    canonical(&work.tuple, &mut work.key)
}

/// 1 when the packet is of the client of a conversation by UDP that the server has answered.
#[inline(always)]
fn answered<T: Tables>(tables: &T, work: &mut Work) -> u32 {
    if work.headers.tuple.protocol != UDP || work.search.no_ports != 0 {
        return 0;
    }
    let side = canonical(&work.headers.tuple, &mut work.key);
    if conversation(tables, work) {
        return u32::from(work.handshake.answered != 0 && work.handshake.server != side);
    }
    0
}

/// The packet is the first of a conversation by UDP: its sender is the client.
#[inline(always)]
pub(super) fn begin_conversation<T: Tables>(tables: &T, work: &mut Work) {
    let side = canonical(&work.headers.tuple, &mut work.key);
    work.handshake.time_ns = now(tables, work);
    work.handshake.server_isn = 0;
    work.handshake.client_next = 0;
    work.handshake.server = side ^ 1;
    work.handshake.answered = 0;
    tables.set_handshake(&work.key, &work.handshake);
}

/// Notes who is the server of the packet's conversation by UDP, if it belongs to one, and that it answers.
#[inline(never)]
pub(super) fn note_answer<T: Tables>(tables: &T, work: &mut Work) {
    if work.headers.tuple.protocol != UDP || work.search.no_ports != 0 {
        return;
    }
    let side = canonical(&work.headers.tuple, &mut work.key);
    if !conversation(tables, work) {
        return;
    }
    if work.handshake.server != side {
        work.search.server = server::NO;
        return;
    }
    work.search.server = server::YES;
    let time = now(tables, work);
    if work.handshake.answered == 0 || time.saturating_sub(work.handshake.time_ns) > NOTED_NS {
        work.handshake.answered = 1;
        work.handshake.time_ns = time;
        tables.set_handshake(&work.key, &work.handshake);
    }
}

/// Whether a conversation of this key goes on; it is in `work.handshake` then.
#[inline(always)]
fn conversation<T: Tables>(tables: &T, work: &mut Work) -> bool {
    tables.handshake(&work.key, &mut work.handshake)
        && now(tables, work).saturating_sub(work.handshake.time_ns) < CONVERSATION_NS
}

#[cfg(test)]
mod tests;
