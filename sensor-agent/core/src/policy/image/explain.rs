//! Which rule decides about a packet, why, and in which order rules are asked: read from an image as the kernel reads it.
//!
//! Order, as in the kernel: block rules of the sender's address, then of the receiver's; what they want to drop is asked against failsafe,
//! then allow; what no block rule wants is charged to the limits of the sender. Whether a limit is exceeded is state of the kernel and not
//! in the image: limits are named.

use std::net::IpAddr;

use ipnet::IpNet;
use sensor_ebpf::abi::{
    image::{Action, Failsafe, LimitKind, Lines, ListId, RULE_INCLUDE_SHARED, Rule, canary},
    policy::{FailsafeSide, RuleDirection},
};

use super::view::View;

/// A packet as the kernel sees it at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Sender.
    pub src: IpAddr,
    /// Receiver, of the same family.
    pub dst: IpAddr,
    /// Source and destination port; none for a later fragment.
    pub ports: Option<(u16, u16)>,
    /// 6 or 17.
    pub protocol: u8,
    /// Into the host or out of it.
    pub direction: RuleDirection,
    /// Index of the interface; none when it is not known (then rules of one interface do not apply).
    pub ifindex: Option<u32>,
    /// `CLOCK_BOOTTIME`, ns.
    pub now_ns: u64,
    /// Whether many clients share the sender's, and the receiver's address.
    pub shared: (bool, bool),
}

/// The end of a packet that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its sender.
    Source,
    /// Its receiver.
    Destination,
}

/// Why a rule does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Another port, or a packet without ports.
    Port,
    /// Another protocol.
    Protocol,
    /// The other direction.
    Direction,
    /// Another interface.
    Interface,
    /// Outside of the rule's percentage.
    Percent,
    /// Its time has not come.
    NotYet,
    /// Its time is over.
    Expired,
    /// Many clients share the address, and the rule is not for those.
    Shared,
    /// The agent counts it, not the kernel.
    ByAgent,
}

/// What came of asking a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does not apply.
    Skipped(Skipped),
    /// It applies and only counts.
    Monitors,
    /// It decides.
    Decides,
    /// A limit: the packet is charged to it. Behind it only limits of the same prefix are charged.
    Charged,
    /// A limit that only counts is charged.
    ChargedMonitor,
}

/// One rule that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its list.
    pub list: ListId,
    /// The end of the packet.
    pub end: End,
    /// The entry that led to it.
    pub prefix: IpNet,
    /// Number of the kernel rule, and of its hits.
    pub rule: u32,
    /// See `rule`; says which rule of the policy it is.
    pub hits: u32,
    /// A limit's kind.
    pub limit: Option<u8>,
    /// What came of it.
    pub answer: Answer,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// No rule wants to drop it; limits it is charged to are in the list of what was asked.
    Pass,
    /// A block rule (its hits) wants to drop it, and this failsafe entry keeps it.
    Failsafe {
        /// Hits of the block rule.
        block: u32,
        /// Number of the entry, from 0.
        entry: u32,
    },
    /// A block rule wants to drop it, and this allow rule keeps it.
    Allowed {
        /// Hits of the block rule.
        block: u32,
        /// Hits of the allow rule.
        allow: u32,
    },
    /// Dropped in mode enforce.
    Blocked {
        /// Hits of the block rule.
        block: u32,
        /// Both ends are told.
        reset: bool,
    },
}

/// A decision with the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The decision.
    pub decided: Decided,
    /// Every rule that was asked, in order.
    pub asked: Vec<Asked>,
}

/// Decides about a packet as the kernel does.
pub fn explain<L: Lines + ?Sized>(view: &View<'_, L>, packet: &Sighting) -> Explained {
    let mut asked = Vec::new();
    for end in [End::Source, End::Destination] {
        let Some(block) = first(view, ListId::Block, end, packet, &mut asked) else { continue };
        if let Some((entry, _)) = (0..).zip(view.failsafe()).find(|(_, kept)| keeps(kept, packet)) {
            return Explained { decided: Decided::Failsafe { block: block.hits, entry }, asked };
        }
        let allow = [End::Source, End::Destination]
            .into_iter()
            .find_map(|end| first(view, ListId::Allow, end, packet, &mut asked));
        let resets = block.action == Action::Reset as u8;
        let reset = resets && packet.protocol == 6 && packet.ports.is_some();
        let block = block.hits;
        let decided = allow.map_or(Decided::Blocked { block, reset }, |allow| Decided::Allowed {
            block,
            allow: allow.hits,
        });
        return Explained { decided, asked };
    }
    limits(view, packet, &mut asked);
    Explained { decided: Decided::Pass, asked }
}

