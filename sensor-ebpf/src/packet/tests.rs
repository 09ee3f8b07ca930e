//! Header walk on frames built byte by byte: link types, VLAN, options, extension headers, fragments, every prefix.

use std::{vec, vec::Vec};

use super::{Headers, Link, Outcome, Slice, parse};
use crate::testing::Segment;

fn tcp() -> Vec<u8> {
    let mut header = vec![0x1f, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0, 0, 0, 0, 0, 0];
    header.extend_from_slice(b"hello");
    header
}

fn ipv4(options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + options + payload.len()).unwrap();
    let mut packet = vec![0x40 | u8::try_from(5 + options / 4).unwrap(), 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 7]);
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.resize(20 + options, 1);
    packet.extend_from_slice(payload);
    packet
}

fn ipv6(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(&[first, 64]);
    packet.extend_from_slice(&[0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend_from_slice(&[0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend_from_slice(rest);
    packet
}

fn ethernet(tags: &[u16], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    for tag in tags {
        frame.extend_from_slice(&tag.to_be_bytes());
        frame.extend_from_slice(&[0, 5]);
    }
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(packet);
    frame
}

#[track_caller]
fn check(link: Link, packet: &[u8], expected: Outcome) -> Headers {
    let mut headers = Headers::default();
    assert_eq!(parse(link, &Slice(packet), &mut headers), expected);
    headers
}

#[track_caller]
fn check_tcp(link: Link, packet: &[u8]) {
    let headers = check(link, packet, Outcome::Tcp);
    assert_eq!((headers.tuple.src_port, headers.tuple.dst_port), (8080, 80));
    assert_eq!((headers.seq, headers.ack, headers.tcp_flags, headers.payload_len), (1, 2, 0x18, 5));
    let start = headers.payload as usize;
    assert_eq!(&packet[start..start + 5], b"hello");
    assert_eq!(headers.tuple.protocol, 6);
}

#[test]
fn tcp_is_found_behind_every_link_header() {
    let packet = ipv4(0, 0x4000, &tcp());
    check_tcp(Link::RawIp, &packet);
    check_tcp(Link::Ethernet, &ethernet(&[], 0x0800, &packet));
    check_tcp(Link::Ethernet, &ethernet(&[0x8100], 0x0800, &packet));
    check_tcp(Link::Ethernet, &ethernet(&[0x88a8, 0x8100], 0x0800, &packet));
    check(Link::Ethernet, &ethernet(&[0x8100, 0x8100, 0x8100], 0x0800, &packet), Outcome::NotIp);
    check(Link::Ethernet, &ethernet(&[], 0x0806, &packet), Outcome::NotIp);
    check_tcp(Link::RawIp, &ipv4(40, 0, &tcp()));
    check_tcp(Link::RawIp, &ipv6(6, &tcp()));
    check_tcp(Link::Ethernet, &ethernet(&[0x8100], 0x86dd, &ipv6(6, &tcp())));
}

#[test]
fn padding_behind_the_ip_packet_is_not_payload() {
    let mut frame = ethernet(&[], 0x0800, &ipv4(0, 0, &tcp()));
    frame.extend_from_slice(b"padding");
    check_tcp(Link::Ethernet, &frame);
}

#[test]
fn extension_headers_are_walked_up_to_the_bound() {
    let extension = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let authentication = |next: u8| [next, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let mut rest = extension(43).to_vec();
    rest.extend_from_slice(&extension(51));
    rest.extend_from_slice(&authentication(60));
    rest.extend_from_slice(&extension(6));
    rest.extend_from_slice(&tcp());
    check_tcp(Link::RawIp, &ipv6(0, &rest));
    let mut many: Vec<u8> = (0..7).flat_map(|_| extension(60)).collect();
    many.extend_from_slice(&extension(6));
    many.extend_from_slice(&tcp());
    check(Link::RawIp, &ipv6(60, &many), Outcome::ExtensionLimit);
    check(Link::RawIp, &ipv6(59, &[0, 0]), Outcome::NotTransport);
    check(Link::RawIp, &ipv6(58, &[0; 8]), Outcome::NotTransport);
}

#[test]
fn only_the_first_fragment_has_ports() {
    let first = check(Link::RawIp, &ipv4(0, 0x2000, &tcp()), Outcome::Tcp);
    assert_eq!((first.first_fragment, first.ip_id), (1, 7));
    check(Link::RawIp, &ipv4(0, 0x0010, &tcp()), Outcome::LaterFragment);
    let mut rest = vec![6, 0, 0, 1, 0, 0, 0, 9];
    rest.extend_from_slice(&tcp());
    let first = check(Link::RawIp, &ipv6(44, &rest), Outcome::Tcp);
    assert_eq!((first.first_fragment, first.ip_id), (1, 9));
    rest[3] = 8;
    check(Link::RawIp, &ipv6(44, &rest), Outcome::LaterFragment);
}

#[test]
fn a_first_fragment_that_ends_within_the_tcp_header_is_tcp() {
    for len in [8, 16] {
        let tiny = check(Link::RawIp, &ipv4(0, 0x2000, &tcp()[..len]), Outcome::Tcp);
        assert_eq!((tiny.tuple.dst_port, tiny.tcp_flags, tiny.payload_len), (80, 2, 0));
        check(Link::RawIp, &ipv4(0, 0, &tcp()[..len]), Outcome::Malformed);
    }
    let mut options = tcp();
    options[12] = 0xf0;
    let cut = check(Link::RawIp, &ipv4(0, 0x2000, &options), Outcome::Tcp);
    assert_eq!((cut.tcp_flags, cut.payload_len), (0x18, 0));
    check(Link::RawIp, &ipv4(0, 0, &options), Outcome::Malformed);
}

#[test]
fn what_has_no_ports_keeps_none_of_another_packet() {
    let later = ipv4(0, 0x0010, &tcp());
    let mut many: Vec<u8> = (0..7).flat_map(|_| [60, 0, 1, 4, 0, 0, 0, 0]).collect();
    many.extend_from_slice(&[6, 0, 1, 4, 0, 0, 0, 0]);
    for packet in [later, ipv6(60, &many)] {
        let mut headers = check(Link::RawIp, &ipv4(0, 0, &tcp()), Outcome::Tcp);
        parse(Link::RawIp, &Slice(&packet), &mut headers);
        assert_eq!((headers.tuple.src_port, headers.tuple.dst_port), (0, 0));
    }
}

#[test]
fn a_later_ipv6_fragment_behind_an_extension_header_is_one() {
    for (following, outcome) in [(60, Outcome::LaterFragment), (58, Outcome::NotTransport)] {
        let mut rest = vec![following, 0, 0, 8, 0, 0, 0, 9];
        rest.extend_from_slice(&tcp());
        check(Link::RawIp, &ipv6(44, &rest), outcome);
    }
}

#[test]
fn every_prefix_of_a_packet_is_malformed_or_not_ip() {
    for (link, packet) in [
        (Link::Ethernet, ethernet(&[0x88a8, 0x8100], 0x0800, &ipv4(8, 0, &tcp()))),
        (Link::RawIp, ipv6(0, &[&[6, 0, 0, 0, 0, 0, 0, 0][..], &tcp()].concat())),
    ] {
        for len in 0..packet.len() {
            let mut headers = Headers::default();
            let outcome = parse(link, &Slice(&packet[..len]), &mut headers);
            assert_eq!(outcome, Outcome::Malformed, "{len}");
        }
    }
    let short = Segment {
        src: [1; 4],
        dst: [2; 4],
        src_port: 1,
        dst_port: 2,
        seq: 0,
        ack: 0,
        flags: 16,
        payload: Vec::new(),
    };
    check(Link::Ethernet, &short.frame(), Outcome::Tcp);
}
