//! The guard: a rule that hits too many of a service's clients monitors from then on, and everybody who looks can see it.

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket},
};
use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions},
};
use serde_json::Value;

const SERVERS: &str = "server { listen 80; listen 81; location / { return 200 '{}'; } }";
/// 32 of its clients, three times: above the default of 5 %, below a share of its own, and one client alone.
const POLICY: &str = "\
version: 1
block:
  - {id: mistake, clients: [10.1.0.128/27], ports: [80], reason: CHG-1}
  - {id: meant, clients: [10.1.0.160/27], ports: [81], max_share: 60, reason: CHG-2}
  - {id: one, clients: [10.1.0.200], reason: CHG-3}
";

struct Scene {
    client: Namespace,
    sensor: Sensor,
    server: Namespace,
    _nginx: Nginx,
    folder: PathBuf,
    policy: PathBuf,
    _lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client
            .sh("for n in $(seq 40 200); do echo address add 10.1.0.$n/24 dev eth0; done | ip -batch -")
            .unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVERS).unwrap();
        let policy = lab.folder().join("policy.yaml");
        fs::write(&policy, "version: 1\n").unwrap();
        let options = SensorOptions::on(&["eth0"]).with(&[
            "--mode",
            "enforce",
            "--policy",
            policy.to_str().unwrap(),
        ]);
        let sensor = Sensor::start(&lab, &server, &options).unwrap();
        let folder = lab.folder().join(format!("sensor-{}", server.name()));
        Self { client, sensor, server, _nginx: nginx, folder, policy, _lab: lab }
    }

    /// Puts the rules in force.
    fn install(&self) {
        fs::write(&self.policy, POLICY).unwrap();
        let began = Instant::now();
        while self.rule("one").is_null() {
            assert!(began.elapsed() < Duration::from_secs(6), "the policy is not read");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// One request of each address from `first` to `last`; those of blocked ones end after a moment.
    fn ask(&self, first: u32, last: u32, port: u16) {
        let line = format!(
            "for n in $(seq {first} {last}); do curl -s -o /dev/null --connect-timeout 0.4 --interface 10.1.0.$n http://10.1.0.1:{port}/ & done; wait"
        );
        let _some_are_blocked = self.client.sh(&line).is_err();
    }

    /// One SYN of each address, all within a moment: no look at the drops comes in between.
    fn knock(&self, first: u8, last: u8, port: u16) {
        let knock = || {
            let sockets: Vec<OwnedFd> = (first..=last)
                .map(|host| {
                    let socket = socket(
                        AddressFamily::Inet,
                        SockType::Stream,
                        SockFlag::SOCK_NONBLOCK,
                        None,
                    )?;
                    bind(socket.as_raw_fd(), &SockaddrIn::new(10, 1, 0, host, 0))?;
                    match connect(socket.as_raw_fd(), &SockaddrIn::new(10, 1, 0, 1, port)) {
                        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
                        Err(error) => Err(error),
                    }
                })
                .collect::<Result<_, _>>()?;
            thread::sleep(Duration::from_millis(100));
            drop(sockets);
            Ok(())
        };
        self.client.inside(knock).unwrap();
    }

    fn answers(&self, from: &str, port: u16) -> bool {
        let get = format!(
            "curl -sf -o /dev/null --max-time 1 --interface {from} http://10.1.0.1:{port}/x"
        );
        self.client.sh(&get).is_ok()
    }

    fn rule(&self, id: &str) -> Value {
        let list = self.sensor.ask(&["policy", "list"]).unwrap();
        let rules = list["rules"].as_array().cloned().unwrap_or_default();
        rules.into_iter().find(|rule| rule["id"] == id).unwrap_or_default()
    }
}

#[test]
fn sources_that_were_never_answered_do_not_stop_a_rule() {
    if !is_root_or_skips("sources_that_were_never_answered") {
        return;
    }
    let scene = Scene::new();
    scene.install();
    // A quiet service: as good as all of its clients are listed ones that send a SYN.
    scene.ask(40, 42, 80);
    scene.ask(128, 159, 80);
    thread::sleep(Duration::from_secs(3));
    let rule = scene.rule("mistake");
    assert!(rule["stopped"].is_null() && rule["packets"].as_u64() >= Some(32), "{rule:#}");
}

#[test]
fn a_rule_that_hits_too_many_clients_monitors_from_then_on_and_says_so() {
    if !is_root_or_skips("a_rule_that_hits_too_many_clients") {
        return;
    }
    let scene = Scene::new();
    for port in [80, 81] {
        scene.ask(40, 99, port);
        scene.ask(128, 191, port);
    }
    scene.install();
    scene.ask(200, 200, 80);
    scene.ask(160, 191, 81);
    scene.knock(128, 159, 80);
    let began = Instant::now();
    // Looked at until well after: it must not step in again for what it saw already.
    while scene.rule("mistake")["stopped"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(6), "{:#}", scene.rule("mistake"));
        thread::sleep(Duration::from_millis(100));
    }
    eprintln!(
        "stopped {:?} after the last client: {}",
        began.elapsed(),
        scene.rule("mistake")["stopped"]
    );
    assert!(scene.answers("10.1.0.130", 80), "the rule goes on dropping");
    // The other rules are what they were.
    thread::sleep(Duration::from_millis(1500));
    for (id, from, port) in [("meant", "10.1.0.170", 81), ("one", "10.1.0.200", 80)] {
        assert!(scene.rule(id)["stopped"].is_null(), "{:#}", scene.rule(id));
        assert!(scene.rule(id)["packets"].as_u64() > Some(0), "{:#}", scene.rule(id));
        assert!(!scene.answers(from, port), "{id} does not drop");
    }
    assert!(scene.rule("mistake")["would_packets"].as_u64() > Some(0), "it counts on");
    let status = scene.sensor.status().unwrap();
    assert_eq!(status["ledger"]["agent"]["guard_stops"], 1, "{:#}", status["ledger"]["agent"]);
    let metrics = scene.server.sh("curl -s http://127.0.0.1:9464/metrics").unwrap();
    assert!(
        metrics.lines().any(|line| line.contains("guard") && line.ends_with(" 1")),
        "{metrics}"
    );
    let store = scene.folder.join("store");
    let log = scene.sensor.ask(&["audit", "list", "--store", store.to_str().unwrap()]).unwrap();
    let told = |one: &Value| {
        one["action"] == "guard"
            && one["reason"].as_str().is_some_and(|why| why.contains("mistake hit 32 of"))
    };
    assert!(log.as_array().unwrap().iter().any(told), "{log:#}");
}
