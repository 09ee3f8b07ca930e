//! Packets made from a seed: every header that the sensor reads, right and wrong, cut anywhere.
//!
//! Nothing is sent: they go into test runs and into the pure verdict. Addresses and ports come from small pools, so
//! that policies written over the same pools match often. The same seed gives the same packets.

/// A small deterministic generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// True once in `of` times.
    pub const fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// One of some.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }

    /// Random bytes.
    pub fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }
}

/// Ports that the packets use.
pub const PORTS: [u16; 8] = [80, 8080, 22, 53, 443, 40_000, 40_001, 6443];

/// IPv4 addresses that the packets use: four networks, 16 hosts each.
#[must_use]
pub fn address4(dice: &mut Dice) -> [u8; 4] {
    let net = dice.pick(&[[10, 1, 0], [10, 1, 1], [192, 0, 2], [203, 0, 113]]);
    [net[0], net[1], net[2], dice.byte() & 15]
}

/// IPv6 addresses that the packets use: 2001:db8:0:(0-3)::(0-15).
#[must_use]
pub fn address6(dice: &mut Dice) -> [u8; 16] {
    let mut address = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    address[7] = dice.byte() & 3;
    address[15] = dice.byte() & 15;
    address
}

/// What a packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Ethernet, tags included.
    Ethernet,
    /// IP.
    RawIp,
}

/// Fewest bytes that `BPF_PROG_TEST_RUN` takes of a packet.
pub const TEST_RUN_BYTES_MIN: usize = 14;

/// Makes one packet.
#[must_use]
pub fn packet(dice: &mut Dice, layer: Layer) -> Vec<u8> {
    let six = dice.one_in(3);
    let mut packet = Vec::with_capacity(256);
    if layer == Layer::Ethernet {
        link_header(dice, &mut packet, six);
    }
    if six {
        ipv6(dice, &mut packet);
    } else {
        ipv4(dice, &mut packet);
    }
    if layer == Layer::Ethernet && dice.one_in(8) {
        // Short frames are padded behind the IP packet.
        let trailer = dice.below(30);
        packet.extend(dice.bytes(trailer));
    }
    if dice.one_in(12) {
        let len = usize::try_from(dice.below(packet.len() as u64)).unwrap_or(0);
        packet.truncate(len);
    }
    if dice.one_in(40) && !packet.is_empty() {
        let at = usize::try_from(dice.below(packet.len() as u64)).unwrap_or(0);
        packet[at] = dice.byte();
    }
    packet.resize(packet.len().max(TEST_RUN_BYTES_MIN), 0);
    packet
}

fn link_header(dice: &mut Dice, packet: &mut Vec<u8>, six: bool) {
    packet.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    let tags = dice.pick(&[0, 0, 0, 0, 1, 1, 2, 3]);
    for tag in 0..tags {
        let kind: u16 = if tag == 0 && tags > 1 { 0x88a8 } else { 0x8100 };
        packet.extend(kind.to_be_bytes());
        packet.extend(dice.bytes(2));
    }
    let kind: u16 = match (dice.one_in(30), six) {
        (true, _) => dice.pick(&[0x0806, 0x88cc, 0x9100, 0x86dd, 0x0800]),
        (false, true) => 0x86dd,
        (false, false) => 0x0800,
    };
    packet.extend(kind.to_be_bytes());
}

