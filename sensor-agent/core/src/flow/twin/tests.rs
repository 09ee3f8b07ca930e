//! A capture with both sides of a NAT: one exchange for each request, and none too few where nothing was translated.

use std::net::SocketAddr;

use sensor_ebpf::abi::flow_key::Tuple;

use crate::flow::{Assembled, Assembler, FlowClass, FlowCounter, Limits, Segment, tcp_flag};
use crate::http::Exchange;
use crate::time::UnixNs;

const MS: u64 = 1_000_000;
const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: api\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Client and server of a connection as one place sees it, and the hop limit there.
#[derive(Clone, Copy)]
struct Place {
    client: (u8, u16),
    server: (u8, u16),
    hop_limit: u8,
}

const OUTER: Place = Place { client: (1, 40_000), server: (100, 80), hop_limit: 64 };
const INNER: Place = Place { client: (9, 51_000), server: (2, 8080), hop_limit: 63 };

#[derive(Clone, Copy)]
enum Sender {
    Client,
    Server,
}
use Sender::{Client, Server};

struct Bench {
    assembler: Assembler,
    now: u64,
    exchanges: Vec<Exchange>,
    connections: Vec<(SocketAddr, SocketAddr, FlowClass)>,
}

impl Bench {
    fn new() -> Self {
        let assembler = Assembler::new(Limits::default(), 7);
        Self { assembler, now: 1_000 * MS, exchanges: Vec::new(), connections: Vec::new() }
    }

    fn send(
        &mut self,
        place: Place,
        sender: Sender,
        flags: u8,
        seq: u32,
        ack: u32,
        payload: &[u8],
    ) {
        let v4 = |last: u8| std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
        let (from, to) = match sender {
            Client => (place.client, place.server),
            Server => (place.server, place.client),
        };
        let tuple = Tuple {
            src: v4(from.0),
            dst: v4(to.0),
            src_port: from.1,
            dst_port: to.1,
            protocol: 6,
            pad: [0; 3],
        };
        let segment = Segment {
            time: UnixNs(self.now),
            tuple,
            seq,
            ack,
            flags,
            hop_limit: place.hop_limit,
            payload,
            wire_len: u32::try_from(payload.len()).unwrap(),
        };
        let (exchanges, connections) = (&mut self.exchanges, &mut self.connections);
        self.assembler
            .on_segment(&segment, &mut |assembled| take(assembled, exchanges, connections));
    }

    /// Each packet at all places, a little later at each; those that send last see a response first.
    fn pass(
        &mut self,
        places: &[Place],
        sender: Sender,
        flags: u8,
        seq: u32,
        ack: u32,
        data: &[u8],
    ) {
        let send = |bench: &mut Self, place: Place, hops: u8| {
            bench.now += MS / 10;
            let place = Place { hop_limit: 64 - hops, ..place };
            bench.send(place, sender, flags, seq, ack, data);
        };
        let hop = |index: usize| u8::try_from(index).unwrap();
        match sender {
            Client => places.iter().enumerate().for_each(|(i, it)| send(self, *it, hop(i))),
            Server => places.iter().rev().enumerate().for_each(|(i, it)| send(self, *it, hop(i))),
        }
    }

    fn handshake(&mut self, places: &[Place], client: u32, server: u32) {
        self.pass(places, Client, tcp_flag::SYN, client, 0, b"");
        self.pass(places, Server, tcp_flag::SYN | tcp_flag::ACK, server, client + 1, b"");
        self.pass(places, Client, tcp_flag::ACK, client + 1, server + 1, b"");
    }

    /// Requests and responses after the handshake, then FINs.
    fn talk(&mut self, places: &[Place], client: u32, server: u32, requests: u32) {
        let (mut c, mut s) = (client + 1, server + 1);
        for _ in 0..requests {
            self.pass(places, Client, tcp_flag::ACK, c, s, REQUEST);
            c += u32::try_from(REQUEST.len()).unwrap();
            self.pass(places, Server, tcp_flag::ACK, s, c, RESPONSE);
            s += u32::try_from(RESPONSE.len()).unwrap();
        }
        self.pass(places, Client, tcp_flag::FIN | tcp_flag::ACK, c, s, b"");
        self.pass(places, Server, tcp_flag::FIN | tcp_flag::ACK, s, c + 1, b"");
        self.pass(places, Client, tcp_flag::ACK, c + 1, s + 1, b"");
    }

