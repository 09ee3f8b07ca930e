//! The inventory's totals equal the client's and the server's, however the bytes come.

use std::collections::BTreeMap;

use sensor_tests::{
    is_root_or_skips,
    lab::{KeepAlive, Lab, Namespace, Nginx, Sensor, SensorOptions},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; location / { return 200 '{\"ok\":true}'; } }";
const REQUESTS: usize = 100_000;

/// A server namespace with nginx and a client namespace, joined by one veth pair.
struct Pair {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    nginx: Nginx,
}

impl Pair {
    fn new(servers: &str) -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        let nginx = Nginx::start(&lab, &server, 80, servers).unwrap();
        Self { lab, server, client, nginx }
    }

    fn sensor(&self, options: &SensorOptions) -> Sensor {
        Sensor::start(&self.lab, &self.server, options).unwrap()
    }
}

/// Requests over all endpoints, once nothing changes any more.
pub(crate) fn total_requests(sensor: &Sensor) -> u64 {
    let mut before = u64::MAX;
    loop {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let inventory = sensor.inventory().unwrap();
        let now = inventory["endpoints"].as_array().unwrap().iter().map(requests).sum();
        if now == before {
            return now;
        }
        before = now;
    }
}

fn requests(endpoint: &Value) -> u64 {
    endpoint["requests"].as_u64().unwrap()
}

/// A counter of the loss ledger, named `part.counter`.
fn ledger(sensor: &Sensor, name: &str) -> u64 {
    let status = sensor.status().unwrap();
    let (part, counter) = name.split_once('.').unwrap();
    status["ledger"][part][counter]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {}", status["ledger"]))
}

pub(crate) fn assert_no_loss(sensor: &Sensor) {
    for name in [
        "kernel.records_lost",
        "kernel.request_heads_lost",
        "kernel.response_heads_lost",
        "flow.heads_malformed",
        "flow.heads_partial",
        "flow.requests_unanswered",
        "flow.responses_orphan",
    ] {
        assert_eq!(ledger(sensor, name), 0, "{name}");
    }
}

/// Runs `h2load` with `arguments`, and requires client = server log = inventory, and no loss.
fn check_h2load(options: &SensorOptions, arguments: &str) {
    let pair = Pair::new(SERVER);
    // Every flow, whatever the ring holds: what does not fit must show as a loss.
    let sensor = pair.sensor(&options.clone().with(&["--sampling-budget", "fixed"]));
    let report = pair
        .client
        .sh(&format!("h2load --h1 -n {REQUESTS} {arguments} http://10.1.0.1/orders/1"))
        .unwrap();
    assert!(report.contains(&format!("{REQUESTS} succeeded")), "{report}");
    assert_eq!(pair.nginx.requests().unwrap(), REQUESTS);
    assert_eq!(total_requests(&sensor), REQUESTS as u64, "{:#}", sensor.status().unwrap());
    assert_no_loss(&sensor);
    sensor.stop().unwrap();
}

#[test]
fn every_request_of_h2load_is_in_the_inventory() {
    if is_root_or_skips("every_request_of_h2load_is_in_the_inventory") {
        check_h2load(&SensorOptions::on(&["eth0"]), "-c 20");
    }
}

#[test]
fn pipelined_requests_are_all_there() {
    if is_root_or_skips("pipelined_requests_are_all_there") {
        check_h2load(&SensorOptions::on(&["eth0"]), "-c 10 -m 16");
    }
}

#[test]
fn heads_longer_than_a_record_are_all_there() {
    if is_root_or_skips("heads_longer_than_a_record_are_all_there") {
        let cookie = "c".repeat(6 * 1024);
        // 570 MB of heads in a few seconds: with a ring that lasts while the machine runs something else.
        check_h2load(
            &SensorOptions::on(&["eth0"]).with(&["--ring-bytes", "67108864"]),
            &format!("-c 10 -H 'Cookie: session={cookie}'"),
        );
    }
}

#[test]
fn a_veth_pair_watched_on_both_ends_counts_once() {
    if !is_root_or_skips("a_veth_pair_watched_on_both_ends_counts_once") {
        return;
    }
    let pair = Pair::new(SERVER);
    let far = pair.client.path();
    let sensor = pair.sensor(
        &SensorOptions::on(&["eth0"]).with(&["--interface", &format!("eth0@{}", far.display())]),
    );
    pair.client.sh(&format!("h2load --h1 -n {REQUESTS} -c 20 http://10.1.0.1/orders/1")).unwrap();
    assert_eq!(total_requests(&sensor), REQUESTS as u64);
    assert_no_loss(&sensor);
}

