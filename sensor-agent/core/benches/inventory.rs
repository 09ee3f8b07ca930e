//! Cost of the inventory for one exchange: known endpoint, new path, beyond the bound. Prints a JSON line each.
//!
//! `cargo bench -p sensor-core --bench inventory`. Median of nine rounds.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and prints"
)]

use std::{net::SocketAddr, time::Instant};

use sensor_core::{
    catalogue::Catalogue,
    http::{AuthScheme, Exchange, Method, OwnerHint, RequestFacts, ResponseFacts},
    inventory::Inventory,
    limits::InventoryLimits,
    state::Role,
    time::UnixNs,
};

const ROUNDS: usize = 9;

fn exchange(target: String, client: u32, number: u64) -> Exchange {
    Exchange {
        time: UnixNs(1_767_225_600_000_000_000 + number),
        client: SocketAddr::from((client.to_be_bytes(), 40_000)),
        server: SocketAddr::from(([10, 0, 0, 2], 80)),
        method: Method::Get,
        host: Some(b"api.example.com".as_slice().into()),
        target: target.into_bytes().into(),
        status: Some(200),
        latency_ns: Some(1_000_000 + number % 1_000 * 1_000),
        request: RequestFacts { auth: AuthScheme::Bearer, ..Default::default() },
        response: ResponseFacts {
            content_type: Some("application/json".into()),
            ..Default::default()
        },
        weight: 1,
        client_hint: OwnerHint::default(),
        server_hint: OwnerHint::default(),
    }
}

fn measure(name: &str, limits: InventoryLimits, catalogue: &Catalogue, exchanges: &[Exchange]) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let mut inventory = Inventory::new(limits, [1, 2]);
            for exchange in exchanges.iter().take(2_000) {
                inventory.observe(exchange, Role::Server, catalogue);
            }
            let start = Instant::now();
            for exchange in exchanges {
                inventory.observe(exchange, Role::Server, catalogue);
            }
            start.elapsed().as_secs_f64() * 1e9 / exchanges.len() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let median = rounds[ROUNDS / 2];
    println!(
        "{{\"name\":\"inventory/{name}\",\"value\":{median:.0},\"unit\":\"ns\",\"runs\":{ROUNDS}}}"
    );
}

fn main() {
    let document = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths:\n  '/users/{id}': {get: {responses: {}}}\n";
    let (catalogue, _) = Catalogue::load(&[("a.yaml", document)], None);
    let empty = Catalogue::default();
    let limits = InventoryLimits::default();
    let known: Vec<Exchange> = (0..100_000_u64)
        .map(|n| exchange(format!("/users/{}", n % 1_000), (n % 500) as u32, n))
        .collect();
    let query: Vec<Exchange> = (0..100_000_u64)
        .map(|n| exchange(format!("/users/{}?page={n}&size=2", n % 1_000), (n % 500) as u32, n))
        .collect();
    let ids: Vec<Exchange> =
        (0..100_000_u64).map(|n| exchange(format!("/users/{n}"), (n % 500) as u32, n)).collect();
    let words: Vec<Exchange> =
        (0..100_000_u64).map(|n| exchange(format!("/x{n}y/list"), (n % 500) as u32, n)).collect();
    measure("known", limits, &empty, &known);
    measure("known_query", limits, &empty, &query);
    measure("new_id", limits, &empty, &ids);
    measure("new_id_declared", limits, &catalogue, &ids);
    measure("new_path", limits, &empty, &words);
    measure(
        "beyond_bound",
        InventoryLimits { endpoints_per_service: 10, ..limits },
        &empty,
        &words,
    );
}
