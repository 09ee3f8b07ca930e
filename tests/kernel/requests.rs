//! Limits on requests by the address that a proxy forwards, and by credential: the agent counts, the kernel ends the connection.

use std::{
    fs,
    io::ErrorKind,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use sensor_tests::{
    is_root_or_skips,
    lab::{KeepAlive, Lab, Namespace, Nginx, Sensor, SensorOptions},
};
use serde_json::Value;

const SERVER: &str =
    "server { listen 80; listen 81 proxy_protocol; location / { return 200 '{}'; } }";
const ADDRESS: &str = "10.1.0.1:80";
const PROXY: &str = "10.1.0.2";
const TOKEN: &str = "s3cr3t-t0k3n-0f-a-customer";

struct Scene {
    lab: Lab,
    client: Namespace,
    sensor: Sensor,
    _nginx: Nginx,
    server: Namespace,
}

impl Scene {
    fn new(policy: &str) -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        let file = lab.folder().join("policy.yaml");
        fs::write(&file, policy).unwrap();
        let options = SensorOptions::on(&["eth0"]).with(&[
            "--mode",
            "enforce",
            "--policy",
            file.to_str().unwrap(),
            "--trusted-proxies",
            PROXY,
        ]);
        let sensor = Sensor::start(&lab, &server, &options).unwrap();
        Self { lab, client, sensor, _nginx: nginx, server }
    }

    fn connect(&self) -> KeepAlive {
        self.client.inside(|| KeepAlive::connect(ADDRESS.parse()?)).unwrap()
    }

    fn rule(&self) -> Value {
        let list = self.sensor.ask(&["policy", "list"]).unwrap();
        list["rules"][0].clone()
    }
}

fn get(stream: &mut KeepAlive, header: &str) -> Result<(), ErrorKind> {
    let head = format!("GET /r HTTP/1.1\r\nHost: lab.test\r\n{header}\r\n\r\n");
    let asked = stream.send(head.as_bytes(), head.len()).and_then(|()| stream.response());
    asked.map(drop).map_err(|error| {
        error.downcast_ref::<std::io::Error>().map_or(ErrorKind::Other, std::io::Error::kind)
    })
}

/// Asks until the connection ends; how many were answered, and when.
fn until_ended(stream: &mut KeepAlive, header: &str, a_second: u32) -> (usize, Duration) {
    let began = Instant::now();
    for answered in 0..200 {
        if let Err(kind) = get(stream, header) {
            assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
            return (answered, began.elapsed());
        }
        thread::sleep(Duration::from_secs(1) / a_second);
    }
    panic!("never ended");
}

/// A proxy without HTTP: a connection for each client, who is named at its start (in one piece: nginx waits for no more of a header).
fn proxied(scene: &Scene, header: &[u8]) -> KeepAlive {
    let connect = || KeepAlive::connect("10.1.0.1:81".parse()?);
    let mut stream = scene.client.inside(connect).unwrap();
    stream.send(header, header.len()).unwrap();
    stream
}

fn line(user: u32) -> Vec<u8> {
    format!("PROXY TCP4 203.0.113.{user} 10.1.0.1 4711 81\r\n").into_bytes()
}

/// Version 2, IPv4.
fn binary(user: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, user, 10, 1, 0, 1, 0x12, 0x67, 0, 81]);
    header
}

#[test]
fn a_client_named_by_the_proxy_protocol_is_limited_on_its_own_connection() {
    if !is_root_or_skips("a_client_named_by_the_proxy_protocol") {
        return;
    }
    let scene = Scene::new(
        "limits:\n  - {id: per-user, requests: {rate: 10, burst: 10}, key: forwarded, action: reset, reason: CHG-1}\n",
    );
    let mut others: Vec<KeepAlive> = (30..40).map(|user| proxied(&scene, &line(user))).collect();
    others.extend((40..50).map(|user| proxied(&scene, &binary(user))));
    for stream in &mut others {
        for _ in 0..3 {
            get(stream, "").expect("a client within its limit");
        }
    }
    for header in [line(7), binary(8)] {
        let (answered, took) = until_ended(&mut proxied(&scene, &header), "", 50);
        eprintln!("ended after {answered} requests in {took:?}");
        assert!((12..40).contains(&answered), "{answered}");
    }
    for stream in &mut others {
        get(stream, "").expect("a client within its limit");
    }
    let rule = scene.rule();
    assert!(rule["requests_over"].as_u64() >= Some(2) && rule["requests_would"] == 0, "{rule:#}");
    let inventory = scene.sensor.inventory().unwrap();
    assert!(inventory.to_string().contains("10.1.0.1:81"), "requests behind a header are seen");
}

