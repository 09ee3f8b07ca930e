//! A list is replaced at once: a sender that alternates between an address only in the old list and one only in the new sees one switch.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use sensor_agent::kernel::{Bench, Install, Mode};
use sensor_ebpf::{
    abi::image::{Action, ListId, Rule},
    testing::image::Draft,
};
use sensor_tests::{
    is_root_or_skips,
    object::{image, load_config, object},
};

const OLD: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
const NEW: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 2);
/// Other entries of each list, so that making it takes its time.
const ENTRIES: u32 = 50_000;
const REPLACEMENTS: usize = 20;
const SHOT: i32 = 2;

fn list(only: Ipv4Addr, salt: u32) -> Draft {
    let mut draft = Draft::default();
    draft.rules.push(Rule {
        port_max: u16::MAX,
        share: u32::MAX,
        action: Action::Drop as u8,
        hits: 1,
        ..Rule::default()
    });
    draft.list(ListId::Block, only.to_ipv6_mapped().octets(), 128, 1);
    for at in 0..ENTRIES {
        let address = Ipv4Addr::from(0xc000_0000 | (at * 2 + salt).wrapping_mul(0x9e37_79b1) >> 3);
        draft.list(ListId::Block, address.to_ipv6_mapped().octets(), 128, 1);
    }
    draft
}

/// A TCP segment without payload.
fn packet() -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame.splice(12..24, [8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6]);
    frame.splice(30..38, [10, 0, 0, 1, 0x9c, 0x40, 0, 80]);
    frame.splice(46..48, [5 << 4, 16]);
    frame
}

#[test]
fn a_sender_of_both_lists_sees_exactly_one_switch() {
    if !is_root_or_skips("a_sender_of_both_lists_sees_exactly_one_switch") {
        return;
    }
    let mut bench = Bench::load(&object().unwrap(), &load_config(Mode::Enforce)).unwrap();
    let lists = [image(&list(OLD, 0)), image(&list(NEW, 1))];
    bench.publish(&lists[0], Install::Confirmed).unwrap();
    let addresses = [OLD, NEW].map(|address| address.to_ipv6_mapped().octets());
    let sender = bench.spread("sensor_tc_ingress_eth", &addresses).unwrap();
    for round in 0..REPLACEMENTS {
        // Which of the two is in force before.
        let before = round % 2;
        let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
        sender.rewind();
        let seen: Vec<usize> = thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let (packet, mut seen) = (packet(), Vec::new());
                while !done.load(Ordering::Relaxed) {
                    for own in 0..2 {
                        let dropped = sender.run(&packet, 1).unwrap().action == SHOT;
                        seen.push(if dropped { own } else { 1 - own });
                    }
                    begun.store(true, Ordering::Relaxed);
                }
                seen
            });
            while !begun.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            bench.publish(&lists[1 - before], Install::Confirmed).unwrap();
            thread::sleep(Duration::from_millis(2));
            done.store(true, Ordering::Relaxed);
            sending.join().unwrap()
        });
        let switches = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(
            (seen.first(), switches, seen.last()),
            (Some(&before), 1, Some(&(1 - before))),
            "round {round}, {} packets",
            seen.len()
        );
    }
}
