//! Generated policies and packets: policy file -> real compiler -> image, and what `policy explain` says of it = the reference model.

use sensor_core::policy::image::Numbers;
use sensor_tests::policy_case::{Case, IFINDEX, Tally};

const POLICIES: usize = 1_200;
const PACKETS: usize = 100;

#[test]
fn explain_says_what_the_rules_as_written_say() {
    let mut numbers = Numbers::default();
    let (mut tally, mut refused) = (Tally::default(), 0);
    for number in 0..POLICIES {
        let Some(case) = Case::new(number as u64, number, PACKETS, &mut numbers) else {
            refused += 1;
            continue;
        };
        let mut model = case.model.clone();
        for packet in &case.packets {
            let decided = model.decide(packet, IFINDEX);
            tally.add(&decided);
            let explained = case.explain(&case.compiled.image.lines, packet).unwrap();
            assert!(
                case.agrees(&explained, &decided),
                "policy {number}: the model says {decided:?}, explain {explained:?}\n{packet:?}\n{}",
                case.text
            );
        }
    }
    assert!(tally.pairs >= 100_000 && refused < POLICIES / 20, "{tally:?} {refused}");
    assert!(tally.dropped * 5 >= tally.pairs, "{tally:?}");
}
