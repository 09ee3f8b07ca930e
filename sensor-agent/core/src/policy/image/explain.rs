//! Which rule decides about a packet, why, and in which order rules are asked: read from an image as the kernel reads it.
//!
//! Order, as in the kernel: the agent's verdict on the flow, on the sender, on the receiver (as the caller found them in the live maps); block
//! rules of the sender's address, then of the receiver's; what one of these wants to drop is asked against failsafe, then allow; what
//! none wants is charged to the limits of the sender. Whether a limit is exceeded is state of the kernel and not in the image: limits are
//! named, and what would keep the packet if one were.

use std::net::IpAddr;

use ipnet::IpNet;
use sensor_ebpf::abi::{
    dynamic::{DropReason, Verdict},
    image::{Action, Failsafe, LimitKind, Lines, ListId, RULE_INCLUDE_SHARED, Rule, canary},
    policy::FailsafeSide,
};

use super::{
    explained::{Answer, Asked, Decided, End, Explained, Kept, Sighting, Skipped, Verdicts},
    view::View,
};

/// Decides about a packet as the kernel does.
pub fn explain<L: Lines + ?Sized>(view: &View<'_, L>, packet: &Sighting) -> Explained {
    let mut asked = Vec::new();
    if let Some((reason, verdict)) = verdict(packet) {
        let wanted = (reason, verdict.hits, verdict.action);
        return ends(view, packet, wanted, asked);
    }
    for end in [End::Source, End::Destination] {
        if let Some(block) = first(view, ListId::Block, end, packet, &mut asked) {
            let wanted = (DropReason::Block, block.hits, block.action.into());
            return ends(view, packet, wanted, asked);
        }
    }
    limits(view, packet, &mut asked);
    let charged = asked.iter().any(|asked| asked.answer == Answer::Charged);
    let kept = if charged { kept(view, packet, &mut asked) } else { None };
    Explained { decided: Decided::Pass, asked, kept }
}

/// The agent's verdict that wants to drop the packet.
fn verdict(packet: &Sighting) -> Option<(DropReason, Verdict)> {
    let Verdicts { flow, clients: [src, dst] } = packet.verdicts;
    // The flow's verdict is found by ports: a later fragment has none.
    let flow = flow.filter(|_| packet.ports.is_some());
    let found = [(DropReason::Flow, flow), (DropReason::Client, src), (DropReason::Client, dst)];
    found.into_iter().filter_map(|(reason, verdict)| Some((reason, verdict?))).find(
        |(_, verdict)| packet.now_ns < verdict.until_ns && verdict.action != Action::Monitor as u32,
    )
}

/// What becomes of a packet that somebody (reason, hits, action) wants to drop.
fn ends<L: Lines + ?Sized>(
    view: &View<'_, L>,
    packet: &Sighting,
    (reason, block, action): (DropReason, u32, u32),
    mut asked: Vec<Asked>,
) -> Explained {
    let kept = kept(view, packet, &mut asked);
    let decided = match kept {
        Some(Kept::Failsafe(entry)) => Decided::Failsafe { reason, block, entry },
        Some(Kept::Allow(allow)) => Decided::Allowed { reason, block, allow },
        None => {
            let resets = action == Action::Reset as u32;
            let reset = resets && packet.protocol == 6 && packet.ports.is_some();
            Decided::Blocked { reason, block, reset }
        }
    };
    Explained { decided, asked, kept: None }
}

fn kept<L: Lines + ?Sized>(
    view: &View<'_, L>,
    packet: &Sighting,
    asked: &mut Vec<Asked>,
) -> Option<Kept> {
    if let Some((entry, _)) = (0..).zip(view.failsafe()).find(|(_, kept)| keeps(kept, packet)) {
        return Some(Kept::Failsafe(entry));
    }
    let mut ends = [End::Source, End::Destination].into_iter();
    let allow = ends.find_map(|end| first(view, ListId::Allow, end, packet, asked))?;
    Some(Kept::Allow(allow.hits))
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

/// What a failsafe entry is for.
pub fn name(kept: &Failsafe) -> String {
    let bytes = kept.name.as_flattened().split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// The prefix of a failsafe entry.
pub fn network(kept: &Failsafe) -> Option<IpNet> {
    let address = std::net::Ipv6Addr::from(kept.addr);
    match address.to_ipv4_mapped().filter(|_| kept.prefix_len >= 96) {
        Some(four) => IpNet::new(four.into(), kept.prefix_len - 96).ok(),
        None => IpNet::new(address.into(), kept.prefix_len).ok(),
    }
}
