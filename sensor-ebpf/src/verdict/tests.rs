//! The verdict against a model written from the terms of `abi::policy`, and GCRA against a counted bucket.

use std::{vec, vec::Vec};

use proptest::{collection, prelude::*};

use super::{Charge, Cost, Decision, TatCell, charge};
use crate::{
    abi::{
        counter::Counter,
        image::{Action, BYTES_SHIFT, Failsafe, Limit, LimitKind, ListId, Rule},
        policy::{FailsafeSide, LIMIT_FRACTION_BITS, RuleDirection},
        sample::Hook,
    },
    packet::{Link, TcpFlags},
    testing::{Host, Segment, image::Draft},
};

fn mapped(a: u8, b: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, a, b]
}

pub(super) fn segment(src: (u8, u8, u16), dst: (u8, u8, u16)) -> Segment {
    Segment {
        src: [10, 0, src.0, src.1],
        dst: [10, 0, dst.0, dst.1],
        src_port: src.2,
        dst_port: dst.2,
        seq: 1,
        ack: 1,
        flags: TcpFlags::ACK,
        payload: Vec::new(),
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    (
        prop_oneof![Just((0u16, u16::MAX)), Just((80, 80)), Just((1, 100))],
        prop_oneof![3 => Just(Action::Drop), 1 => Just(Action::Monitor), 1 => Just(Action::Reset)],
        prop_oneof![Just(0u8), Just(6), Just(17)],
        prop_oneof![
            Just(RuleDirection::Both),
            Just(RuleDirection::Ingress),
            Just(RuleDirection::Egress)
        ],
        prop_oneof![Just(0u64), Just(1), Just(u64::MAX)],
        prop_oneof![Just(0u32), Just(1), Just(2)],
    )
        .prop_map(
            |((port_min, port_max), action, protocol, direction, expires_ns, ifindex)| Rule {
                expires_ns,
                ifindex,
                share: u32::MAX,
                port_min,
                port_max,
                action: action as u8,
                protocol,
                direction: direction as u8,
                ..Rule::default()
            },
        )
}

/// Prefixes of 10.0/16 and longer, so that they nest.
fn prefix() -> impl Strategy<Value = (u8, u8, u8)> {
    (0u8..3, 0u8..4, prop_oneof![Just(16u8), Just(24), Just(30), Just(31), Just(32)])
}

/// A prefix of a list with its rule, `None` for "without condition".
struct Listed {
    at: (u8, u8, u8),
    rule: Option<Rule>,
}

fn covers(prefix: (u8, u8, u8), address: (u8, u8)) -> bool {
    let whole = |a: u8, b: u8| (u32::from(a) << 8) | u32::from(b);
    let shift = 32 - u32::from(prefix.2);
    whole(prefix.0, prefix.1) >> shift == whole(address.0, address.1) >> shift
}

fn applies(rule: &Rule, host: &Host, port: u16) -> bool {
    let direction = match host.hook {
        Hook::Ingress | Hook::SocketIn => RuleDirection::Ingress,
        Hook::Egress | Hook::SocketOut => RuleDirection::Egress,
    };
    (rule.port_min..=rule.port_max).contains(&port)
        && (rule.protocol == 0 || rule.protocol == 6)
        && (rule.direction == 0 || rule.direction == direction as u8)
        && (rule.ifindex == 0 || rule.ifindex == host.ifindex)
        && (rule.expires_ns == 0 || host.now_ns < rule.expires_ns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn blocked_as_the_model_says(
        blocks in collection::btree_map(prefix(), rule(), 0..6),
        allows in collection::btree_map(prefix(), proptest::option::of(rule()), 0..2),
        failsafe in proptest::option::weighted(0.3, (prefix(), any::<bool>())),
        src in (0u8..3, 0u8..4), dst in (0u8..3, 0u8..4),
        ports in prop_oneof![Just((4000u16, 80u16)), Just((80, 4000)), Just((22, 4000))],
        enforce in any::<bool>(), egress in any::<bool>(), ifindex in 1u32..3,
    ) {
        let mut host = Host { enforce, ifindex, ..Host::default() };
        let mut draft = Draft::default();
        host.hook = if egress { Hook::Egress } else { Hook::Ingress };
        // Prefixes that are the same network are one entry of a trie.
        let mut networks = Vec::new();
        let mut blocked = Vec::new();
        for (at, rule) in &blocks {
            let network = ((u32::from(at.0) << 8 | u32::from(at.1)) >> (32 - u32::from(at.2)), at.2);
            if networks.contains(&network) { continue; }
            networks.push(network);
            draft.rules.push(*rule);
            let number = u32::try_from(draft.rules.len()).unwrap() - 1;
            draft.list(ListId::Block, mapped(at.0, at.1), at.2 + 96, number);
            blocked.push((*at, *rule));
        }
        let mut allowed = Vec::new();
        for (at, rule) in &allows {
            let everything = Rule { port_max: u16::MAX, share: u32::MAX, ..Rule::default() };
            draft.rules.push(rule.unwrap_or(everything));
            let number = u32::try_from(draft.rules.len()).unwrap() - 1;
            if allowed.is_empty() {
                draft.list(ListId::Allow, mapped(at.0, at.1), at.2 + 96, number);
                allowed.push(Listed { at: *at, rule: *rule });
            }
        }
        if let Some((at, peer)) = failsafe {
            let side = if peer { FailsafeSide::Peer } else { FailsafeSide::Ours };
            draft.failsafe.push(Failsafe {
                addr: mapped(at.0, at.1), prefix_len: at.2 + 96, side: side as u8,
                protocol: 6, port_min: 22, port_max: 80, ..Failsafe::default()
            });
        }
        host.install(&draft);

        let matches = |rules: &[Listed], block: bool| {
            [(src, ports.1), (dst, ports.0)].iter().any(|(address, port)| {
                rules.iter().any(|Listed { at, rule }| covers(*at, *address) && rule.is_none_or(|rule| {
                    applies(&rule, &host, *port) && !(block && rule.action == Action::Monitor as u8)
                }))
            })
        };
        let blocked: Vec<_> = blocked.into_iter().map(|(at, rule)| Listed { at, rule: Some(rule) }).collect();
        let safe = failsafe.is_some_and(|(at, peer)| {
            [(src, ports.0, ports.1), (dst, ports.1, ports.0)].iter().any(|(address, theirs, ours)| {
                covers(at, *address) && (22..=80).contains(if peer { theirs } else { ours })
            })
        });
        let would = matches(&blocked, true) && !matches(&allowed, false) && !safe;
        let packet = segment((src.0, src.1, ports.0), (dst.0, dst.1, ports.1));
        let decision = host.see(Link::Ethernet, &packet.frame());
        prop_assert_eq!(matches!(decision, Decision::Blocked | Decision::BlockedReset), would && enforce);
        prop_assert_eq!(host.counter(Counter::Blocked), u64::from(would && enforce));
        if would && !enforce {
            prop_assert_eq!(host.counter(Counter::WouldBlock), 1);
        }
    }

    #[test]
    fn gcra_admits_what_a_refilled_bucket_admits(
        period in 1u64..1000, burst in 1u64..20, gaps in collection::vec(0u64..3000, 1..200),
    ) {
        let increment = period << LIMIT_FRACTION_BITS;
        let (cost, tolerance) = (Cost { needs: increment, takes: increment }, increment * burst);
        let cell = Plain(core::cell::Cell::new(0));
        // Bucket in units of time: one packet costs `period`, it holds `burst` of them.
        let (mut level, mut last, mut now) = (period * burst, 0u64, 1_000_000u64);
        for gap in gaps {
            now += gap;
            level = (level + now - last).min(period * burst);
            last = now;
            let expected = level >= period;
            if expected { level -= period; }
            let found = charge(&cell, cost, tolerance, now << LIMIT_FRACTION_BITS);
            prop_assert_eq!(found, if expected { Charge::Admitted } else { Charge::Exceeded });
        }
    }
}

struct Plain(core::cell::Cell<u64>);

impl TatCell for Plain {
    fn load(&self) -> u64 {
        self.0.get()
    }
    fn swap_if(&self, old: u64, new: u64) -> bool {
        let same = self.0.get() == old;
        if same {
            self.0.set(new);
        }
        same
    }
}

/// In units of a limit: what each thing costs in these tests.
const SECOND: u64 = 1_000_000_000 << LIMIT_FRACTION_BITS;

pub(super) fn limited(kind: LimitKind, burst: u64) -> Host {
    let mut host = Host { enforce: true, ..Host::default() };
    let mut draft = Draft::default();
    draft.rules.push(Rule {
        port_max: u16::MAX,
        share: u32::MAX,
        hits: 1,
        action: Action::Drop as u8,
        ..Rule::default()
    });
    let shift = if matches!(kind, LimitKind::Bytes) { BYTES_SHIFT } else { 0 };
    draft.limits.push(Limit {
        increment: SECOND << shift,
        tolerance: if matches!(kind, LimitKind::Concurrent) { burst } else { SECOND * burst },
        rule: 1,
        kind: kind as u8,
        prefix_v4: 32,
        prefix_v6: 64,
        ..Limit::default()
    });
    draft.list(ListId::Limit, mapped(0, 0), 112, 1);
    host.install(&draft);
    host
}

#[test]
fn packets_over_the_limit_are_dropped_per_client_and_by_wire_packets() {
    let mut host = limited(LimitKind::Packets, 10);
    host.wire_packets = 4;
    let frame = segment((0, 1, 4000), (0, 2, 80)).frame();
    let seen: Vec<Decision> = (0..4).map(|_| host.see(Link::Ethernet, &frame)).collect();
    assert_eq!(seen, [Decision::Pass, Decision::Pass, Decision::Limited, Decision::Limited]);
    // Nobody knows yet whether these are two clients; one of another network is one for sure.
    let other = segment((0, 3, 4000), (0, 2, 80)).frame();
    assert_eq!(host.see(Link::Ethernet, &other), Decision::Limited);
    let other = segment((1, 3, 4000), (0, 2, 80)).frame();
    assert_eq!(host.see(Link::Ethernet, &other), Decision::Pass);
    assert_eq!(host.hits.borrow().get(&1).unwrap().packets, 12);
}

#[test]
fn a_super_segment_over_the_burst_passes_when_the_allowance_is_whole_and_is_paid_for() {
    let mut host = limited(LimitKind::Packets, 10);
    host.wire_packets = 45;
    let frame = segment((0, 1, 4000), (0, 2, 80)).frame();
    let mut passed = 0;
    for _ in 0..100 {
        passed += u32::from(host.see(Link::Ethernet, &frame) == Decision::Pass) * 45;
        host.now_ns += 1_000_000_000;
    }
    // 10 at once and 100 in 100 s: two skbs, and the one that began within the allowance.
    assert_eq!(passed, 135);
}

#[test]
fn bytes_are_ip_bytes_and_the_limit_is_theirs() {
    let host = limited(LimitKind::Bytes, 400);
    let frame = segment((0, 1, 4000), (0, 2, 80)).frame();
    // The IP packet has 40 bytes, and the frame 60 with its padding: what is behind the IP header counts.
    let passed = (0..20).filter(|_| host.see(Link::Ethernet, &frame) == Decision::Pass).count();
    assert_eq!(passed, 400 / 46);
}

#[test]
fn a_packet_at_two_hooks_is_charged_once_and_a_repeat_again() {
    let mut host = limited(LimitKind::Packets, 3);
    host.settings.hooks = 2;
    let frame = segment((0, 1, 4000), (0, 2, 80)).frame();
    let mut decisions = vec![];
    for _ in 0..4 {
        for ifindex in [1, 2] {
            host.ifindex = ifindex;
            decisions.push(host.see(Link::Ethernet, &frame));
        }
    }
    assert_eq!(decisions.iter().filter(|d| **d == Decision::Pass).count(), 7, "{decisions:?}");
    assert_eq!(host.counter(Counter::Limited), 1);
}

#[test]
fn a_retransmitted_syn_is_one_connection() {
    let mut host = limited(LimitKind::Connections, 2);
    let mut syn = segment((0, 1, 4000), (0, 2, 80));
    syn.flags = TcpFlags::SYN;
    for _ in 0..5 {
        assert_eq!(host.see(Link::Ethernet, &syn.frame()), Decision::Pass);
        host.now_ns += 1_000_000;
    }
    syn.seq = 99;
    assert_eq!(host.see(Link::Ethernet, &syn.frame()), Decision::Pass);
    syn.seq = 100;
    assert_eq!(host.see(Link::Ethernet, &syn.frame()), Decision::Limited);
}

#[test]
fn a_syn_that_comes_again_after_its_connection_is_a_new_connection() {
    let mut host = limited(LimitKind::Connections, 2);
    let client = |seq, flags| Segment { seq, flags, ..segment((0, 1, 4000), (0, 2, 80)) };
    let mut see = |segment: &Segment| {
        host.now_ns += 1_000_000;
        host.see(Link::Ethernet, &segment.frame())
    };
    let syn = client(100, TcpFlags::SYN);
    let end = client(101, TcpFlags::FIN | TcpFlags::ACK);
    for isn in [500, 900] {
        let answer = Segment {
            flags: TcpFlags::SYN | TcpFlags::ACK,
            seq: isn,
            ack: 101,
            ..segment((0, 2, 80), (0, 1, 4000))
        };
        let end = Segment { ack: isn + 1, ..end.clone() };
        // Each SYN comes again once, as if it was lost on its way.
        let begun = [see(&syn), see(&syn), see(&answer), see(&end)];
        assert_eq!(begun, [Decision::Pass; 4]);
    }
    assert_eq!(see(&syn), Decision::Limited, "the same addresses, ports and number a third time");
}

#[test]
fn later_fragments_take_the_verdict_of_their_first() {
    let mut host = Host { enforce: true, ..Host::default() };
    let mut draft = Draft::default();
    draft.rules.push(Rule {
        port_min: 80,
        port_max: 80,
        share: u32::MAX,
        action: Action::Drop as u8,
        ..Rule::default()
    });
    draft.list(ListId::Block, mapped(0, 1), 128, 1);
    host.install(&draft);
    let mut first = segment((0, 1, 4000), (0, 2, 80)).frame();
    let mut later = first.clone();
    first[20] = 0x20;
    later[20] = 0;
    later[21] = 5;
    assert_eq!(host.see(Link::Ethernet, &later), Decision::Pass);
    assert_eq!(host.counter(Counter::FragmentUnknown), 1);
    assert_eq!(host.see(Link::Ethernet, &first), Decision::Blocked);
    assert_eq!(host.see(Link::Ethernet, &later), Decision::Blocked);
}

fn syn(from: (u8, u8, u16), seq: u32) -> Segment {
    Segment { flags: TcpFlags::SYN, seq, ..segment(from, (9, 2, 80)) }
}

#[test]
fn a_refused_syn_is_charged_again_and_passes_when_there_is_room() {
    let mut host = limited(LimitKind::Connections, 1);
    assert_eq!(host.see(Link::Ethernet, &syn((0, 1, 4000), 1).frame()), Decision::Pass);
    let refused = syn((0, 1, 4001), 2).frame();
    for _ in 0..3 {
        assert_eq!(host.see(Link::Ethernet, &refused), Decision::Limited);
        host.now_ns += 100_000_000;
    }
    host.now_ns += 1_000_000_000;
    assert_eq!(host.see(Link::Ethernet, &refused), Decision::Pass);
    assert_eq!(host.see(Link::Ethernet, &syn((0, 1, 4002), 3).frame()), Decision::Limited);
}

#[test]
fn a_fixed_sequence_number_is_charged_for_each_port_and_client() {
    let host = limited(LimitKind::Connections, 2);
    let passed = (0..10)
        .filter(|at| host.see(Link::Ethernet, &syn((0, 1, 4000 + at), 7).frame()) == Decision::Pass)
        .count();
    assert_eq!(passed, 2);
}

#[test]
fn a_retransmitted_syn_with_a_new_timestamp_is_one_connection_behind_address_translation_too() {
    let mut host = limited(LimitKind::Connections, 1);
    host.settings.hooks = 4;
    for (at, wait) in (0_u8..).zip([0, 1, 2, 4, 8]) {
        host.now_ns += wait * 1_000_000_000;
        for (ifindex, to) in [(1, (9, 2, 80)), (2, (9, 3, 8080))] {
            host.ifindex = ifindex;
            let syn = Segment { flags: TcpFlags::SYN, ..segment((0, 1, 4000), to) };
            // MSS, SACK permitted, timestamps (RFC 7323), window scale.
            let options = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, at, 0, 0, 0, 0, 1, 3, 3, 7];
            let frame = with_options(&syn, &options);
            assert_eq!(host.see(Link::Ethernet, &frame), Decision::Pass, "sent {at} times");
        }
    }
    // One a second came back meanwhile, and no more than one fits.
    host.ifindex = 1;
    let other = |port| Segment { flags: TcpFlags::SYN, ..segment((0, 1, port), (9, 2, 80)) };
    assert_eq!(host.see(Link::Ethernet, &other(4001).frame()), Decision::Pass);
    assert_eq!(host.see(Link::Ethernet, &other(4002).frame()), Decision::Limited);
}

/// The segment with TCP options: a whole number of words.
fn with_options(segment: &Segment, options: &[u8]) -> Vec<u8> {
    let mut frame = segment.frame();
    frame.truncate(54);
    frame.extend(options);
    frame[17] += u8::try_from(options.len()).unwrap();
    frame[46] += u8::try_from(options.len() / 4).unwrap() << 4;
    frame
}

/// A fragment of a packet of a client: IP flags and offset in units of eight bytes.
fn fragment(from: (u8, u8, u16), id: u8, more: bool, offset: u8) -> Vec<u8> {
    let mut frame = segment(from, (9, 2, 80)).frame();
    frame[19] = id;
    frame[20] = u8::from(more) << 5;
    frame[21] = offset;
    frame
}

#[test]
fn later_fragments_of_a_first_that_passed_are_charged_to_the_limits_of_its_ports() {
    let mut host = Host { enforce: true, ..Host::default() };
    let mut draft = Draft::default();
    let of_port = |port, hits| Rule {
        port_min: port,
        port_max: port,
        share: u32::MAX,
        hits,
        action: Action::Reset as u8,
        ..Rule::default()
    };
    draft.rules.extend([of_port(80, 1), of_port(81, 2)]);
    for rule in [1, 2] {
        draft.limits.push(Limit {
            increment: SECOND,
            tolerance: SECOND * if rule == 1 { 5 } else { 1 },
            rule,
            next: if rule == 1 { 2 } else { 0 },
            state: rule,
            kind: LimitKind::Packets as u8,
            prefix_v4: 32,
            ..Limit::default()
        });
    }
    draft.list(ListId::Limit, mapped(0, 0), 112, 1);
    host.install(&draft);
    let mut passed = 0;
    for id in 0..4 {
        for offset in [0, 2, 4] {
            let frame = fragment((0, 1, 4000), id, offset < 4, offset);
            let decision = host.see(Link::Ethernet, &frame);
            assert!([Decision::Pass, Decision::Limited].contains(&decision), "{decision:?}");
            passed += u32::from(decision == Decision::Pass);
        }
    }
    assert_eq!(passed, 5);
    assert_eq!(host.hits.borrow().get(&1).unwrap().packets, 7);
}

#[test]
fn fragments_at_two_hooks_are_charged_once_each() {
    let mut host = limited(LimitKind::Packets, 3);
    host.settings.hooks = 4;
    let mut passed = 0;
    for offset in [0, 2, 4, 6] {
        for ifindex in [1, 2] {
            host.ifindex = ifindex;
            let frame = fragment((0, 1, 4000), 7, offset < 6, offset);
            passed += u32::from(host.see(Link::Ethernet, &frame) == Decision::Pass);
        }
    }
    assert_eq!(passed, 6);
}

#[test]
fn whom_an_allow_rule_or_failsafe_keeps_uses_up_nothing_that_others_share() {
    for kept_by_failsafe in [false, true] {
        let mut host = Host { enforce: true, ..Host::default() };
        let mut draft = Draft::default();
        let any = Rule { port_max: u16::MAX, share: u32::MAX, ..Rule::default() };
        draft.rules.push(Rule { hits: 1, action: Action::Drop as u8, ..any });
        draft.rules.push(Rule { hits: 2, ..any });
        // All share three packets.
        draft.limits.push(Limit {
            increment: SECOND,
            tolerance: SECOND * 3,
            rule: 1,
            kind: LimitKind::Packets as u8,
            ..Limit::default()
        });
        draft.list(ListId::Limit, mapped(0, 0), 112, 1);
        if kept_by_failsafe {
            draft.failsafe.push(Failsafe {
                addr: mapped(0, 1),
                prefix_len: 128,
                side: FailsafeSide::Ours as u8,
                port_max: u16::MAX,
                ..Failsafe::default()
            });
        } else {
            draft.list(ListId::Allow, mapped(0, 1), 128, 2);
        }
        host.install(&draft);
        for _ in 0..20 {
            let kept = segment((0, 1, 4000), (9, 2, 80)).frame();
            assert_eq!(host.see(Link::Ethernet, &kept), Decision::Pass);
        }
        let other = segment((0, 3, 4000), (9, 2, 80)).frame();
        let passed = (0..9).filter(|_| host.see(Link::Ethernet, &other) == Decision::Pass).count();
        assert_eq!(passed, 3, "failsafe {kept_by_failsafe}");
    }
}
