//! The order of precedence.

use super::{
    connections, dynamic,
    end::{end, monitored, note},
    fragment::{self, First},
    limit,
    lookup::{End, resolve},
    proof, repeat, requests, reset,
};
use crate::{
    abi::{
        dynamic::DropReason,
        image::ListId,
        policy::RuleDirection,
        sample::Hook,
        settings::{POLICY_BLOCK4, POLICY_BLOCK6, POLICY_LIMIT4, POLICY_LIMIT6, POLICY_REQUESTS},
    },
    packet::{Outcome, PacketBytes, TcpFlags},
    tables::Tables,
    work::{NO_PORTS, PORTS_KNOWN, PORTS_UNKNOWN, Work},
};

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Decision {
    /// It goes on.
    Pass = 0,
    /// A block rule or a verdict of the agent drops it (the bucket is counted by the caller).
    Blocked = 1,
    /// A limit drops it.
    Limited = 2,
    /// As `Blocked`, and both ends are told by a RST (only for a TCP segment that is not a fragment).
    BlockedReset = 3,
    /// As `Limited`, with a RST.
    LimitedReset = 4,
    /// A RST that we made, at a further hook: it goes on and is nobody's traffic.
    OwnReset = 5,
}

impl Decision {
    /// The decision as the number that a separately verified function returns.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u32 {
        self as u32
    }

    /// Reads [`Decision::to_word`]; any other number is [`Self::Pass`].
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Blocked,
            2 => Self::Limited,
            3 => Self::BlockedReset,
            4 => Self::LimitedReset,
            5 => Self::OwnReset,
            _ => Self::Pass,
        }
    }
}

/// Decides about a TCP or UDP packet or a later fragment that [`super::concerns`] the policy.
#[inline(always)]
pub fn decide<P: PacketBytes, T: Tables>(
    outcome: Outcome,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> Decision {
    if work.headers.tcp_flags & TcpFlags::RST != 0
        && matches!(outcome, Outcome::Tcp)
        && tables.enforcing()
        && reset::is_own(tables.reset_key(), packet, &work.headers)
    {
        return Decision::OwnReset;
    }
    if T::LIMITS && tables.enforcing() && repeat::drops(outcome, packet, tables, work) {
        return Decision::Blocked;
    }
    prepare(outcome, packet, tables, work);
    let mut rules = true;
    if matches!(outcome, Outcome::LaterFragment) {
        match fragment::later(tables, work) {
            First::Dropped(decision) => return decision,
            First::Passed => rules = false,
            First::Unknown => {}
        }
    }
    let flags = work.headers.tcp_flags;
    if T::LIMITS && flags & (TcpFlags::FIN | TcpFlags::RST) != 0 && connections::may_end(work) {
        connections::end(flags & TcpFlags::RST != 0, tables, work);
    }
    let reason = wanted(rules, packet, tables, work);
    let decision = match reason {
        Some(reason) => end(reason, tables, work),
        None => Decision::Pass,
    };
    if T::LIMITS && matches!(decision, Decision::Blocked) && matches!(reason, Some(repeat::REASON))
    {
        repeat::remember(outcome, tables, work);
    }
    if T::LIMITS
        && matches!(decision, Decision::BlockedReset | Decision::LimitedReset)
        && connections::may_end(work)
    {
        connections::end(true, tables, work);
    }
    if work.headers.first_fragment != 0 {
        fragment::remember(decision, tables, work);
    }
    if work.search.noted_count != 0 {
        monitored(decision, tables, work);
    }
    decision
}

/// Who wants to drop the packet: the rule is `work.search.hits` and `work.search.action`, the end `work.search.end`. Without `rules` only
/// limits are asked.
#[inline(always)]
fn wanted<P: PacketBytes, T: Tables>(
    rules: bool,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> Option<DropReason> {
    if rules
        && tables.settings().verdicts != 0
        && let Some(reason) = dynamic::verdict(tables, work)
    {
        return Some(reason);
    }
    let policy = work.search.policy;
    let (block, limit) = if work.headers.family == 4 {
        (policy & POLICY_BLOCK4, policy & POLICY_LIMIT4)
    } else {
        (policy & POLICY_BLOCK6, policy & POLICY_LIMIT6)
    };
    if rules
        && block != 0
        && (blocked(End::Source, tables, work) || blocked(End::Destination, tables, work))
    {
        return Some(DropReason::Block);
    }
    let request = policy & POLICY_REQUESTS != 0 && requests::has_payload(work);
    if T::LIMITS && (limit != 0 || request) {
        proof::note_answer(tables, work);
        if limit::exceeds(packet, tables, work) {
            return Some(limit::reason(work));
        }
        requests::settle(tables, work);
    }
    None
}

#[inline(always)]
fn prepare<P: PacketBytes, T: Tables>(outcome: Outcome, packet: &P, tables: &T, work: &mut Work) {
    let hook = tables.hook(work);
    let search = &mut work.search;
    search.no_ports = match outcome {
        Outcome::Tcp | Outcome::Udp => PORTS_KNOWN,
        Outcome::ExtensionLimit => PORTS_UNKNOWN,
        _ => NO_PORTS,
    };
    search.noted_count = 0;
    search.exempt = 0;
    search.server = 0;
    search.until_ns = u64::MAX;
    let ingress = hook == Hook::Ingress as u8 || hook == Hook::SocketIn as u8;
    search.direction =
        if ingress { RuleDirection::Ingress as u32 } else { RuleDirection::Egress as u32 };
    search.ifindex = tables.ifindex();
    search.packets = tables.wire_packets().max(1);
    search.would_counted = 0;
    search.bytes = packet.len();
}

/// Whether a block rule that drops applies; one that only monitors is counted.
#[inline(never)]
fn blocked<T: Tables>(end: End, tables: &T, work: &mut Work) -> bool {
    if !tables.begin(ListId::Block, end, work) {
        return false;
    }
    let found = resolve(ListId::Block, tables, work);
    note(DropReason::Block, work);
    found
}
