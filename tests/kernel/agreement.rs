//! Golden packets: over generated packets and policies the loaded programs give the verdicts, the counters and the
//! records of the pure code on the same bytes.

use std::collections::HashMap;

use sensor_agent::kernel::{Bench, LoadConfig, Mode, PolicyTables, TestRunError};
use sensor_core::time::MonoNs;
use sensor_ebpf::{
    abi::{
        counter::Counter,
        policy::{
            Action, FailsafeEntry, FailsafeSide, Limit, LimitKind, LpmKey4, LpmKey6, PolicyEntry,
            Rule, RuleDirection,
        },
        sample::{Hook, SampleHeader},
        settings::Settings,
    },
    packet::Link,
    tables::List,
    testing::Host,
    verdict::Decision,
};
use sensor_tests::{
    is_root_or_skips,
    object::{load_config, object},
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
        expires_ns: if dice.one_in(8) { dice.below(3_000_000_000_000) } else { 0 },
        ifindex: dice.pick(&[0, 0, 0, 1, 2]),
        next: 0,
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
        flags: 0,
    }
}

fn limit(dice: &mut Dice) -> Limit {
    let increment = (1 + dice.below(50_000_000)) << 6;
    Limit {
        increment,
        tolerance: increment * dice.below(6),
        rule: u32::try_from(1 + dice.below(RULES - 1)).unwrap(),
        next: 0,
        kind: dice.pick(&[LimitKind::Packets, LimitKind::Connections]) as u8,
        prefix_v4: dice.pick(&[32, 32, 24]),
        prefix_v6: dice.pick(&[64, 128]),
        pad: [0; 5],
    }
}

fn failsafe(dice: &mut Dice) -> FailsafeEntry {
    let [a, b, c, d] = address4(dice);
    let port = dice.pick(&PORTS);
    FailsafeEntry {
        addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d],
        prefix_len: dice.pick(&[120, 128]),
        side: dice.pick(&[FailsafeSide::Ours, FailsafeSide::Peer]) as u8,
        protocol: dice.pick(&[0, 6, 17]),
        direction: dice.pick(&[RuleDirection::Both, RuleDirection::Ingress]) as u8,
        port_min: port,
        port_max: port,
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

fn entries4(dice: &mut Dice, count: u64, numbers: u64) -> Vec<(LpmKey4, PolicyEntry)> {
    let entries: HashMap<_, _> = (0..count)
        .map(|_| {
            let prefix_len = dice.pick(&[32, 32, 31, 28, 24, 24, 23, 16, 8, 0]);
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0);
            let addr = (u32::from_be_bytes(address4(dice)) & mask).to_be_bytes();
            ((u32::from(prefix_len), addr), entry(dice, prefix_len, numbers))
        })
        .collect();
    entries
        .into_iter()
        .map(|((prefix_len, addr), entry)| (LpmKey4 { prefix_len, addr }, entry))
        .collect()
}

fn entries6(dice: &mut Dice, count: u64, numbers: u64) -> Vec<(LpmKey6, PolicyEntry)> {
    let entries: HashMap<_, _> = (0..count)
        .map(|_| {
            let prefix_len = dice.pick(&[128, 128, 124, 64, 64, 62, 32, 0]);
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
            let addr = (u128::from_be_bytes(address6(dice)) & mask).to_be_bytes();
            ((u32::from(prefix_len), addr), entry(dice, prefix_len, numbers))
        })
        .collect();
    entries
        .into_iter()
        .map(|((prefix_len, addr), entry)| (LpmKey6 { prefix_len, addr }, entry))
        .collect()
}

fn entry(dice: &mut Dice, prefix_len: u8, numbers: u64) -> PolicyEntry {
    PolicyEntry {
        rule: u32::try_from(1 + dice.below(numbers - 1)).unwrap(),
        prefix_len,
        pad: [0; 3],
    }
}

fn policy(dice: &mut Dice) -> PolicyTables {
    let mut rules: Vec<_> = (0..RULES).map(|_| rule(dice)).collect();
    let mut limits: Vec<_> = (0..LIMITS).map(|_| limit(dice)).collect();
    rules[0] = Rule::default();
    limits[0] = Limit::default();
    for (at, rule) in (0..RULES).zip(&mut rules).skip(1) {
        rule.next = chain(dice, at, RULES);
    }
    for (at, limit) in (0..LIMITS).zip(&mut limits).skip(1) {
        limit.next = chain(dice, at, LIMITS);
    }
    // Now and then a list is empty: its look-up is skipped.
    let mut some = |many| if dice.one_in(5) { 0 } else { many };
    let counts = [some(4), some(12), some(6)];
    PolicyTables {
        allow4: entries4(dice, counts[0], RULES),
        allow6: entries6(dice, counts[0], RULES),
        block4: entries4(dice, counts[1], RULES),
        block6: entries6(dice, counts[1], RULES),
        limit4: entries4(dice, counts[2], LIMITS),
        limit6: entries6(dice, counts[2], LIMITS),
        rules,
        limits,
        failsafe: (0..dice.below(4)).map(|_| failsafe(dice)).collect(),
    }
}

/// Gives the host of the pure code the same policy.
fn mirror(host: &mut Host, settings: Settings, tables: &PolicyTables) {
    host.settings = settings;
    host.lists = Default::default();
    for (list, four, six) in [
        (List::Allow, &tables.allow4, &tables.allow6),
        (List::Block, &tables.block4, &tables.block6),
        (List::Limit, &tables.limit4, &tables.limit6),
    ] {
        for (key, entry) in four {
            let [a, b, c, d] = key.addr;
            let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d];
            host.list(list, mapped, u8::try_from(key.prefix_len + 96).unwrap(), entry.rule);
        }
        for (key, entry) in six {
            host.list(list, key.addr, u8::try_from(key.prefix_len).unwrap(), entry.rule);
        }
    }
    host.rules.clone_from(&tables.rules);
    host.limits.clone_from(&tables.limits);
    host.failsafe.clone_from(&tables.failsafe);
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
    let mut dice = Dice::new(seed);
    let mut dropped = 0;
    for _ in 0..POLICIES {
        let tables = policy(&mut dice);
        bench.apply_policy(&tables).unwrap();
        mirror(&mut host, config.settings, &tables);
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
            let expected = if host.enforce && decision != Decision::Pass { SHOT } else { NEXT };
            assert_eq!(
                action, expected,
                "seed {seed}, {program}, {decision:?}: {bytes:02x?}\n{tables:?}"
            );
            dropped += u32::from(action == SHOT);
            let emitted = std::mem::take(&mut *host.records.borrow_mut());
            assert_eq!(records(&mut bench), emitted, "seed {seed}, {program}: {bytes:02x?}");
        }
    }
    let ledger = bench.ledger().unwrap();
    for counter in Counter::ALL {
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
