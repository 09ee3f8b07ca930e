//! What is listed is dropped in the kernel, what is not is untouched, and observing cannot drop.

use std::fs;

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; location / { return 200 '{\"ok\":true}'; } }";
const POLICY: &str = "\
version: 1
block:
  - id: bad-client
    clients: [10.1.0.66/32]
    reason: CHG-1
limits:
  - id: slow-down
    clients: [10.1.0.77/32]
    packets: {rate: 20, burst: 20}
";

struct Three {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    nginx: Nginx,
}

impl Three {
    /// One client namespace with a good, a blocked and a limited address.
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client
            .sh("ip address add 10.1.0.66/24 dev eth0; ip address add 10.1.0.77/24 dev eth0")
            .unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        Self { lab, server, client, nginx }
    }

    fn sensor(&self, mode: &str) -> Sensor {
        let policy = self.lab.folder().join("policy.yaml");
        fs::write(&policy, POLICY).unwrap();
        let options = SensorOptions::on(&["eth0"]).with(&[
            "--mode",
            mode,
            "--policy",
            policy.to_str().unwrap(),
        ]);
        Sensor::start(&self.lab, &self.server, &options).unwrap()
    }

    fn curl(&self, from: &str) -> bool {
        self.client
            .sh(&format!(
                "curl -sf -o /dev/null --max-time 1 --interface {from} http://10.1.0.1/from/{}",
                from.replace('.', "-")
            ))
            .is_ok()
    }

    fn requests_from(&self, client: &str) -> usize {
        self.nginx.log_lines().unwrap().iter().filter(|line| line.ends_with(client)).count()
    }
}

fn rule<'a>(status: &'a Value, id: &str) -> &'a Value {
    status["rules"]
        .as_array()
        .and_then(|rules| rules.iter().find(|rule| rule["id"] == id))
        .unwrap_or_else(|| panic!("no rule {id} in {status:#}"))
}

#[test]
fn blocked_and_over_limit_clients_are_dropped_and_others_are_not() {
    if !is_root_or_skips("blocked_and_over_limit_clients_are_dropped") {
        return;
    }
    let three = Three::new();
    let sensor = three.sensor("enforce");
    assert!(!three.curl("10.1.0.66"), "a blocked client got an answer");
    assert_eq!(three.requests_from("10.1.0.66"), 0);
    // About 6 packets a request: 20 packets are a few requests, 30 in a row are not.
    let answered = (0..30).filter(|_| three.curl("10.1.0.77")).count();
    assert!((1..30).contains(&answered), "{answered} of 30 answered under the limit");
    for _ in 0..200 {
        assert!(three.curl("10.1.0.2"), "a client that no rule names was disturbed");
    }
    let status = sensor.status().unwrap();
    assert!(rule(&status, "bad-client")["packets"].as_u64().unwrap() > 0, "{status:#}");
    assert!(rule(&status, "slow-down")["packets"].as_u64().unwrap() > 0, "{status:#}");
    sensor.stop().unwrap();
    assert!(three.curl("10.1.0.66"), "the rule outlived the agent");
}

#[test]
fn observing_drops_nothing_and_says_what_it_would_have() {
    if !is_root_or_skips("observing_drops_nothing") {
        return;
    }
    let three = Three::new();
    let sensor = three.sensor("observe");
    for client in ["10.1.0.66", "10.1.0.77", "10.1.0.2"] {
        for _ in 0..50 {
            assert!(three.curl(client), "{client} was disturbed in observe mode");
        }
    }
    let status = sensor.status().unwrap();
    for id in ["bad-client", "slow-down"] {
        let rule = rule(&status, id);
        assert_eq!(rule["packets"], 0, "{status:#}");
        assert!(rule["would_packets"].as_u64().unwrap() > 0, "{status:#}");
    }
}

#[test]
fn a_policy_changed_while_running_takes_effect_and_a_bad_one_does_not() {
    if !is_root_or_skips("a_policy_changed_while_running") {
        return;
    }
    let three = Three::new();
    let sensor = three.sensor("enforce");
    let policy = three.lab.folder().join("policy.yaml");
    fs::write(
        &policy,
        "version: 1\nblock:\n  - id: other\n    clients: [10.1.0.2/32]\n    reason: CHG-2\n",
    )
    .unwrap();
    wait_until(|| !three.curl("10.1.0.2") && three.curl("10.1.0.66"));
    fs::write(&policy, "version: 1\nblock:\n  - id: broken\n    clients: [10.1.0.300/32]\n")
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(!three.curl("10.1.0.2"), "a bad file replaced the policy in force");
    assert!(three.curl("10.1.0.66"));
    drop(sensor);
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    for _ in 0..20 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    panic!("not within 5 s and more");
}
