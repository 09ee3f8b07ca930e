//! The RSTs that answer a packet against RFC 9293 and RFC 5961, their checksums against a plain sum, their recognition, their bound.

use core::cell::Cell;
use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    abi::{
        counter::Counter,
        image::{Action, ListId, Rule},
    },
    packet::{Outcome, Slice, parse},
    testing::{Host, RESET_KEY, Segment, image::Draft},
    verdict::Decision,
};

const KEY: u64 = 0x0123_4567_89ab_cdef;

fn segment(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Segment {
    Segment {
        src: [10, 0, 0, 2],
        dst: [10, 0, 0, 1],
        src_port: 40_000,
        dst_port: 80,
        seq,
        ack,
        flags,
        payload: payload.to_vec(),
    }
}

fn headers(frame: &[u8]) -> Headers {
    let mut headers = Headers::default();
    assert_eq!(parse(Link::Ethernet, &Slice(frame), &mut headers), Outcome::Tcp);
    headers
}

fn answers(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> (Option<Rst>, Rst) {
    let headers = headers(&segment(flags, seq, ack, payload).frame());
    (back(&headers), forward(&headers))
}

const RST: u8 = TcpFlags::RST;
const ACK: u8 = TcpFlags::ACK;
const SYN: u8 = TcpFlags::SYN;

#[test]
fn a_syn_is_refused_as_a_closed_port_would() {
    let (back, forward) = answers(SYN, 1000, 0, b"");
    assert_eq!(back, Some(Rst { seq: 0, ack: 1001, flags: RST | ACK }));
    assert_eq!(forward, Rst { seq: 1001, ack: 0, flags: RST });
}

#[test]
fn data_in_a_syn_is_acknowledged_by_its_refusal() {
    let (back, _) = answers(SYN, u32::MAX, 0, b"fast");
    assert_eq!(back, Some(Rst { seq: 0, ack: 4, flags: RST | ACK }));
}

#[test]
fn data_is_answered_with_the_number_its_sender_expects() {
    let (back, forward) = answers(ACK, 1000, 7000, b"GET / HTTP/1.1\r\n");
    assert_eq!(back, Some(Rst { seq: 7000, ack: 0, flags: RST }));
    assert_eq!(forward, Rst { seq: 1000, ack: 7000, flags: RST | ACK });
}

#[test]
fn a_syn_ack_becomes_what_a_client_in_syn_sent_takes() {
    let (back, forward) = answers(SYN | ACK, 500, 1001, b"");
    // RFC 9293 3.10.7.3: only a RST that acknowledges the SYN counts.
    assert_eq!(forward, Rst { seq: 501, ack: 1001, flags: RST | ACK });
    assert_eq!(back, Some(Rst { seq: 1001, ack: 0, flags: RST }));
}

#[test]
fn a_rst_is_never_answered() {
    for flags in [RST, RST | ACK, RST | SYN, RST | TcpFlags::FIN] {
        let (back, forward) = answers(flags, 9, 8, b"");
        assert_eq!(back, None);
        assert_ne!(forward.flags & RST, 0);
    }
}

/// A frame that holds `rst` as the bpf side writes it.
fn frame(key: u64, rst: Rst) -> Vec<u8> {
    let mut frame = segment(rst.flags, rst.seq, rst.ack, b"").frame();
    frame.truncate(54);
    frame[48..50].copy_from_slice(&signature(key, rst).to_be_bytes());
    frame
}

/// Resets 10.0.0.0/24.
fn resets() -> Draft {
    let mut draft = Draft::default();
    draft.rules.push(Rule {
        action: Action::Reset as u8,
        port_max: u16::MAX,
        share: u32::MAX,
        ..Rule::default()
    });
    draft.list(ListId::Block, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 0], 120, 1);
    draft
}

#[test]
fn our_own_is_recognised_and_counted_as_nobodys_traffic() {
    let mut host = Host { enforce: true, ..Host::default() };
    host.install(&resets());
    let data = segment(ACK, 1000, 7000, b"GET / HTTP/1.1\r\n\r\n").frame();
    assert_eq!(host.see(Link::Ethernet, &data), Decision::BlockedReset);
    let (back, forward) = answers(ACK, 1000, 7000, b"GET / HTTP/1.1\r\n\r\n");
    for rst in [back.expect("no RST"), forward] {
        assert_eq!(host.see(Link::Ethernet, &frame(RESET_KEY, rst)), Decision::OwnReset);
        let strange = host.see(Link::Ethernet, &frame(RESET_KEY ^ 1, rst));
        assert_eq!(strange, Decision::BlockedReset);
    }
    assert_eq!(host.counter(Counter::OwnReset), 2);
    assert_eq!(host.counter(Counter::Blocked), 3);
    assert_eq!(host.counter(Counter::Sightings), 5);
}

#[test]
fn what_is_not_tcp_or_is_in_fragments_is_dropped_instead() {
    let mut host = Host { enforce: true, ..Host::default() };
    host.install(&resets());
    let whole = segment(ACK, 1, 1, b"hello").frame();
    assert_eq!(host.see(Link::Ethernet, &whole), Decision::BlockedReset);
    let mut first = whole.clone();
    first[20] = 0x20;
    assert_eq!(host.see(Link::Ethernet, &first), Decision::Blocked);
    let mut later = whole.clone();
    later[21] = 7;
    assert_eq!(host.see(Link::Ethernet, &later), Decision::Blocked);
    let mut udp = whole;
    udp[23] = 17;
    assert_eq!(host.see(Link::Ethernet, &udp), Decision::Blocked);
}

struct Tat(Cell<u64>);

impl TatCell for Tat {
    fn load(&self) -> u64 {
        self.0.get()
    }
    fn swap_if(&self, old: u64, new: u64) -> bool {
        let same = self.0.get() == old;
        if same {
            self.0.set(new);
        }
        same
    }
}

#[test]
fn no_second_holds_more_resets_than_the_bound() {
    const SECOND: u64 = 1_000_000_000;
    let cell = Tat(Cell::new(0));
    let mut sent: Vec<u64> = Vec::new();
    // 20 000 a second for three seconds, then silence, then a burst.
    for step in 0..60_000 {
        let now = SECOND * 100 + step * SECOND / 20_000;
        if admits(&cell, now) {
            sent.push(now);
        }
    }
    for _ in 0..5_000 {
        if admits(&cell, SECOND * 110) {
            sent.push(SECOND * 110);
        }
    }
    let most = sent
        .iter()
        .map(|from| sent.iter().filter(|at| (*from..*from + SECOND).contains(at)).count())
        .max();
    assert!(most.is_some_and(|most| (995..=1000).contains(&most)), "{most:?}");
    assert_eq!(RESETS_A_SECOND_MAX, 1000);
}

/// RFC 1071, byte by byte.
fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

proptest! {
    #[test]
    fn sums_are_those_of_the_bytes(
        src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), four in any::<bool>(),
        ports in any::<[u16; 2]>(), seq in any::<u32>(), ack in any::<u32>(), acks in any::<bool>(), window in any::<u16>(),
    ) {
        let tuple = Tuple { src, dst, src_port: ports[0], dst_port: ports[1], protocol: 6, pad: [0; 3] };
        let rst = Rst { seq, ack, flags: if acks { RST | ACK } else { RST } };
        let words = words(rst, window, u32::from(ports[0]) << 16 | u32::from(ports[1]));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        prop_assert_eq!(header_sum(&words), plain_sum(&bytes));
        let mut pseudo = vec![];
        if four {
            pseudo.extend_from_slice(&src[12..]);
            pseudo.extend_from_slice(&dst[12..]);
            pseudo.extend_from_slice(&[0, 6, 0, 20]);
        } else {
            pseudo.extend_from_slice(&src);
            pseudo.extend_from_slice(&dst);
            pseudo.extend_from_slice(&[0, 0, 0, 20, 0, 0, 0, 6]);
        }
        prop_assert_eq!(pseudo_sum(&tuple, if four { 4 } else { 6 }), plain_sum(&pseudo));
    }

    /// A model of RFC 5961 section 3.2 at both ends, at rest: each takes the RST that is made for it from any segment of the other.
    #[test]
    fn ends_at_rest_take_the_reset(seq in any::<u32>(), ack in any::<u32>(), len in 0_usize..1460, fin in any::<bool>()) {
        let flags = if fin { ACK | TcpFlags::FIN } else { ACK };
        let payload = vec![b'x'; len];
        let (back, forward) = answers(flags, seq, ack, &payload);
        // The sender expects what it has acknowledged, the receiver what comes first in the segment.
        prop_assert_eq!(back.map(|rst| rst.seq), Some(ack));
        prop_assert_eq!(forward.seq, seq);
    }

    #[test]
    fn a_segment_with_anything_in_it_is_never_ours(flags in any::<u8>(), seq in any::<u32>(), ack in any::<u32>(), payload in prop::collection::vec(any::<u8>(), 0..3)) {
        let rst = Rst { seq, ack, flags };
        let mut bytes = segment(flags, seq, ack, &payload).frame();
        bytes[48..50].copy_from_slice(&signature(KEY, rst).to_be_bytes());
        let bare = payload.is_empty() && (flags == RST || flags == RST | ACK);
        prop_assert_eq!(is_own(KEY, &Slice(&bytes), &headers(&bytes)), bare);
    }

    #[test]
    fn the_network_header_is_found_behind_tags(tags in 0_usize..3) {
        let mut frame = segment(ACK, 1, 1, b"").frame();
        for _ in 0..tags {
            frame.splice(12..12, [0x81, 0, 0, 5]);
        }
        let expected = u32::try_from(14 + tags * 4).ok();
        prop_assert_eq!(network_offset(Link::Ethernet, &Slice(&frame)), expected);
        prop_assert_eq!(network_offset(Link::RawIp, &Slice(&frame)), Some(0));
    }
}
