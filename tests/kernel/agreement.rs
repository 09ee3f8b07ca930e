//! Golden packets: over generated packets and policies the loaded programs give the verdicts, the counters and the
//! records of the pure code on the same bytes.

use sensor_agent::kernel::{Bench, Install, LoadConfig, Mode, TestRunError};
use sensor_core::time::MonoNs;
use sensor_ebpf::{
    abi::{
        counter::Counter,
        image::{Action, Failsafe, Limit, LimitKind, ListId, Rule},
        policy::{FailsafeSide, RuleDirection},
        sample::{Hook, SampleHeader},
    },
    packet::Link,
    testing::{Host, image::Draft},
    verdict::Decision,
};
use sensor_tests::{
    is_root_or_skips,
    object::{image, load_config, object},
    packets::{Dice, Layer, PORTS, address4, address6, packet},
};
use zerocopy::{FromBytes, IntoBytes};

const PROGRAMS: [(&str, Layer, Link, Hook); 4] = [
    ("sensor_tc_ingress_eth", Layer::Ethernet, Link::Ethernet, Hook::Ingress),
    ("sensor_tc_egress_eth", Layer::Ethernet, Link::Ethernet, Hook::Egress),
    ("sensor_tc_ingress_ip", Layer::RawIp, Link::RawIp, Hook::Ingress),
    ("sensor_tc_egress_ip", Layer::RawIp, Link::RawIp, Hook::Egress),
];
const POLICIES: u32 = 20;
const PACKETS_PER_POLICY: u32 = 2_000;
const RULES: u64 = 24;
const LIMITS: u64 = 6;
const SHOT: i32 = 2;
const NEXT: i32 = -1;

fn rule(dice: &mut Dice) -> Rule {
    let (port_min, port_max) = match dice.below(4) {
        0 => {
            let port = dice.pick(&PORTS);
            (port, port)
        }
        1 => (0, dice.pick(&PORTS)),
        _ => (0, u16::MAX),
    };
    Rule {
        starts_ns: if dice.one_in(8) { dice.below(3_000_000_000_000) } else { 0 },
        expires_ns: if dice.one_in(8) { dice.below(3_000_000_000_000) } else { 0 },
        salt: dice.below(1 << 40),
        share: if dice.one_in(5) { 1 << 31 } else { u32::MAX },
        ifindex: dice.pick(&[0, 0, 0, 1, 2]),
        port_min,
        port_max,
        action: dice.pick(&[Action::Drop, Action::Drop, Action::Reset, Action::Monitor]) as u8,
        protocol: dice.pick(&[0, 0, 6, 17]),
        direction: dice.pick(&[
            RuleDirection::Both,
            RuleDirection::Both,
            RuleDirection::Ingress,
            RuleDirection::Egress,
        ]) as u8,
        ..Rule::default()
    }
}

fn limit(dice: &mut Dice) -> Limit {
    let increment = (1 + dice.below(50_000_000)) << 6;
    Limit {
        increment,
        tolerance: increment * dice.below(6),
        rule: u32::try_from(1 + dice.below(RULES - 1)).unwrap(),
        kind: dice.pick(&[
            LimitKind::Packets,
            LimitKind::Connections,
            LimitKind::Bytes,
            LimitKind::Requests,
        ]) as u8,
        prefix_v4: dice.pick(&[32, 32, 24]),
        prefix_v6: dice.pick(&[64, 128]),
        ..Limit::default()
    }
}

fn failsafe(dice: &mut Dice) -> Failsafe {
    let [a, b, c, d] = address4(dice);
    let port = dice.pick(&PORTS);
    Failsafe {
        addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d],
        prefix_len: dice.pick(&[120, 128]),
        side: dice.pick(&[FailsafeSide::Ours, FailsafeSide::Peer]) as u8,
        protocol: dice.pick(&[0, 6, 17]),
        direction: dice.pick(&[RuleDirection::Both, RuleDirection::Ingress]) as u8,
        port_min: port,
        port_max: port,
        ..Failsafe::default()
    }
}

/// Chains that only go forward, as the compiler makes them.
fn chain(dice: &mut Dice, at: u64, len: u64) -> u32 {
    if at + 1 < len && dice.one_in(3) {
        u32::try_from(at + 1 + dice.below(len - at - 1)).unwrap()
    } else {
        0
    }
}

fn entries(draft: &mut Draft, dice: &mut Dice, list: ListId, count: u64, numbers: u64) {
    for _ in 0..count {
        let [a, b, c, d] = address4(dice);
        let len = dice.pick(&[32, 32, 31, 28, 25, 24, 24, 23, 16, 8, 0]);
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d];
        draft.list(list, mapped, len + 96, u32::try_from(1 + dice.below(numbers - 1)).unwrap());
        let len = dice.pick(&[128, 128, 127, 124, 112, 64, 64, 62, 48, 32, 0]);
        let address = address6(dice);
        draft.list(list, address, len, u32::try_from(1 + dice.below(numbers - 1)).unwrap());
    }
}

