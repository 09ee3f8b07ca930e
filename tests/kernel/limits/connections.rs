//! Limits of open connections with real sockets.

use std::{
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

#[test]
fn connections_over_the_number_are_refused_until_one_ends() {
    if !is_root_or_skips("connections_over_the_number_are_refused") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&format!(
        "  - id: open\n    ports: [{PORT}]\n    connections: {MOST}\n    action: reset\n"
    ));
    let listener = scene.server.inside(|| Ok(TcpListener::bind((SERVER, PORT))?)).unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming().flatten() {
            // Whoever closes is closed.
            let mut reader = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                let _ended = std::io::copy(&mut reader, &mut std::io::sink());
                let _gone = reader.shutdown(std::net::Shutdown::Both);
            });
            open.push(stream);
        }
    });
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
