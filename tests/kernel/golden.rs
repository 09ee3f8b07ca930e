//! Golden packets: the loaded programs judge generated packets as the pure code does, and a program loaded to
//! observe passes every one of them, whatever the maps say.

use sensor_agent::kernel::{Bench, Install, Mode, TestRunError};
use sensor_ebpf::{
    abi::{
        counter::Counter,
        image::{Action, Limit, LimitKind, ListId, Rule},
    },
    testing::image::Draft,
};
use sensor_tests::{
    is_root_or_skips,
    object::{image, load_config, object},
    packets::{Dice, Layer, packet},
};

/// Programs with the packets that they read.
const PROGRAMS: [(&str, Layer); 4] = [
    ("sensor_tc_ingress_eth", Layer::Ethernet),
    ("sensor_tc_egress_eth", Layer::Ethernet),
    ("sensor_tc_ingress_ip", Layer::RawIp),
    ("sensor_tc_egress_ip", Layer::RawIp),
];
/// `TCX_NEXT`, which is `TC_ACT_UNSPEC`.
const NEXT: i32 = -1;
/// Of each program.
const OBSERVED_PACKETS: u64 = 25_000;

/// Blocks and limits everything.
fn hostile() -> Draft {
    let limit = |kind, next, state| Limit {
        increment: u64::MAX >> 8,
        tolerance: 0,
        rule: 1,
        next,
        state,
        kind: kind as u8,
        prefix_v4: 32,
        prefix_v6: 64,
        ..Limit::default()
    };
    let mut draft = Draft::default();
    draft.rules.push(Rule {
        port_max: u16::MAX,
        share: u32::MAX,
        action: Action::Drop as u8,
        hits: 1,
        ..Rule::default()
    });
    draft.limits.extend([limit(LimitKind::Packets, 2, 1), limit(LimitKind::Connections, 0, 2)]);
    let all4 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0];
    for list in [ListId::Block, ListId::Limit] {
        draft.list(list, all4, 96, 1);
        draft.list(list, [0; 16], 0, 1);
    }
    draft
}

/// Loads, and fails when a program was refused.
fn load(mode: Mode) -> Bench {
    let bench = Bench::load(&object().unwrap(), &load_config(mode)).unwrap();
    assert!(bench.degraded().is_empty(), "{:?}", bench.degraded());
    bench
}

/// Longest packet that the kernel may refuse to run: Ethernet, three tags, and less than an IPv6 header.
const TOO_SHORT_BYTES: usize = 14 + 3 * 4 + 40;

/// Runs the first packet that the kernel makes an skb of; gives the packet and the program's answer.
fn judged(bench: &Bench, program: &str, mut next: impl FnMut() -> Vec<u8>) -> (Vec<u8>, i32) {
    loop {
        let bytes = next();
        match bench.run(program, &bytes, 1) {
            Ok(ran) => return (bytes, ran.action),
            Err(TestRunError::TooShort) => assert!(bytes.len() < TOO_SHORT_BYTES, "{bytes:02x?}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn observing_passes_100_000_packets_against_hostile_maps_and_enforcing_does_not() {
    if !is_root_or_skips("observing_passes_100_000_packets") {
        return;
    }
    let mut observe = load(Mode::Observe);
    observe.publish(&image(&hostile()), Install::Confirmed).unwrap();
    let mut dice = Dice::new(1);
    for (program, layer) in PROGRAMS {
        for number in 0..OBSERVED_PACKETS {
            let (bytes, action) = judged(&observe, program, || packet(&mut dice, layer));
            assert_eq!(action, NEXT, "{program}, packet {number}: {bytes:02x?}");
        }
        while observe.ring().next_record().is_some() {}
    }
    let ledger = observe.ledger().unwrap();
    assert_eq!(ledger.count(Counter::Sightings), OBSERVED_PACKETS * PROGRAMS.len() as u64);
    assert_eq!(ledger.bucket_sum(), ledger.count(Counter::Sightings));
    assert_eq!((ledger.count(Counter::Blocked), ledger.count(Counter::Limited)), (0, 0));
    assert!(ledger.count(Counter::WouldBlock) > OBSERVED_PACKETS, "the entries were not asked");
    drop(observe);

    // The same maps do drop once the operator says so: the packets above were not spared by accident.
    let mut enforce = load(Mode::Enforce);
    enforce.publish(&image(&hostile()), Install::Confirmed).unwrap();
    let dropped = (0..1_000).filter(|_| {
        judged(&enforce, "sensor_tc_ingress_eth", || packet(&mut dice, Layer::Ethernet)).1 != NEXT
    });
    let dropped = dropped.count();
    assert!(dropped > 500, "{dropped} of 1000");
}
