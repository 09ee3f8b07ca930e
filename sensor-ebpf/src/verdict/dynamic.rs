//! Verdicts of the agent on a flow or a client, from what it saw at layer 7.
//!
//! A verdict that is over, or whose action is to monitor, hides nothing: the look-up goes on.

use super::{address::high, end::note, rules::now};
use crate::{
    abi::{
        dynamic::{DropReason, Verdict},
        image::Action,
    },
    judge::canonical,
    tables::Tables,
    work::Work,
};

/// Whose verdict wants to drop the packet; `work.search` says which.
#[inline(never)]
pub(super) fn verdict<T: Tables>(tables: &T, work: &mut Work) -> Option<DropReason> {
    if work.search.no_ports == 0 {
        let _side = canonical(&work.headers.tuple, &mut work.key);
        let found = tables.flow_verdict(&work.key);
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
