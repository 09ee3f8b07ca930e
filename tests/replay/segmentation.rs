//! However a conversation is cut, shuffled and repeated on the wire, the exchanges are the same.

use proptest::prelude::*;
use sensor_core::flow::{Assembled, Assembler, Limits, Segment, tcp_flag};
use sensor_core::time::UnixNs;
use sensor_ebpf::abi::flow_key::Tuple;

const REQUESTS: &[u8] = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1f;x=y\r\nGET /fake HTTP/1.1\r\nHost: f\r\n\r\n\r\n0\r\nT: v\r\n\r\nHEAD /b?c=d HTTP/1.1\r\nHost: h\r\n\r\nPUT /e HTTP/1.1\nHost: h\nContent-Length: 31\n\nGET /fake HTTP/1.1\r\nHost: f\r\n\r\n\nGET http://h/f HTTP/1.1\r\nHost: h\r\n\r\n";
const RESPONSES: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nHTTP/1.1 500 no\r\n\r\n\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 999\r\n\r\nHTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 204 None\r\n\r\n";
const EXPECTED: [(&str, &[u8], u16); 4] = [
    ("POST", b"/a", 200),
    ("HEAD", b"/b?c=d", 404),
    ("PUT", b"/e", 201),
    ("GET", b"http://h/f", 204),
];
const ISN: [u32; 2] = [u32::MAX - 40, 7];

#[derive(Clone, Copy, Debug)]
struct Piece {
    client: bool,
    from: usize,
    to: usize,
}

fn pieces(stream: &[u8], client: bool, cuts: &[prop::sample::Index]) -> Vec<Piece> {
    let mut at: Vec<usize> =
        cuts.iter().map(|cut| cut.index(stream.len())).chain([0, stream.len()]).collect();
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|pair| Piece { client, from: pair[0], to: pair[1] }).collect()
}

fn run(pieces: &[Piece]) -> Vec<(String, Vec<u8>, Option<u16>)> {
    let mut assembler = Assembler::new(Limits::default(), 3);
    let mut found = Vec::new();
    let mut sink = |assembled| {
        if let Assembled::Exchange(exchange) = assembled {
            found.push((
                exchange.method.as_str().to_owned(),
                exchange.target.to_vec(),
                exchange.status,
            ));
        }
    };
    let mut send = |client: bool, seq: u32, flags: u8, payload: &[u8]| {
        let (client_end, server_end) = (([1; 16], 4000), ([2; 16], 80));
        let (src, dst) = if client { (client_end, server_end) } else { (server_end, client_end) };
        let tuple = Tuple {
            src: src.0,
            dst: dst.0,
            src_port: src.1,
            dst_port: dst.1,
            protocol: 6,
            pad: [0; 3],
        };
        let wire_len = u32::try_from(payload.len()).unwrap();
        let ack = ISN[usize::from(client)].wrapping_add(1);
        let segment =
            Segment { time: UnixNs(1), tuple, seq, ack, flags, hop_limit: 64, payload, wire_len };
        assembler.on_segment(&segment, &mut sink);
    };
    send(true, ISN[0], tcp_flag::SYN, &[]);
    send(false, ISN[1], tcp_flag::SYN | tcp_flag::ACK, &[]);
    for piece in pieces {
        let (stream, isn) = if piece.client { (REQUESTS, ISN[0]) } else { (RESPONSES, ISN[1]) };
        let seq = isn.wrapping_add(1).wrapping_add(u32::try_from(piece.from).unwrap());
        send(piece.client, seq, tcp_flag::ACK, &stream[piece.from..piece.to]);
    }
    assembler.finish(&mut sink);
    found
}

fn check(pieces: &[Piece]) {
    let expected: Vec<_> = EXPECTED
        .iter()
        .map(|(method, target, status)| ((*method).to_owned(), target.to_vec(), Some(*status)))
        .collect();
    assert_eq!(run(pieces), expected, "{pieces:?}");
}

#[test]
fn every_single_cut_gives_the_same_exchanges() {
    for cut in 1..REQUESTS.len() {
        let responses = Piece { client: false, from: 0, to: RESPONSES.len() };
        let (first, second) = (
            Piece { client: true, from: 0, to: cut },
            Piece { client: true, from: cut, to: REQUESTS.len() },
        );
        check(&[first, second, responses]);
        check(&[second, first, responses]);
        check(&[first, responses, second]);
        check(&[responses, second, first, first]);
    }
    for cut in 1..RESPONSES.len() {
        let requests = Piece { client: true, from: 0, to: REQUESTS.len() };
        let (first, second) = (
            Piece { client: false, from: 0, to: cut },
            Piece { client: false, from: cut, to: RESPONSES.len() },
        );
        check(&[requests, first, second]);
        check(&[second, requests, first]);
        check(&[first, second, requests]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_cutting_order_and_repetition_gives_the_same_exchanges(
        request_cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..14),
        response_cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..14),
        order in prop::collection::vec(any::<u16>(), 40),
        repeats in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
        overlaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 0..4),
    ) {
        let mut all = pieces(REQUESTS, true, &request_cuts);
        all.extend(pieces(RESPONSES, false, &response_cuts));
        let mut keyed: Vec<_> = all.into_iter().enumerate().map(|(index, piece)| (order[index], piece)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        let mut all: Vec<Piece> = keyed.into_iter().map(|(_, piece)| piece).collect();
        for (which, place) in repeats {
            let piece = all[which.index(all.len())];
            all.insert(place.index(all.len()), piece);
        }
        for (a, b, client) in overlaps {
            let len = if client { REQUESTS.len() } else { RESPONSES.len() };
            let (a, b) = (a.index(len), b.index(len));
            if a != b {
                all.push(Piece { client, from: a.min(b), to: a.max(b) });
                let last = all.len() - 1;
                all.swap(0, last);
            }
        }
        check(&all);
    }
}
