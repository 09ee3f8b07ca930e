//! ns per packet of the real program by test run, beside the empty program in the same round.
//!
//! Every packet has an address or a path of its own, so that no table stays in the caches for being asked the
//! same thing. Each case proves by the kernel's own counters that it took the way it is named after.

mod million;
mod replace;
mod reset;

use std::{net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result, bail};
use sensor_agent::kernel::{Bench, Install, LoadConfig, Mode, first_settings, object};
use sensor_ebpf::{
    abi::{
        counter::Counter,
        image::{Action, Limit, LimitKind, ListId, Rule},
    },
    testing::image::Draft,
};
use sensor_tests::object::image;
use serde_json::json;

use crate::packets::{ACK, PSH, SYN, Segment, head, icmp, syn_ack};

/// Rounds; the ratio of each is taken within it.
const ROUNDS: usize = 9;
/// Different packets of a case in a round.
const PACKETS: u32 = 2_000;
/// Runs of each packet where running it again is the same work.
const REPEAT: u32 = 20;
const PROGRAM: &str = "sensor_tc_ingress_eth";
const PORT: u16 = 40_000;
/// First byte of a client's payload.
const FIRST_SEQ: u32 = 1_001;
const EMPTY: &str = "sensor_empty";
const PROGRAMS: [&str; 6] = [
    "sensor_tc_ingress_eth",
    "sensor_tc_egress_eth",
    "sensor_tc_ingress_ip",
    "sensor_tc_egress_ip",
    "sensor_socket_eth",
    "sensor_empty",
];

/// One case: how many times each packet runs, which bucket it must end in, and its packets.
struct Case {
    name: String,
    repeat: u32,
    bucket: Counter,
    packet: fn(u32) -> Vec<u8>,
    /// Packets that bring the flow into the state that is measured.
    before: fn(u32) -> Vec<Vec<u8>>,
}

/// Measures every case and prints the figures.
pub(crate) fn kernel(file: Option<&Path>) -> Result<()> {
    let object = object(file)?;
    replace::replacement(&object)?;
    million::lists(&object)?;
    reset::measure_answer(&object)?;
    for entries in [0_u32, 1_000, 100_000] {
        let mut bench = load(&object)?;
        bench.publish(&image(&policy(entries)), Install::Confirmed)?;
        measure(
            &mut bench,
            0,
            &Case {
                name: format!("tc/clean/{entries}"),
                repeat: REPEAT,
                bucket: Counter::NoPayload,
                packet: |at| segment(clean(at), ACK, &[]),
                before: |_| vec![],
            },
        )?;
        if entries == 100_000 {
            for (number, case) in (1..).zip(cases()) {
                measure(&mut bench, number, &case)?;
            }
            for program in PROGRAMS {
                if let Some(count) = bench.verified_instructions(program) {
                    figure(&format!("verified/{program}"), f64::from(count), "insns", None, 1);
                }
            }
        }
    }
    Ok(())
}

/// Measures only what lists of a million entries cost.
pub(crate) fn lists(file: &Path) -> Result<()> {
    let object = object(Some(file))?;
    replace::replacement(&object)?;
    million::lists(&object)
}

fn cases() -> Vec<Case> {
    let none = |_| vec![];
    vec![
        Case {
            name: "tc/not_tcp".to_owned(),
            repeat: REPEAT,
            bucket: Counter::NotTransport,
            packet: |at| icmp(clean(at)),
            before: none,
        },
        Case {
            name: "tc/blocked".to_owned(),
            repeat: REPEAT,
            bucket: Counter::Blocked,
            packet: |at| segment(listed(at % 100_000), SYN, &[]),
            before: none,
        },
        Case {
            name: "tc/limited".to_owned(),
            repeat: REPEAT,
            bucket: Counter::Limited,
            packet: |at| segment(Ipv4Addr::from(0xac10_0000 + (spread(at) & 0xffff)), ACK, &[]),
            before: none,
        },
        Case {
            name: "tc/negative_flow".to_owned(),
            repeat: 1,
            bucket: Counter::NegativeFlow,
            packet: |at| body(at, 9),
            before: |at| {
                let mut packets = connection(at);
                packets.extend((0..9).map(|part| body(at, part)));
                packets
            },
        },
        Case {
            name: "tc/head_512".to_owned(),
            repeat: 1,
            bucket: Counter::Emitted,
            packet: |at| request(at, 512),
            before: connection,
        },
        // A test run takes no 4 KiB: a page less its own head and tail room.
        Case {
            name: "tc/head_3400".to_owned(),
            repeat: 1,
            bucket: Counter::Emitted,
            packet: |at| request(at, 3_400),
            before: connection,
        },
    ]
}

/// Addresses of no list, far apart.
fn clean(at: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x6400_0000 | (spread(at) & 0x003f_ffff))
}

/// The address of one list entry.
fn listed(at: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xc000_0000 | (spread(at) & 0x1fff_ffff))
}

/// Scatters consecutive numbers (an odd multiplier is a permutation of the 32-bit numbers).
const fn spread(at: u32) -> u32 {
    at.wrapping_mul(0x9e37_79b1)
}

