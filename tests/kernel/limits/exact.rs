//! Limits that earn back so little that no clock matters: what passes is the burst, to the packet.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use sensor_tests::is_root_or_skips;

use super::{NOTHING, SERVER, Scene, counted, of_rule};

const SERVER_V6: &str = "fd00:200::1";
/// Of UDP: nobody listens.
const PORT: u16 = 9_210;
/// Of TCP: one that answers, one whose SYNs are lost behind the sensor.
const OPEN: u16 = 9_211;
const LOST: u16 = 9_212;
const BURST: u64 = 30;

/// What nftables counted of a port behind the sensor, before fragments are put together.
fn passed(scene: &Scene, family: &str) -> u64 {
    let text = scene.server.sh(&format!("nft list counter {family} t seen")).unwrap();
    let mut words = text.split_whitespace();
    words.find(|word| *word == "packets").unwrap();
    words.next().unwrap().parse().unwrap()
}

/// Counts and drops what an expression names.
fn count(scene: &Scene, family: &str, what: &str) {
    scene
        .server
        .sh(&format!(
            "nft 'add table {family} t; \
             add chain {family} t c {{ type filter hook prerouting priority -450; }}; \
             add counter {family} t seen; \
             add rule {family} t c {what} counter name seen drop'"
        ))
        .unwrap();
}

/// Four fragments in each of twenty datagrams: the burst ends in the middle of the eighth.
fn fragments(family: &str, from: &str, to: &str, header: usize) {
    let scene = Scene::new();
    scene.server.sh(&format!("ip address add {SERVER_V6}/64 dev eth0 nodad")).unwrap();
    scene.clients.sh("ip address add fd00:200::2/64 dev eth0 nodad").unwrap();
    count(
        &scene,
        family,
        &format!(
            "{family} daddr {to} {}",
            match family {
                "ip" => "ip protocol udp",
                _ => "meta l4proto { udp, 44 }",
            }
        ),
    );
    let sensor = scene.sensor(&format!(
        "  - id: pieces\n    ports: [{PORT}]\n    packets: {{rate: 1, per: 30m, burst: {BURST}}}\n"
    ));
    let datagram = vec![0; 3 * (1_500 - header) / 8 * 8 + 100];
    scene
        .clients
        .inside(|| {
            let socket = UdpSocket::bind((from, 0))?;
            for _ in 0..20 {
                socket.send_to(&datagram, (to, PORT))?;
            }
            Ok(())
        })
        .unwrap();
    std::thread::sleep(NOTHING);
    assert_eq!(passed(&scene, family), BURST, "of 80 fragments");
    assert_eq!(of_rule(&sensor, "pieces", "packets"), 80 - BURST);
    assert_eq!(counted(&sensor, "fragment_unknown"), 0);
}

#[test]
fn fragments_of_ipv4_are_charged_one_by_one_to_the_limit_of_their_port() {
    if is_root_or_skips("fragments_of_ipv4_are_charged") {
        fragments("ip", "10.200.0.2", SERVER, 20);
    }
}

#[test]
fn fragments_of_ipv6_are_charged_one_by_one_to_the_limit_of_their_port() {
    if is_root_or_skips("fragments_of_ipv6_are_charged") {
        fragments("ip6", "fd00:200::2", SERVER_V6, 48);
    }
}

#[test]
fn a_connection_is_new_once_however_often_its_syn_comes() {
    if !is_root_or_skips("a_connection_is_new_once") {
        return;
    }
    let scene = Scene::new();
    count(&scene, "ip", &format!("tcp dport {LOST}"));
    let sensor = scene.sensor(&format!(
        "  - id: news\n    ports: [{OPEN}, {LOST}]\n    new_connections: {{rate: 1, per: 1h, burst: 5}}\n"
    ));
    let _listener = scene.server.inside(|| Ok(TcpListener::bind((SERVER, OPEN))?)).unwrap();
    let connect = |port: u16, ms: u64| {
        let server = format!("{SERVER}:{port}").parse()?;
        Ok(TcpStream::connect_timeout(&server, Duration::from_millis(ms)).ok())
    };
    let lost = scene.clients.inside(|| connect(LOST, 3_400)).unwrap();
    let syns = passed(&scene, "ip");
    eprintln!("{syns} SYNs of one connection");
    assert!(lost.is_none() && syns >= 3, "{syns} SYNs: none came again");
    assert_eq!(of_rule(&sensor, "news", "packets"), 0, "one was charged again");
    let mut open = Vec::new();
    for number in 0..4 {
        let stream = scene.clients.inside(|| connect(OPEN, 3_000)).unwrap();
        open.push(stream.unwrap_or_else(|| panic!("connection {number} of 4 was refused")));
    }
    let over = scene.clients.inside(|| connect(OPEN, 800)).unwrap();
    assert!(over.is_none(), "a sixth connection");
    assert!(of_rule(&sensor, "news", "packets") >= 1);
}
