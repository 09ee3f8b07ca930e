//! Limits as clients experience them, measured against the wall clock, and under a flood of forged sources.

mod connections;
mod exact;
mod flood;
mod rates;
mod requests;

use std::{fs, time::Duration};

use sensor_tests::lab::{Lab, Namespace, Sensor, SensorOptions};
use serde_json::Value;

/// A host with the sensor and a namespace with its clients.
struct Scene {
    lab: Lab,
    server: Namespace,
    clients: Namespace,
}

const SERVER: &str = "10.200.0.1";

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, clients) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.200.0.1/24"), (&clients, "eth0", "10.200.0.2/24")).unwrap();
        server.sh("ip route add default via 10.200.0.2").unwrap();
        Self { lab, server, clients }
    }

    /// Gives the clients' end more addresses.
    fn addresses(&self, addresses: impl Iterator<Item = std::net::Ipv4Addr>) {
        let mut batch = String::new();
        for address in addresses {
            let line = format!("address add {address}/32 dev eth0\n");
            batch.push_str(&line);
        }
        let file = self.lab.folder().join("addresses");
        fs::write(&file, batch).unwrap();
        self.clients.sh(&format!("ip -batch {}", file.display())).unwrap();
    }

    fn sensor(&self, limits: &str) -> Sensor {
        let policy = self.lab.folder().join("policy.yaml");
        fs::write(&policy, format!("version: 1\nlimits:\n{limits}")).unwrap();
        // Every client of these tests is over its limit: the guard would take the rule for a mistake.
        let config = self.lab.folder().join("config.yaml");
        fs::write(&config, "guard_max_share: 100%\n").unwrap();
        let options = SensorOptions::on(&["eth0"]).with(&[
            "--mode",
            "enforce",
            "--policy",
            policy.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
        ]);
        Sensor::start(&self.lab, &self.server, &options).unwrap()
    }
}

/// A count of the kernel's ledger.
fn counted(sensor: &Sensor, name: &str) -> u64 {
    let status = sensor.status().unwrap();
    status["ledger"]["kernel"][name].as_u64().unwrap_or_else(|| panic!("no count {name}"))
}

/// A field of a rule's status.
fn of_rule(sensor: &Sensor, id: &str, field: &str) -> u64 {
    let status = sensor.status().unwrap();
    let rules: &Vec<Value> = status["rules"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["id"] == id).unwrap_or_else(|| panic!("no rule {id}"));
    rule[field].as_u64().unwrap()
}

/// How long a test waits for what must not come.
const NOTHING: Duration = Duration::from_millis(300);
