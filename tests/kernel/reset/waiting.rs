//! A client that says nothing: the socket of a local server is ended for it, another server's next packet tells it.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use sensor_tests::is_root_or_skips;

use super::scene::{FREE_PORT, Family, Offload, PORT, Place, SPEAKS_AFTER, Scene, WITHIN};

/// Reads to the error, as long as that takes.
fn wait_for_the_error(mut stream: TcpStream) -> (Instant, ErrorKind) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 16];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (Instant::now(), ErrorKind::UnexpectedEof),
            Ok(_) => {}
            Err(error) => return (Instant::now(), error.kind()),
        }
    }
}

#[test]
fn a_client_that_waits_for_a_local_server_gets_the_error() {
    if !is_root_or_skips("a_client_that_waits_for_a_local_server") {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let scene = Scene::new(Place::Local, family, Offload::On);
        scene.serve();
        let sensor = scene.sensor();
        let mut stream = scene.connect(PORT).unwrap();
        stream.write_all(b"w").unwrap();
        let mut free = scene.connect(FREE_PORT).unwrap();
        free.write_all(b"e").unwrap();
        let waits = thread::spawn(move || wait_for_the_error(stream));
        let forbidden = scene.forbid("");
        let (at, error) = waits.join().unwrap();
        let took = at.saturating_duration_since(forbidden);
        assert_eq!(error, ErrorKind::ConnectionReset, "{family:?}");
        assert!(took < WITHIN, "{family:?}: {took:?}");
        scene.no_socket_is_left();
        free.write_all(b"still there").unwrap();
        free.read_exact(&mut [0; 11]).unwrap();
        drop(sensor);
    }
}

#[test]
fn a_client_that_waits_for_a_server_behind_the_host_learns_it_with_the_servers_next_packet() {
    if !is_root_or_skips("a_client_that_waits_for_a_server_behind_the_host") {
        return;
    }
    for (place, family) in [
        (Place::Routed, Family::V4),
        (Place::Routed, Family::V6),
        (Place::Translated, Family::V4),
        (Place::Bridged, Family::V6),
    ] {
        let scene = Scene::new(place, family, Offload::On);
        scene.serve();
        let sensor = scene.sensor();
        let mut stream = scene.connect(PORT).unwrap();
        stream.write_all(b"t").unwrap();
        let began = Instant::now();
        let waits = thread::spawn(move || wait_for_the_error(stream));
        scene.forbid("");
        assert!(began.elapsed() < SPEAKS_AFTER, "too slow to prove anything");
        let (at, error) = waits.join().unwrap();
        assert_eq!(error, ErrorKind::ConnectionReset, "{place:?} {family:?}");
        assert!(at - began < SPEAKS_AFTER + WITHIN, "{place:?} {family:?}: {:?}", at - began);
        scene.no_socket_is_left();
        drop(sensor);
    }
}
