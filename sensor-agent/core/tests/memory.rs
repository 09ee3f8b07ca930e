//! Memory of the inventory stays under its bound whatever comes: distinct paths, hosts, clients, parameters.
//!
//! Resident memory of this process, which holds nothing else. One test, so that nothing runs beside it.

#![expect(clippy::expect_used, reason = "a test fails by panic, and shows what it measured")]

use std::{fs, net::SocketAddr};

use sensor_core::{
    catalogue::Catalogue,
    http::{Exchange, Method, OwnerHint, RequestFacts, ResponseFacts},
    inventory::Inventory,
    limits::InventoryLimits,
    state::Role,
    time::UnixNs,
};

/// Stated in the documentation of `InventoryLimits::endpoints`.
const BOUND_MIB: f64 = 64.0;

fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.split_whitespace().nth(1).expect("a figure").parse().expect("a number");
    kib / 1024.0
}

/// Request `number`: its path follows from `path`, its client and its latency from `number`.
fn exchange(number: u64, path: u64) -> Exchange {
    let hash = |value: u64| value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (word, other) = (hash(path), hash(number));
    let letters: String = (0..10)
        .map(|at| char::from(b'g' + u8::try_from(word >> (at * 4) & 15).expect("small")))
        .collect();
    Exchange {
        time: UnixNs(1_767_225_600_000_000_000 + number),
        client: SocketAddr::from((
            u32::try_from(other >> 40).expect("24 bits").to_be_bytes(),
            40_000,
        )),
        server: SocketAddr::from(([10, 0, 0, u8::try_from(path % 3).expect("small")], 80)),
        method: Method::Get,
        host: Some(format!("h{}.example", path % 7).into_bytes().into()),
        target: format!("/{letters}?p{}=1", number % 50_000).into_bytes().into(),
        status: Some(200),
        latency_ns: Some(other >> 30),
        request: RequestFacts::default(),
        response: ResponseFacts {
            content_type: Some("application/json".into()),
            ..Default::default()
        },
        weight: 1,
        client_hint: OwnerHint::default(),
        server_hint: OwnerHint::default(),
    }
}

#[test]
fn distinct_paths_stay_under_the_bound_and_flat() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let before = resident_mib();
    let catalogue = Catalogue::default();
    let mut inventory = Inventory::new(InventoryLimits::default(), [1, 2]);
    let mut feed = |range: std::ops::Range<u64>, paths: u64| {
        for number in range {
            inventory.observe(&exchange(number, number % paths), Role::Server, &catalogue);
        }
        resident_mib() - before
    };
    let full = feed(0..100_000, u64::MAX);
    let later = feed(100_000..300_000, u64::MAX);
    let busy = feed(300_000..700_000, 30_000);
    println!(
        "100 000 distinct paths: {full:.1} MiB, 300 000: {later:.1} MiB, then 400 000 clients: {busy:.1} MiB"
    );
    assert!(busy < BOUND_MIB, "{busy:.1} MiB");
    assert!(later < BOUND_MIB, "{later:.1} MiB");
    assert!(later - full < 3.0, "grows from {full:.1} to {later:.1} MiB");
    assert!(inventory.len() <= InventoryLimits::default().endpoints);
}
