//! Every generated exchange is found, and nothing else.

use std::collections::HashMap;

use sensor_tests::generate::{Settings, Truth, write_capture};

use super::support::{read, truth};

/// Multiset difference: expected less found, and found less expected.
fn differences(expected: &[Truth], found: &[Truth]) -> Vec<(Truth, i64)> {
    let mut counts: HashMap<&Truth, i64> = HashMap::new();
    for exchange in expected {
        *counts.entry(exchange).or_default() += 1;
    }
    for exchange in found {
        *counts.entry(exchange).or_default() -= 1;
    }
    counts
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(exchange, count)| (exchange.clone(), count))
        .collect()
}

fn check(settings: Settings) {
    let (mut capture, mut expected) = (Vec::new(), Vec::new());
    write_capture(settings, &mut capture, |exchange| {
        expected.push(exchange.clone());
        Ok(())
    })
    .unwrap();
    let read = read(&capture).unwrap();
    let found: Vec<Truth> = read.exchanges.iter().map(truth).collect();
    let different = differences(&expected, &found);
    assert!(
        different.is_empty(),
        "{settings:?}: {} differ, such as {:?}",
        different.len(),
        different.first()
    );
}

#[test]
fn twenty_thousand_exchanges_are_found_and_nothing_else() {
    check(Settings { seed: 1, exchanges: 20_000, concurrent: 64 });
}

#[test]
fn other_seeds_and_one_connection_at_a_time() {
    for seed in 2..12 {
        check(Settings {
            seed,
            exchanges: 1_000,
            concurrent: 1 + usize::try_from(seed).unwrap() * 7,
        });
    }
}

/// `cargo test -p sensor-tests --test replay -- --ignored two_hundred`: the count that the README names.
#[test]
#[ignore = "half a minute in a debug build"]
fn two_hundred_thousand_exchanges() {
    check(Settings { seed: 7, exchanges: 200_000, concurrent: 200 });
}
