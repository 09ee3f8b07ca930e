//! A packet as the model sees it, and as bytes.

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
    /// TCP: a SYN without ACK, else a bare ACK.
    pub syn: bool,
    /// Into the host or out of it.
    pub ingress: bool,
    /// Nanoseconds since the compilation.
    pub time_ns: u64,
    /// TCP sequence number; differs from packet to packet.
    pub seq: u32,
}

impl Packet {
    /// The frame on an Ethernet device; checksums are left empty.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 12];
        let (src, dst) = self.ports;
        let mut transport = [src.to_be_bytes(), dst.to_be_bytes()].concat();
        if self.protocol == 6 {
            transport.extend(self.seq.to_be_bytes());
            transport.extend([0, 0, 0, 1, 0x50, if self.syn { 0x02 } else { 0x10 }]);
            transport.extend([0xff, 0xff, 0, 0, 0, 0]);
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
