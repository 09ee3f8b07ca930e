//! A packet as the model sees it, and as bytes.

/// What a TCP segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SYN without ACK.
    Syn,
    /// The server's answer to one.
    SynAck,
    /// A bare ACK.
    Ack,
    /// The last segment of an end.
    Fin,
    /// The end of a connection.
    Rst,
    /// So many HTTP requests, each whole.
    Requests(u8),
}

/// Bytes of the headers of IPv4, IPv6, TCP and UDP.
const IPV4: u64 = 20;
const IPV6: u64 = 40;
const TCP: u64 = 20;
const UDP: u64 = 8;
const REQUEST: &[u8] = b"GET /orders/1 HTTP/1.1\r\nhost: shop\r\n\r\n";

/// A TCP or UDP packet with whole headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// IPv4 or IPv6.
    pub four: bool,
    /// Sender (IPv4: the low 32 bits).
    pub src: u128,
    /// Receiver.
    pub dst: u128,
    /// Source and destination port.
    pub ports: (u16, u16),
    /// 6 or 17.
    pub protocol: u8,
    /// What a TCP segment is.
    pub kind: Kind,
    /// Into the host or out of it.
    pub ingress: bool,
    /// Nanoseconds since the compilation.
    pub time_ns: u64,
    /// TCP sequence and acknowledgement number.
    pub numbers: (u32, u32),
}

impl Packet {
    /// HTTP requests that begin in it.
    #[must_use]
    pub fn requests(&self) -> u64 {
        match self.kind {
            Kind::Requests(count) if self.protocol == 6 => count.into(),
            _ => 0,
        }
    }

    /// Bytes of the IP packet.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let transport = if self.protocol == 6 { TCP } else { UDP };
        let network = if self.four { IPV4 } else { IPV6 };
        network + transport + self.requests() * REQUEST.len() as u64
    }

    /// The frame on an Ethernet device; checksums are left empty.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 12];
        let (src, dst) = self.ports;
        let mut transport = [src.to_be_bytes(), dst.to_be_bytes()].concat();
        if self.protocol == 6 {
            let flags = match self.kind {
                Kind::Syn => 0x02,
                Kind::SynAck => 0x12,
                Kind::Ack | Kind::Requests(_) => 0x10,
                Kind::Fin => 0x11,
                Kind::Rst => 0x14,
            };
            transport.extend(self.numbers.0.to_be_bytes());
            transport.extend(self.numbers.1.to_be_bytes());
            transport.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            for _ in 0..self.requests() {
                transport.extend(REQUEST);
            }
        } else {
            transport.extend([0, 8, 0, 0]);
        }
        let len = u16::try_from(transport.len()).unwrap_or(0);
        if self.four {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((len + 20).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
            for address in [self.src, self.dst] {
                frame.extend(u32::try_from(address).unwrap_or(0).to_be_bytes());
            }
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([self.protocol, 64]);
            for address in [self.src, self.dst] {
                frame.extend(address.to_be_bytes());
            }
        }
        frame.extend(transport);
        frame
    }
}
