//! Hostile orders of packets: handshakes late in the file, holes at the start, ports used again.

use sensor_ebpf::abi::flow_key::Tuple;

use crate::flow::{Assembled, Assembler, Limits, Segment, tcp_flag};
use crate::time::UnixNs;

const SYN: u8 = tcp_flag::SYN;
const ACK: u8 = tcp_flag::ACK;
const FIN: u8 = tcp_flag::FIN | ACK;
const CLIENT: u32 = 1_000;
const SERVER: u32 = u32::MAX - 20;

/// Side, sequence and acknowledgement number (from the initial ones), flags, payload.
type Packet = (char, u32, u32, u8, &'static str);

const OPEN: [Packet; 3] = [('c', 0, 0, SYN, ""), ('s', 0, 1, SYN | ACK, ""), ('c', 1, 1, ACK, "")];
const GET_1: &str = "GET /1 HTTP/1.1\r\n\r\n";
const GET_2: &str = "GET /2 HTTP/1.1\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const GONE: &str = "HTTP/1.1 410 -\r\nContent-Length: 0\r\n\r\n\n";

fn take(assembler: &mut Assembler, packets: &[Packet], shift: u32, found: &mut Vec<String>) {
    for (index, (side, seq, ack, flags, payload)) in packets.iter().enumerate() {
        let (src_port, dst_port, own, other) =
            if *side == 'c' { (40_000, 80, CLIENT, SERVER) } else { (80, 40_000, SERVER, CLIENT) };
        let segment = Segment {
            time: UnixNs(1_000_000 * (1 + index as u64)),
            tuple: Tuple {
                src: [1; 16],
                dst: [1; 16],
                src_port,
                dst_port,
                protocol: 6,
                ..Tuple::default()
            },
            seq: own.wrapping_add(shift).wrapping_add(*seq),
            ack: if flags & ACK == 0 { 0 } else { other.wrapping_add(shift).wrapping_add(*ack) },
            flags: *flags,
            hop_limit: 64,
            payload: payload.as_bytes(),
            wire_len: u32::try_from(payload.len()).unwrap(),
        };
        assembler.on_segment(&segment, &mut |result| note(found, result));
    }
}

fn note(found: &mut Vec<String>, result: Assembled) {
    if let Assembled::Exchange(exchange) = result {
        assert_eq!((exchange.client.port(), exchange.server.port()), (40_000, 80));
        let status = exchange.status.map_or("-".into(), |status| status.to_string());
        let target = String::from_utf8_lossy(&exchange.target).into_owned();
        found.push(format!("{} {target} {status}", exchange.method.as_str()));
    }
}

fn check(packets: &[Packet], expected: &[&str]) {
    let mut assembler = Assembler::new(Limits::default(), 1);
    let mut found = Vec::new();
    take(&mut assembler, packets, 0, &mut found);
    assembler.finish(&mut |result| note(&mut found, result));
    assert_eq!(found, expected, "{packets:?}");
}

const PLAIN: [Packet; 7] = [
    OPEN[0],
    OPEN[1],
    OPEN[2],
    ('c', 1, 1, ACK, GET_1),
    ('s', 1, 20, ACK, OK),
    ('c', 20, 39, ACK, GET_2),
    ('s', 39, 39, ACK, GONE),
];

#[test]
fn lengths_of_the_examples() {
    assert_eq!((GET_1.len(), GET_2.len(), OK.len(), GONE.len()), (19, 19, 38, 38));
}

#[test]
fn any_order_of_the_handshake_and_the_first_packets_gives_the_same() {
    let expected = ["GET /1 200", "GET /2 410"];
    check(&PLAIN, &expected);
    for first in 0..PLAIN.len() {
        for second in 0..PLAIN.len() {
            let mut packets = PLAIN.to_vec();
            packets.swap(first, second);
            check(&packets, &expected);
            packets.reverse();
            check(&packets, &expected);
        }
    }
}

#[test]
fn data_on_a_syn_that_came_late_is_whole() {
    let rest = [('s', 1, 20, ACK, OK), ('c', 20, 39, ACK, GET_2), ('s', 39, 39, ACK, GONE)];
    let start = [('s', 0, 20, SYN | ACK, ""), ('c', 20, 1, ACK, ""), ('c', 0, 0, SYN, GET_1)];
    check(&[&start[..], &rest].concat(), &["GET /1 200", "GET /2 410"]);
}

#[test]
fn a_hole_takes_what_it_swallowed_and_no_more() {
    let without = |lost: &[usize]| {
        let kept = PLAIN.iter().enumerate().filter(|(index, _)| !lost.contains(index));
        kept.map(|(_, packet)| *packet).collect::<Vec<_>>()
    };
    check(&without(&[3]), &["GET /2 410"]);
    check(&without(&[4]), &["GET /1 -", "GET /2 410"]);
    check(&without(&[5]), &["GET /1 200"]);
    check(&without(&[3, 4]), &["GET /2 410"]);
    // Joined in the middle: the response to a request that was not captured is nobody's.
    check(&without(&[0, 1, 2, 3]), &["GET /2 410"]);
    check(&without(&[0, 1]), &["GET /1 200", "GET /2 410"]);
}

#[test]
fn a_request_cut_by_a_hole_is_answered_and_the_next_one_found() {
    let cut = [
        OPEN[0],
        OPEN[1],
        OPEN[2],
        ('c', 1, 1, ACK, "GET /1 HTTP/1.1\r\n"),
        // Five bytes of a field and the blank line are missing.
        ('s', 1, 23, ACK, OK),
        ('c', 23, 39, ACK, GET_2),
        ('s', 39, 42, ACK, GONE),
    ];
    check(&cut, &["GET /1 200", "GET /2 410"]);
}

#[test]
fn ports_used_again_are_a_new_connection_with_and_without_its_syn() {
    let close = [('c', 39, 77, FIN, ""), ('s', 77, 40, FIN, ""), ('c', 40, 78, ACK, "")];
    let whole = [&PLAIN[..], &close].concat();
    for skip in [0, 3] {
        let mut assembler = Assembler::new(Limits::default(), 1);
        let mut found = Vec::new();
        take(&mut assembler, &whole, 0, &mut found);
        take(&mut assembler, &whole[skip..], 0x5000_0000, &mut found);
        assembler.finish(&mut |result| note(&mut found, result));
        assert_eq!(found, ["GET /1 200", "GET /2 410", "GET /1 200", "GET /2 410"], "{skip}");
    }
}

#[test]
fn requests_beyond_the_bound_do_not_shift_the_others() {
    let count = super::super::pairing::PENDING_MAX + 100;
    let (requests, responses) = (GET_1.repeat(count), OK.repeat(count));
    let mut assembler = Assembler::new(Limits::default(), 1);
    let mut statuses = Vec::new();
    let mut sink = |result| {
        if let Assembled::Exchange(exchange) = result {
            statuses.push(exchange.status);
        }
    };
    for (client, bytes) in [(true, requests), (false, responses)] {
        for (index, piece) in bytes.as_bytes().chunks(32 * 1024).enumerate() {
            let (src_port, dst_port) = if client { (40_000, 80) } else { (80, 40_000) };
            let segment = Segment {
                time: UnixNs(1),
                tuple: Tuple { src_port, dst_port, protocol: 6, ..Tuple::default() },
                seq: u32::try_from(index * 32 * 1024).unwrap(),
                ack: if client { 0 } else { u32::try_from(count * GET_1.len()).unwrap() },
                flags: ACK,
                hop_limit: 64,
                payload: piece,
                wire_len: u32::try_from(piece.len()).unwrap(),
            };
            assembler.on_segment(&segment, &mut sink);
        }
    }
    assembler.finish(&mut sink);
    let answered = statuses.iter().filter(|status| **status == Some(200)).count();
    assert_eq!(statuses.len(), count);
    assert!(answered > 10_000, "{answered}");
}
