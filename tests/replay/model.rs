//! Generated policies and packets: policy file -> real compiler -> the verdict's code on the host = the reference model = what explain says.
//! The kernel tier asks the same of the loaded programs. Needs no root; `cargo xtask test --faults` shows that it notices faults.

use std::collections::HashMap;

use sensor_core::policy::image::Numbers;
use sensor_ebpf::{
    abi::{
        counter::Counter,
        image::{INSTALL_LINE, INSTALL_WORD},
        repeat::tallied,
        sample::Hook,
        settings::POLICY_ANCHOR_SHIFT,
    },
    packet::Link,
    testing::{Host, image::Image},
    verdict::Decision,
};
use sensor_tests::{
    model::Decided,
    policy_case::{Case, IFINDEX, Tally},
};

const POLICIES: usize = 1_200;
const PACKETS: usize = 100;

fn image(case: &Case) -> (Image, u64) {
    let image = &case.compiled.image;
    let header = sensor_core::policy::image::View::new(&image.lines[..]).unwrap().header;
    let anchor = u64::from(header.anchor_lengths[0]) << POLICY_ANCHOR_SHIFT;
    let mut lines = image.lines.clone();
    // As the agent does at each installation.
    lines[INSTALL_LINE as usize][INSTALL_WORD] = case.boot_ns;
    let copy = Image {
        lines,
        any4: image.any4.clone(),
        filter6: image.filter6.clone(),
        near4: image.near4.clone(),
        near6: image.near6.clone(),
        flags: image.flags | anchor,
    };
    (copy, image.flags | anchor)
}

#[test]
fn the_verdict_is_that_of_the_rules_as_written() {
    let mut numbers = Numbers::default();
    let mut host = Host::default();
    host.enforce = true;
    host.ifindex = IFINDEX;
    let (mut tally, mut refused) = (Tally::default(), 0);
    for number in 0..POLICIES {
        let Some(case) = Case::new(number as u64, number, PACKETS, &mut numbers) else {
            refused += 1;
            continue;
        };
        let (image, policy) = image(&case);
        host.images[0] = image;
        host.settings.policy = policy;
        let mut model = case.model.clone();
        host.forget_clients();
        for packet in &case.packets {
            host.now_ns = case.boot_ns + packet.time_ns;
            host.hook = if packet.ingress { Hook::Ingress } else { Hook::Egress };
            let before: HashMap<u32, _> = host.hits.borrow().clone();
            let kept = [host.counter(Counter::Allowed), host.counter(Counter::Failsafe)];
            let decision = host.see(Link::Ethernet, &packet.frame());
            let decided = model.decide(packet, IFINDEX);
            tally.add(&decided);
            let hits = host.hits.borrow();
            let count = |id: &str, would: bool| {
                let slot = case.slot(id);
                let of = |hits: Option<&sensor_ebpf::abi::policy::RuleHits>| {
                    hits.map_or(0, |hits| if would { hits.would_packets } else { hits.packets })
                };
                of(hits.get(&slot)) - of(before.get(&slot))
            };
            let allowed = host.counter(Counter::Allowed) - kept[0];
            let failsafe = host.counter(Counter::Failsafe) - kept[1];
            let agrees = match &decided {
                Decided::Pass => decision == Decision::Pass && allowed + failsafe == 0,
                Decided::Failsafe => decision == Decision::Pass && failsafe == 1,
                Decided::Allowed(id) => {
                    decision == Decision::Pass && allowed == 1 && count(id, true) >= 1
                }
                Decided::Blocked(id, false) => {
                    decision == Decision::Blocked && count(id, false) == 1
                }
                Decided::Blocked(id, true) => {
                    decision == Decision::BlockedReset && count(id, false) == 1
                }
                Decided::Limited(id, false) => {
                    decision == Decision::Limited && count(id, false) == 1
                }
                Decided::Limited(id, true) => {
                    decision == Decision::LimitedReset && count(id, false) == 1
                }
            };
            assert!(
                agrees,
                "policy {number}: the model says {decided:?}, the verdict {decision:?}\n{packet:?}\n{}",
                case.text
            );
            let explained = case.explain(&case.compiled.image.lines, packet).unwrap();
            assert!(
                case.agrees(&explained, &decided),
                "policy {number}: the model says {decided:?}, explain {explained:?}\n{packet:?}\n{}",
                case.text
            );
        }
    }
    let repeated: u64 = host.repeats.borrow().values().map(|row| tallied(row.tally).0).sum();
    assert!(repeated > 20, "{repeated} drops were known by their rows at the end");
    println!("{tally:?}, {refused} policies refused");
    assert!(tally.pairs >= 100_000 && refused < POLICIES / 20, "{tally:?} {refused}");
    assert!(tally.dropped * 5 >= tally.pairs, "{tally:?}");
    assert!(
        tally.reset > 1_000 && tally.limited > 1_000 && tally.allowed > 500 && tally.failsafe > 100,
        "{tally:?}"
    );
}
