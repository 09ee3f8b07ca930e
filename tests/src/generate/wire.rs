//! A conversation as packets: TCP with its troubles, IP, VLAN tags, Ethernet, pcap.

use std::io::{self, Write};
use std::net::IpAddr;

use super::Random;
use super::conversation::{Conversation, End};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// A frame to write.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The Ethernet frame.
    pub frame: Vec<u8>,
}

/// How a connection is put on the wire.
#[derive(Clone, Copy, Debug)]
pub struct WireOptions {
    tags: usize,
    largest: usize,
    cut_anywhere: bool,
    reorder: bool,
    repeat: bool,
}

#[derive(Clone, Debug)]
struct Segment {
    client: bool,
    flags: u8,
    seq: u32,
    ack: u32,
    data: Vec<u8>,
}

/// All packets of a conversation, in the order of the capture.
pub(super) fn packets(conversation: &Conversation, random: &mut Random) -> Vec<Packet> {
    let sizes = if random.chance(10) { 7 } else { 6 };
    let options = WireOptions {
        tags: [0, 0, 0, 1, 2][random.below(5)],
        largest: [1448, 1448, 1448, 536, 30_000, 60_000, 7][random.below(sizes)],
        cut_anywhere: random.chance(30),
        reorder: random.chance(30),
        repeat: random.chance(30),
    };
    let mut segments = segments(conversation, &options, random);
    if options.reorder {
        reorder(&mut segments, random);
    }
    if options.repeat {
        repeat(&mut segments, random);
    }
    segments.iter().map(|segment| frame(conversation, &options, segment)).collect()
}

fn segments(
    conversation: &Conversation,
    options: &WireOptions,
    random: &mut Random,
) -> Vec<Segment> {
    // Near the wrap in some connections.
    let isn = |random: &mut Random| {
        let number = u32::try_from(random.next_u64() >> 32).unwrap_or(0);
        if random.chance(10) { number | 0xffff_fc00 } else { number }
    };
    let (mut client, mut server) = (isn(random), isn(random));
    let mut all = vec![
        Segment { client: true, flags: SYN, seq: client, ack: 0, data: Vec::new() },
        Segment {
            client: false,
            flags: SYN | ACK,
            seq: server,
            ack: client.wrapping_add(1),
            data: Vec::new(),
        },
    ];
    client = client.wrapping_add(1);
    server = server.wrapping_add(1);
    all.push(Segment { client: true, flags: ACK, seq: client, ack: server, data: Vec::new() });
    for turn in &conversation.turns {
        let mut rest = &turn.bytes[..];
        let mut at = 0;
        while !rest.is_empty() {
            let mut len = options.largest.min(rest.len());
            if options.cut_anywhere && random.chance(40) {
                len = 1 + random.below(len);
            }
            if let Some(cut) = turn.cuts.iter().find(|cut| **cut > at && **cut < at + len)
                && random.chance(60)
            {
                len = cut - at;
            }
            let (data, after) = rest.split_at(len);
            let (seq, ack) =
                if turn.client { (&mut client, server) } else { (&mut server, client) };
            let flags = if after.is_empty() { PSH | ACK } else { ACK };
            all.push(Segment { client: turn.client, flags, seq: *seq, ack, data: data.to_vec() });
            *seq = seq.wrapping_add(u32::try_from(len).unwrap_or(0));
            rest = after;
            at += len;
            if random.chance(20) {
                let (seq, ack) = if turn.client { (server, client) } else { (client, server) };
                all.push(Segment { client: !turn.client, flags: ACK, seq, ack, data: Vec::new() });
            }
        }
        if random.chance(2) {
            // A keep-alive probe: one byte that was sent before.
            all.push(Segment {
                client: true,
                flags: ACK,
                seq: client.wrapping_sub(1),
                ack: server,
                data: vec![0],
            });
        }
    }
    match conversation.end {
        End::Close => {
            all.push(Segment {
                client: false,
                flags: FIN | ACK,
                seq: server,
                ack: client,
                data: Vec::new(),
            });
            all.push(Segment {
                client: true,
                flags: FIN | ACK,
                seq: client,
                ack: server.wrapping_add(1),
                data: Vec::new(),
            });
            let (seq, ack) = (server.wrapping_add(1), client.wrapping_add(1));
            all.push(Segment { client: false, flags: ACK, seq, ack, data: Vec::new() });
        }
        End::Reset => {
            all.push(Segment {
                client: true,
                flags: RST | ACK,
                seq: client,
                ack: server,
                data: Vec::new(),
            });
        }
        End::Open => {}
    }
    all
}

/// Moves some data segments back by a few places (behind others of their own direction too).
fn reorder(segments: &mut [Segment], random: &mut Random) {
    for index in 3..segments.len() {
        let distance = 1 + random.below(4);
        if random.chance(10) && index + distance < segments.len() {
            let run = &mut segments[index..=index + distance];
            let plain = run.iter().all(|segment| segment.flags & (SYN | RST | FIN) == 0);
            if plain {
                run.rotate_left(1);
            }
        }
    }
}

/// Sends some data again: the same, or cut differently.
fn repeat(segments: &mut Vec<Segment>, random: &mut Random) {
    let mut index = 3;
    while index < segments.len() {
        let original = &segments[index];
        if !original.data.is_empty()
            && original.data != [0]
            && original.flags & RST == 0
            && random.chance(10)
        {
            let mut copy = original.clone();
            let skip = random.below(copy.data.len());
            if random.chance(50) {
                copy.data.drain(..skip);
                copy.seq = copy.seq.wrapping_add(u32::try_from(skip).unwrap_or(0));
            }
            let place = (index + 1 + random.below(6)).min(segments.len());
            segments.insert(place, copy);
        }
        index += 1;
    }
}

fn frame(conversation: &Conversation, options: &WireOptions, segment: &Segment) -> Packet {
    let (src, dst) = if segment.client {
        (conversation.client, conversation.server)
    } else {
        (conversation.server, conversation.client)
    };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if options.tags == 2 {
        frame.extend([0x88, 0xa8, 0, 100]);
    }
    if options.tags >= 1 {
        frame.extend([0x81, 0, 0, 7]);
    }
    let tcp_options: &[u8] = if segment.flags & SYN != 0 {
        &[2, 4, 5, 180]
    } else {
        &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]
    };
    let tcp_len = 20 + tcp_options.len() + segment.data.len();
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend(u16::try_from(20 + tcp_len).unwrap_or(0).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(u16::try_from(tcp_len).unwrap_or(0).to_be_bytes());
            frame.extend([6, 64]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => {}
    }
    frame.extend(src.port().to_be_bytes());
    frame.extend(dst.port().to_be_bytes());
    frame.extend(segment.seq.to_be_bytes());
    frame.extend(segment.ack.to_be_bytes());
    let words = u8::try_from((20 + tcp_options.len()) / 4).unwrap_or(5);
    frame.extend([words << 4, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(tcp_options);
    frame.extend(&segment.data);
    while frame.len() < 60 {
        // Ethernet padding, which is no payload.
        frame.push(b'P');
    }
    Packet { frame }
}

/// Writes the file header: nanoseconds, Ethernet.
pub(super) fn write_header(out: &mut impl Write) -> io::Result<()> {
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    Ok(())
}

/// Writes one packet.
pub(super) fn write_packet(out: &mut impl Write, time_ns: u64, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).unwrap_or(0);
    let (seconds, fraction) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    for word in
        [u32::try_from(seconds).unwrap_or(0), u32::try_from(fraction).unwrap_or(0), len, len]
    {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(frame)
}
