//! `drops --follow`: each packet that the ledger says was dropped is in exactly one line, however it came to be dropped.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::UdpSocket,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use sensor_tests::{
    is_root_or_skips,
    lab::{Child, Lab, Namespace, Nginx, Sensor, SensorOptions, agent_binary},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; location / { return 200 '{}'; } }";
const POLICY: &str = "\
version: 1
block:
  - {id: silent, clients: [10.1.0.66, 10.1.0.67], reason: CHG-1}
  - {id: told, clients: [10.1.0.68], action: reset, reason: CHG-2}
limits:
  - {id: slow, clients: [10.1.0.77], packets: {rate: 50, burst: 50}, reason: CHG-3}
  - {id: few, clients: [10.1.0.78], new_connections: {rate: 5, burst: 5}, action: reset, reason: CHG-4}
";

struct Scene {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    sensor: Sensor,
    _nginx: Nginx,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client
            .sh("for n in 66 67 68 77 78; do ip address add 10.1.0.$n/24 dev eth0; done")
            .unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        let policy = lab.folder().join("policy.yaml");
        fs::write(&policy, POLICY).unwrap();
        let policy = policy.to_str().unwrap();
        let options = SensorOptions::on(&["eth0"]).with(&["--mode", "enforce", "--policy", policy]);
        let sensor = Sensor::start(&lab, &server, &options).unwrap();
        Self { lab, server, client, sensor, _nginx: nginx }
    }

    /// `drops --follow`, into a file.
    fn follow(&self, name: &str, more: &[&str]) -> (Child, PathBuf) {
        let file = self.lab.folder().join(name);
        let socket =
            self.lab.folder().join(format!("sensor-{}", self.server.name())).join("agent.sock");
        let mut command = Command::new(agent_binary().unwrap());
        command.args(["drops", "--follow"]).args(more).arg("--socket").arg(socket);
        command.stdout(File::create(&file).unwrap());
        (Child::spawn(&mut command).unwrap(), file)
    }

    /// Datagrams to a port where nobody listens, paced so that none is lost on its way.
    fn datagrams(&self, from: &str, count: usize) {
        let from = format!("{from}:0");
        self.client
            .inside(|| {
                let socket = UdpSocket::bind(&from)?;
                for number in 0..count {
                    let _refused = socket.send_to(b"x", "10.1.0.1:9999").is_err();
                    if number % 20 == 0 {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                Ok(())
            })
            .unwrap();
    }

    fn connections(&self, from: &str, count: usize) {
        let line = format!(
            "for n in $(seq {count}); do curl -s -o /dev/null --max-time 0.3 --interface {from} http://10.1.0.1/ || true; done"
        );
        self.client.sh(&line).unwrap();
    }

    /// Blocked and limited sightings.
    fn ledger(&self) -> u64 {
        let status = self.sensor.status().unwrap();
        let value = |name: &str| status["ledger"]["kernel"][name].as_u64().unwrap_or(0);
        value("blocked") + value("limited")
    }
}

/// Lines of the JSON form.
fn lines(file: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum(lines: &[Value]) -> u64 {
    lines.iter().map(|line| line["packets"].as_u64().unwrap()).sum()
}

#[test]
fn the_lines_of_drops_sum_to_the_ledger_whatever_dropped_the_packets() {
    if !is_root_or_skips("the_lines_of_drops_sum_to_the_ledger") {
        return;
    }
    let scene = Scene::new();
    let (_json, json) = scene.follow("drops.jsonl", &["--json"]);
    let (_text, text) = scene.follow("drops.txt", &[]);
    thread::scope(|scope| {
        for round in 0..3 {
            scope.spawn(|| scene.datagrams("10.1.0.66", 700));
            scope.spawn(|| scene.datagrams("10.1.0.77", 900));
            scope.spawn(|| scene.connections("10.1.0.68", 20));
            scope.spawn(|| scene.connections("10.1.0.78", 20));
            scope.spawn(|| scene.connections("10.1.0.2", 5));
            thread::sleep(Duration::from_millis(700 * round));
        }
    });
    // A single packet, at the end: told like the others.
    scene.datagrams("10.1.0.67", 1);
    let (mut dropped, mut still) = (0, Instant::now());
    while still.elapsed() < Duration::from_secs(3) {
        let now = scene.ledger();
        if now != dropped {
            (dropped, still) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(200));
    }
    assert!(dropped > 3 * 700, "{dropped}");
    let lines = lines(&json);
    assert_eq!(sum(&lines), dropped, "{lines:#?}");

    // Of each client and rule the first is told as such, and then at most one line a second.
    let mut rows: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for line in &lines {
        assert_eq!(line["type"], "drop", "{line:#}");
        let key = (line["rule"].as_str().unwrap(), line["client"].as_str().unwrap());
        rows.entry(key).or_default().push(line);
    }
    let keys: Vec<_> = rows.keys().copied().collect();
    let expected = [
        // Nobody answered: senders that may be forged are told by their network.
        ("few", "10.1.0.0/24"),
        ("silent", "10.1.0.66"),
        ("silent", "10.1.0.67"),
        ("slow", "10.1.0.0/24"),
        ("told", "10.1.0.68"),
    ];
    assert_eq!(keys, expected);
    for (key, lines) in &rows {
        let firsts = lines.iter().filter(|line| line["first"] == true).count();
        assert!(firsts == 1 && lines[0]["first"] == true, "{key:?}: {lines:#?}");
        let at = |line: &Value| line["time_unix_ns"].as_u64().unwrap();
        assert!(
            (lines.len() as u64) < 3 + (at(lines[lines.len() - 1]) - at(lines[0])) / 900_000_000,
            "{key:?}: {lines:#?}"
        );
        assert_eq!(lines[0]["interface"], "eth0");
    }
    assert_eq!(rows[&("silent", "10.1.0.67")].len(), 1);
    assert_eq!(rows[&("silent", "10.1.0.67")][0]["destination"], "10.1.0.1:9999");
    assert_eq!(rows[&("few", "10.1.0.0/24")][0]["reason"], "limit of its network");

    // The text says the same: `... x12` or `... x12 first`.
    let text = fs::read_to_string(text).unwrap();
    let counts = text.lines().map(|line| {
        let count = line.split_whitespace().find_map(|word| word.strip_prefix('x'));
        count.and_then(|count| count.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"))
    });
    assert_eq!(counts.sum::<u64>(), dropped, "{text}");
    eprintln!("{dropped} drops in {} lines", lines.len());
}
