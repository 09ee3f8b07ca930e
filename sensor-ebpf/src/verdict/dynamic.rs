//! Verdicts of the agent on a flow or a client, from what it saw at layer 7.
//!
//! A verdict that is over, or whose action is to monitor, hides nothing: the look-up goes on.
//!
//! A verdict that ended its flow is over with it: a SYN begins another connection, which nobody judged, under ports that may come again at
//! once (an ended socket waits for nothing). Whom that lets in could as well have come from another port; to keep it out is a client's
//! verdict. One that drops leaves both sockets as they are, and anybody may send a SYN between them: it stays.

use super::{address::high, end::note, proof::TCP, rules::now};
use crate::{
    abi::{
        dynamic::{DropReason, Verdict},
        image::Action,
    },
    judge::canonical,
    packet::TcpFlags,
    tables::Tables,
    work::Work,
};

/// Whose verdict wants to drop the packet; `work.search` says which.
#[inline(never)]
pub(super) fn verdict<T: Tables>(tables: &T, work: &mut Work) -> Option<DropReason> {
    if work.search.no_ports == 0 {
        let _side = canonical(&work.headers.tuple, &mut work.key);
        let mut found = tables.flow_verdict(&work.key);
        if found.is_some_and(|found| found.action != Action::Drop as u32) && begins(work) {
            tables.forget_flow_verdict(&work.key);
            found = None;
        }
        // Whose drop it is called: the client is the end with the higher port, as far as one can tell from a packet.
        let end = u32::from(work.headers.tuple.src_port < work.headers.tuple.dst_port);
        if wants(found, end, DropReason::Flow, tables, work) {
            return Some(DropReason::Flow);
        }
    }
    for end in 0..2 {
        client(end, work);
        let found = tables.client_verdict(&work.client);
        if wants(found, end, DropReason::Client, tables, work) {
            return Some(DropReason::Client);
        }
    }
    None
}

/// Whether the packet asks for a connection.
#[inline(always)]
fn begins(work: &Work) -> bool {
    const BOTH: u8 = TcpFlags::SYN | TcpFlags::ACK;
    work.headers.tuple.protocol == TCP && work.headers.tcp_flags & BOTH == TcpFlags::SYN
}

#[inline(always)]
fn client(end: u32, work: &mut Work) {
    let tuple = &work.headers.tuple;
    let address = if end == 0 { &tuple.src } else { &tuple.dst };
    work.client = if work.headers.family == 4 {
        *address
    } else {
        (u128::from(high(address)) << 64).to_be_bytes()
    };
}

#[inline(always)]
fn wants<T: Tables>(
    verdict: Option<Verdict>,
    end: u32,
    reason: DropReason,
    tables: &T,
    work: &mut Work,
) -> bool {
    let Some(verdict) = verdict else { return false };
    if now(tables, work) >= verdict.until_ns {
        return false;
    }
    if verdict.action == Action::Monitor as u32 {
        work.search.monitored = verdict.hits + 1;
        note(reason, work);
        return false;
    }
    work.search.hits = verdict.hits;
    work.search.action = verdict.action;
    work.search.end = end;
    true
}