fn policy(dice: &mut Dice) -> Draft {
    let mut draft = Draft::default();
    draft.rules.extend((1..RULES).map(|_| rule(dice)));
    draft.limits.extend((1..LIMITS).map(|_| limit(dice)));
    for (at, rule) in (0..RULES).zip(&mut draft.rules).skip(1) {
        rule.next = chain(dice, at, RULES);
        rule.hits = u32::try_from(at).unwrap();
    }
    for (at, limit) in (0..LIMITS).zip(&mut draft.limits).skip(1) {
        limit.next = chain(dice, at, LIMITS);
        limit.state = u32::try_from(at).unwrap();
    }
    // Now and then a list is empty: its look-up is skipped.
    let mut some = |many| if dice.one_in(5) { 0 } else { many };
    let counts = [some(4), some(12), some(6)];
    entries(&mut draft, dice, ListId::Allow, counts[0], RULES);
    entries(&mut draft, dice, ListId::Block, counts[1], RULES);
    entries(&mut draft, dice, ListId::Limit, counts[2], LIMITS);
    draft.failsafe = (0..dice.below(4)).map(|_| failsafe(dice)).collect();
    draft
}

/// Records that wait in the ring, without what only the kernel knows (the test run's socket has a cgroup).
fn records(bench: &mut Bench) -> Vec<(SampleHeader, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some(record) = bench.ring().next_record() {
        let (mut header, rest) = SampleHeader::read_from_prefix(&record).unwrap();
        header.cgroup_id = 0;
        let len = usize::try_from(header.data_len).unwrap();
        records.push((header, rest[..len].to_vec()));
    }
    records
}

fn agree(mode: Mode, seed: u64) {
    let config = LoadConfig { test_clock: true, ..load_config(mode) };
    let mut bench = Bench::load(&object().unwrap(), &config).unwrap();
    assert!(bench.degraded().is_empty(), "{:?}", bench.degraded());
    let mut host = Host::default();
    host.enforce = mode == Mode::Enforce;
    host.settings = config.settings;
    let mut dice = Dice::new(seed);
    let mut dropped = 0;
    for _ in 0..POLICIES {
        let draft = policy(&mut dice);
        bench.publish(&image(&draft), Install::Confirmed).unwrap();
        host.install(&draft);
        for _ in 0..PACKETS_PER_POLICY {
            let (program, layer, link, hook) = dice.pick(&PROGRAMS);
            let bytes = packet(&mut dice, layer);
            host.now_ns += dice.below(2_000_000);
            bench.ring().write_heartbeat(MonoNs(host.now_ns)).unwrap();
            let action = match bench.run(program, &bytes, 1) {
                Ok(ran) => ran.action,
                Err(TestRunError::TooShort) => continue,
                Err(error) => panic!("{error}"),
            };
            host.hook = hook;
            let decision = host.see(link, &bytes);
            // A packet that is answered by resets goes on as one of them, if there may be one more now.
            let expected = match decision {
                Decision::BlockedReset | Decision::LimitedReset => action,
                Decision::Blocked | Decision::Limited => SHOT,
                Decision::Pass | Decision::OwnReset => NEXT,
            };
            assert_eq!(
                action, expected,
                "seed {seed}, {program}, {decision:?}: {bytes:02x?}\n{draft:?}"
            );
            dropped += u32::from(!matches!(decision, Decision::Pass | Decision::OwnReset));
            let emitted = std::mem::take(&mut *host.records.borrow_mut());
            assert_eq!(records(&mut bench), emitted, "seed {seed}, {program}: {bytes:02x?}");
        }
    }
    let ledger = bench.ledger().unwrap();
    // Only a kernel sends resets.
    let resets = [Counter::ResetsSent, Counter::ResetsSuppressed];
    for counter in Counter::ALL.iter().filter(|counter| !resets.contains(counter)) {
        assert_eq!(
            ledger.count(*counter),
            host.counter(*counter),
            "seed {seed}, {}",
            counter.name()
        );
    }
    assert_eq!(ledger.bucket_sum(), ledger.count(Counter::Sightings));
    assert!(
        ledger.count(Counter::RequestHeads) > 100,
        "the packets carry too few heads to prove anything"
    );
    assert_eq!(mode == Mode::Enforce, dropped > 1_000, "{dropped} dropped");
}

#[test]
fn enforcing_programs_agree_with_the_pure_verdict() {
    if is_root_or_skips("enforcing_programs_agree") {
        agree(Mode::Enforce, 0x5e_ed);
    }
}

#[test]
fn observing_programs_agree_with_the_pure_verdict() {
    if is_root_or_skips("observing_programs_agree") {
        agree(Mode::Observe, 0xfeed);
    }
}

/// The records of both sides are compared as values; this proves that no padding hides a difference.
#[test]
fn a_sample_header_is_its_bytes() {
    let header = SampleHeader { version: 1, seq: 7, ..SampleHeader::default() };
    assert_eq!(SampleHeader::read_from_bytes(header.as_bytes()).unwrap(), header);
}
