//! What the client sees: on connect, on its next packet, while it downloads, while it waits.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use sensor_tests::is_root_or_skips;

use super::scene::{FREE_PORT, Family, Offload, PORT, Place, Scene, WITHIN};

const PLACES: [Place; 4] = [Place::Local, Place::Routed, Place::Translated, Place::Bridged];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Reads until an error; when it came and which.
fn read_to_the_error(mut stream: TcpStream, pause: Duration, piece: usize) -> (Instant, ErrorKind) {
    let mut buffer = vec![0; piece];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (Instant::now(), ErrorKind::UnexpectedEof),
            Ok(_) => thread::sleep(pause),
            Err(error) => return (Instant::now(), error.kind()),
        }
    }
}

fn everywhere(test: &str, check: impl Fn(Place, Family, Offload)) {
    if !is_root_or_skips(test) {
        return;
    }
    for place in PLACES {
        for family in FAMILIES {
            check(place, family, Offload::On);
        }
    }
    check(Place::Local, Family::V4, Offload::Off);
    check(Place::Routed, Family::V6, Offload::Off);
    check(Place::Translated, Family::V4, Offload::Off);
}

#[test]
fn a_connection_is_refused_at_once_and_another_port_is_not() {
    everywhere("a_connection_is_refused_at_once", |place, family, offload| {
        let scene = Scene::new(place, family, offload);
        scene.serve();
        let sensor = scene.sensor();
        drop(scene.connect(PORT).unwrap());
        scene.forbid("");
        for _ in 0..20 {
            let began = Instant::now();
            let error = scene.connect(PORT).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "{place:?} {family:?} {offload:?}"
            );
            assert!(began.elapsed() < WITHIN, "{place:?} {family:?}: {:?}", began.elapsed());
        }
        let mut free = scene.connect(FREE_PORT).unwrap();
        free.write_all(b"ehello").unwrap();
        free.read_exact(&mut [0; 5]).unwrap();
        scene.no_socket_is_left();
        let status = sensor.status().unwrap();
        assert!(status["ledger"]["kernel"]["resets_sent"].as_u64().unwrap() >= 20, "{status:#}");
        assert_eq!(status["ledger"]["kernel"]["resets_failed"], 0, "{status:#}");
    });
}

#[test]
fn the_next_packet_of_a_client_gets_the_error() {
    everywhere("the_next_packet_of_a_client", |place, family, offload| {
        let scene = Scene::new(place, family, offload);
        scene.serve();
        let sensor = scene.sensor();
        let mut stream = scene.connect(PORT).unwrap();
        stream.write_all(b"ehello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        scene.forbid("");
        let began = Instant::now();
        // On the host itself the socket may be gone already, before the client says anything.
        let _told = stream.write_all(b"again");
        let (at, error) = read_to_the_error(stream, Duration::ZERO, 64);
        assert!(
            matches!(error, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
            "{place:?} {family:?} {offload:?}: {error:?}"
        );
        assert!(at - began < WITHIN, "{place:?} {family:?} {offload:?}: {:?}", at - began);
        scene.no_socket_is_left();
        drop(sensor);
    });
}

fn downloading(place: Place, family: Family, offload: Offload, pause: Duration, piece: usize) {
    let scene = Scene::new(place, family, offload);
    scene.serve();
    let sensor = scene.sensor();
    let mut stream = scene.connect(PORT).unwrap();
    if piece < 64 * 1024 {
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
    }
    stream.write_all(b"d").unwrap();
    let reader = thread::spawn(move || read_to_the_error(stream, pause, piece));
    thread::sleep(Duration::from_millis(300));
    let forbidden = scene.forbid("");
    let (at, error) = reader.join().unwrap();
    assert_eq!(error, ErrorKind::ConnectionReset, "{place:?} {family:?} {offload:?}");
    let took = at.saturating_duration_since(forbidden);
    assert!(took < WITHIN, "{place:?} {family:?} {offload:?}: {took:?}");
    eprintln!(
        "{place:?} {family:?} {offload:?} reader of {piece} B: error {took:?} after the rule was seen in force"
    );
    scene.no_socket_is_left();
    drop(sensor);
}

#[test]
fn a_download_ends_with_the_error() {
    everywhere("a_download_ends", |place, family, offload| {
        downloading(place, family, offload, Duration::ZERO, 64 * 1024);
    });
}

#[test]
fn a_slow_reader_gets_the_error_too() {
    everywhere("a_slow_reader", |place, family, offload| {
        downloading(place, family, offload, Duration::from_millis(20), 2048);
    });
}
