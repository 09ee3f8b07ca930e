//! The order of precedence, and what a rule's action comes to in this mode.

use super::{
    failsafe, fragment, limit, reset,
    rules::{self, End},
};
use crate::{
    abi::{
        counter::Counter,
        policy::{Action, RuleDirection},
        sample::Hook,
    },
    packet::{Outcome, PacketBytes, TcpFlags},
    tables::{List, Tables},
    work::Work,
};

const PROTO_TCP: u8 = 6;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Decision {
    /// It goes on.
    Pass,
    /// A block rule drops it (the bucket is counted by the caller).
    Blocked,
    /// A limit drops it.
    Limited,
    /// As `Blocked`, and both ends are told by a RST (only for a TCP segment that is not a fragment).
    BlockedReset,
    /// As `Limited`, with a RST.
    LimitedReset,
    /// A RST that we made, at a further hook: it goes on and is nobody's traffic.
    OwnReset,
}

impl Decision {
    /// The decision as the number that a separately verified function returns.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u32 {
        self as u32
    }

    /// Reads [`Decision::to_word`].
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Pass,
            1 => Self::Blocked,
            2 => Self::Limited,
            3 => Self::BlockedReset,
            4 => Self::LimitedReset,
            _ => Self::OwnReset,
        }
    }
}

/// Decides about a TCP or UDP packet or a later fragment. Look-ups that the settings say have no entries are skipped.
#[inline(always)]
pub fn decide<P: PacketBytes, T: Tables>(
    outcome: Outcome,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> Decision {
    let (blocks, limits) = (tables.settings().block_entries, tables.settings().limits);
    if blocks == 0 && limits == 0 {
        return Decision::Pass;
    }
    if work.headers.tcp_flags & TcpFlags::RST != 0
        && matches!(outcome, Outcome::Tcp)
        && tables.enforcing()
        && reset::is_own(tables.reset_key(), packet, &work.headers)
    {
        return Decision::OwnReset;
    }
    prepare(outcome, packet, tables, work);
    if matches!(outcome, Outcome::LaterFragment)
        && let Some(decision) = fragment::later(tables, work)
    {
        return decision;
    }
    let decision = listed(packet, tables, work);
    if work.headers.first_fragment != 0 {
        fragment::remember(decision, tables, work);
    }
    decision
}

#[inline(always)]
fn listed<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> Decision {
    if tables.settings().block_entries != 0 {
        let member = rules::first_lookup(List::Block, End::Source, tables, work);
        if member && blocked(tables, work) {
            return end(Decision::Blocked, tables, work);
        }
        let member = rules::first_lookup(List::Block, End::Destination, tables, work);
        if member && blocked(tables, work) {
            return end(Decision::Blocked, tables, work);
        }
    }
    if tables.settings().limits != 0 && limit::exceeds(packet, tables, work) {
        return end(Decision::Limited, tables, work);
    }
    Decision::Pass
}

#[inline(always)]
fn prepare<P: PacketBytes, T: Tables>(outcome: Outcome, packet: &P, tables: &T, work: &mut Work) {
    let hook = tables.hook(work);
    let search = &mut work.search;
    search.no_ports = u32::from(!matches!(outcome, Outcome::Tcp | Outcome::Udp));
    let ingress = hook == Hook::Ingress as u8 || hook == Hook::SocketIn as u8;
    search.direction =
        if ingress { RuleDirection::Ingress as u32 } else { RuleDirection::Egress as u32 };
    search.ifindex = tables.ifindex();
    search.packets = tables.wire_packets().max(1);
    search.bytes = packet.len();
}

/// Whether a block rule that drops applies; one that only monitors is counted.
#[inline(never)]
fn blocked<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let found = rules::resolve(List::Block, tables, work);
    let monitored = work.search.monitored;
    if monitored != 0 {
        let now = rules::now(tables, work);
        tables.hit(monitored, false, work.search.packets.into(), work.search.bytes.into(), now);
        if !found {
            tables.count(Counter::WouldBlock);
        }
    }
    found
}

/// A rule wants to drop: asks failsafe and the allowlist, the rule's action and the mode, and counts the hit.
#[inline(never)]
fn end<T: Tables>(wanted: Decision, tables: &T, work: &mut Work) -> Decision {
    let rule = work.search.found;
    if failsafe::is_failsafe(tables, work) {
        tables.count(Counter::Failsafe);
        return Decision::Pass;
    }
    if allowed(tables, work) {
        tables.count(Counter::Allowed);
        return Decision::Pass;
    }
    work.search.found = rule;
    let monitor = tables.rule(rule).is_none_or(|rule| rule.action == Action::Monitor as u8);
    let drop = !monitor && tables.enforcing();
    let now = rules::now(tables, work);
    tables.hit(rule, drop, work.search.packets.into(), work.search.bytes.into(), now);
    if drop {
        let reset = tables.rule(rule).is_some_and(|rule| rule.action == Action::Reset as u8);
        return if reset { told(wanted, work) } else { wanted };
    }
    tables.count(if matches!(wanted, Decision::Limited) {
        Counter::WouldLimit
    } else {
        Counter::WouldBlock
    });
    Decision::Pass
}

/// A drop that both ends are told of, where a RST can say so.
#[inline(always)]
fn told(wanted: Decision, work: &Work) -> Decision {
    let headers = &work.headers;
    if work.search.no_ports != 0
        || headers.tuple.protocol != PROTO_TCP
        || headers.first_fragment != 0
    {
        return wanted;
    }
    match wanted {
        Decision::Limited => Decision::LimitedReset,
        _ => Decision::BlockedReset,
    }
}

#[inline(never)]
fn allowed<T: Tables>(tables: &T, work: &mut Work) -> bool {
    if rules::first_lookup(List::Allow, End::Source, tables, work)
        && rules::resolve(List::Allow, tables, work)
    {
        return allow_hit(tables, work);
    }
    if rules::first_lookup(List::Allow, End::Destination, tables, work)
        && rules::resolve(List::Allow, tables, work)
    {
        return allow_hit(tables, work);
    }
    false
}

#[inline(always)]
fn allow_hit<T: Tables>(tables: &T, work: &mut Work) -> bool {
    let rule = work.search.found;
    if rule != rules::UNCONDITIONAL {
        let now = rules::now(tables, work);
        tables.hit(rule, false, work.search.packets.into(), work.search.bytes.into(), now);
    }
    true
}
