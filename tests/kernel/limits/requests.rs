//! Limits of HTTP requests in front of a real server: what its log has is what the limit allows.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use sensor_tests::{
    is_root_or_skips,
    lab::{KeepAlive, Nginx},
};

use super::{NOTHING, SERVER, Scene, of_rule};

const NGINX: &str =
    "server { listen 80; keepalive_requests 100000; location / { return 200 'ok'; } }";
const RATE: f64 = 50.0;
const ON_TLS: &str = "  - {id: tls, ports: [443], requests: {rate: 5}}\n";

fn connect() -> Option<KeepAlive> {
    KeepAlive::connect(format!("{SERVER}:80").parse().ok()?).ok()
}

#[test]
fn requests_are_limited_to_their_rate_and_the_client_is_told() {
    if !is_root_or_skips("requests_are_limited_to_their_rate") {
        return;
    }
    let scene = Scene::new();
    let nginx = Nginx::start(&scene.lab, &scene.server, 80, NGINX).unwrap();
    let sensor = scene.sensor(
        "  - id: calls\n    ports: [80]\n    requests: {rate: 50, burst: 20}\n    action: reset\n",
    );
    let (took, answered, told) = scene
        .clients
        .inside(|| {
            let started = Instant::now();
            let (mut answered, mut told) = (0_u32, 0_u32);
            let mut connection = connect();
            while started.elapsed() < Duration::from_secs(3) {
                match connection.as_mut().map(|open| open.get("/a", 100)) {
                    Some(Ok(_)) => answered += 1,
                    Some(Err(_)) => {
                        told += 1;
                        // Below the bound of resets a second: beyond it a refusal is silent.
                        std::thread::sleep(Duration::from_millis(2));
                        connection = None;
                    }
                    None => connection = connect(),
                }
            }
            Ok((started.elapsed(), answered, told))
        })
        .unwrap();
    let expected = 20.0 + RATE * took.as_secs_f64();
    let off = (f64::from(answered) - expected).abs();
    eprintln!("{answered} answered of {expected:.1} allowed, {told} told, in {took:?}");
    assert!(off <= expected / 100.0 + 1.0, "{answered} answered of {expected:.1} allowed");
    assert_eq!(nginx.requests().unwrap(), usize::try_from(answered).unwrap());
    assert_eq!(of_rule(&sensor, "calls", "packets"), u64::from(told));
}

#[test]
fn pipelined_requests_are_each_charged_and_a_dropped_one_waits_for_its_turn() {
    if !is_root_or_skips("pipelined_requests_are_each_charged") {
        return;
    }
    let scene = Scene::new();
    let nginx = Nginx::start(&scene.lab, &scene.server, 80, NGINX).unwrap();
    let _sensor =
        scene.sensor("  - id: calls\n    ports: [80]\n    requests: {rate: 5, burst: 10}\n");
    let waited = scene
        .clients
        .inside(|| {
            let mut stream = TcpStream::connect((SERVER, 80))?;
            stream.set_nodelay(true)?;
            stream.write_all(&b"GET /p HTTP/1.1\r\nHost: lab.test\r\n\r\n".repeat(10))?;
            std::thread::sleep(NOTHING);
            let started = Instant::now();
            stream
                .write_all(b"GET /last HTTP/1.1\r\nHost: lab.test\r\nConnection: close\r\n\r\n")?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut answers = String::new();
            stream.read_to_string(&mut answers)?;
            assert_eq!(answers.matches("200 OK").count(), 11);
            Ok(started.elapsed())
        })
        .unwrap();
    // At 0.3 s one and a half of ten came back, so the eleventh passes; the next ten do not.
    eprintln!("the eleventh waited {waited:?}");
    assert_eq!(nginx.requests().unwrap(), 11);
    let waited = scene
        .clients
        .inside(|| {
            let mut stream = TcpStream::connect((SERVER, 80))?;
            stream.set_nodelay(true)?;
            let started = Instant::now();
            stream.write_all(&b"GET /q HTTP/1.1\r\nHost: lab.test\r\n\r\n".repeat(3))?;
            stream
                .write_all(b"GET /last HTTP/1.1\r\nHost: lab.test\r\nConnection: close\r\n\r\n")?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut answers = String::new();
            stream.read_to_string(&mut answers)?;
            assert_eq!(answers.matches("200 OK").count(), 4);
            Ok(started.elapsed())
        })
        .unwrap();
    eprintln!("four more waited {waited:?}");
    assert!(waited > Duration::from_millis(150), "{waited:?}: no request was held back");
}

#[test]
fn a_limit_of_requests_where_only_tls_is_spoken_is_refused_by_file_and_by_command() {
    if !is_root_or_skips("a_limit_of_requests_where_only_tls_is_spoken") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor("  - {id: before, ports: [80], packets: {rate: 100000}}\n");
    let _listener = scene.server.inside(|| Ok(TcpListener::bind((SERVER, 443))?)).unwrap();
    // The head of a ClientHello.
    let mut hello = vec![22, 3, 1, 0, 0x2f, 1, 0, 0, 0x2b, 3, 3];
    hello.resize(52, 7);
    scene.clients.inside(|| Ok(TcpStream::connect((SERVER, 443))?.write_all(&hello)?)).unwrap();
    let policy = scene.lab.folder().join("policy.yaml");
    fs::write(&policy, format!("version: 1\nlimits:\n{ON_TLS}")).unwrap();
    let error = || sensor.status().unwrap()["policy"]["error"].as_str().map(ToOwned::to_owned);
    let until = Instant::now() + Duration::from_secs(10);
    while error().is_none() {
        assert!(Instant::now() < until, "the file was not refused");
        std::thread::sleep(Duration::from_millis(100));
    }
    let error = error().unwrap();
    assert!(error.contains("rule `tls` its listeners only speak TLS (1 connections)"), "{error}");
    let apply = |more: &[&str]| {
        sensor.ask(&[&["policy", "apply", policy.to_str().unwrap()], more].concat())
    };
    let refused = format!("{:#}", apply(&[]).unwrap_err());
    assert!(refused.contains("only speak TLS") && refused.contains("--force"), "{refused}");
    apply(&["--force"]).unwrap();
    assert_eq!(of_rule(&sensor, "tls", "packets"), 0);
}
