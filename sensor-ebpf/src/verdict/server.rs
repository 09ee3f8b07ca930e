//! Whether the sender of a packet is the server of its connection: limits are for clients, and what a server sends are its answers.
//!
//! Nothing that a client can write makes it a server. By TCP the SYN-ACK says who is (one of either end of a connection says nothing); where
//! the handshake was not seen, a local socket. By UDP who speaks first is the client. Who is neither is charged. Asked once for a
//! packet, and only for senders that a limit names.

use super::proof::{TCP, UDP, begin_conversation, flow};
use crate::{
    packet::TcpFlags,
    tables::Tables,
    tracker::flow_flag,
    work::{PORTS_KNOWN, Work},
};

/// Value of `Search::server`: not asked yet.
pub(super) const UNASKED: u32 = 0;
/// Value of `Search::server`: the sender is not known to be the server.
pub(super) const NO: u32 = 1;
/// Value of `Search::server`: it is.
pub(super) const YES: u32 = 2;

/// Whether the packet's sender is known to be the server.
#[inline(always)]
pub(super) fn sends<T: Tables>(tables: &T, work: &mut Work) -> bool {
    if work.search.server == UNASKED {
        work.search.server = if ask(tables, work) { YES } else { NO };
    }
    work.search.server == YES
}

#[inline(never)]
fn ask<T: Tables>(tables: &T, work: &mut Work) -> bool {
    const BOTH: u8 = TcpFlags::SYN | TcpFlags::ACK;
    if work.search.no_ports != PORTS_KNOWN {
        return false;
    }
    if work.headers.tuple.protocol == UDP {
        // What belongs to a conversation was told apart by `proof::note_answer`.
        begin_conversation(tables, work);
        return false;
    }
    if work.headers.tuple.protocol != TCP || work.headers.tcp_flags & BOTH == TcpFlags::SYN {
        return false;
    }
    let side = flow(tables, work);
    if let Some(flow) = tables.take_flow(&work.key) {
        let flags = flow.common.flags & (flow_flag::SERVER_LOW | flow_flag::SERVER_HIGH);
        tables.put_flow(flow);
        if flags != 0 {
            return flags == flow_flag::server(side);
        }
    } else if tables.handshake(&work.key, &mut work.handshake) && work.handshake.answered == 0 {
        return work.handshake.server == side;
    }
    tables.serves(work)
}

#[cfg(test)]
mod tests;
