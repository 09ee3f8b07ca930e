//! Cost of one live exchange (two records of the ring) from decoding to the inventory. Prints a JSON line each.
//!
//! `cargo bench -p sensor-core --bench live`. Medians of batches and of nine rounds.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and prints"
)]

use std::{net::IpAddr, time::Instant};

use sensor_core::{
    locality::{LocalAddresses, Locality, Workload},
    pipeline::{Pipeline, Settings},
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::{
    ABI_VERSION,
    flow_key::Tuple,
    sample::{Hook, SampleHeader, SampleKind, flag},
};
use zerocopy::IntoBytes as _;

const ROUNDS: usize = 9;
const EXCHANGES: u64 = 20_000;
/// Records are made in advance, so many at a time; what makes them is not measured.
const BATCH: u64 = 500;
const CONNECTIONS: u64 = 20;

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Mon, 01 Jan 2026 00:00:SS GMT\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: keep-alive\r\n\r\n";

fn mapped(address: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(address).to_ipv6_mapped().octets()
}

/// How heads differ from each other.
#[derive(Clone, Copy)]
enum Heads {
    /// One path, the answer's date moves every 4 000.
    Same,
    /// Another path of one template and another answer each time.
    Distinct,
}

fn record(number: u64, kind: SampleKind, heads: Heads, out: &mut Vec<u8>) {
    let id = match heads {
        Heads::Same => 1,
        Heads::Distinct => number,
    };
    let head = if kind == SampleKind::RequestHead {
        format!(
            "GET /orders/{id} HTTP/1.1\r\nHost: 10.9.0.1\r\nUser-Agent: h2load nghttp2/1.64.0\r\n\r\n"
        )
    } else {
        let moment = match heads {
            Heads::Same => number / 4_000,
            Heads::Distinct => number,
        };
        RESPONSE.replace("SS", &format!("{moment:02}"))
    };
    let (client, server) = (mapped([10, 9, 0, 2]), mapped([10, 9, 0, 1]));
    let client_port = 40_000 + u16::try_from(number % CONNECTIONS).unwrap_or(0);
    let request = kind == SampleKind::RequestHead;
    let (src, dst, src_port, dst_port) =
        if request { (client, server, client_port, 80) } else { (server, client, 80, client_port) };
    let header = SampleHeader {
        version: ABI_VERSION,
        kind: kind as u8,
        flags: flag::HEAD_START | flag::HEAD_END,
        data_len: u32::try_from(head.len()).unwrap_or(0),
        time_ns: 1_000_000_000
            + number * 10_000
            + u64::from(!request) * (30_000 + number % 997 * 100),
        flow_epoch: 7,
        tuple: Tuple { src, dst, src_port, dst_port, protocol: 6, pad: [0; 3] },
        ordinal: u32::try_from(number / CONNECTIONS + 1).unwrap_or(0),
        weight: 1,
        ifindex: 2,
        hook: if request { Hook::Ingress } else { Hook::Egress } as u8,
        cgroup_id: u64::from(!request) * 77,
        ..Default::default()
    };
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(head.as_bytes());
}

fn pipeline() -> Pipeline {
    let own: Vec<IpAddr> = vec![[10, 9, 0, 1].into(), [127, 0, 0, 1].into()];
    let local =
        LocalAddresses::new(own, []).with_interfaces([(1, Workload::None), (2, Workload::None)]);
    let mut pipeline = Pipeline::new(Settings {
        attached: sensor_core::inventory::Attached::Now,
        locality: Locality::Host(local),
        key: [1, 2],
        ..Settings::default()
    });
    pipeline.set_clock(MonoNs(0), UnixNs(1_767_225_600_000_000_000));
    pipeline.start(MonoNs(0));
    pipeline
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

fn measure(name: &str, heads: Heads, rounds: usize) {
    let figures: Vec<f64> = (0..rounds)
        .map(|_| {
            let mut pipeline = pipeline();
            let (mut batches, mut bytes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            for first in (0..EXCHANGES).step_by(usize::try_from(BATCH).unwrap_or(1)) {
                bytes.clear();
                ends.clear();
                // As with so many connections: all ask, then all are answered.
                for group in
                    (first..first + BATCH).step_by(usize::try_from(CONNECTIONS).unwrap_or(1))
                {
                    for kind in [SampleKind::RequestHead, SampleKind::ResponseHead] {
                        for number in group..group + CONNECTIONS {
                            record(number, kind, heads, &mut bytes);
                            ends.push(bytes.len());
                        }
                    }
                }
                let (start, mut from) = (Instant::now(), 0);
                for end in &ends {
                    let taken =
                        pipeline.on_record(MonoNs(0), bytes.get(from..*end).unwrap_or_default());
                    assert!(taken.is_ok(), "the record is whole");
                    from = *end;
                }
                batches.push(start.elapsed().as_secs_f64() * 1e9 / BATCH as f64);
            }
            let seen = pipeline.inventory().totals();
            assert_eq!(seen.endpoints, EXCHANGES, "every exchange is at the endpoint");
            median(batches)
        })
        .collect();
    let value = median(figures);
    println!("{{\"name\":\"{name}\",\"value\":{value:.1},\"unit\":\"ns\",\"runs\":{rounds}}}");
}

fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    measure("live/exchange/same", Heads::Same, rounds);
    measure("live/exchange/distinct", Heads::Distinct, rounds);
}
