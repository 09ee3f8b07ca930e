//! Limits of open connections with real sockets.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use sensor_tests::is_root_or_skips;

use super::{SERVER, Scene, of_rule};

const PORT: u16 = 9_100;
const MOST: usize = 5;

fn connect() -> std::io::Result<TcpStream> {
    let server = format!("{SERVER}:{PORT}").parse().unwrap();
    TcpStream::connect_timeout(&server, Duration::from_millis(800))
}

/// A server that closes what its client closes.
fn serve(scene: &Scene) {
    let listener = scene.server.inside(|| Ok(TcpListener::bind((SERVER, PORT))?)).unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming().flatten() {
            let mut reader = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                let _ended = std::io::copy(&mut reader, &mut std::io::sink());
                let _gone = reader.shutdown(std::net::Shutdown::Both);
            });
            open.push(stream);
        }
    });
}

/// A limit of open connections, as a list of one.
fn limit(most: usize) -> String {
    format!("  - id: open\n    ports: [{PORT}]\n    connections: {most}\n    action: reset\n")
}

#[test]
fn connections_over_the_number_are_refused_until_one_ends() {
    if !is_root_or_skips("connections_over_the_number_are_refused") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&limit(MOST));
    serve(&scene);
    scene
        .clients
        .inside(|| {
            let mut open: Vec<TcpStream> = (0..MOST).map(|_| connect().unwrap()).collect();
            std::thread::sleep(Duration::from_millis(50));
            let started = Instant::now();
            let refused = connect().unwrap_err();
            eprintln!("refused in {:?}: {refused}", started.elapsed());
            assert!(started.elapsed() < Duration::from_millis(500), "{refused}");
            drop(open.pop());
            std::thread::sleep(Duration::from_millis(100));
            open.push(connect().unwrap());
            assert!(connect().is_err(), "one more than the number");
            Ok(())
        })
        .unwrap();
    assert!(of_rule(&sensor, "open", "packets") >= 2);
}

#[test]
fn connections_that_were_counted_for_a_trial_count_again_for_what_was_before_it() {
    if !is_root_or_skips("connections_that_were_counted_for_a_trial") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&limit(MOST));
    serve(&scene);
    let trial = scene.lab.folder().join("trial.yaml");
    fs::write(&trial, format!("version: 1\nlimits:\n{}", limit(10 * MOST))).unwrap();
    let connect = || scene.clients.inside(|| Ok(connect().ok())).unwrap();
    let mut open: Vec<TcpStream> = (0..MOST).map(|_| connect().unwrap()).collect();
    // With each connection's next packet.
    let mut say = || {
        for stream in &mut open {
            stream.write_all(b"x").unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    say();
    assert!(connect().is_none(), "one more than the number");
    let begin = ["policy", "apply", trial.to_str().unwrap(), "--confirm", "60s"];
    sensor.ask(&begin).unwrap();
    say();
    assert!(connect().is_some(), "the trial allows more");
    sensor.ask(&["policy", "revert"]).unwrap();
    say();
    assert!(connect().is_none(), "what the trial counted is not counted for the rule before");
}