/// The first rule of a list that applies and does not only count.
fn first<L: Lines + ?Sized>(
    view: &View<'_, L>,
    list: ListId,
    end: End,
    packet: &Sighting,
    asked: &mut Vec<Asked>,
) -> Option<Rule> {
    for (prefix, number) in view.entries(list, address(end, packet)) {
        for (rule, kernel) in view.rules(number) {
            let answer = match skipped(list, &kernel, end, packet) {
                Some(why) => Answer::Skipped(why),
                None if list == ListId::Block && kernel.action == Action::Monitor as u8 => {
                    Answer::Monitors
                }
                None => Answer::Decides,
            };
            asked.push(Asked { list, end, prefix, rule, hits: kernel.hits, limit: None, answer });
            if answer == Answer::Decides {
                return Some(kernel);
            }
        }
    }
    None
}

fn limits<L: Lines + ?Sized>(view: &View<'_, L>, packet: &Sighting, asked: &mut Vec<Asked>) {
    let (list, end) = (ListId::Limit, End::Source);
    for (prefix, number) in view.entries(list, packet.src) {
        let mut ends = false;
        for (_, limit) in view.limits(number) {
            let Some(kernel) = view.rule(limit.rule) else { continue };
            let answer = match skipped(list, kernel, end, packet) {
                Some(why) => Answer::Skipped(why),
                None if limit.by_agent != 0 => Answer::Skipped(Skipped::ByAgent),
                None if kernel.action == Action::Monitor as u8 => Answer::ChargedMonitor,
                None => Answer::Charged,
            };
            ends |= answer == Answer::Charged;
            let (rule, hits) = (limit.rule, kernel.hits);
            asked.push(Asked { list, end, prefix, rule, hits, limit: Some(limit.kind), answer });
        }
        if ends {
            return;
        }
    }
}

/// A limit's kind in words.
pub fn kind_of_limit(kind: u8) -> &'static str {
    [
        (LimitKind::Packets, "packets"),
        (LimitKind::Bytes, "bytes"),
        (LimitKind::Connections, "new connections"),
        (LimitKind::Concurrent, "connections"),
        (LimitKind::Requests, "requests"),
    ]
    .into_iter()
    .find(|(known, _)| *known as u8 == kind)
    .map_or("unknown", |(_, name)| name)
}

const fn address(end: End, packet: &Sighting) -> IpAddr {
    match end {
        End::Source => packet.src,
        End::Destination => packet.dst,
    }
}

fn skipped(list: ListId, rule: &Rule, end: End, packet: &Sighting) -> Option<Skipped> {
    let (port, shared) = match end {
        End::Source => (packet.ports.map(|(_, dst)| dst), packet.shared.0),
        End::Destination => (packet.ports.map(|(src, _)| src), packet.shared.1),
    };
    let any_port = rule.port_min == 0 && rule.port_max == u16::MAX;
    let range = rule.port_min..=rule.port_max;
    let in_share = || {
        let (high, low) = match address(end, packet) {
            IpAddr::V4(address) => (0, u64::from(address.to_bits())),
            IpAddr::V6(address) => ((address.to_bits() >> 64) as u64, 0),
        };
        rule.share == u32::MAX || canary(rule.salt, high, low) < rule.share
    };
    let fits = |wanted: u32, own: Option<u32>| wanted == 0 || own == Some(wanted);
    let conditions = [
        (Skipped::Port, any_port || port.is_some_and(|port| range.contains(&port))),
        (Skipped::Protocol, rule.protocol == 0 || rule.protocol == packet.protocol),
        (Skipped::Direction, rule.direction == 0 || rule.direction == packet.direction as u8),
        (Skipped::Interface, fits(rule.ifindex, packet.ifindex)),
        (Skipped::Percent, in_share()),
        (Skipped::NotYet, packet.now_ns >= rule.starts_ns),
        (Skipped::Expired, rule.expires_ns == 0 || packet.now_ns < rule.expires_ns),
        (
            Skipped::Shared,
            list == ListId::Allow || !shared || rule.flags & RULE_INCLUDE_SHARED != 0,
        ),
    ];
    conditions.into_iter().find(|(_, holds)| !holds).map(|(why, _)| why)
}

fn keeps(kept: &Failsafe, packet: &Sighting) -> bool {
    if kept.protocol != 0 && kept.protocol != packet.protocol
        || kept.direction != 0 && kept.direction != packet.direction as u8
    {
        return false;
    }
    let any_port = kept.port_min == 0 && kept.port_max == u16::MAX;
    let named = |peer: IpAddr, peer_port: Option<u16>, our_port: Option<u16>| {
        let port = if kept.side == FailsafeSide::Ours as u8 { our_port } else { peer_port };
        let fits =
            any_port || port.is_some_and(|port| (kept.port_min..=kept.port_max).contains(&port));
        fits && network(kept).is_some_and(|net| net.contains(&peer))
    };
    let (src_port, dst_port) = packet.ports.unzip();
    named(packet.src, src_port, dst_port) || named(packet.dst, dst_port, src_port)
}

/// The prefix of a failsafe entry.
pub fn network(kept: &Failsafe) -> Option<IpNet> {
    let address = std::net::Ipv6Addr::from(kept.addr);
    match address.to_ipv4_mapped().filter(|_| kept.prefix_len >= 96) {
        Some(four) => IpNet::new(four.into(), kept.prefix_len - 96).ok(),
        None => IpNet::new(address.into(), kept.prefix_len).ok(),
    }
}
