//! A flood of a million forged sources, two packets each, against clients that the kernel knows.
//!
//! 1 000 clients with an established connection are at their limit when it starts and still are when it is over; 100 that are not at theirs are not
//! harmed. A quarter of the sources each sends SYNs, ACKs, data and UDP; one in sixteen lies in the networks of the clients themselves.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, sendto,
    socket,
};
use sensor_tests::is_root_or_skips;

use super::{NOTHING, SERVER, Scene, counted, of_rule};

const PORT: u16 = 9_200;
const KNOWN: u32 = 1_000;
const OTHERS: u32 = 100;
const SOURCES: u32 = 1_000_000;
const PACKETS_EACH: u32 = 2;
/// Packets that a client may send in all.
const MOST: u32 = 20;

/// Four in a network.
fn known(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a40_0000 + (number / 4) * 256 + 10 + number % 4)
}

/// Clients below their limit, in networks of the same kind.
fn other(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a41_0000 + (number / 4) * 256 + 10 + number % 4)
}

/// A forged source, different for each number; none is a client's own address.
fn forged(number: u32) -> Ipv4Addr {
    if number.is_multiple_of(16) {
        // 250 networks of the known and 25 of the others, 200 hosts each, then around again.
        let (network, host) = ((number / 16) % 275, (number / 16) / 275 % 200);
        let base = if network < 250 { 0x0a40_0000 } else { 0x0a41_0000 - 250 * 256 };
        return Ipv4Addr::from(base + network * 256 + 20 + host);
    }
    Ipv4Addr::from(0x0b00_0000 + number * 61)
}

fn client(from: Ipv4Addr, kind: SockType) -> OwnedFd {
    let own = socket(AddressFamily::Inet, kind, SockFlag::empty(), None).unwrap();
    bind(own.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0))).unwrap();
    let server = SocketAddrV4::new(SERVER.parse().unwrap(), PORT);
    connect(own.as_raw_fd(), &SockaddrIn::from(server)).unwrap();
    own
}

/// An IPv4 packet with a right TCP checksum; the kernel fills in that of the IP header.
fn packet(source: Ipv4Addr, number: u32) -> Vec<u8> {
    let (flags, payload, udp): (u8, &[u8], bool) = match number % 4 {
        0 => (0x02, b"", false),
        1 => (0x10, b"", false),
        2 => (0x18, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false),
        _ => (0, b"hello", true),
    };
    let port = u16::try_from(1_024 + number % 60_000).unwrap();
    let server: Ipv4Addr = SERVER.parse().unwrap();
    let mut transport = [port.to_be_bytes(), PORT.to_be_bytes()].concat();
    if udp {
        transport.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
        transport.extend([0, 0]);
    } else {
        transport.extend(number.to_be_bytes());
        transport.extend(number.wrapping_mul(7).to_be_bytes());
        transport.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    }
    transport.extend(payload);
    if !udp {
        let sum = checksum(source, server, &transport);
        transport[16..18].copy_from_slice(&sum.to_be_bytes());
    }
    let total = u16::try_from(20 + transport.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, if udp { 17 } else { 6 }, 0, 0]);
    packet.extend(source.octets());
    packet.extend(server.octets());
    packet.extend(transport);
    packet
}

fn checksum(source: Ipv4Addr, server: Ipv4Addr, segment: &[u8]) -> u16 {
    let words = |bytes: &[u8]| {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
            .sum::<u32>()
    };
    let len = u32::try_from(segment.len()).unwrap();
    let mut sum = words(&source.octets()) + words(&server.octets()) + 6 + len + words(segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Sends the flood on two CPUs.
fn flood(scene: &Scene) -> Duration {
    let started = Instant::now();
    scene
        .clients
        .inside(|| {
            std::thread::scope(|scope| {
                for half in 0..2 {
                    scope.spawn(move || {
                        let (inet, raw) = (AddressFamily::Inet, SockType::Raw);
                        let raw = socket(inet, raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
                        let to = SockaddrIn::from(SocketAddrV4::new(SERVER.parse().unwrap(), 0));
                        for number in (0..SOURCES).filter(|number| number % 8 / 4 == half) {
                            let packet = packet(forged(number), number);
                            for _ in 0..PACKETS_EACH {
                                let flags = MsgFlags::empty();
                                while sendto(raw.as_raw_fd(), &packet, &to, flags).is_err() {}
                            }
                        }
                    });
                }
            });
            Ok(())
        })
        .unwrap();
    started.elapsed()
}

/// A datagram of each client.
fn once(senders: &[UdpSocket]) {
    for sender in senders {
        let _dropped = sender.send(b"x");
    }
}

/// Datagrams that wait.
fn received(sink: &UdpSocket) -> usize {
    let mut buffer = [0; 64];
    std::iter::from_fn(|| sink.recv_from(&mut buffer).ok())
        .filter(|(_, from)| match from.ip() {
            std::net::IpAddr::V4(from) => from.octets()[0] == 10 && from.octets()[3] < 20,
            std::net::IpAddr::V6(_) => false,
        })
        .count()
}

#[test]
fn a_flood_of_forged_sources_forgives_no_known_client_and_harms_none() {
    if !is_root_or_skips("a_flood_of_forged_sources") {
        return;
    }
    let scene = Scene::new();
    scene.addresses((0..KNOWN).map(known).chain((0..OTHERS).map(other)));
    let sensor = scene.sensor(&format!(
        "  - id: each\n    ports: [{PORT}]\n    packets: {{rate: {MOST}, per: 24h, burst: {MOST}}}\n"
    ));
    let (listener, sink) = scene
        .server
        .inside(|| Ok((TcpListener::bind((SERVER, PORT))?, UdpSocket::bind((SERVER, PORT))?)))
        .unwrap();
    sink.set_read_timeout(Some(NOTHING)).unwrap();
    std::thread::spawn(move || {
        let _kept: Vec<TcpStream> = listener.incoming().flatten().collect();
    });
    let (_connected, senders) = scene
        .clients
        .inside(|| {
            let all = (0..KNOWN).map(known).chain((0..OTHERS).map(other));
            let connected: Vec<OwnedFd> =
                all.clone().map(|from| client(from, SockType::Stream)).collect();
            let senders: Vec<UdpSocket> =
                all.map(|from| UdpSocket::from(client(from, SockType::Datagram))).collect();
            Ok((connected, senders))
        })
        .unwrap();
    let (known, others) = senders.split_at(usize::try_from(KNOWN).unwrap());
    let before = Instant::now();
    for (at, sender) in known.iter().enumerate() {
        for _ in 0..MOST {
            let _over = sender.send(b"x");
        }
        if at % 50 == 0 {
            let _room = received(&sink);
        }
    }
    let _all = received(&sink);
    once(known);
    assert_eq!(received(&sink), 0, "a client is not at its limit");
    eprintln!("at their limit after {:?}", before.elapsed());

    let dropped = of_rule(&sensor, "each", "packets");
    let took = flood(&scene);
    let of_flood = of_rule(&sensor, "each", "packets") - dropped;
    eprintln!("{} packets in {took:?}, {of_flood} of them over a limit", SOURCES * PACKETS_EACH);
    let _theirs = received(&sink);

    let dropped = of_rule(&sensor, "each", "packets");
    once(known);
    assert_eq!(received(&sink), 0, "a client was forgiven");
    assert_eq!(of_rule(&sensor, "each", "packets") - dropped, u64::from(KNOWN));
    for _ in 0..3 {
        once(others);
        assert_eq!(received(&sink), others.len(), "a client below its limit was harmed");
    }
    assert_eq!(counted(&sensor, "penalties_full"), 0);
}