    fn finish(mut self) -> Self {
        let (exchanges, connections) = (&mut self.exchanges, &mut self.connections);
        self.assembler.finish(&mut |assembled| take(assembled, exchanges, connections));
        self
    }

    fn aliases(&self) -> u64 {
        self.assembler.counts().value(FlowCounter::Aliases)
    }
}

fn take(
    assembled: Assembled,
    exchanges: &mut Vec<Exchange>,
    connections: &mut Vec<(SocketAddr, SocketAddr, FlowClass)>,
) {
    match assembled {
        Assembled::Exchange(exchange) => exchanges.push(exchange),
        Assembled::Connection { client, server, class, .. } => {
            connections.push((client, server, class));
        }
        Assembled::Hello { .. } => {}
    }
}

fn address(end: (u8, u16)) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, end.0], end.1))
}

/// All were answered, between the true client and the server behind the translation.
fn check(bench: &Bench, exchanges: usize) {
    assert_eq!(bench.exchanges.len(), exchanges);
    for exchange in &bench.exchanges {
        assert_eq!(exchange.status, Some(200));
        assert_eq!(exchange.client, address(OUTER.client));
        assert_eq!(exchange.server, address(INNER.server));
    }
    for (client, server, class) in &bench.connections {
        assert_eq!((*client, *server), (address(OUTER.client), address(INNER.server)));
        assert_eq!(*class, FlowClass::Http);
    }
}

#[test]
fn both_sides_of_a_nat_are_one_exchange_of_the_true_client() {
    let mut bench = Bench::new();
    bench.handshake(&[OUTER, INNER], 5_000, 9_000);
    bench.talk(&[OUTER, INNER], 5_000, 9_000, 5);
    let bench = bench.finish();
    check(&bench, 5);
    assert_eq!((bench.connections.len(), bench.aliases()), (1, 1));
}

#[test]
fn two_translations_in_a_row_and_a_chain_captured_backwards_are_one_too() {
    let between = Place { client: (5, 45_000), server: (100, 81), hop_limit: 0 };
    let mut bench = Bench::new();
    bench.handshake(&[OUTER, between, INNER], 5_000, 9_000);
    bench.talk(&[OUTER, between, INNER], 5_000, 9_000, 3);
    let bench = bench.finish();
    check(&bench, 3);
    assert_eq!(bench.aliases(), 2);

    // The inner packet comes first in the file: the hop limit says which was nearer to whom.
    let mut bench = Bench::new();
    let (request, response) = ((5_001, 9_001), (9_001, 5_001 + 30));
    bench.send(INNER, Client, tcp_flag::ACK, request.0, request.1, REQUEST);
    bench.send(OUTER, Client, tcp_flag::ACK, request.0, request.1, REQUEST);
    bench.send(
        Place { hop_limit: 63, ..OUTER },
        Server,
        tcp_flag::ACK,
        response.0,
        response.1,
        RESPONSE,
    );
    check(&bench.finish(), 1);
}

#[test]
fn a_connection_joined_in_its_middle_is_one_whichever_side_is_seen_first() {
    let mut bench = Bench::new();
    bench.talk(&[OUTER, INNER], 5_000, 9_000, 3);
    check(&bench.finish(), 3);

    // The first packet of the capture is a response.
    let mut bench = Bench::new();
    bench.pass(&[OUTER, INNER], Server, tcp_flag::ACK, 8_000, 5_001, RESPONSE);
    bench.talk(&[OUTER, INNER], 5_000, 8_000 - 1 + 40, 3);
    let bench = bench.finish();
    let answered: Vec<_> = bench.exchanges.iter().filter(|it| it.status.is_some()).collect();
    assert_eq!((bench.exchanges.len(), answered.len()), (3, 3));
    for exchange in answered {
        assert_eq!(exchange.client, address(OUTER.client));
        assert_eq!(exchange.server, address(INNER.server));
    }
}

#[test]
fn what_one_side_lost_the_other_one_has() {
    let mut bench = Bench::new();
    bench.handshake(&[OUTER, INNER], 5_000, 9_000);
    bench.pass(&[OUTER, INNER], Client, tcp_flag::ACK, 5_001, 9_001, REQUEST);
    bench.pass(&[OUTER, INNER], Server, tcp_flag::ACK, 9_001, 5_031, RESPONSE);
    bench.pass(&[INNER], Client, tcp_flag::ACK, 5_031, 9_042, REQUEST);
    bench.pass(&[INNER], Server, tcp_flag::ACK, 9_042, 5_061, RESPONSE);
    check(&bench.finish(), 2);
}