fn forwarded(user: u32) -> String {
    format!("X-Forwarded-For: 203.0.113.{user}")
}

#[test]
fn a_forwarded_client_over_its_limit_loses_its_connection_and_others_keep_theirs() {
    if !is_root_or_skips("a_forwarded_client_over_its_limit") {
        return;
    }
    let scene = Scene::new(
        "limits:\n  - {id: per-user, requests: {rate: 10, burst: 10}, key: forwarded, action: reset, reason: CHG-1}\n",
    );
    // A proxy with a connection for each client: two at a moderate pace, one too fast.
    thread::scope(|scope| {
        for user in [1, 2] {
            let scene = &scene;
            scope.spawn(move || {
                let mut stream = scene.connect();
                for _ in 0..25 {
                    get(&mut stream, &forwarded(user)).expect("a client within its limit");
                    thread::sleep(Duration::from_millis(125));
                }
            });
        }
        let (answered, took) = until_ended(&mut scene.connect(), &forwarded(7), 50);
        eprintln!("ended after {answered} requests in {took:?}");
        // 10 at once and 10 a second at 50 a second: the 13th is over; it takes a moment to be seen.
        assert!((12..40).contains(&answered), "{answered}");
        // And again on the next connection, as long as its allowance is used up.
        let (answered, _) = until_ended(&mut scene.connect(), &forwarded(7), 50);
        assert!(answered < 30, "{answered}");
    });
    let rule = scene.rule();
    assert!(rule["packets"].as_u64() > Some(0), "resets are hits of the rule: {rule:#}");
    assert!(rule["requests_over"].as_u64() >= Some(2) && rule["requests_would"] == 0, "{rule:#}");
}

#[test]
fn on_a_connection_that_clients_share_the_limit_only_monitors_and_says_so() {
    if !is_root_or_skips("on_a_connection_that_clients_share") {
        return;
    }
    let scene = Scene::new(
        "limits:\n  - {id: per-user, requests: {rate: 10, burst: 10}, key: forwarded, action: reset, reason: CHG-1}\n",
    );
    let mut stream = scene.connect();
    // Two users on one connection, one of them far over the limit.
    for number in 0..200 {
        let user = if number % 10 == 0 { 1 } else { 7 };
        get(&mut stream, &forwarded(user)).expect("a shared connection");
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(300));
    let rule = scene.rule();
    let over = rule["requests_over"].as_u64().unwrap();
    eprintln!("{over} over the limit, {} of them only counted", rule["requests_would"]);
    assert!(over > 100 && rule["requests_would"] == over, "{rule:#}");
    assert!(rule["packets"] == 0 && rule["would_packets"].as_u64() >= Some(over), "{rule:#}");
    // A person is told the same.
    let mut command = Command::new(sensor_tests::lab::agent_binary().unwrap());
    let socket = scene.lab.folder().join(format!("sensor-{}", scene.server.name()));
    command.args(["policy", "list", "--socket"]).arg(socket.join("agent.sock"));
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(text.contains("only counted (several clients share the connection"), "{text}");
}

#[test]
fn a_credential_is_limited_wherever_it_comes_from_and_is_written_nowhere() {
    if !is_root_or_skips("a_credential_is_limited") {
        return;
    }
    let scene = Scene::new(
        "limits:\n  - {id: per-customer, requests: {rate: 10, burst: 10}, key: credential, action: reset, reason: CHG-1}\n",
    );
    let token = format!("Authorization: Bearer {TOKEN}");
    let mut other = scene.connect();
    let (answered, took) = until_ended(&mut scene.connect(), &token, 50);
    eprintln!("ended after {answered} requests in {took:?}");
    assert!((12..40).contains(&answered), "{answered}");
    for number in 0..40 {
        get(&mut other, &format!("X-Api-Key: key-{number}")).expect("another credential");
    }
    let (rule, status) = (scene.rule(), scene.sensor.status().unwrap());
    assert!(
        rule["requests_over"].as_u64() > Some(0) && rule["packets"].as_u64() > Some(0),
        "{rule:#}"
    );
    assert!(!status.to_string().contains(TOKEN) && !rule.to_string().contains(TOKEN));
    let folder = scene.lab.folder().to_owned();
    scene.sensor.stop().unwrap();
    let found = Command::new("grep").args(["-rlaF", TOKEN]).arg(folder).output().unwrap();
    assert!(found.stdout.is_empty(), "written to {}", String::from_utf8_lossy(&found.stdout));
}
