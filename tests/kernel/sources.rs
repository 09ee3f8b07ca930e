//! Behind a proxy the source of a packet is not the client: limits by address leave such sources alone, and say so.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use sensor_tests::{
    is_root_or_skips,
    lab::{KeepAlive, Lab, Namespace, Nginx, Sensor, SensorOptions},
};
use serde_json::Value;

/// `/private` wants a token and refuses those who have none; all else is public.
const SERVER: &str = "server { listen 80; location / { return 200 '{\"ok\":true}'; } \
    location /private { if ($http_authorization = '') { return 401; } return 200 '{\"ok\":true}'; } }";
const ADDRESS: &str = "10.1.0.1:80";
const PROXY: &str = "10.1.0.2";
/// Ten a second for each client: connections of the direct client are counted, and its packets.
const POLICY: &str = "\
version: 1
limits:
  - {id: ten-a-second, ports: [80], new_connections: {rate: 10, burst: 10}, packets: {rate: 200, burst: 200}, action: reset, reason: CHG-1}
";

const USERS: usize = 1000;
const CONNECTIONS: usize = 20;
const A_SECOND: usize = 5;
const SECONDS: usize = 6;

struct Scene {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    nginx: Nginx,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client.sh("for n in 70 77 78; do ip address add 10.1.0.$n/24 dev eth0; done").unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        Self { lab, server, client, nginx }
    }

    fn sensor(&self, policy: &str, more: &[&str]) -> Sensor {
        let file = self.lab.folder().join("policy.yaml");
        fs::write(&file, policy).unwrap();
        let options = SensorOptions::on(&["eth0"])
            .with(&["--mode", "enforce", "--policy", file.to_str().unwrap()])
            .with(more);
        Sensor::start(&self.lab, &self.server, &options).unwrap()
    }

    fn requests_from(&self, client: &str) -> usize {
        self.nginx.log_lines().unwrap().iter().filter(|line| line.ends_with(client)).count()
    }

    /// Requests on connections of its own, from an address; how many were answered, of as many a second.
    fn direct(&self, from: &str, a_second: u32, seconds: u32) -> usize {
        let pause = Duration::from_secs(1) / a_second;
        let address: SocketAddr = format!("{from}:0").parse().unwrap();
        self.client
            .inside(|| {
                let began = Instant::now();
                let mut answered = 0;
                for number in 0..a_second * seconds {
                    thread::sleep(
                        (began + pause * number).saturating_duration_since(Instant::now()),
                    );
                    answered += usize::from(one_request(address));
                }
                Ok(answered)
            })
            .unwrap()
    }
}

/// A request on a connection from this address; an answer or nothing.
fn one_request(from: SocketAddr) -> bool {
    let server: SocketAddr = ADDRESS.parse().unwrap();
    let ask = || -> std::io::Result<usize> {
        let mut stream = connect_from(from, server)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"GET /direct HTTP/1.1\r\nHost: lab.test\r\nConnection: close\r\n\r\n")?;
        stream.read(&mut [0; 512])
    };
    ask().is_ok_and(|read| read > 0)
}

/// `connect` from a given address: the standard library has no way to bind first.
fn connect_from(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket,
    };
    use std::os::fd::AsRawFd as _;
    let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(stream.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(stream.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(stream))
}

/// The proxy: few connections that all users share, each request with the user's address. Returns how many were answered.
fn proxied(client: &Namespace, header: &(dyn Fn(usize) -> String + Sync)) -> usize {
    let one = |connection: usize| -> anyhow::Result<usize> {
        let mut stream = KeepAlive::connect(ADDRESS.parse()?)?;
        let mut answered = 0;
        let began = Instant::now();
        for round in 0..SECONDS * A_SECOND {
            let due =
                began + Duration::from_secs(1) * u32::try_from(round)? / u32::try_from(A_SECOND)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            for user in (connection..USERS).step_by(CONNECTIONS) {
                let head =
                    format!("GET /u/{user} HTTP/1.1\r\nHost: lab.test\r\n{}\r\n\r\n", header(user));
                stream.send(head.as_bytes(), head.len())?;
                answered += usize::from(stream.response()? == 200);
            }
        }
        Ok(answered)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|connection| scope.spawn(move || client.inside(|| one(connection))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).sum()
    })
}

fn address_of(user: usize) -> String {
    format!("203.0.{}.{}", 112 + user / 250, 1 + user % 250)
}

fn rule(list: &Value) -> &Value {
    &list["rules"][0]
}

fn is_shared(list: &Value, source: &str) -> bool {
    let sources = list["shared_sources"].as_array().unwrap();
    sources.iter().any(|one| one["address"] == source)
}

