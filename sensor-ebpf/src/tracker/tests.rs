//! The tracker against what was sent: any segmentation of a byte stream gives the same heads with the same ordinals.

mod nat;
mod proxy;

use std::{collections::BTreeMap, format, string::String, vec, vec::Vec};

use proptest::{collection, prelude::*};

use crate::{
    abi::{
        counter::Counter,
        sample::{Hook, SampleKind, flag},
    },
    packet::{Link, TcpFlags},
    testing::{Host, Segment},
};

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 80);
const ACK: u8 = TcpFlags::ACK;

/// A connection whose bytes are shown to a host segment by segment.
struct Connection {
    host: Host,
    client_seq: u32,
    server_seq: u32,
    hooks: Vec<(u32, Hook)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum From {
    Client,
    Server,
}

impl Connection {
    fn new(hooks: usize) -> Self {
        let all = [(1, Hook::Egress), (2, Hook::Ingress), (3, Hook::Egress), (4, Hook::Ingress)];
        let mut host = Host::default();
        host.settings.hooks = u32::try_from(hooks).unwrap();
        Self {
            host,
            client_seq: 0xffff_ff00,
            server_seq: 5_000,
            hooks: all.iter().copied().take(hooks).collect(),
        }
    }

    fn segment(&self, from: From, seq: u32, flags: u8, payload: &[u8]) -> Segment {
        let ((src, src_port), (dst, dst_port), ack) = match from {
            From::Client => (CLIENT, SERVER, self.server_seq),
            From::Server => (SERVER, CLIENT, self.client_seq),
        };
        Segment { src, dst, src_port, dst_port, seq, ack, flags, payload: payload.to_vec() }
    }

    fn show(&mut self, segment: &Segment) {
        for (ifindex, hook) in self.hooks.clone() {
            (self.host.ifindex, self.host.hook) = (ifindex, hook);
            self.host.see(Link::Ethernet, &segment.frame());
        }
        self.host.now_ns += 1_000;
    }

    fn handshake(&mut self) {
        let syn = self.segment(From::Client, self.client_seq, TcpFlags::SYN, &[]);
        self.show(&syn);
        self.client_seq = self.client_seq.wrapping_add(1);
        let answer = self.segment(From::Server, self.server_seq, TcpFlags::SYN | ACK, &[]);
        self.show(&answer);
        self.server_seq = self.server_seq.wrapping_add(1);
        let done = self.segment(From::Client, self.client_seq, ACK, &[]);
        self.show(&done);
    }

    fn send(&mut self, from: From, bytes: &[u8]) {
        let seq = match from {
            From::Client => self.client_seq,
            From::Server => self.server_seq,
        };
        let segment = self.segment(from, seq, ACK, bytes);
        self.show(&segment);
        let next = seq.wrapping_add(u32::try_from(bytes.len()).unwrap());
        match from {
            From::Client => self.client_seq = next,
            From::Server => self.server_seq = next,
        }
    }

    fn close(&mut self) {
        let fin = self.segment(From::Client, self.client_seq, ACK | TcpFlags::FIN, &[]);
        self.show(&fin);
        let fin = self.segment(From::Server, self.server_seq, ACK | TcpFlags::FIN, &[]);
        self.show(&fin);
    }

    /// Heads as they came out: (kind, ordinal) to bytes, whole ones only.
    fn heads(&self) -> Vec<(SampleKind, u32, String)> {
        let mut heads: Vec<(SampleKind, u32, String)> = Vec::new();
        let mut open: BTreeMap<u8, (u32, Vec<u8>, u32)> = BTreeMap::new();
        for (header, data) in self.host.records.borrow().iter() {
            let kind = SampleKind::from_wire(header.kind).unwrap();
            if !matches!(
                kind,
                SampleKind::RequestHead
                    | SampleKind::ResponseHead
                    | SampleKind::ClientHello
                    | SampleKind::ProxyHeader
            ) {
                continue;
            }
            if header.flags & flag::HEAD_START != 0 {
                open.insert(header.kind, (header.ordinal, Vec::new(), header.seq));
            }
            let (ordinal, bytes, next) =
                open.get_mut(&header.kind).expect("a head that was started");
            assert_eq!(*ordinal, header.ordinal);
            assert_eq!(*next, header.seq, "records of a head are gapless");
            bytes.extend_from_slice(data);
            *next = next.wrapping_add(header.data_len);
            if header.flags & (flag::HEAD_END | flag::TRUNCATED) != 0 {
                let (ordinal, bytes, _) = open.remove(&header.kind).unwrap();
                let mut text = String::from_utf8_lossy(&bytes).into_owned();
                if header.flags & flag::TRUNCATED != 0 {
                    text.push('~');
                }
                heads.push((kind, ordinal, text));
            }
        }
        assert!(open.is_empty(), "a head without an end: {open:?}");
        heads
    }

