//! What comes and goes while a policy stays: provisional policies, the switch, staleness, percentages, shared sources, verdicts, drops;
//! and IPv6 look-ups against a plain scan.

use std::vec::Vec;

use proptest::{collection, prelude::*};

use super::Decision;
use crate::{
    abi::{
        counter::Counter,
        dynamic::{DropReason, Verdict},
        image::{Action, Failsafe, ListId, Rule, canary},
        policy::FailsafeSide,
        repeat::tallied,
        settings::POLICY_BLOCK4,
    },
    judge::canonical,
    packet::{Link, TcpFlags},
    testing::{Host, Segment, image::Draft},
};

const CLIENT: [u8; 4] = [10, 0, 0, 1];

const fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d]
}

fn frame() -> Vec<u8> {
    segment().frame()
}

fn segment() -> Segment {
    Segment {
        src: CLIENT,
        dst: [10, 0, 0, 2],
        src_port: 40_000,
        dst_port: 80,
        seq: 1,
        ack: 1,
        flags: TcpFlags::ACK,
        payload: Vec::new(),
    }
}

fn rule() -> Rule {
    Rule {
        port_max: u16::MAX,
        share: u32::MAX,
        hits: 1,
        action: Action::Drop as u8,
        ..Rule::default()
    }
}

/// Blocks the client by this rule.
fn blocks(rule: Rule) -> Draft {
    let mut draft = Draft::default();
    draft.rules.push(rule);
    draft.list(ListId::Block, mapped(CLIENT), 128, 1);
    draft
}

fn host(rule: Rule) -> Host {
    let mut host = Host { enforce: true, ..Host::default() };
    host.install(&blocks(rule));
    host
}

fn see(host: &Host) -> Decision {
    host.see(Link::Ethernet, &frame())
}

#[test]
fn a_provisional_policy_ends_by_the_clock() {
    let mut host = Host { enforce: true, ..Host::default() };
    host.images[1] = blocks(rule()).build();
    host.settings.provisional = host.images[1].flags | 1;
    host.settings.provisional_until_ns = host.now_ns + 10;
    assert_ne!(host.settings.provisional & POLICY_BLOCK4, 0);
    assert_eq!(see(&host), Decision::Blocked);
    host.now_ns += 10;
    assert_eq!(see(&host), Decision::Pass);
}

#[test]
fn enforcement_off_and_a_silent_agent_only_monitor() {
    let mut host = host(rule());
    host.settings.enforcement_off = 1;
    assert_eq!(see(&host), Decision::Pass);
    host.settings.enforcement_off = 0;
    host.settings.stale_open_after_ns = 100;
    host.settings.heartbeat_ns = host.now_ns - 100;
    assert_eq!(see(&host), Decision::Blocked);
    host.now_ns += 1;
    assert_eq!(see(&host), Decision::Pass);
    assert_eq!(host.counter(Counter::NotEnforced), 2);
    assert_eq!(host.counter(Counter::WouldBlock), 2);
}

#[test]
fn a_percentage_and_a_window_of_time_are_kept() {
    let salt = 77;
    let hash = canary(salt, 0, 0x0a00_0001);
    assert_eq!(see(&host(Rule { salt, share: hash, ..rule() })), Decision::Pass);
    assert_eq!(see(&host(Rule { salt, share: hash + 1, ..rule() })), Decision::Blocked);
    let mut host =
        host(Rule { starts_ns: 1_000_000_000_001, expires_ns: 1_000_000_000_002, ..rule() });
    assert_eq!(see(&host), Decision::Pass);
    host.now_ns += 1;
    assert_eq!(see(&host), Decision::Blocked);
    host.now_ns += 1;
    assert_eq!(see(&host), Decision::Pass);
}

#[test]
fn a_shared_source_is_skipped_until_its_time_is_over() {
    let mut host = host(rule());
    host.shared.insert(mapped(CLIENT), host.now_ns + 1);
    host.settings.shared_sources = 1;
    assert_eq!(see(&host), Decision::Pass);
    assert_eq!(host.hits.borrow().get(&1).map(|hits| hits.shared_packets), Some(1));
    host.now_ns += 1;
    assert_eq!(see(&host), Decision::Blocked);
}

