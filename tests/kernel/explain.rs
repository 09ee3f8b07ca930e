//! What `policy explain` says is what the live kernel does, with the agent alive and with it killed.

use std::{fs, path::PathBuf, process::Command};

use nix::sys::signal::Signal;
use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions, agent_binary},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; listen 8080; listen [::]:80; listen [::]:8080; location / { return 200 '{}'; } }";
const POLICY: &str = "\
version: 1
allow:
  - {id: partner, clients: [10.1.0.64/26], ports: [8080]}
block:
  - {id: told, clients: [10.1.0.66], action: reset, reason: CHG-1}
  - {id: silent, clients: [10.1.0.67, 'fd00::67']}
  - {id: one-port, clients: [10.1.0.2], ports: [8080]}
  - {id: over, clients: [10.1.0.68], expires: 2020-01-01T00:00:00Z}
  - {id: kept, clients: [10.1.0.69], force: true}
  - {id: watched, clients: [10.1.0.0/24], action: monitor}
  - {id: canary, clients: [10.1.0.128/28], percent: 50}
limits:
  - {id: roomy, clients: [10.1.0.70], packets: {rate: 1000000}}
";
/// Clients; each is asked about and then tried.
const CLIENTS: [(&str, u8); 8] = [
    ("10.1.0.66", 80),
    ("10.1.0.66", 8),
    ("10.1.0.67", 80),
    ("10.1.0.2", 8),
    ("10.1.0.68", 80),
    ("10.1.0.69", 80),
    ("10.1.0.70", 80),
    ("fd00::67", 80),
];

struct Host {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    pins: PathBuf,
    _nginx: Nginx,
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        server.sh("ip address add fd00::1/64 dev eth0 nodad").unwrap();
        for host in (66..=70).chain(128..144) {
            client.sh(&format!("ip address add 10.1.0.{host}/24 dev eth0")).unwrap();
        }
        client.sh("ip address add fd00::67/64 dev eth0 nodad").unwrap();
        fs::write(lab.folder().join("policy.yaml"), POLICY).unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        let pins = lab.bpffs().unwrap().join("api-sensor");
        Self { lab, server, client, pins, _nginx: nginx }
    }

    fn sensor(&self) -> Sensor {
        let policy = self.lab.folder().join("policy.yaml");
        let options = SensorOptions::on(&["eth0"]).with(&[
            "--mode",
            "enforce",
            "--protect",
            "10.1.0.69",
            "--policy",
            policy.to_str().unwrap(),
            "--pin-folder",
            self.pins.to_str().unwrap(),
        ]);
        Sensor::start(&self.lab, &self.server, &options).unwrap()
    }

    fn explain(&self, client: &str, port: u16, more: &[&str]) -> Value {
        let at = if client.contains(':') {
            format!("[{client}]:{port}")
        } else {
            format!("{client}:{port}")
        };
        let socket = self.lab.folder().join(format!("sensor-{}/agent.sock", self.server.name()));
        let output = Command::new(agent_binary().unwrap())
            .args(["policy", "explain", &at, "--json"])
            .args(["--socket".as_ref(), socket.as_os_str()])
            .args(["--pin-folder".as_ref(), self.pins.as_os_str()])
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{at}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a client sees, in the words of an explanation.
    fn tried(&self, client: &str, port: u16) -> &'static str {
        let server = if client.contains(':') { "[fd00::1]" } else { "10.1.0.1" };
        let curl = format!(
            "curl -s -o /dev/null --max-time 1 --interface {client} http://{server}:{port}/ && echo 0 || echo $?"
        );
        match self.client.sh(&curl).unwrap().trim() {
            "0" => "passes",
            "28" => "drop",
            "7" | "56" => "reset",
            other => panic!("curl of {client}: {other}"),
        }
    }

    fn agrees(&self, source: &str) {
        let canaries: Vec<String> = (128..144).map(|host| format!("10.1.0.{host}")).collect();
        let all = CLIENTS.iter().map(|(client, port)| (*client, *port));
        let mut seen = Vec::new();
        for (client, port) in all.chain(canaries.iter().map(|client| (client.as_str(), 80))) {
            let port = if port == 8 { 8080 } else { u16::from(port) };
            let told = self.explain(client, port, &[]);
            assert_eq!(told["source"], source, "{told:#}");
            assert_eq!(told["enforced"], true, "{told:#}");
            assert_eq!(told["generation"], 1, "{told:#}");
            let verdict = told["packets"][0]["verdict"].as_str().unwrap().to_owned();
            let expected = match verdict.as_str() {
                "drop" | "reset" => &verdict,
                _ => "passes",
            };
            assert_eq!(self.tried(client, port), expected, "{client}:{port} {told:#}");
            seen.push(verdict);
        }
        let (named, canaries) = seen.split_at(CLIENTS.len());
        let words = ["reset", "allow", "drop", "drop", "pass", "failsafe", "limit", "drop"];
        assert_eq!(named, words);
        let dropped = canaries.iter().filter(|verdict| *verdict == "drop").count();
        assert!((1..16).contains(&dropped), "half of the clients are the canary: {canaries:?}");
    }
}

#[test]
fn explain_says_what_the_live_kernel_does() {
    if !is_root_or_skips("explain_says_what_the_live_kernel_does") {
        return;
    }
    let host = Host::new();
    let mut sensor = host.sensor();
    host.agrees("agent");
    sensor.child.signal(Signal::SIGKILL).unwrap();
    sensor.child.wait(5).unwrap();
    host.agrees("pinned");
    let told = host.explain("10.1.0.66", 80, &[]);
    assert_eq!(told["packets"][0]["rule"], "told", "names are pinned too: {told:#}");
    // A file says the same, but it knows nothing of what the agent's configuration protects.
    let file = host.lab.folder().join("policy.yaml");
    let told = host.explain("10.1.0.69", 80, &["--file", file.to_str().unwrap()]);
    assert_eq!(told["packets"][0]["verdict"], "drop", "{told:#}");
    assert_eq!(told["enforced"], false, "{told:#}");
}
