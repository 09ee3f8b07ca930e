//! What it takes to load, replace and change a list of a million IPv4 entries, from the list in memory to a policy in force, beside as many
//! plain inserts into a hash and an LPM trie in the same round.

use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use sensor_agent::kernel::{Bench, Install};
use sensor_core::policy::image::Numbers;

use super::{
    figure, load, median,
    million::{ENTRIES, compile, nets4},
};

const ROUNDS: usize = 5;

/// Measures and prints the figures.
pub(super) fn replacement(object: &[u8]) -> Result<()> {
    let lists = [nets4(0), nets4(1)];
    let [first, second] = &lists;
    let plain: Vec<([u8; 4], u8)> =
        second.iter().map(|net| (net.network().octets(), net.prefix_len())).collect();
    let changed: Vec<Ipv4Net> = second.iter().copied().skip(1).collect();
    let steps = [("load", first), ("replace", second), ("change", &changed)];
    let mut took = [const { Vec::new() }; 3];
    let mut baseline = Vec::new();
    let mut numbers = Numbers::default();
    for _ in 0..ROUNDS {
        baseline.push(milliseconds(Bench::plain_inserts(&plain)?));
        let mut bench = load(object)?;
        for ((_, list), took) in steps.iter().zip(&mut took) {
            let list: Vec<IpNet> = list.iter().copied().map(IpNet::from).collect();
            let started = Instant::now();
            let compiled = compile(&list, &mut numbers)?;
            bench.publish(&compiled.image, Install::Confirmed)?;
            took.push(milliseconds(started.elapsed()));
        }
    }
    for ((name, _), took) in steps.iter().zip(&mut took) {
        let mut ratios: Vec<f64> =
            took.iter().zip(&baseline).map(|(own, plain)| own / plain).collect();
        let beside = (median(&mut baseline.clone()), median(&mut ratios));
        figure(&format!("policy/{name}/{ENTRIES}"), median(took), "ms", Some(beside), ROUNDS);
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