fn ipv4(dice: &mut Dice, packet: &mut Vec<u8>) {
    let options = if dice.one_in(5) { dice.below(11) } else { 0 };
    let words = 5 + options;
    let protocol = protocol(dice);
    let body = transport(dice, protocol);
    let wrong_ihl = dice.one_in(60);
    let ihl = if wrong_ihl { dice.below(16) } else { words };
    let length = words * 4 + body.len() as u64;
    let length = if dice.one_in(40) { dice.below(2000) } else { length };
    let fragment: u16 = match dice.below(20) {
        0 => 0x2000,
        1 => 0x2000 | u16::from(dice.byte()),
        2 => u16::from(dice.byte()),
        3 => 0x4000,
        _ => 0,
    };
    let version = if dice.one_in(80) { dice.byte() & 15 } else { 4 };
    packet.push((version << 4) | low(ihl));
    packet.push(dice.byte());
    packet.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    // Few identifications, so that later fragments find their first.
    packet.extend([0, dice.byte() & 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(address4(dice));
    packet.extend(address4(dice));
    packet.extend(dice.bytes(options * 4));
    packet.extend(body);
}

fn ipv6(dice: &mut Dice, packet: &mut Vec<u8>) {
    let protocol = protocol(dice);
    let body = transport(dice, protocol);
    let extensions = if dice.one_in(3) { dice.below(11) } else { 0 };
    let kinds: Vec<u8> =
        (0..extensions).map(|_| dice.pick(&[0, 43, 60, 60, 44, 51, 135])).collect();
    let mut chain = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        let next =
            kinds.get(at + 1).copied().unwrap_or(if dice.one_in(40) { 59 } else { protocol });
        extension(dice, &mut chain, *kind, next);
    }
    let length = chain.len() + body.len();
    let length = if dice.one_in(40) { dice.below(2000) } else { length as u64 };
    let version = if dice.one_in(80) { dice.byte() & 15 } else { 6 };
    packet.extend([version << 4, 0, 0, 0]);
    packet.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    packet.extend([kinds.first().copied().unwrap_or(protocol), 64]);
    packet.extend(address6(dice));
    packet.extend(address6(dice));
    packet.extend(chain);
    packet.extend(body);
}

fn extension(dice: &mut Dice, chain: &mut Vec<u8>, kind: u8, next: u8) {
    match kind {
        44 => {
            let offset: u16 = dice.pick(&[0, 0, 1, 8, 0x0100]);
            chain.extend([next, 0]);
            chain.extend((offset | u16::from(dice.byte() & 7)).to_be_bytes());
            chain.extend([0, 0, 0, dice.byte() & 7]);
        }
        51 => {
            // Its length counts words of four bytes, less two.
            let words = dice.below(4) + 1;
            chain.extend([next, low(words)]);
            chain.extend(dice.bytes((words + 2) * 4 - 2));
        }
        _ => {
            let units = if dice.one_in(6) { dice.below(4) } else { 0 };
            chain.extend([next, low(units)]);
            chain.extend(dice.bytes(units * 8 + 6));
        }
    }
}

fn protocol(dice: &mut Dice) -> u8 {
    match dice.below(12) {
        0 => dice.pick(&[1, 58, 47, 132]),
        1 | 2 => 17,
        _ => 6,
    }
}

fn transport(dice: &mut Dice, protocol: u8) -> Vec<u8> {
    let ports = [dice.pick(&PORTS), dice.pick(&PORTS)];
    let mut body: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    match protocol {
        17 => {
            let payload = dice.below(40);
            body.extend(u16::try_from(payload + 8).unwrap_or(0).to_be_bytes());
            body.extend([0, 0]);
            body.extend(dice.bytes(payload));
        }
        6 => {
            let options = if dice.one_in(4) { dice.below(11) } else { 0 };
            let words = if dice.one_in(60) { dice.below(16) } else { 5 + options };
            body.extend(dice.bytes(1));
            body.extend([0, 0, dice.byte() & 3]);
            body.extend([0, 0, 0, dice.byte() & 3]);
            body.push(low(words) << 4);
            body.push(
                dice.pick(&[
                    0x02, 0x12, 0x10, 0x10, 0x18, 0x18, 0x18, 0x11, 0x04, 0x14, 0x29, 0x00,
                ]),
            );
            body.extend([0xff, 0xff, 0, 0, 0, 0]);
            body.extend(dice.bytes(options * 4));
            body.extend(payload(dice));
        }
        _ => {
            let payload = dice.below(40);
            body.extend(dice.bytes(payload));
        }
    }
    body
}

fn payload(dice: &mut Dice) -> Vec<u8> {
    let text: &[u8] = dice.pick(&[
        b"".as_slice(),
        b"",
        b"GET /users/1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ]);
    if dice.one_in(5) {
        let len = dice.below(64);
        return dice.bytes(len);
    }
    let mut payload = text.to_vec();
    if dice.one_in(6) {
        payload.truncate(usize::try_from(dice.below(payload.len() as u64 + 1)).unwrap_or(0));
    }
    payload
}

/// The four low bits of a small number.
fn low(number: u64) -> u8 {
    number.to_le_bytes()[0] & 15
}