    fn check_ledger(&self) {
        let buckets: u64 =
            Counter::ALL.iter().filter(|c| c.is_bucket()).map(|c| self.host.counter(*c)).sum();
        assert_eq!(buckets, self.host.counter(Counter::Sightings), "one bucket for each sighting");
    }
}

#[derive(Clone, Debug)]
struct Message {
    method: &'static str,
    request_body: Body,
    status: u16,
    response_body: Body,
    interim: bool,
    extra: String,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>, bool),
}

const FAKE: &[u8] = b"\r\n\r\nGET /fake HTTP/1.1\r\nHost: fake\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n0\r\n\r\n";

fn body() -> impl Strategy<Value = Body> {
    let bytes = prop_oneof![
        collection::vec(any::<u8>(), 1..40),
        Just(FAKE.to_vec()),
        (1usize..2500).prop_map(|len| FAKE.iter().copied().cycle().take(len).collect::<Vec<u8>>()),
    ];
    prop_oneof![
        3 => Just(Body::None),
        2 => bytes.clone().prop_map(Body::Length),
        2 => (collection::vec(bytes, 0..4), any::<bool>()).prop_map(|(chunks, trailer)| Body::Chunked(chunks, trailer)),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (
        prop_oneof![Just("GET"), Just("HEAD"), Just("POST"), Just("PROPFIND"), Just("DELETE")],
        body(),
        prop_oneof![4 => Just(200u16), 1 => Just(204), 1 => Just(304), 1 => Just(404)],
        body(),
        any::<bool>(),
        prop_oneof![
            Just(String::new()),
            (0usize..3000).prop_map(|len| format!("Cookie: {}\r\n", "x".repeat(len))),
            Just("cOnTeNt-TyPe: a\r\nX-Content-Length: 99\r\nTE: chunked\r\n".into()),
        ],
    )
        .prop_map(|(method, request_body, status, response_body, interim, extra)| Message {
            method,
            request_body,
            status,
            response_body,
            interim,
            extra,
        })
}

fn framing(body: &Body) -> String {
    match body {
        Body::None => String::new(),
        // As most write it, and as it may be written.
        Body::Length(bytes) if bytes.len() % 2 == 0 => {
            format!("Content-Length: {}\r\n", bytes.len())
        }
        Body::Length(bytes) => format!("content-LENGTH: \t{}\r\n", bytes.len()),
        Body::Chunked(chunks, _) if chunks.len() % 2 == 0 => {
            "Transfer-Encoding: chunked\r\n".into()
        }
        Body::Chunked(..) => "Transfer-Encoding: gzip, Chunked\r\n".into(),
    }
}

fn wire(body: &Body) -> Vec<u8> {
    match body {
        Body::None => Vec::new(),
        Body::Length(bytes) => bytes.clone(),
        Body::Chunked(chunks, trailer) => {
            let mut wire = Vec::new();
            for chunk in chunks {
                wire.extend_from_slice(
                    format!("{:x};ext=\"{}\"\r\n", chunk.len(), "e".repeat(chunk.len() % 70))
                        .as_bytes(),
                );
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n");
            if *trailer {
                wire.extend_from_slice(b"X-Sum: GET / HTTP/1.1\r\n");
            }
            wire.extend_from_slice(b"\r\n");
            wire
        }
    }
}

fn request_head(message: &Message, number: usize) -> String {
    format!(
        "{} /things/{number} HTTP/1.1\r\nHost: a\r\n{}{}\r\n",
        message.method,
        message.extra,
        framing(&message.request_body)
    )
}

fn response_head(message: &Message) -> String {
    let framing = match (&message.response_body, message.status) {
        // Without a body of its own kind, a response would last until the end of the connection.
        (Body::None, _) => "Content-Length: 0\r\n".into(),
        (body, _) => framing(body),
    };
    format!("HTTP/1.1 {} X\r\n{}{}\r\n", message.status, framing, message.extra)
}

fn has_body(message: &Message) -> bool {
    message.method != "HEAD" && message.status != 204 && message.status != 304
}

/// Cuts bytes at the given places and sends the pieces, some of them twice.
fn send_cut(connection: &mut Connection, from: From, bytes: &[u8], cuts: &[usize], repeat: bool) {
    let mut at = 0;
    let mut cut = 0;
    while at < bytes.len() {
        let len = cuts.get(cut % cuts.len()).copied().unwrap_or(1).max(1).min(bytes.len() - at);
        let seq = if from == From::Client { connection.client_seq } else { connection.server_seq };
        connection.send(from, &bytes[at..at + len]);
        if repeat && cut % 3 == 0 {
            let again = connection.segment(from, seq, ACK, &bytes[at..at + len]);
            connection.show(&again);
            // And one that begins before and ends where the stream is.
            let back = at.min(5);
            let longer = connection.segment(
                from,
                seq.wrapping_sub(u32::try_from(back).unwrap()),
                ACK,
                &bytes[at - back..at + len],
            );
            connection.show(&longer);
        }
        at += len;
        cut += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_segmentation_gives_the_same_heads(
        rounds in collection::vec(collection::vec(message(), 1..5), 1..4),
        cuts in prop_oneof![
            Just(vec![7usize]), Just(vec![1usize]), Just(vec![60_000usize]),
            collection::vec(1usize..1500, 1..6), collection::vec(1usize..60, 1..6),
        ],
        repeat in any::<bool>(),
        hooks in 1usize..5,
    ) {
        let mut connection = Connection::new(hooks);
        connection.handshake();
        let mut expected = Vec::new();
        let mut number = 0u32;
        for round in &rounds {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let first = number;
            for message in round {
                number += 1;
                let head = request_head(message, number as usize);
                expected.push((SampleKind::RequestHead, number, head.clone()));
                up.extend_from_slice(head.as_bytes());
                up.extend_from_slice(&wire(&message.request_body));
            }
            for (index, message) in round.iter().enumerate() {
                if message.interim {
                    down.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                let head = response_head(message);
                expected.push((SampleKind::ResponseHead, first + 1 + u32::try_from(index).unwrap(), head.clone()));
                down.extend_from_slice(head.as_bytes());
                if has_body(message) {
                    down.extend_from_slice(&wire(&message.response_body));
                }
            }
            send_cut(&mut connection, From::Client, &up, &cuts, repeat);
            send_cut(&mut connection, From::Server, &down, &cuts, repeat);
        }
        connection.close();
        prop_assert_eq!(connection.heads(), expected);
        connection.check_ledger();
        let host = &connection.host;
        prop_assert_eq!(host.counter(Counter::RequestHeads), u64::from(number));
        prop_assert_eq!(host.counter(Counter::ResponseHeads), u64::from(number));
        for counter in [Counter::HeadsRefused, Counter::HeadsOnDoubt, Counter::GapsInFlow, Counter::HeadsTruncated, Counter::RecordsLost] {
            prop_assert_eq!(host.counter(counter), 0, "{}", counter.name());
        }
        let listeners = host.listeners.borrow();
        let counts = listeners.values().next().unwrap();
        prop_assert_eq!((listeners.len(), counts.opened, counts.http, counts.closed, counts.silent), (1, 1, 1, 1, 0));
    }

    #[test]
    fn one_pass_over_a_head_leaves_what_the_steps_leave(
        messages in collection::vec(message(), 1..8),
        cut in prop_oneof![Just(60_000usize), 1usize..1500],
        noise in collection::vec((0usize..4000, any::<u8>()), 0..4),
        ring_room in prop_oneof![3 => Just(u64::MAX), 1 => 0u64..20],
        hooks in 1usize..5,
    ) {
        let mut connections = [Connection::new(hooks), Connection::new(hooks)];
        connections[1].host.in_one_pass = false;
        for connection in &mut connections {
            connection.host.ring_room.set(ring_room);
            connection.handshake();
        }
        for (number, message) in messages.iter().enumerate() {
            let mut up = request_head(message, number).into_bytes();
            up.extend_from_slice(&wire(&message.request_body));
            let mut down = response_head(message).into_bytes();
            down.extend_from_slice(&wire(&message.response_body));
            for (at, byte) in &noise {
                for bytes in [&mut up, &mut down] {
                    if let Some(slot) = bytes.get_mut(*at * (number + 1)) {
                        *slot = *byte;
                    }
                }
            }
            for connection in &mut connections {
                send_cut(connection, From::Client, &up, &[cut], false);
                send_cut(connection, From::Server, &down, &[cut], false);
            }
            let [one, other] = &connections;
            let (one, other) = (&one.host, &other.host);
            prop_assert_eq!(&*one.flows.borrow(), &*other.flows.borrow());
            prop_assert_eq!(&*one.records.borrow(), &*other.records.borrow());
            prop_assert_eq!(&*one.counters.borrow(), &*other.counters.borrow());
        }
    }

    #[test]
    fn noise_never_panics_and_every_sighting_has_a_bucket(
        frames in collection::vec(collection::vec(any::<u8>(), 0..200), 1..30),
    ) {
        let connection = Connection::new(1);
        for frame in &frames {
            connection.host.see(Link::Ethernet, frame);
            connection.host.see(Link::RawIp, frame);
        }
        connection.check_ledger();
    }

    #[test]
    fn noise_in_an_http_flow_gives_no_head_twice(
        pieces in collection::vec((any::<bool>(), 0u32..4000, 0usize..400, collection::vec(any::<u8>(), 0..8)), 1..60),
    ) {
        // Segments of one stream in any order, with gaps and overlaps, now and then with noise.
        let mut connection = Connection::new(1);
        connection.handshake();
        let head = "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n";
        let stream: Vec<u8> = head.bytes().chain(vec![b'x'; 50]).cycle().take(4096).collect();
        let base = connection.client_seq;
        for (server, at, len, noise) in pieces {
            if server {
                connection.send(From::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let start = at as usize;
            let mut bytes = stream[start..(start + len).min(4096)].to_vec();
            if noise.len() == 7 {
                bytes.extend_from_slice(&noise);
            }
            let segment = connection.segment(From::Client, base.wrapping_add(at), ACK, &bytes);
            connection.show(&segment);
        }
        connection.check_ledger();
        let host = &connection.host;
        let ends = host.records.borrow().iter()
            .filter(|(header, _)| header.kind == SampleKind::RequestHead as u8 && header.flags & flag::HEAD_START != 0)
            .count();
        prop_assert_eq!(ends as u64, host.counter(Counter::RequestHeads));
    }
}

#[test]
fn a_full_ring_loses_each_head_once() {
    let mut connection = Connection::new(1);
    connection.handshake();
    let head = format!("GET /a HTTP/1.1\r\nCookie: {}\r\n\r\n", "x".repeat(3000));
    for round in 0..50 {
        connection.host.ring_room.set(round % 4);
        connection.send(From::Client, head.as_bytes());
        connection.send(From::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    let whole = |kind: SampleKind| {
        let records = connection.host.records.borrow();
        let ends = records.iter().filter(|(header, _)| {
            header.kind == kind as u8 && header.flags & (flag::HEAD_END | flag::TRUNCATED) != 0
        });
        ends.count() as u64
    };
    let host = &connection.host;
    assert_eq!(host.counter(Counter::RequestHeads), 50);
    assert_eq!(whole(SampleKind::RequestHead) + host.counter(Counter::RequestHeadsLost), 50);
    assert_eq!(host.counter(Counter::ResponseHeads), 50);
    assert_eq!(whole(SampleKind::ResponseHead) + host.counter(Counter::ResponseHeadsLost), 50);
}

#[test]
fn a_flow_joined_in_the_middle_is_read_from_its_next_request() {
    let mut connection = Connection::new(1);
    connection.send(From::Server, b"the rest of a body");
    for _ in 0..3 {
        connection.send(From::Client, b"GET /joined HTTP/1.1\r\n\r\n");
        connection.send(From::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    let heads = connection.heads();
    assert_eq!(heads.len(), 6, "{heads:?}");
    assert_eq!(connection.host.counter(Counter::HeadsOnDoubt), 2);
    for (index, pair) in heads.chunks(2).enumerate() {
        assert_eq!(pair[0].1, u32::try_from(index).unwrap() + 1);
        assert_eq!(pair[1].1, pair[0].1);
    }
}

#[test]
fn a_joined_upload_full_of_fake_heads_gives_none() {
    let mut connection = Connection::new(1);
    connection.send(From::Client, b"body of an upload");
    for _ in 0..20 {
        connection.send(From::Client, b"GET /fake HTTP/1.1\r\nHost: fake\r\n\r\n");
    }
    connection.send(From::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    connection.send(From::Client, b"GET /real HTTP/1.1\r\n\r\n");
    let heads = connection.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(heads[1].2.contains("/real"));
}

#[test]
fn other_protocols_become_negative_and_are_counted() {
    let hello: Vec<u8> = [22, 3, 1, 2, 0, 1].into_iter().chain(vec![0u8; 511]).collect();
    for (bytes, from, class) in [
        (b"*1\r\n$4\r\nPING\r\n".to_vec(), From::Client, "other"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), From::Server, "other"),
        // (Cut before its version, SIP is taken for HTTP: see `request_line`.)
        (b"OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec(), From::Client, "sip"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), From::Client, "h2c"),
        (hello, From::Client, "tls"),
    ] {
        let (class, cuts) = if class == "sip" {
            ("other", vec![bytes.len()])
        } else {
            (class, vec![bytes.len(), 3, 1])
        };
        for cut in cuts {
            let mut connection = Connection::new(2);
            connection.handshake();
            send_cut(&mut connection, from, &bytes, &[cut], false);
            if matches!(from, From::Client) {
                connection.send(From::Client, b"GET / HTTP/1.1\r\n\r\n");
            }
            connection.close();
            connection.check_ledger();
            let listeners = connection.host.listeners.borrow();
            let counts = listeners.values().next().unwrap();
            let found = [
                ("http", counts.http),
                ("other", counts.other),
                ("h2c", counts.h2c),
                ("tls", counts.tls),
            ];
            for (name, count) in found {
                assert_eq!(
                    count,
                    u64::from(name == class),
                    "{name} {:?} {cut}",
                    String::from_utf8_lossy(&bytes)
                );
            }
            assert_eq!((counts.opened, counts.closed, counts.silent), (1, 1, 0));
            assert_eq!(connection.host.counter(Counter::RequestHeads), 0);
            drop(listeners);
            if class == "tls" {
                assert_eq!(connection.heads()[0].2.len(), String::from_utf8_lossy(&bytes).len());
            }
        }
    }
}

#[test]
fn the_client_decides_when_the_server_speaks_first() {
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    for (first, expected) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], [0, 1, 0]),
        (b"GET / HTTP/1.1\r\n\r\n", [1, 0, 0]),
        (b"SSH-2.0-client\r\n", [0, 0, 1]),
    ] {
        let mut connection = Connection::new(2);
        connection.handshake();
        connection.send(From::Server, settings);
        connection.send(From::Client, first);
        connection.close();
        connection.check_ledger();
        let listeners = connection.host.listeners.borrow();
        let counts = listeners.values().next().unwrap();
        assert_eq!([counts.http, counts.h2c, counts.other], expected);
    }
}
