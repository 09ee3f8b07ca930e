//! Enforcement goes on without the agent: nothing of a blocked client gets through while agents die, start and change.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sensor_agent::kernel::HookKind;
use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Sensor, SensorOptions, agent_binary},
};
use serde_json::Value;

mod switched;

const BLOCKED: &str = "10.1.0.66";
const GOOD: &str = "10.1.0.2";
const PORT: u16 = 9000;
const POLICY: &str = "\
version: 1
block:
  - id: bad-client
    clients: [10.1.0.66/32]
    reason: CHG-1
";

/// A server that counts what arrives, and two clients that never stop sending, one of them blocked.
struct Flood {
    stop: Arc<AtomicBool>,
    leaked: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(host: &Host) -> Self {
        let mut flood = Self {
            stop: Arc::default(),
            leaked: Arc::default(),
            arrived: Arc::default(),
            sent: Arc::default(),
            threads: Vec::new(),
        };
        let server = host.server.inside(|| Ok(UdpSocket::bind(("10.1.0.1", PORT))?)).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let counts = [Arc::clone(&flood.leaked), Arc::clone(&flood.arrived)];
        flood.run(move || {
            let mut buffer = [0; 64];
            if let Ok((_, from)) = server.recv_from(&mut buffer) {
                let [leaked, arrived] = &counts;
                let count = if from.ip().to_string() == BLOCKED { leaked } else { arrived };
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        for (address, pause_us) in [(BLOCKED, 100), (GOOD, 1000)] {
            let client = host.client.inside(|| Ok(UdpSocket::bind((address, 0))?)).unwrap();
            let to = SocketAddr::from(([10, 1, 0, 1], PORT));
            let sent = Arc::clone(&flood.sent);
            flood.run(move || {
                if client.send_to(b"x", to).is_ok() && address == BLOCKED {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_micros(pause_us));
            });
        }
        flood
    }

    fn run(&mut self, mut work: impl FnMut() + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                work();
            }
        }));
    }

    fn leaked(&self) -> u64 {
        self.leaked.load(Ordering::Relaxed)
    }

    /// Waits until what was sent so far has arrived or not, then forgets what leaked.
    fn settle(&self) {
        sleep(Duration::from_millis(100));
        self.leaked.store(0, Ordering::Relaxed);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

struct Host {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    policy: PathBuf,
    pins: PathBuf,
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client.sh("ip address add 10.1.0.66/24 dev eth0").unwrap();
        let policy = lab.folder().join("policy.yaml");
        fs::write(&policy, POLICY).unwrap();
        let pins = lab.bpffs().unwrap().join("api-sensor");
        Self { lab, server, client, policy, pins }
    }

    fn options(&self, more: &[&str]) -> SensorOptions {
        let (policy, pins) = (self.policy.to_str().unwrap(), self.pins.to_str().unwrap());
        SensorOptions::on(&["eth0"])
            .with(&["--mode", "enforce", "--policy", policy, "--pin-folder", pins])
            .with(more)
    }

    fn sensor(&self, more: &[&str]) -> Sensor {
        Sensor::start(&self.lab, &self.server, &self.options(more)).unwrap()
    }

    fn agent(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(agent_binary().unwrap())
            .args(arguments)
            .args(["--pin-folder", self.pins.to_str().unwrap()])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn folder(&self) -> PathBuf {
        self.lab.folder().join(format!("sensor-{}", self.server.name()))
    }

    /// A command that is about the sensor on this host: what it says as JSON.
    fn asked(&self, arguments: &[&str]) -> Value {
        let folder = self.folder();
        let output = Command::new(agent_binary().unwrap())
            .args(arguments)
            .arg("--json")
            .args(["--socket".as_ref(), folder.join("agent.sock").as_os_str()])
            .args(["--store".as_ref(), folder.join("store").as_os_str()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|_| {
            panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    fn layouts(&self) -> Value {
        let (done, text) = self.agent(&["enforcement", "status", "--json"]);
        assert!(done, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Ends an agent and takes out what it left, as a reboot does.
    fn kill_and_unpin(&self, sensor: Sensor) {
        kill(sensor);
        self.detach();
    }

    /// Removes everything of this test's sensor, and nothing of another one that runs on this machine.
    fn detach(&self) {
        let layouts = self.layouts();
        let instance = layouts[0]["instance"].as_str().unwrap();
        let (done, text) = self.agent(&["detach", "--all", "--instance", instance]);
        assert!(done, "{text}");
        assert!(!self.pins.exists(), "the folder is left: {text}");
    }
}

fn kill(mut sensor: Sensor) {
    sensor.child.signal(Signal::SIGKILL).unwrap();
    sensor.child.wait(5).unwrap();
}

fn cycles(hook: &str) {
    let host = Host::new();
    let hook = ["--tc-attach", hook];
    kill(host.sensor(&hook));
    let flood = Flood::start(&host);
    flood.settle();
    let packets = |status: &Value| status["packets"].as_u64().unwrap();
    let hits = |status: &Value| status["rules"][0]["packets"].as_u64().unwrap();
    let start = Instant::now();
    let mut before = (0, 0);
    for cycle in 0_u64..25 {
        let mut sensor = Sensor::spawn(&host.lab, &host.server, &host.options(&hook)).unwrap();
        if cycle % 5 == 0 {
            sensor.wait().unwrap();
            let status = sensor.status().unwrap();
            assert_eq!(status["enforcement"]["taken_over"], true, "{status:#}");
            assert_eq!(status["interfaces"][0]["hook"], hook[1], "{status:#}");
            let now = (packets(&status), hits(&status));
            assert!(
                now.0 > before.0 && now.1 > before.1,
                "counts went on: {before:?}, then {now:?}"
            );
            before = now;
        } else {
            // At any moment of its start, also before it has attached anything.
            sleep(Duration::from_millis(cycle * 89 % 1500));
        }
        kill(sensor);
        assert_eq!(flood.leaked(), 0, "leaked in cycle {cycle} with {}", hook[1]);
    }
    // Another build: maps of other sizes are another layout, which attaches beside the old one first.
    let upgraded = host.sensor(&[&hook[..], &["--flows-max", "4096"]].concat());
    let status = upgraded.status().unwrap();
    assert_eq!(status["enforcement"]["taken_over"], false, "{status:#}");
    assert_eq!(status["enforcement"]["other_layouts"].as_array().unwrap().len(), 0, "{status:#}");
    let layouts = host.layouts();
    assert_eq!(layouts.as_array().unwrap().len(), 1, "the old layout is gone: {layouts:#}");
    let old = host.server.sh("tc filter show dev eth0 ingress").unwrap();
    let filters = old.lines().filter(|line| line.contains(" sensor_tc_ingress_eth ")).count();
    assert_eq!(filters, usize::from(hook[1] == "clsact"), "{old}");
    sleep(Duration::from_millis(300));
    let (sent, arrived) =
        (flood.sent.load(Ordering::Relaxed), flood.arrived.load(Ordering::Relaxed));
    eprintln!("{}: 25 kills and an upgrade in {:?}: {sent} sent", hook[1], start.elapsed());
    assert_eq!(flood.leaked(), 0, "leaked in the upgrade with {}", hook[1]);
    assert!(sent > 10_000 && arrived > 1_000, "sent {sent}, of the other client arrived {arrived}");
    upgraded.stop().unwrap();
    sleep(Duration::from_millis(100));
    assert_eq!(flood.leaked(), 0, "an end in order leaves rules in force too");
    host.detach();
    sleep(Duration::from_millis(200));
    assert!(flood.leaked() > 0, "detached, and still blocked");
}

#[test]
fn nothing_leaks_while_agents_are_killed_started_and_upgraded_with_tcx() {
    if is_root_or_skips("nothing_leaks_with_tcx") {
        cycles("tcx");
    }
}

#[test]
fn nothing_leaks_while_agents_are_killed_started_and_upgraded_with_clsact() {
    if is_root_or_skips("nothing_leaks_with_clsact") {
        cycles("clsact");
    }
}

#[test]
fn enforcement_is_switched_with_the_agent_alive_hung_and_dead_and_stays_over_a_restart() {
    if !is_root_or_skips("enforcement_is_switched") {
        return;
    }
    let host = Host::new();
    let sensor = host.sensor(&[]);
    let flood = Flood::start(&host);
    flood.settle();
    sleep(Duration::from_millis(100));
    assert_eq!(flood.leaked(), 0);
    let switch = |to: &str, leaks: bool| {
        let start = Instant::now();
        let (done, text) = host.agent(&["enforcement", to]);
        assert!(done, "{text}");
        flood.settle();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        sleep(Duration::from_millis(200));
        assert_eq!(flood.leaked() > 0, leaks, "enforcement {to}: {text}");
    };
    kill(sensor);
    switch("off", true);
    let heir = host.sensor(&[]);
    assert_eq!(heir.status().unwrap()["enforcement"]["switched_off"], true);
    flood.settle();
    sleep(Duration::from_millis(200));
    assert!(flood.leaked() > 0, "a restart does not switch it on");
    kill(heir);
    switch("on", false);
    let heir = host.sensor(&[]);
    assert_eq!(heir.status().unwrap()["enforcement"]["switched_off"], false);
    switch("off", true);
    // Longer than the beat of the agent, which writes the same entry.
    sleep(Duration::from_millis(1500));
    assert_eq!(host.layouts()[0]["switched_off"], true, "the agent switched it back");
    switch("on", false);
    // An agent that hangs is not waited for.
    heir.child.signal(Signal::SIGSTOP).unwrap();
    switch("off", true);
    heir.child.signal(Signal::SIGCONT).unwrap();
    sleep(Duration::from_millis(1500));
    switch("on", false);
    kill(heir);
    host.detach();
}

#[test]
fn an_observing_agent_ends_the_enforcement_that_an_earlier_one_left() {
    if !is_root_or_skips("an_observing_agent_ends_the_enforcement") {
        return;
    }
    let host = Host::new();
    kill(host.sensor(&[]));
    let flood = Flood::start(&host);
    flood.settle();
    sleep(Duration::from_millis(100));
    assert_eq!(flood.leaked(), 0);
    let observing = host.options(&[]).with(&["--mode", "observe"]);
    let arguments: Vec<_> = observing.arguments.iter().skip(2).cloned().collect();
    let observing = SensorOptions { arguments, ..observing };
    let sensor = Sensor::start(&host.lab, &host.server, &observing).unwrap();
    flood.settle();
    sleep(Duration::from_millis(100));
    assert!(flood.leaked() > 0, "an observing agent drops nothing");
    sensor.stop().unwrap();
}

#[test]
fn what_cannot_be_pinned_is_said_and_refused_where_it_must_be() {
    if !is_root_or_skips("what_cannot_be_pinned") {
        return;
    }
    let host = Host::new();
    let plain = host.lab.folder().join("plain");
    let plain = ["--pin-folder", plain.to_str().unwrap()];
    let mut options = host.options(&[]);
    options.arguments.truncate(4);
    let sensor = Sensor::start(&host.lab, &host.server, &options.clone().with(&plain)).unwrap();
    let state = &sensor.status().unwrap()["enforcement"];
    assert_eq!(state["pinned"], false);
    assert!(state["not_pinned"].as_str().unwrap().contains("bpf file system"), "{state:#}");
    sensor.stop().unwrap();
    let always = options.with(&plain).with(&["--pin", "always"]);
    assert!(Sensor::start(&host.lab, &host.server, &always).is_err());

    // A second sensor of the same name is refused while the first one runs; one of another name has a folder of its own.
    let first = host.sensor(&["--instance", "edge"]);
    let other = host.lab.namespace("o").unwrap();
    let same = host.options(&["--instance", "edge"]);
    assert!(Sensor::start(&host.lab, &other, &same).is_err());
    drop(first);
    host.detach();
}

#[test]
fn pins_of_vanished_devices_are_swept() {
    if !is_root_or_skips("pins_of_vanished_devices_are_swept") {
        return;
    }
    let host = Host::new();
    host.server.sh("ip link add gone0 type veth peer name gone1").unwrap();
    let options = |host: &Host| {
        let mut options = host.options(&[]);
        options.interfaces.push("gone*".into());
        options
    };
    let sensor = Sensor::start(&host.lab, &host.server, &options(&host)).unwrap();
    assert_eq!(host.layouts()[0]["links"], 6);
    host.server.sh("ip link delete gone0").unwrap();
    let pinned = || {
        let layout = host.layouts()[0]["folder"].as_str().unwrap().to_owned();
        fs::read_dir(PathBuf::from(layout).join("links")).unwrap().count()
    };
    for _ in 0..100 {
        if pinned() == 2 {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    assert_eq!(pinned(), 2);
    host.server.sh("ip link add gone0 type veth peer name gone1").unwrap();
    sleep(Duration::from_millis(500));
    assert_eq!(pinned(), 6);
    kill(sensor);
    host.server.sh("ip link delete gone0").unwrap();
    assert_eq!(pinned(), 6, "nobody is there to sweep");
    let heir = Sensor::start(&host.lab, &host.server, &options(&host)).unwrap();
    assert_eq!(pinned(), 2);
    assert_eq!(heir.status().unwrap()["enforcement"]["swept"], 4);
    kill(heir);
    host.detach();
}

#[test]
fn an_enforcing_agent_goes_in_front_again_and_nothing_leaks() {
    if !is_root_or_skips("an_enforcing_agent_goes_in_front_again") {
        return;
    }
    let host = Host::new();
    let sensor = host.sensor(&[]);
    let flood = Flood::start(&host);
    flood.settle();
    // A program of somebody else at the head of both chains; it takes and drops nothing.
    let (neighbour, _ring) = crate::attach::attach(&host.server, HookKind::Tcx);
    let first = |status: &Value| {
        let one = status["interfaces"][0].clone();
        ["ingress", "egress"].iter().all(|hook| one[hook]["ahead"].as_array().unwrap().is_empty())
    };
    let until = Instant::now() + Duration::from_secs(30);
    let mut seen_behind = false;
    loop {
        // Whether it is ready is not asked here.
        let status = host.asked(&["status"]);
        seen_behind |= !first(&status);
        if seen_behind && first(&status) {
            assert_eq!(status["enforcement"]["put_in_front"], 2, "both hooks: {status:#}");
            assert_eq!(status["enforcement"]["links_not_pinned"], 0);
            break;
        }
        assert!(Instant::now() < until, "{status:#}");
        sleep(Duration::from_millis(100));
    }
    assert!(neighbour.is_attached(), "it is still there: {:?}", neighbour.interfaces());
    assert_eq!(flood.leaked(), 0);
    // The links that are pinned are the ones in front: the next agent takes those over.
    kill(sensor);
    let heir = host.sensor(&[]);
    assert!(first(&heir.status().unwrap()));
    assert_eq!(flood.leaked(), 0);
    kill(heir);
    host.detach();
}

/// Maps of other sizes: another layout, as another build is.
const UPGRADE: [&str; 2] = ["--flows-max", "4096"];

fn other_layouts(status: &Value) -> usize {
    status["enforcement"]["other_layouts"].as_array().unwrap().len()
}

#[test]
fn what_is_switched_off_stays_off_over_an_upgrade() {
    if !is_root_or_skips("what_is_switched_off_stays_off") {
        return;
    }
    let host = Host::new();
    kill(host.sensor(&[]));
    let flood = Flood::start(&host);
    let (done, text) = host.agent(&["enforcement", "off"]);
    assert!(done, "{text}");
    let upgraded = host.sensor(&UPGRADE);
    let status = upgraded.status().unwrap();
    assert_eq!(status["enforcement"]["switched_off"], true, "{status:#}");
    assert_eq!((&status["enforcement"]["taken_over"], other_layouts(&status)), (&false.into(), 0));
    flood.settle();
    sleep(Duration::from_millis(200));
    assert!(flood.leaked() > 0, "the upgrade switched it on");
    let (done, text) = host.agent(&["enforcement", "on"]);
    assert!(done, "{text}");
    flood.settle();
    sleep(Duration::from_millis(200));
    assert_eq!(flood.leaked(), 0);
    kill(upgraded);
    host.detach();
}

#[test]
fn a_policy_on_trial_ends_nothing_of_what_an_earlier_agent_left() {
    if !is_root_or_skips("a_policy_on_trial_ends_nothing") {
        return;
    }
    let host = Host::new();
    kill(host.sensor(&[]));
    let flood = Flood::start(&host);
    // The file is there and cannot be read: what an earlier agent left is better than nothing.
    fs::write(&host.policy, "version: 1\nblock: [}").unwrap();
    let mut sensor = Sensor::spawn(&host.lab, &host.server, &host.options(&UPGRADE)).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let socket = host.folder().join("agent.sock");
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(sensor.child.is_running().unwrap() && Instant::now() < until);
        sleep(Duration::from_millis(50));
    }
    let trial = host.lab.folder().join("trial.yaml");
    fs::write(&trial, POLICY.replace("10.1.0.66", "10.1.0.77")).unwrap();
    let apply = ["policy", "apply", trial.to_str().unwrap(), "--confirm", "60s"];
    let check = |what: &str, others: usize, leaks: bool| {
        flood.settle();
        sleep(Duration::from_millis(300));
        assert_eq!(flood.leaked() > 0, leaks, "{what}");
        assert_eq!(other_layouts(&host.asked(&["status"])), others, "{what}");
    };
    check("no policy of its own", 1, false);
    let list = host.asked(&["policy", "list"]);
    let error = list["policy"]["error"].as_str().unwrap();
    assert!(error.contains("mismatched") && error.contains("an earlier run left"), "{error}");
    host.asked(&apply);
    check("on trial", 1, false);
    host.asked(&["policy", "revert"]);
    check("taken back", 1, false);
    host.asked(&apply);
    host.asked(&["policy", "confirm"]);
    check("confirmed", 0, true);
    kill(sensor);
    host.detach();
}

#[test]
fn a_policy_that_is_not_configured_any_more_ends() {
    if !is_root_or_skips("a_policy_that_is_not_configured_any_more") {
        return;
    }
    let host = Host::new();
    let flood = Flood::start(&host);
    for more in [&[][..], &UPGRADE] {
        kill(host.sensor(&[]));
        flood.settle();
        sleep(Duration::from_millis(200));
        assert_eq!(flood.leaked(), 0);
        let mut without = host.options(more);
        without.arguments.drain(2..4);
        let sensor = Sensor::start(&host.lab, &host.server, &without).unwrap();
        flood.settle();
        sleep(Duration::from_millis(200));
        assert!(flood.leaked() > 0, "rules that nobody configures stay in force");
        assert_eq!(other_layouts(&sensor.status().unwrap()), 0);
        let list = host.asked(&["policy", "list"]);
        assert!(list["policy"]["generation"].as_u64() > Some(0), "{list:#}");
        kill(sensor);
    }
    let log = host.asked(&["audit", "list"]);
    let started = |one: &&Value| {
        one["reason"].as_str().is_some_and(|why| why.contains("no policy is configured"))
    };
    assert_eq!(log.as_array().unwrap().iter().filter(started).count(), 2, "{log:#}");
    host.detach();
}
