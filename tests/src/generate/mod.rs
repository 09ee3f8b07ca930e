//! Makes captures with known contents: a pcap file and the exchanges that are in it, from a seed.
//!
//! Everything that makes replay hard is in it, mixed: heads cut anywhere, pipelining, chunked bodies with extensions and
//! trailers, 100-continue, HEAD, 204 and 304, bodies until close, CONNECT and Upgrade, requests inside bodies (cut so that they
//! begin a segment), out-of-order, retransmitted and overlapping segments, keep-alive probes, port reuse, sequence wrap,
//! super-segments, VLAN, QinQ, IPv6, TLS and other protocols beside.

mod conversation;
mod random;
mod wire;

use std::io::{self, Write};

pub use conversation::{Conversation, Truth};
pub use random::Random;
pub use wire::{Packet, WireOptions};

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seed: the same seed gives the same bytes.
    pub seed: u64,
    /// Exchanges, at least.
    pub exchanges: usize,
    /// Connections that are open at a time.
    pub concurrent: usize,
}

/// Writes a capture, calling `truth` with each exchange in it. Returns how many there are.
pub fn write_capture(
    settings: Settings,
    out: &mut impl Write,
    mut truth: impl FnMut(&Truth) -> io::Result<()>,
) -> io::Result<usize> {
    let mut random = Random::new(settings.seed);
    let mut open: Vec<std::vec::IntoIter<Packet>> = Vec::new();
    let mut made = 0;
    let mut serial = 0_u32;
    let mut time_ns = 1_780_000_000_000_000_000_u64;
    wire::write_header(out)?;
    loop {
        while open.len() < settings.concurrent && made < settings.exchanges {
            let conversation = Conversation::new(&mut random, serial);
            serial += 1;
            for exchange in &conversation.truth {
                truth(exchange)?;
                made += 1;
            }
            open.push(wire::packets(&conversation, &mut random).into_iter());
        }
        if open.is_empty() {
            return Ok(made);
        }
        let index = random.below(open.len());
        // A few packets in a row: captures show bursts.
        for _ in 0..=random.below(4) {
            let Some(packet) = open[index].next() else {
                open.swap_remove(index);
                break;
            };
            time_ns += 200 + random.below(20_000) as u64;
            wire::write_packet(out, time_ns, &packet.frame)?;
        }
    }
}