#[test]
fn a_thousand_users_behind_one_proxy_are_not_limited_and_a_direct_client_is() {
    if !is_root_or_skips("a_thousand_users_behind_one_proxy") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(POLICY, &["--trusted-proxies", PROXY]);
    assert!(
        is_shared(&sensor.ask(&["policy", "list"]).unwrap(), PROXY),
        "named, so marked at once"
    );
    let (answered, direct) = thread::scope(|scope| {
        let direct = scope.spawn(|| scene.direct("10.1.0.77", 100, 4));
        let header = |user| match user % 2 {
            0 => format!("X-Forwarded-For: {}", address_of(user)),
            _ => format!("Forwarded: for={};proto=http", address_of(user)),
        };
        (proxied(&scene.client, &header), direct.join().unwrap())
    });
    let list = sensor.ask(&["policy", "list"]).unwrap();
    let rows = sensor.ask(&["drops"]).unwrap();
    let all = USERS * A_SECOND * SECONDS;
    eprintln!(
        "{answered} of {all} answered behind the proxy; of 400 direct ones {direct}; the rule skipped {} packets and dropped {}",
        rule(&list)["shared_packets"],
        rule(&list)["packets"]
    );
    assert_eq!(
        (answered, scene.requests_from(PROXY)),
        (all, all),
        "a user behind the proxy was limited"
    );
    let dropped = |client: &str| {
        let records = rows["records"].as_array().unwrap();
        records.iter().filter(|one| one["client"] == client).count()
    };
    assert_eq!(dropped(PROXY), 0, "{rows:#}");
    assert!(dropped("10.1.0.77") > 0, "{rows:#}");
    let file = scene.lab.folder().join("policy.yaml");
    let check = sensor.ask(&["policy", "check", file.to_str().unwrap()]).unwrap();
    let named = &check["shared_sources"][0];
    assert_eq!(
        (&named["address"], &named["skipped_by"][0]),
        (&PROXY.into(), &"ten-a-second".into())
    );
    // Ten at once and ten a second.
    assert!((20..=75).contains(&direct), "{direct} of 400 in four seconds");
    assert!(rule(&list)["shared_packets"].as_u64() > Some(all as u64), "{list:#}");
    assert!(rule(&list)["packets"].as_u64() > Some(0), "{list:#}");
}

#[test]
fn a_source_becomes_shared_by_what_it_carries_and_a_rule_may_include_it() {
    if !is_root_or_skips("a_source_becomes_shared_by_what_it_carries") {
        return;
    }
    let scene = Scene::new();
    let policy = "\
version: 1
limits:
  - {id: skips, new_connections: {rate: 10, burst: 40}, ports: [80], action: reset, reason: CHG-1}
  - {id: includes, new_connections: {rate: 1000, burst: 1000}, include_shared: true, action: monitor, reason: CHG-2}
";
    // Networks of their own: connections of one network are limited together until their clients are known.
    for (address, network) in [("10.9.9.78", "10.9.9.0/24"), ("10.1.1.71", "10.1.1.0/24")] {
        scene.client.sh(&format!("ip address add {address}/32 dev eth0")).unwrap();
        scene.server.sh(&format!("ip route add {network} via 10.1.0.2")).unwrap();
    }
    // A network of proxies, too large to be marked one by one: what they carry says which there are.
    let sensor = scene.sensor(policy, &["--trusted-proxies", "10.1.0.0/23"]);
    let forwarded = |user: usize| format!("X-Forwarded-For: {}", address_of(user));
    let token = |user: usize| format!("Authorization: Bearer token-{user}");
    let ask = |from: &str, count: usize, path: &str, header: &dyn Fn(usize) -> String| {
        for user in 0..count {
            let line = format!(
                "curl -s -o /dev/null --max-time 2 --interface {from} -H '{}' http://10.1.0.1{path}",
                header(user)
            );
            scene.client.sh(&line).unwrap();
        }
    };
    let list = || sensor.ask(&["policy", "list"]).unwrap();
    // Not trusted: what it says about others is nothing.
    ask("10.9.9.78", 25, "/", &forwarded);
    ask(PROXY, 19, "/", &forwarded);
    // A public endpoint takes any token: those are no proof of twenty users.
    ask("10.1.1.71", 25, "/", &token);
    ask("10.1.0.70", 1, "/private", &|_| "X-None: 1".to_owned());
    ask("10.1.0.70", 20, "/private", &token);
    thread::sleep(Duration::from_millis(1500));
    let first = list();
    let shared =
        ["10.9.9.78", PROXY, "10.1.1.71", "10.1.0.70"].map(|source| is_shared(&first, source));
    assert_eq!(shared, [false, false, false, true], "{first:#}");
    ask(PROXY, 20, "/", &forwarded);
    thread::sleep(Duration::from_millis(1500));
    assert!(is_shared(&list(), PROXY), "{:#}", list());
    // Marked, they are no longer limited by address; who forges is.
    ask(PROXY, 60, "/", &forwarded);
    ask("10.1.0.70", 60, "/private", &token);
    let answered = scene.direct("10.9.9.78", 100, 1);
    assert!((10..80).contains(&answered), "{answered} of 100");
    let shown = list();
    assert!(rule(&shown)["shared_packets"].as_u64() > Some(100), "{shown:#}");
    assert_eq!(shown["rules"][1]["shared_packets"], 0, "it includes shared sources: {shown:#}");
}