#[test]
fn requests_cut_into_seven_byte_writes_are_all_there() {
    if !is_root_or_skips("requests_cut_into_seven_byte_writes_are_all_there") {
        return;
    }
    let pair = Pair::new(SERVER);
    let sensor = pair.sensor(&SensorOptions::on(&["eth0"]));
    pair.client
        .inside(|| {
            let mut connections = (0..4)
                .map(|_| KeepAlive::connect("10.1.0.1:80".parse()?))
                .collect::<Result<Vec<_>, _>>()?;
            for _ in 0..REQUESTS / 4 {
                for connection in &mut connections {
                    assert_eq!(connection.get("/orders/1", 7)?, 200);
                }
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(pair.nginx.requests().unwrap(), REQUESTS);
    assert_eq!(total_requests(&sensor), REQUESTS as u64, "{:#}", sensor.status().unwrap());
    assert_no_loss(&sensor);
}

#[test]
fn connections_opened_before_the_sensor_are_seen_at_each_start() {
    if !is_root_or_skips("connections_opened_before_the_sensor_are_seen_at_each_start") {
        return;
    }
    let pair = Pair::new(SERVER);
    pair.client
        .inside(|| {
            let mut connections = (0..100)
                .map(|_| KeepAlive::connect("10.1.0.1:80".parse()?))
                .collect::<Result<Vec<_>, _>>()?;
            for connection in &mut connections {
                connection.get("/before", 4096)?;
            }
            for round in 1..=2_u64 {
                let sensor = pair.sensor(&SensorOptions::on(&["eth0"]));
                for _ in 0..10 {
                    for connection in &mut connections {
                        assert_eq!(connection.get("/orders/1", 4096)?, 200);
                    }
                }
                // The store carries the first round over to the second.
                assert_eq!(total_requests(&sensor), round * 1000, "{:#}", sensor.status()?);
                sensor.stop()?;
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_chunked_upload_full_of_fake_heads_makes_no_endpoint() {
    if !is_root_or_skips("a_chunked_upload_full_of_fake_heads_makes_no_endpoint") {
        return;
    }
    // A proxied location: nginx reads the body, as `return` alone would not.
    let pair = Pair::new(
        "server { listen 80; location / { proxy_pass http://127.0.0.1:8080; proxy_request_buffering off; } }\n\
         server { listen 127.0.0.1:8080; location / { client_body_buffer_size 1m; return 200 '{\"ok\":true}'; } }",
    );
    let sensor = pair.sensor(&SensorOptions::on(&["eth0"]));
    pair.client
        .inside(|| {
            let mut connection = KeepAlive::connect("10.1.0.1:80".parse()?)?;
            for _ in 0..20 {
                connection.send(b"POST /upload HTTP/1.1\r\nHost: lab.test\r\nTransfer-Encoding: chunked\r\n\r\n", 4096)?;
                for _ in 0..50 {
                    let fake = b"GET /fake HTTP/1.1\r\nHost: fake.test\r\n\r\n";
                    // Size line, fake head and line end each in a segment of their own.
                    connection.send(format!("{:x}\r\n", fake.len()).as_bytes(), 4096)?;
                    connection.send(fake, 4096)?;
                    connection.send(b"\r\n", 4096)?;
                }
                connection.send(b"0\r\n\r\n", 4096)?;
                assert_eq!(connection.response()?, 200);
                assert_eq!(connection.get("/after", 4096)?, 200);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(total_requests(&sensor), 40, "{:#}", sensor.inventory().unwrap());
    let inventory = sensor.inventory().unwrap();
    let rows = inventory["endpoints"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{inventory:#}");
    assert!(rows.iter().all(|row| requests(row) == 20), "{inventory:#}");
}

#[test]
fn with_a_ring_too_small_every_head_is_an_exchange_or_a_counted_loss() {
    if !is_root_or_skips("with_a_ring_too_small_every_head_is_an_exchange_or_a_counted_loss") {
        return;
    }
    let pair = Pair::new(SERVER);
    let events = pair.lab.folder().join("events.jsonl");
    let sensor = pair.sensor(&SensorOptions::on(&["eth0"]).with(&[
        "--ring-bytes",
        "4096",
        "--poll-interval",
        "100ms",
        "--sampling-budget",
        "fixed",
        "--sink",
        &format!("file:{}?format=jsonl", events.display()),
    ]));
    pair.client
        .sh(&format!("h2load --h1 -n {REQUESTS} -c 20 -m 4 http://10.1.0.1/orders/1"))
        .unwrap();
    let _settled = total_requests(&sensor);
    // The end of the run gives up what still waits for an answer that was lost.
    sensor.stop().unwrap();
    let ledger = last_ledger(&events);
    let count = |name: &str| ledger[name];
    let [requests, requests_lost, responses, responses_lost] =
        ["request_heads", "request_heads_lost", "response_heads", "response_heads_lost"]
            .map(|name| count(&format!("kernel.{name}")));
    assert!(requests_lost > 0 && responses_lost > 0, "the ring was not too small");
    assert_eq!((requests, responses), (REQUESTS as u64, REQUESTS as u64));
    assert_eq!(
        requests,
        count("flow.requests_answered") + count("flow.requests_unanswered") + requests_lost,
        "{ledger:#?}"
    );
    assert_eq!(
        responses,
        count("flow.responses_answered") + count("flow.responses_orphan") + responses_lost,
        "{ledger:#?}"
    );
    assert_eq!(
        count("flow.requests_answered") + count("flow.requests_unanswered"),
        count("pipeline.exchanges"),
        "{ledger:#?}"
    );
}

/// The last ledger among events, by `stage.counter`.
fn last_ledger(events: &std::path::Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(events).unwrap();
    let ledger = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .rfind(|event| event.get("ledger").is_some())
        .unwrap();
    let counts = ledger["ledger"]["counts"].as_array().unwrap();
    counts
        .iter()
        .map(|count| {
            let name =
                format!("{}.{}", count["stage"].as_str().unwrap(), count["name"].as_str().unwrap());
            (name, count["value"].as_u64().unwrap_or_default())
        })
        .collect()
}
