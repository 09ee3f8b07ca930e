//! Frames for test runs: Ethernet, IPv4, TCP or ICMP. Checksums are zero: the programs do not look at them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The host that is measured.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// First sequence number of the server.
const SERVER_SEQ: u32 = 7_000;

/// TCP flags.
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const PSH: u8 = 0x08;

/// One TCP segment to port 80 of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) client: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) seq: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

impl Segment<'_> {
    /// The frame as it arrives.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let header = tcp((self.port, 80), (self.seq, SERVER_SEQ + 1), self.flags);
        ipv4((self.client, SERVER), 6, &[&header, self.payload].concat())
    }
}

/// An acknowledgement without payload from this client.
pub(crate) fn ack4(client: Ipv4Addr) -> Vec<u8> {
    Segment { client, port: 40_000, seq: 1, flags: ACK, payload: &[] }.frame()
}

/// The same over IPv6.
pub(crate) fn ack6(client: Ipv6Addr) -> Vec<u8> {
    let header = tcp((40_000, 80), (1, SERVER_SEQ + 1), ACK);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend(client.octets());
    frame.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
    frame.extend(header);
    frame
}

/// The server's answer to a SYN with the number before `seq`.
pub(crate) fn syn_ack(client: Ipv4Addr, port: u16, seq: u32) -> Vec<u8> {
    ipv4((SERVER, client), 6, &tcp((80, port), (SERVER_SEQ, seq), SYN | ACK))
}

fn tcp(ports: (u16, u16), (seq, ack): (u32, u32), flags: u8) -> Vec<u8> {
    let mut header = vec![];
    header.extend(ports.0.to_be_bytes());
    header.extend(ports.1.to_be_bytes());
    header.extend(seq.to_be_bytes());
    header.extend(ack.to_be_bytes());
    header.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

/// An echo request: IP, but neither TCP nor UDP.
pub(crate) fn icmp(client: Ipv4Addr) -> Vec<u8> {
    ipv4((client, SERVER), 1, &[8, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0])
}

/// A request head of exactly this many bytes.
pub(crate) fn head(bytes: usize, path: u32) -> Vec<u8> {
    let start = format!("GET /orders/{path} HTTP/1.1\r\nHost: shop.example\r\nCookie: a=");
    let filling = bytes.saturating_sub(start.len() + 4);
    let mut head = start.into_bytes();
    head.extend(std::iter::repeat_n(b'x', filling));
    head.extend(b"\r\n\r\n");
    head
}

fn ipv4((from, to): (Ipv4Addr, Ipv4Addr), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(payload);
    frame
}
