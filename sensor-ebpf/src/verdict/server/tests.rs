//! Who is charged for what goes to and fro.

use crate::{
    abi::image::LimitKind,
    packet::{Link, TcpFlags},
    testing::{Host, Segment},
    verdict::{
        Decision,
        tests::{limited, segment},
    },
};

const ACK: u8 = TcpFlags::ACK;
const CLIENT: (u8, u8, u16) = (0, 1, 4_000);
const SERVER: (u8, u8, u16) = (9, 2, 80);

fn sent(from: (u8, u8, u16), to: (u8, u8, u16), flags: u8, numbers: (u32, u32)) -> Segment {
    Segment { flags, seq: numbers.0, ack: numbers.1, ..segment(from, to) }
}

fn show(host: &mut Host, segment: &Segment) -> Decision {
    host.now_ns += 1_000;
    host.see(Link::Ethernet, &segment.frame())
}

fn handshake(host: &mut Host) {
    show(host, &sent(CLIENT, SERVER, TcpFlags::SYN, (10, 0)));
    show(host, &sent(SERVER, CLIENT, TcpFlags::SYN | ACK, (900, 11)));
    show(host, &sent(CLIENT, SERVER, ACK, (11, 901)));
}

fn passed(host: &mut Host, segment: &Segment) -> usize {
    (0..20).filter(|_| show(host, segment) == Decision::Pass).count()
}

#[test]
fn what_a_server_sends_is_not_charged_before_and_after_the_first_payload() {
    let mut host = limited(LimitKind::Packets, 5);
    handshake(&mut host);
    let answer = sent(SERVER, CLIENT, ACK, (901, 11));
    assert_eq!(passed(&mut host, &answer), 20);
    let request = Segment { payload: b"hello".into(), ..sent(CLIENT, SERVER, ACK, (11, 901)) };
    show(&mut host, &request);
    assert_eq!(passed(&mut host, &answer), 20);
    assert_eq!(passed(&mut host, &request), 2, "SYN, ACK and a request are three of five");
}

#[test]
fn a_client_that_sends_what_only_servers_send_is_charged_all_the_same() {
    let forged = sent(CLIENT, SERVER, TcpFlags::SYN | ACK, (10, 901));
    let response = Segment {
        payload: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
        ..sent(CLIENT, SERVER, ACK, (11, 901))
    };
    // In place of a SYN, behind the handshake, behind the first payload.
    for at in 0..3 {
        let mut host = limited(LimitKind::Packets, 8);
        if at == 0 {
            show(&mut host, &forged);
        }
        handshake(&mut host);
        if at == 2 {
            show(&mut host, &response);
        }
        if at > 0 {
            show(&mut host, &forged);
        }
        let passed = passed(&mut host, &response);
        assert!(passed < 8, "{at}: {passed} of 20 passed");
    }
    let mut host = limited(LimitKind::Packets, 5);
    assert_eq!(passed(&mut host, &response), 5, "a connection that nobody saw begin");
}

#[test]
fn answers_of_a_local_listener_are_not_charged_where_the_handshake_was_not_seen() {
    let mut host = limited(LimitKind::Packets, 5);
    let answer = sent(SERVER, CLIENT, ACK, (901, 11));
    host.listening.insert((answer.mapped(), 80));
    assert_eq!(passed(&mut host, &answer), 5, "it comes in: somebody else's address");
    host.hook = crate::abi::sample::Hook::Egress;
    assert_eq!(passed(&mut host, &answer), 20);
}

#[test]
fn by_udp_who_speaks_first_is_the_client() {
    let mut host = limited(LimitKind::Packets, 5);
    let udp = |from, to| {
        let mut frame = segment(from, to).frame();
        frame[23] = 17;
        frame
    };
    let (question, answer) = (udp(CLIENT, (9, 2, 53)), udp((9, 2, 53), CLIENT));
    host.see(Link::Ethernet, &question);
    for _ in 0..20 {
        host.now_ns += 1_000;
        assert_eq!(host.see(Link::Ethernet, &answer), Decision::Pass);
    }
    let passed = (0..20).filter(|_| host.see(Link::Ethernet, &question) == Decision::Pass).count();
    assert_eq!(passed, 4);
}