fn segment(client: Ipv4Addr, flags: u8, payload: &[u8]) -> Vec<u8> {
    Segment { client, port: PORT, seq: FIRST_SEQ - 1, flags, payload }.frame()
}

/// The handshake of a client of its own.
fn connection(at: u32) -> Vec<Vec<u8>> {
    vec![segment(clean(at), SYN, &[]), syn_ack(clean(at), PORT, FIRST_SEQ)]
}

/// The first request of that client.
fn request(at: u32, bytes: usize) -> Vec<u8> {
    let payload = head(bytes, at);
    Segment { client: clean(at), port: PORT, seq: FIRST_SEQ, flags: ACK | PSH, payload: &payload }
        .frame()
}

/// A segment of a protocol that is no HTTP.
fn body(at: u32, part: u32) -> Vec<u8> {
    let payload = [0xfe_u8; 200];
    let seq = FIRST_SEQ + part * 200;
    Segment { client: clean(at), port: PORT, seq, flags: ACK, payload: &payload }.frame()
}

fn load(object: &[u8]) -> Result<Bench> {
    let config = LoadConfig {
        mode: Mode::Enforce,
        ring_bytes: 64 << 20,
        flows: None,
        test_clock: false,
        resets_unbounded: false,
        settings: first_settings(1.0, 16 << 10, 32 << 20),
    };
    let bench = Bench::load(object, &config)?;
    for degraded in bench.degraded() {
        eprintln!("{}: refused: {}", degraded.program, degraded.reason);
    }
    Ok(bench)
}

/// `entries` blocked addresses, one block rule and one limit.
fn policy(entries: u32) -> Draft {
    let rule = Rule {
        port_max: u16::MAX,
        share: u32::MAX,
        action: Action::Drop as u8,
        hits: 1,
        ..Rule::default()
    };
    let hour = 3_600_000_000_000 << 6;
    let mut draft = Draft::default();
    draft.rules.extend([rule, Rule { hits: 2, ..rule }]);
    draft.limits.push(Limit {
        increment: hour,
        tolerance: hour,
        rule: 2,
        state: 1,
        kind: LimitKind::Packets as u8,
        prefix_v4: 12,
        prefix_v6: 64,
        ..Limit::default()
    });
    for at in 0..entries {
        draft.list(ListId::Block, listed(at).to_ipv6_mapped().octets(), 128, 1);
    }
    draft.list(ListId::Limit, Ipv4Addr::new(172, 16, 0, 0).to_ipv6_mapped().octets(), 108, 1);
    draft
}

fn measure(bench: &mut Bench, number: u32, case: &Case) -> Result<()> {
    let mut values = vec![];
    let mut empties = vec![];
    let (mut in_bucket, mut all) = (0, 0);
    for round in 0..u32::try_from(ROUNDS)? {
        // Clients of its own for each case: a flow of the one before is not this one's.
        let first = (number * 16 + round) * PACKETS;
        let packets: Vec<Vec<u8>> = (first..first + PACKETS).map(case.packet).collect();
        for at in first..first + PACKETS {
            for packet in (case.before)(at) {
                bench.run(PROGRAM, &packet, 1)?;
            }
        }
        let before =
            (bench.ledger()?.count(case.bucket), bench.ledger()?.count(Counter::Sightings));
        values.push(mean(bench, PROGRAM, &packets, case.repeat)?);
        in_bucket += bench.ledger()?.count(case.bucket) - before.0;
        all += bench.ledger()?.count(Counter::Sightings) - before.1;
        empties.push(mean(bench, EMPTY, &packets, case.repeat)?);
        drain(bench);
    }
    if in_bucket * 10 < all * 9 || all == 0 {
        let moved: Vec<String> = bench
            .ledger()?
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(counter, count)| format!("{} {count}", counter.name()))
            .collect();
        bail!(
            "{}: expected nearly all of {all} packets in bucket {}, seen {in_bucket}; the whole ledger: {}",
            case.name,
            case.bucket.name(),
            moved.join(", ")
        );
    }
    let mut ratios: Vec<f64> =
        values.iter().zip(&empties).map(|(value, empty)| value / empty).collect();
    let (value, empty) = (median(&mut values), median(&mut empties));
    figure(&case.name, value, "ns", Some((empty, median(&mut ratios))), ROUNDS);
    Ok(())
}

/// Mean time of a packet.
fn mean(bench: &Bench, program: &str, packets: &[Vec<u8>], repeat: u32) -> Result<f64> {
    let mut total_ns = 0.0;
    for packet in packets {
        let ran = bench.run(program, packet, repeat).with_context(|| program.to_owned())?;
        total_ns += ran.duration.as_secs_f64() * 1e9;
    }
    Ok(total_ns / f64::from(u32::try_from(packets.len())?))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn figure(name: &str, value: f64, unit: &str, beside: Option<(f64, f64)>, runs: usize) {
    let (baseline, ratio) = beside.unzip();
    println!(
        "{}",
        json!({ "name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "runs": runs })
    );
}

/// Empties the ring, so that no round measures a full one.
fn drain(bench: &mut Bench) {
    while bench.ring().next_record().is_some() {}
}
