//! Who has a state of a limit, and what a flood of forged addresses does to it.

use std::vec::Vec;

use crate::{
    abi::{counter::Counter, flow_key::Tuple, image::LimitKind},
    packet::{Link, TcpFlags},
    tables::Tier,
    testing::{Host, Segment},
    verdict::{
        Decision,
        tests::{limited, segment},
    },
};

const ACK: u8 = TcpFlags::ACK;

fn show(host: &mut Host, segment: &Segment) -> Decision {
    host.now_ns += 1_000;
    host.see(Link::Ethernet, &segment.frame())
}

fn sent(from: (u8, u8, u16), to: (u8, u8, u16), flags: u8, numbers: (u32, u32)) -> Segment {
    Segment { flags, seq: numbers.0, ack: numbers.1, ..segment(from, to) }
}

/// A handshake that this host only forwards.
fn handshake(host: &mut Host, client: (u8, u8, u16), server: (u8, u8, u16)) -> Vec<Decision> {
    let segments = [
        sent(client, server, TcpFlags::SYN, (10, 0)),
        sent(server, client, TcpFlags::SYN | ACK, (900, 11)),
        sent(client, server, ACK, (11, 901)),
    ];
    segments.iter().map(|segment| show(host, segment)).collect()
}

fn udp(from: (u8, u8, u16), to: (u8, u8, u16)) -> Vec<u8> {
    let mut frame = segment(from, to).frame();
    frame[23] = 17;
    frame
}

fn states(host: &Host, tier: Tier) -> usize {
    host.limit_state.borrow().keys().filter(|(own, _)| *own == tier).count()
}

#[test]
fn a_flood_makes_no_state_of_clients_and_forgives_nobody() {
    let mut host = limited(LimitKind::Packets, 5);
    let (client, server) = ((0, 1, 4_000), (9, 2, 80));
    handshake(&mut host, client, server);
    assert_eq!(states(&host, Tier::Clients), 1);
    let data = sent(client, server, ACK, (11, 901));
    while show(&mut host, &data) == Decision::Pass {}
    assert_eq!(states(&host, Tier::Penalised), 1);
    for host_number in 0..=255_u16 {
        let source = (0, host_number.to_le_bytes()[0], 5_000);
        if host_number == 1 {
            continue;
        }
        for flags in [TcpFlags::SYN, ACK] {
            show(&mut host, &sent(source, server, flags, (77, 901)));
        }
        host.see(Link::Ethernet, &udp(source, server));
    }
    assert_eq!(states(&host, Tier::Clients), 1, "forged addresses have states of their own");
    assert_eq!(states(&host, Tier::Penalised), 1);
    assert_eq!(show(&mut host, &data), Decision::Limited);
    // Once a second has passed it has its one packet, whatever its network did.
    host.now_ns += 1_000_000_000;
    assert_eq!(show(&mut host, &data), Decision::Pass);
    assert_eq!(show(&mut host, &data), Decision::Limited);
}

#[test]
fn a_wrong_acknowledgement_proves_nothing_and_a_right_one_does() {
    let mut host = limited(LimitKind::Packets, 50);
    let (client, server) = ((0, 1, 4_000), (9, 2, 80));
    show(&mut host, &sent(client, server, TcpFlags::SYN, (10, 0)));
    show(&mut host, &sent(server, client, TcpFlags::SYN | ACK, (900, 11)));
    show(&mut host, &sent(client, server, ACK, (11, 902)));
    assert_eq!(states(&host, Tier::Clients), 0);
    show(&mut host, &sent(client, server, ACK, (11, 901)));
    assert_eq!(states(&host, Tier::Clients), 1);
    assert!(host.proven.borrow().contains(&segment(client, server).mapped()));
}

#[test]
fn a_local_socket_proves_its_client_and_an_answer_a_udp_client() {
    let mut host = limited(LimitKind::Packets, 50);
    let (client, server) = ((0, 1, 4_000), (9, 2, 80));
    let data = sent(client, server, ACK, (50_000, 70_000));
    show(&mut host, &data);
    assert_eq!(states(&host, Tier::Clients), 0);
    host.sockets.insert(Tuple {
        src: data.mapped(),
        dst: Segment { src: data.dst, ..data.clone() }.mapped(),
        src_port: 4_000,
        dst_port: 80,
        protocol: 6,
        ..Tuple::default()
    });
    // Without a listener the host would be the client.
    show(&mut host, &data);
    assert_eq!(states(&host, Tier::Clients), 0);
    host.listening.insert((Segment { src: data.dst, ..data.clone() }.mapped(), 80));
    show(&mut host, &data);
    assert_eq!(states(&host, Tier::Clients), 1);

    let (client, server) = ((3, 1, 4_000), (9, 2, 53));
    let before = states(&host, Tier::Networks);
    host.see(Link::Ethernet, &udp(client, server));
    host.see(Link::Ethernet, &udp(client, server));
    assert_eq!(states(&host, Tier::Networks), before + 1);
    host.see(Link::Ethernet, &udp(server, client));
    let before = states(&host, Tier::Networks);
    host.see(Link::Ethernet, &udp(client, server));
    assert_eq!(states(&host, Tier::Networks), before + 1);
    assert_eq!(states(&host, Tier::Clients), 1);
}

#[test]
fn what_a_client_was_charged_before_it_was_known_is_not_forgiven() {
    let mut host = limited(LimitKind::Packets, 3);
    let (client, server) = ((0, 1, 4_000), (9, 2, 80));
    // SYN and ACK are two packets of three.
    handshake(&mut host, client, server);
    let data = sent(client, server, ACK, (11, 901));
    assert_eq!(show(&mut host, &data), Decision::Pass);
    assert_eq!(show(&mut host, &data), Decision::Limited);
}

#[test]
fn without_room_for_penalties_a_client_stays_limited_and_its_network_pays() {
    let mut host = limited(LimitKind::Packets, 4);
    host.penalties_room = 0.into();
    let (client, server) = ((0, 1, 4_000), (9, 2, 80));
    handshake(&mut host, client, server);
    let data = sent(client, server, ACK, (11, 901));
    let passed = (0..10).filter(|_| show(&mut host, &data) == Decision::Pass).count();
    assert_eq!(passed, 2);
    assert_eq!(host.counter(Counter::PenaltiesFull), 8);
    let neighbour = sent((0, 7, 4_000), server, TcpFlags::SYN, (10, 0));
    assert_eq!(show(&mut host, &neighbour), Decision::Limited);
}

#[test]
fn a_penalty_that_was_taken_away_leaves_the_client_with_its_allowance() {
    let mut host = limited(LimitKind::Packets, 3);
    let (client, server) = ((0, 1, 4_000), (9, 2, 80));
    handshake(&mut host, client, server);
    let data = sent(client, server, ACK, (11, 901));
    while show(&mut host, &data) == Decision::Pass {}
    host.now_ns += 100_000_000_000;
    host.limit_state.borrow_mut().retain(|(tier, _), _| *tier != Tier::Penalised);
    let passed = (0..10).filter(|_| show(&mut host, &data) == Decision::Pass).count();
    assert_eq!(passed, 3);
}
