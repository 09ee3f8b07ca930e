//! Request heads as they are charged, on a host with one device.

use std::{format, string::String, vec::Vec};

use crate::{
    abi::{
        counter::Counter,
        image::{Action, Limit, LimitKind, ListId, Rule},
        policy::LIMIT_FRACTION_BITS,
    },
    packet::{Link, TcpFlags},
    testing::{Host, Segment, image::Draft},
    verdict::Decision,
};

const SECOND: u64 = 1_000_000_000 << LIMIT_FRACTION_BITS;
const GET: &[u8] = b"GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n";

/// A client that sends on one connection to port 80.
struct Client {
    host: Host,
    seq: u32,
}

impl Client {
    /// One request a second, `burst` at once.
    fn limited(burst: u64, action: Action) -> Self {
        let mut host = Host { enforce: true, ..Host::default() };
        let mut draft = Draft::default();
        let any = Rule { port_max: u16::MAX, share: u32::MAX, ..Rule::default() };
        draft.rules.push(Rule { hits: 1, action: action as u8, ..any });
        draft.rules.push(Rule { hits: 2, ..any });
        draft.limits.push(Limit {
            increment: SECOND,
            tolerance: SECOND * burst,
            rule: 1,
            kind: LimitKind::Requests as u8,
            prefix_v4: 32,
            prefix_v6: 64,
            ..Limit::default()
        });
        let net = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 0];
        draft.list(ListId::Limit, net, 112, 1);
        let allowed = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 9];
        draft.list(ListId::Allow, allowed, 128, 2);
        host.install(&draft);
        Self { host, seq: 1 }
    }

    /// Shows a segment; the next one follows it where it passed.
    fn send(&mut self, from: u8, payload: &[u8]) -> Decision {
        let segment = Segment {
            src: [10, 0, 0, from],
            dst: [10, 0, 0, 2],
            src_port: 4_000,
            dst_port: 80,
            seq: self.seq,
            ack: 1,
            flags: TcpFlags::ACK,
            payload: payload.to_vec(),
        };
        let decision = self.host.see(Link::Ethernet, &segment.frame());
        if decision == Decision::Pass {
            self.seq = self.seq.wrapping_add(u32::try_from(payload.len()).unwrap());
        }
        self.host.now_ns += 1_000_000;
        decision
    }

    fn heads(&self) -> u64 {
        self.host.counter(Counter::RequestHeads)
    }
}

#[test]
fn a_request_over_the_limit_is_dropped_and_its_repeat_passes_when_there_is_room_again() {
    let mut client = Client::limited(2, Action::Drop);
    let seen: Vec<Decision> = (0..5).map(|_| client.send(1, GET)).collect();
    assert_eq!(seen[..2], [Decision::Pass; 2]);
    assert_eq!(seen[2..], [Decision::Limited; 3]);
    assert_eq!(client.heads(), 2);
    client.host.now_ns += 1_000_000_000;
    assert_eq!(client.send(1, GET), Decision::Pass);
    assert_eq!(client.send(1, GET), Decision::Limited);
    assert_eq!(client.heads(), 3);
    let records = client.host.records.borrow();
    assert_eq!(records.iter().map(|(header, _)| header.ordinal).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(client.host.counter(Counter::Limited), 4);
}

#[test]
fn every_head_of_a_pipeline_is_charged() {
    let mut client = Client::limited(4, Action::Reset);
    // Three and three: the second packet begins within the allowance and takes more than is left.
    assert_eq!(client.send(1, &GET.repeat(3)), Decision::Pass);
    assert_eq!(client.send(1, &GET.repeat(3)), Decision::Pass);
    assert_eq!(client.heads(), 6);
    let mut refused = 0;
    while client.send(1, GET) == Decision::LimitedReset {
        refused += 1;
        client.host.now_ns += 99_000_000;
    }
    // Six were taken where four fit: the next one waits for three to come back.
    assert!((28..=30).contains(&refused), "{refused}");
}

#[test]
fn bodies_of_a_client_over_its_limit_pass_and_a_head_behind_one_does_not() {
    let mut client = Client::limited(1, Action::Drop);
    let post = b"POST /orders HTTP/1.1\r\ncontent-length: 10\r\n\r\nhello";
    assert_eq!(client.send(1, post), Decision::Pass);
    let rest: Vec<u8> = [b"you!\n".as_slice(), GET].concat();
    assert_eq!(client.send(1, &rest), Decision::Limited);
    assert_eq!(client.send(1, b"you!"), Decision::Pass);
    let rest: Vec<u8> = [b"\n".as_slice(), GET].concat();
    assert_eq!(client.send(1, &rest), Decision::Limited);
    client.host.now_ns += 1_000_000_000;
    assert_eq!(client.send(1, &rest), Decision::Pass);
    assert_eq!(client.heads(), 2);
    assert_eq!(client.host.counter(Counter::GapsInFlow), 0);
}

#[test]
fn a_head_in_pieces_is_one_request() {
    let mut client = Client::limited(2, Action::Drop);
    for _ in 0..2 {
        for piece in GET.chunks(7) {
            assert_eq!(client.send(1, piece), Decision::Pass);
        }
    }
    let mut pieces = GET.chunks(7);
    let passed = pieces.by_ref().take_while(|piece| client.send(1, piece) == Decision::Pass);
    assert!(passed.count() < 3, "the head was let through");
    assert_eq!(client.heads(), 2);
}

#[test]
fn an_allowed_client_is_never_refused_and_a_monitor_only_counts() {
    let mut client = Client::limited(1, Action::Drop);
    for _ in 0..5 {
        assert_eq!(client.send(9, GET), Decision::Pass);
    }
    assert_eq!(client.heads(), 5);
    assert!(client.host.limit_state.borrow().is_empty(), "it is charged nothing");
    let mut client = Client::limited(1, Action::Monitor);
    for _ in 0..5 {
        assert_eq!(client.send(1, GET), Decision::Pass);
    }
    assert_eq!(client.host.counter(Counter::WouldLimit), 4);
    assert_eq!(client.host.hits.borrow().get(&1).unwrap().would_packets, 4);
}

#[test]
fn flows_that_are_not_sampled_are_limited_all_the_same() {
    let mut client = Client::limited(3, Action::Drop);
    client.host.settings.sample_threshold = 0;
    client.host.settings.hash_key = [7, 7];
    let seen: Vec<Decision> = (0..6).map(|_| client.send(1, GET)).collect();
    assert_eq!(seen.iter().filter(|one| **one == Decision::Pass).count(), 3, "{seen:?}");
    assert!(client.host.records.borrow().is_empty());
    assert_eq!(client.heads(), 0);
}

#[test]
fn what_is_no_http_is_not_refused() {
    let mut client = Client::limited(1, Action::Drop);
    assert_eq!(client.send(1, GET), Decision::Pass);
    let sip: String = format!("OPTIONS sip:a@b SIP/2.0\r\nvia: {}\r\n\r\n", "x".repeat(40));
    assert_eq!(client.send(1, sip.as_bytes()), Decision::Pass);
    assert_eq!(client.send(3, &[0xff; 200]), Decision::Pass);
}