#[test]
fn the_same_ports_again_and_a_new_server_behind_them() {
    let mut bench = Bench::new();
    let other = Place { server: (3, 8080), ..INNER };
    for (round, inner) in [INNER, INNER, other].into_iter().enumerate() {
        let start = 5_000 + 1_000_000 * u32::try_from(round).unwrap();
        bench.handshake(&[OUTER, inner], start, start + 7);
        bench.talk(&[OUTER, inner], start, start + 7, 2);
    }
    let bench = bench.finish();
    let servers: Vec<_> = bench.exchanges.iter().map(|it| it.server).collect();
    let (first, second) = (address(INNER.server), address(other.server));
    assert_eq!(servers, [first, first, first, first, second, second]);
    assert!(bench.exchanges.iter().all(|it| it.client == address(OUTER.client)));
    assert_eq!(bench.connections.len(), 3);
}

#[test]
fn connections_with_the_same_numbers_stay_apart() {
    // As programs write captures: the same sequence numbers and bytes everywhere, one hop limit.
    let mut bench = Bench::new();
    for port in 0..50 {
        let place = Place { client: (1, 40_000 + port), ..OUTER };
        bench.handshake(&[place], 1_000, 2_000);
        bench.talk(&[place], 1_000, 2_000, 2);
    }
    let bench = bench.finish();
    assert_eq!((bench.exchanges.len(), bench.connections.len(), bench.aliases()), (100, 50, 0));
}

#[test]
fn other_bytes_another_number_and_a_late_packet_are_other_connections() {
    for (seq, wait, bytes) in [
        (5_001, 0, &b"GET /b HTTP/1.1\r\nHost: api\r\n\r\n"[..]),
        (5_002, 0, REQUEST),
        (5_001, 1_000 * MS, REQUEST),
    ] {
        let mut bench = Bench::new();
        bench.send(OUTER, Client, tcp_flag::ACK, 5_001, 9_001, REQUEST);
        bench.now += wait;
        bench.send(INNER, Client, tcp_flag::ACK, seq, 9_001, bytes);
        let bench = bench.finish();
        assert_eq!((bench.exchanges.len(), bench.aliases()), (2, 0));
    }
}

#[test]
fn addresses_with_a_new_meaning_leave_the_old_connection_alone() {
    let mut bench = Bench::new();
    bench.handshake(&[OUTER, INNER], 5_000, 9_000);
    bench.talk(&[OUTER, INNER], 5_000, 9_000, 1);
    // The inner addresses are now those of a connection of its own.
    let own = Place { hop_limit: 64, ..INNER };
    bench.handshake(&[own], 3_000_000, 4_000_000);
    bench.talk(&[own], 3_000_000, 4_000_000, 2);
    let bench = bench.finish();
    let clients: Vec<_> = bench.exchanges.iter().map(|it| it.client).collect();
    assert_eq!(clients, [address(OUTER.client), address(INNER.client), address(INNER.client)]);
    assert!(bench.exchanges.iter().all(|it| it.server == address(INNER.server)));
}

#[test]
fn a_twin_whose_first_is_gone_becomes_a_connection_of_its_own() {
    let limits = Limits { idle_timeout_ns: 5_000 * MS, ..Limits::default() };
    let mut bench = Bench { assembler: Assembler::new(limits, 7), ..Bench::new() };
    bench.handshake(&[OUTER, INNER], 5_000, 9_000);
    bench.pass(&[OUTER, INNER], Client, tcp_flag::ACK, 5_001, 9_001, REQUEST);
    bench.pass(&[OUTER, INNER], Server, tcp_flag::ACK, 9_001, 5_031, RESPONSE);
    bench.now += 60_000 * MS;
    for _ in 0..16 {
        bench.pass(
            &[Place { client: (77, 1), server: (78, 2), hop_limit: 64 }],
            Client,
            tcp_flag::SYN,
            1,
            0,
            b"",
        );
    }
    bench.pass(&[INNER], Client, tcp_flag::ACK, 5_031, 9_042, REQUEST);
    bench.pass(&[INNER], Server, tcp_flag::ACK, 9_042, 5_061, RESPONSE);
    let bench = bench.finish();
    assert_eq!(bench.exchanges.len(), 2);
    assert!(bench.exchanges.iter().all(|it| it.status == Some(200)));
}