#[test]
fn a_verdict_of_the_agent_drops_until_its_time_is_over_and_allow_beats_it() {
    let mut host = Host { enforce: true, ..Host::default() };
    let verdict = Verdict { until_ns: host.now_ns + 1, hits: 3, action: Action::Reset as u32 };
    host.client_verdicts.insert(mapped(CLIENT), verdict);
    host.settings.verdicts = 1;
    assert_eq!(see(&host), Decision::BlockedReset);
    let mut allowing = Draft::default();
    allowing.rules.push(rule());
    allowing.list(ListId::Allow, mapped(CLIENT), 120, 1);
    host.install(&allowing);
    assert_eq!(see(&host), Decision::Pass);
    host.install(&Draft::default());
    host.now_ns += 1;
    assert_eq!(see(&host), Decision::Pass);

    host.client_verdicts.clear();
    let mut key = crate::abi::flow_key::FlowKey::default();
    let tuple = crate::abi::flow_key::Tuple {
        src: mapped([10, 0, 0, 2]),
        dst: mapped(CLIENT),
        src_port: 80,
        dst_port: 40_000,
        protocol: 6,
        pad: [0; 3],
    };
    let _side = canonical(&tuple, &mut key);
    let verdict = Verdict { until_ns: u64::MAX, action: Action::Drop as u32, ..verdict };
    host.flow_verdicts.borrow_mut().insert(key, verdict);
    assert_eq!(see(&host), Decision::Blocked);
    let drops = host.drops.borrow();
    let flow = drops.iter().find(|(key, _)| key.reason == DropReason::Flow as u32);
    assert_eq!(
        flow.map(|(key, value)| (key.client, key.hits, value.count)),
        Some((mapped(CLIENT), 3, 1))
    );
    drop(drops);
    // Sockets of a flow that is only dropped live on: a SYN between them begins nothing.
    let flags = |flags| Segment { flags, ..segment() }.frame();
    assert_eq!(host.see(Link::Ethernet, &flags(TcpFlags::SYN)), Decision::Blocked);
    assert_eq!(see(&host), Decision::Blocked);
    // Those of one that was ended do not: an answer to a SYN is no new connection; a SYN is.
    let verdict = Verdict { action: Action::Reset as u32, ..verdict };
    host.flow_verdicts.borrow_mut().insert(key, verdict);
    let answer = flags(TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(host.see(Link::Ethernet, &answer), Decision::BlockedReset);
    assert_eq!(host.see(Link::Ethernet, &flags(TcpFlags::SYN)), Decision::Pass);
    assert_eq!(see(&host), Decision::Pass);
}

#[test]
fn drops_are_in_the_table_as_often_as_in_the_ledger() {
    let host = host(rule());
    for _ in 0..5 {
        assert_eq!(see(&host), Decision::Blocked);
    }
    let drops = host.drops.borrow();
    let sum: u64 = drops.values().map(|row| row.count).sum();
    let known = repeated(&host);
    // The first drop made the row, the others are its own.
    assert_eq!((sum + known, drops.len()), (host.counter(Counter::Blocked), 1));
    assert_eq!((sum, known), (1, 4));
    assert_eq!(host.hits.borrow().get(&1).map(|hits| hits.packets), Some(5));
}

/// Drops that rows know.
fn repeated(host: &Host) -> u64 {
    host.repeats.borrow().values().map(|row| tallied(row.tally).0).sum()
}

#[test]
fn a_row_of_repeats_holds_for_its_packet_its_policy_and_its_time_only() {
    let mut host = host(Rule { expires_ns: 1_000_000_000_010, ..rule() });
    for _ in 0..3 {
        assert_eq!(see(&host), Decision::Blocked);
    }
    assert_eq!(repeated(&host), 2);
    // Another port of the client makes no difference, until failsafe names it.
    let from = |host: &Host, src_port| {
        let segment = Segment { src_port, ..segment() };
        host.see(Link::Ethernet, &segment.frame())
    };
    assert_eq!((from(&host, 40_001), repeated(&host)), (Decision::Blocked, 3));
    // Ends of a connection, other hooks and interfaces are looked up.
    let end = Segment { flags: TcpFlags::FIN | TcpFlags::ACK, ..segment() };
    assert_eq!(host.see(Link::Ethernet, &end.frame()), Decision::Blocked);
    host.ifindex += 1;
    assert_eq!((see(&host), repeated(&host)), (Decision::Blocked, 3));
    host.ifindex -= 1;
    host.settings.enforcement_off = 1;
    assert_eq!(see(&host), Decision::Pass);
    host.settings.enforcement_off = 0;
    host.settings.shared_sources = 1;
    assert_eq!((see(&host), repeated(&host)), (Decision::Blocked, 4));
    host.shared.insert(mapped(CLIENT), host.now_ns + 1);
    assert_eq!(see(&host), Decision::Pass);
    host.shared.clear();
    host.now_ns = 1_000_000_000_010;
    assert_eq!(see(&host), Decision::Pass);

    // A policy with another opinion, and one with the same.
    host.install(&Draft::default());
    assert_eq!(see(&host), Decision::Pass);
    host.install(&blocks(rule()));
    // What the row counted for the policy before is in the table now.
    assert_eq!((see(&host), repeated(&host)), (Decision::Blocked, 0));
    let mut kept = blocks(rule());
    kept.failsafe.push(Failsafe {
        addr: mapped([0; 4]),
        prefix_len: 96,
        protocol: 6,
        port_min: 40_001,
        port_max: 40_001,
        side: FailsafeSide::Peer as u8,
        ..Failsafe::default()
    });
    host.install(&kept);
    for _ in 0..3 {
        assert_eq!(see(&host), Decision::Blocked);
    }
    assert_eq!(from(&host, 40_001), Decision::Pass);
}

#[test]
fn a_row_of_mapped_ipv6_addresses_is_not_that_of_ipv4() {
    let mut host = Host { enforce: true, ..Host::default() };
    let mut draft = Draft::default();
    draft.rules.push(rule());
    // All of ::/8, and an IPv4 rule that brings the packet so far; the client itself is nowhere listed for IPv4.
    draft.list(ListId::Block, [0; 16], 8, 1);
    draft.list(ListId::Block, mapped([10, 0, 0, 9]), 128, 1);
    host.install(&draft);
    let wide = |address: [u8; 4]| u128::from_be_bytes(mapped(address));
    for _ in 0..3 {
        let packet = frame6(wide(CLIENT), wide([10, 0, 0, 2]));
        assert_eq!(host.see(Link::Ethernet, &packet), Decision::Blocked);
    }
    assert_eq!(repeated(&host), 2);
    assert_eq!((see(&host), repeated(&host)), (Decision::Pass, 2));
}

#[test]
fn a_row_that_gives_way_leaves_its_drops_in_the_table() {
    let mut host = Host { enforce: true, ..Host::default() };
    let mut draft = blocks(rule());
    draft.list(ListId::Block, mapped([10, 1, 0, 0]), 112, 1);
    host.install(&draft);
    // Each twice in a row, so that each takes its row from whoever had it.
    for turn in 0..4_096_u32 {
        let [_, _, c, d] = turn.to_be_bytes();
        let packet = Segment { src: [10, 1, c, d], ..segment() }.frame();
        for _ in 0..4 {
            assert_eq!(host.see(Link::Ethernet, &packet), Decision::Blocked);
        }
    }
    let told: u64 = host.drops.borrow().values().map(|row| row.count).sum();
    assert_eq!(told + repeated(&host), 4 * 4_096);
    assert!(repeated(&host) > 500, "{}", repeated(&host));
    for row in host.drops.borrow().values() {
        assert!((1..=4).contains(&row.count), "{row:?}");
    }
}

/// An acknowledgement over IPv6.
fn frame6(src: u128, dst: u128) -> Vec<u8> {
    let mut frame = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend(src.to_be_bytes());
    frame.extend(dst.to_be_bytes());
    frame.extend([
        0x9c,
        0x40,
        0,
        80,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
        0x50,
        TcpFlags::ACK,
        255,
        255,
        0,
        0,
        0,
        0,
    ]);
    frame
}

/// Few addresses, so that prefixes of every length nest.
fn address() -> impl Strategy<Value = u128> {
    (0u128..3, 0u128..3, 0u128..4).prop_map(|(a, b, c)| {
        0x2001_0db8_0000_0000_0000_0000_0000_0000 | a << 80 | b << 64 | b << 33 | c
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn ipv6_is_blocked_as_a_plain_scan_says(
        listed in collection::vec((address(), 0u8..=128, any::<bool>()), 0..10),
        packets in collection::vec((address(), address()), 8),
    ) {
        let mut draft = Draft::default();
        draft.rules.push(rule());
        draft.rules.push(Rule { action: Action::Monitor as u8, hits: 2, ..rule() });
        let cut = |bits: u128, len: u8| bits & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        let mut known: Vec<(u128, u8)> = Vec::new();
        let mut blocked: Vec<(u128, u8)> = Vec::new();
        for (bits, len, monitor) in listed {
            let net = (cut(bits, len), len);
            if known.contains(&net) { continue; }
            known.push(net);
            draft.list(ListId::Block, bits.to_be_bytes(), len, if monitor { 2 } else { 1 });
            if !monitor { blocked.push(net); }
        }
        let mut host = Host { enforce: true, ..Host::default() };
        host.install(&draft);
        for (src, dst) in packets {
            let hit = blocked.iter().any(|(bits, len)| cut(src, *len) == *bits || cut(dst, *len) == *bits);
            let expected = if hit { Decision::Blocked } else { Decision::Pass };
            prop_assert_eq!(host.see(Link::Ethernet, &frame6(src, dst)), expected);
        }
    }
}

#[test]
fn a_rule_that_monitors_does_not_count_what_is_allowed_or_failsafe() {
    let monitor = Rule { action: Action::Monitor as u8, ..rule() };
    let mut draft = blocks(monitor);
    draft.rules.push(Rule { hits: 2, ..rule() });
    draft.list(ListId::Allow, mapped(CLIENT), 128, 2);
    let mut host = Host { enforce: true, ..Host::default() };
    host.install(&draft);
    assert_eq!(see(&host), Decision::Pass);
    assert_eq!((host.counter(Counter::WouldBlock), host.counter(Counter::Allowed)), (0, 0));

    let mut draft = blocks(monitor);
    let peer =
        Failsafe { port_max: u16::MAX, side: FailsafeSide::Peer as u8, ..Failsafe::default() };
    draft.failsafe.push(Failsafe { addr: mapped(CLIENT), prefix_len: 128, ..peer });
    host.install(&draft);
    assert_eq!(see(&host), Decision::Pass);
    assert_eq!(host.counter(Counter::WouldBlock), 0);

    // All of IPv6 is not IPv4.
    draft.failsafe[0] = peer;
    host.install(&draft);
    assert_eq!(see(&host), Decision::Pass);
    assert_eq!(host.counter(Counter::WouldBlock), 1);
}

#[test]
fn a_chain_of_extension_headers_is_no_way_past_a_rule_with_a_port() {
    let address = |last: u16| 0x2001_0db8_u128 << 96 | u128::from(last);
    let mut frame = frame6(address(1), address(2));
    let tcp = frame.split_off(54);
    frame[20] = 60;
    frame.extend((0..8).flat_map(|at| [if at == 7 { 6 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]));
    frame.extend(tcp);
    let length = u16::try_from(frame.len() - 54).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    for (list, expected) in [(ListId::Block, Decision::Blocked), (ListId::Allow, Decision::Blocked)]
    {
        let mut draft = Draft::default();
        let ports = Rule { port_min: 22, port_max: 22, protocol: 6, ..rule() };
        draft.rules.push(ports);
        draft.list(ListId::Block, address(1).to_be_bytes(), 128, 1);
        if matches!(list, ListId::Allow) {
            draft.list(ListId::Allow, address(1).to_be_bytes(), 128, 1);
        }
        let mut host = Host { enforce: true, ..Host::default() };
        host.install(&draft);
        assert_eq!(host.see(Link::Ethernet, &frame), expected);
        assert_eq!(host.counter(Counter::Blocked), 1);
    }
}
