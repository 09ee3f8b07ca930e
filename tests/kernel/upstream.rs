//! `run --upstream` with `collect`: every event once by its number, whatever happens to the collector.

use std::{fs, path::Path, process::Command, time::Duration};

use sensor_tests::{
    is_root_or_skips,
    lab::{Child, Lab, Namespace, Nginx, Sensor, SensorOptions, agent_binary},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; location / { return 200 '{}'; } }";
const QUEUE: u64 = 3_000;

fn collector(server: &Namespace, out: &Path) -> Child {
    let mut command: Command = server.command(agent_binary().unwrap());
    command.arg("collect").args(["--listen", "127.0.0.1:4640", "--out"]).arg(out);
    Child::spawn(&mut command).unwrap()
}

/// The sink's counts, once nothing waits in it any more (or after `seconds`).
fn settled(sensor: &Sensor, seconds: u64) -> Value {
    for _ in 0..seconds * 10 {
        let sink = sensor.status().unwrap()["sinks"][0].clone();
        if sink["waiting_events"] == 0 {
            return sink;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    sensor.status().unwrap()["sinks"][0].clone()
}

fn written(out: &Path) -> (Vec<u64>, usize) {
    let text = fs::read_to_string(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let exchanges = lines.iter().filter(|line| line.get("exchange").is_some()).count();
    (lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect(), exchanges)
}

#[test]
fn every_event_arrives_once_and_what_does_not_fit_is_counted() {
    if !is_root_or_skips("every_event_arrives_once_and_what_does_not_fit_is_counted") {
        return;
    }
    let lab = Lab::new().unwrap();
    let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
    let _nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
    let out = lab.folder().join("events.jsonl");
    let load = |requests: u64| {
        client.sh(&format!("h2load --h1 -n {requests} -c 4 http://10.1.0.1/orders/1")).unwrap();
    };

    let running = collector(&server, &out);
    let upstream = format!("http://127.0.0.1:4640?queue_events={QUEUE}");
    let options =
        SensorOptions::on(&["eth0"]).with(&["--exchange-events", "--upstream", &upstream]);
    let sensor = Sensor::start(&lab, &server, &options).unwrap();
    load(500);
    assert_eq!(settled(&sensor, 10)["dropped"], 0);

    // Away, and less comes than fits: nothing is lost.
    drop(running);
    load(1_000);
    let running = collector(&server, &out);
    let sink = settled(&sensor, 30);
    assert_eq!(
        (sink["dropped"].as_u64(), sink["waiting_events"].as_u64()),
        (Some(0), Some(0)),
        "{sink:#}"
    );

    // Away, and more comes than fits: what does not is counted.
    drop(running);
    load(QUEUE + 2_000);
    let _running = collector(&server, &out);
    let sink = settled(&sensor, 30);
    let dropped = sink["dropped"].as_u64().unwrap();
    assert!(dropped >= 2_000, "{sink:#}");

    let total = 500 + 1_000 + QUEUE + 2_000;
    sensor.stop().unwrap();
    let (sequences, exchanges) = written(&out);
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    // Other events than exchanges can be among the dropped: at least the rest of the exchanges has arrived.
    assert!(exchanges as u64 + dropped >= total, "{exchanges} + {dropped} of {total}");
}
