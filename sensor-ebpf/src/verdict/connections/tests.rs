//! Connections are counted from handshake to end, and one too many is refused.

use crate::{
    abi::{flow_key::Tuple, image::LimitKind},
    packet::{Link, TcpFlags},
    testing::{Host, Segment},
    verdict::{
        Decision,
        tests::{limited, segment},
    },
};

const ACK: u8 = TcpFlags::ACK;
const SERVER: (u8, u8, u16) = (9, 2, 80);

struct Clients {
    host: Host,
}

impl Clients {
    fn new(most: u64) -> Self {
        Self { host: limited(LimitKind::Concurrent, most) }
    }

    fn up(&mut self, port: u16, flags: u8, numbers: (u32, u32)) -> Decision {
        self.show(&Segment {
            flags,
            seq: numbers.0,
            ack: numbers.1,
            ..segment((0, 1, port), SERVER)
        })
    }

    fn down(&mut self, port: u16, flags: u8, numbers: (u32, u32)) -> Decision {
        self.show(&Segment {
            flags,
            seq: numbers.0,
            ack: numbers.1,
            ..segment(SERVER, (0, 1, port))
        })
    }

    fn show(&mut self, segment: &Segment) -> Decision {
        self.host.now_ns += 1_000;
        self.host.see(Link::Ethernet, &segment.frame())
    }

    fn connect(&mut self, port: u16) -> Decision {
        let syn = self.up(port, TcpFlags::SYN, (10, 0));
        if syn != Decision::Pass {
            return syn;
        }
        self.down(port, TcpFlags::SYN | ACK, (900, 11));
        self.up(port, ACK, (11, 901))
    }

    fn open(&self) -> u64 {
        self.host.open.borrow().values().map(|open| open.get()).sum()
    }
}

#[test]
fn one_connection_too_many_is_refused_until_one_ends() {
    let mut clients = Clients::new(3);
    for port in 1..=3 {
        assert_eq!(clients.connect(port), Decision::Pass);
    }
    assert_eq!(clients.open(), 3);
    assert_eq!(clients.connect(4), Decision::Limited);
    // Those that are there go on.
    assert_eq!(clients.up(2, ACK, (11, 901)), Decision::Pass);
    clients.up(2, ACK | TcpFlags::FIN, (11, 901));
    assert_eq!(clients.open(), 3, "one end only");
    assert_eq!(clients.connect(4), Decision::Limited);
    clients.down(2, ACK | TcpFlags::FIN, (901, 12));
    clients.up(2, ACK, (12, 902));
    assert_eq!(clients.open(), 2);
    assert_eq!(clients.connect(4), Decision::Pass);
    assert_eq!(clients.connect(5), Decision::Limited);
    clients.down(1, TcpFlags::RST, (901, 0));
    assert_eq!(clients.connect(5), Decision::Pass);
    assert_eq!(clients.open(), 3);
}

#[test]
fn syns_that_come_together_do_not_get_in_together() {
    let mut clients = Clients::new(2);
    for port in 1..=5 {
        assert_eq!(clients.up(port, TcpFlags::SYN, (10, 0)), Decision::Pass);
        clients.down(port, TcpFlags::SYN | ACK, (900, 11));
    }
    let passed = (1..=5).filter(|port| clients.up(*port, ACK, (11, 901)) == Decision::Pass);
    assert_eq!(passed.count(), 2);
    assert_eq!(clients.open(), 2);
}

#[test]
fn syns_alone_count_for_nothing() {
    let mut clients = Clients::new(2);
    for port in 1..=50 {
        assert_eq!(clients.up(port, TcpFlags::SYN, (10, 0)), Decision::Pass);
        clients.down(port, TcpFlags::SYN | ACK, (900, 11));
        assert_eq!(clients.up(port, ACK, (11, 77)), Decision::Pass);
    }
    assert_eq!(clients.open(), 0);
    assert!(clients.host.open.borrow().is_empty());
}

#[test]
fn connections_that_were_there_before_count_and_are_left_alone() {
    let mut clients = Clients::new(2);
    for port in 1..=4 {
        let there = segment((0, 1, port), SERVER);
        clients.host.sockets.insert(Tuple {
            src: there.mapped(),
            dst: Segment { src: there.dst, ..there.clone() }.mapped(),
            src_port: port,
            dst_port: 80,
            protocol: 6,
            ..Tuple::default()
        });
        clients.host.listening.insert((Segment { src: there.dst, ..there.clone() }.mapped(), 80));
        assert_eq!(clients.up(port, ACK, (5_000, 6_000)), Decision::Pass);
    }
    assert_eq!(clients.open(), 4);
    assert_eq!(clients.connect(9), Decision::Limited);
}
