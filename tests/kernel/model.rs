//! Generated policies and packets: policy file -> real compiler -> real maps -> verdict of a test run = the reference model = what explain
//! says of the live maps. Each policy's hits, rule by rule, are those of the model.

use std::collections::HashMap;

use sensor_agent::kernel::{Bench, Install, LoadConfig, Mode};
use sensor_core::{policy::image::Numbers, time::MonoNs};
use sensor_ebpf::abi::counter::Counter;
use sensor_tests::{
    is_root_or_skips,
    model::Decided,
    object::{load_config, object},
    policy_case::{Case, IFINDEX, Tally},
};

const POLICIES: usize = 1_200;
const PACKETS: usize = 100;
const SHOT: i32 = 2;
const NEXT: i32 = -1;

#[test]
fn the_kernel_decides_as_the_rules_are_written() {
    if !is_root_or_skips("the_kernel_decides_as_the_rules_are_written") {
        return;
    }
    let config = LoadConfig { test_clock: true, ..load_config(Mode::Enforce) };
    let mut bench = Bench::load(&object().unwrap(), &config).unwrap();
    assert!(bench.degraded().is_empty(), "{:?}", bench.degraded());
    let mut numbers = Numbers::default();
    let mut tally = Tally::default();
    for number in 0..POLICIES {
        let Some(case) = Case::new(number as u64, number, PACKETS, &mut numbers) else { continue };
        bench.publish(&case.compiled.image, Install::Confirmed).unwrap();
        let before = bench.rule_hits().unwrap();
        let live = bench.live_image().unwrap();
        let mut model = case.model.clone();
        bench.forget_clients().unwrap();
        let mut dropped: HashMap<u32, u64> = HashMap::new();
        for packet in &case.packets {
            bench.ring().write_heartbeat(MonoNs(case.boot_ns + packet.time_ns)).unwrap();
            let program =
                if packet.ingress { "sensor_tc_ingress_eth" } else { "sensor_tc_egress_eth" };
            let action = bench.run(program, &packet.frame(), 1).unwrap().action;
            let decided = model.decide(packet, IFINDEX);
            tally.add(&decided);
            let expected = match &decided {
                Decided::Pass | Decided::Failsafe | Decided::Allowed(_) => Some(NEXT),
                Decided::Blocked(_, false) | Decided::Limited(_, false) => Some(SHOT),
                // What a reset does with the packet has tests of its own; here its rule counts.
                Decided::Blocked(_, true) | Decided::Limited(_, true) => None,
            };
            assert!(
                expected.is_none_or(|expected| expected == action),
                "policy {number}: the model says {decided:?}, the kernel {action}; {:?}\n{packet:?}\n{}",
                case.explain(&live, packet),
                case.text
            );
            if let Decided::Blocked(id, _) | Decided::Limited(id, _) = &decided {
                *dropped.entry(case.slot(id)).or_default() += 1;
            }
            let explained = case.explain(&live, packet).unwrap();
            assert!(
                case.agrees(&explained, &decided),
                "policy {number}: the model says {decided:?}, explain {explained:?}\n{packet:?}\n{}",
                case.text
            );
        }
        let after = bench.rule_hits().unwrap();
        for (slot, (now, then)) in (0_u32..).zip(after.iter().zip(&before)) {
            let expected = dropped.get(&slot).copied().unwrap_or(0);
            assert_eq!(
                now.packets - then.packets,
                expected,
                "policy {number}, hits {slot}\n{}",
                case.text
            );
        }
    }
    println!("{tally:?}");
    assert!(tally.pairs >= 100_000 && tally.dropped * 5 >= tally.pairs, "{tally:?}");
    let ledger = bench.ledger().unwrap();
    let drops = ledger.count(Counter::Blocked) + ledger.count(Counter::Limited);
    assert_eq!(drops, tally.dropped);
    assert_eq!(ledger.count(Counter::Failsafe), tally.failsafe);
}
