//! Head records as the kernel writes them, to exchanges.

use sensor_ebpf::abi::ABI_VERSION;
use sensor_ebpf::abi::flow_key::Tuple;
use sensor_ebpf::abi::sample::{SampleHeader, SampleKind, flag};
use zerocopy::IntoBytes as _;

use crate::flow::{Assembled, Assembler, FlowCounter, Limits};
use crate::http::{Exchange, ForwardedHeader};
use crate::sample::Sample;
use crate::time::MonoNs;

const REQUEST: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: api\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";

fn v4(last: u8) -> [u8; 16] {
    std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets()
}

fn tuple(src: (u8, u16), dst: (u8, u16)) -> Tuple {
    Tuple {
        src: v4(src.0),
        dst: v4(dst.0),
        src_port: src.1,
        dst_port: dst.1,
        protocol: 6,
        pad: [0; 3],
    }
}

struct Bench {
    assembler: Assembler,
    exchanges: Vec<Exchange>,
}

impl Bench {
    fn new() -> Self {
        Self { assembler: Assembler::new(Limits::default(), 7), exchanges: Vec::new() }
    }

    fn record(
        &mut self,
        kind: SampleKind,
        tuple: Tuple,
        ordinal: u32,
        flags: u16,
        seq: u32,
        data: &[u8],
    ) {
        let header = SampleHeader {
            version: ABI_VERSION,
            kind: kind as u8,
            flags,
            data_len: u32::try_from(data.len()).unwrap(),
            time_ns: 1000,
            flow_epoch: 1,
            tuple,
            seq,
            ordinal,
            weight: 1,
            ..SampleHeader::default()
        };
        let exchanges = &mut self.exchanges;
        self.assembler.on_sample(&Sample { kind, header, data }, &mut |assembled| {
            if let Assembled::Exchange(exchange) = assembled {
                exchanges.push(exchange);
            }
        });
    }

    fn whole(&mut self, kind: SampleKind, tuple: Tuple, ordinal: u32, data: &[u8]) {
        self.record(kind, tuple, ordinal, flag::HEAD_START | flag::HEAD_END, 1, data);
    }

    fn count(&self, counter: FlowCounter) -> u64 {
        self.assembler.counts().value(counter)
    }
}

#[test]
fn a_head_in_any_records_is_one_exchange() {
    let (there, back) = (tuple((1, 40000), (2, 80)), tuple((2, 80), (1, 40000)));
    for cut in 1..REQUEST.len() {
        let mut bench = Bench::new();
        let (first, second) = REQUEST.split_at(cut);
        bench.record(SampleKind::RequestHead, there, 1, flag::HEAD_START, 100, first);
        bench.record(
            SampleKind::RequestHead,
            there,
            1,
            flag::HEAD_END,
            100 + u32::try_from(cut).unwrap(),
            second,
        );
        bench.whole(SampleKind::ResponseHead, back, 1, RESPONSE);
        assert_eq!(bench.exchanges.len(), 1, "{cut}");
        assert_eq!(
            (bench.exchanges[0].status, &*bench.exchanges[0].target),
            (Some(200), &b"/a?b"[..])
        );
    }
}

#[test]
fn a_lost_record_loses_one_head_and_shifts_nothing() {
    let (there, back) = (tuple((1, 40000), (2, 80)), tuple((2, 80), (1, 40000)));
    let mut bench = Bench::new();
    bench.record(SampleKind::RequestHead, there, 1, flag::HEAD_START, 100, b"GET /lost HTT");
    bench.whole(SampleKind::RequestHead, there, 2, REQUEST);
    bench.whole(SampleKind::ResponseHead, back, 1, b"HTTP/1.1 500 X\r\n\r\n");
    bench.whole(SampleKind::ResponseHead, back, 2, RESPONSE);
    bench.record(SampleKind::RequestHead, there, 3, flag::HEAD_END, 500, b"tail\r\n\r\n");
    assert_eq!(
        bench.exchanges.iter().map(|exchange| exchange.status).collect::<Vec<_>>(),
        [Some(200)]
    );
    assert_eq!(
        (bench.count(FlowCounter::HeadsPartial), bench.count(FlowCounter::ResponsesOrphan)),
        (2, 1)
    );
}

#[test]
fn requests_without_response_come_out_when_the_flow_ends() {
    let there = tuple((1, 40000), (2, 80));
    let mut bench = Bench::new();
    bench.whole(SampleKind::RequestHead, there, 1, REQUEST);
    assert!(bench.exchanges.is_empty());
    bench.record(SampleKind::FlowClosed, there, 0, 0, 0, &[]);
    assert_eq!(bench.exchanges.len(), 1);
    bench.whole(SampleKind::RequestHead, there, 1, REQUEST);
    let exchanges = &mut bench.exchanges;
    bench.assembler.on_tick(MonoNs(10_000_000_000_000), &mut |assembled| {
        if let Assembled::Exchange(exchange) = assembled {
            exchanges.push(exchange);
        }
    });
    assert_eq!(bench.exchanges.len(), 2);
    assert_eq!(
        bench.count(FlowCounter::RequestHeads),
        bench.count(FlowCounter::RequestsUnanswered)
    );
}

#[test]
fn behind_nat_the_client_is_the_outer_and_the_server_the_inner_one() {
    // Client 1 calls 9:80, which is translated to 7:8080 from 8.
    let (outer, inner) = (tuple((1, 40000), (9, 80)), tuple((8, 50000), (7, 8080)));
    let back = tuple((9, 80), (1, 40000));
    let expected = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.7:8080".parse().unwrap());
    let mut bench = Bench::new();
    bench.whole(SampleKind::RequestHead, outer, 1, REQUEST);
    bench.record(SampleKind::FlowAlias, inner, 0, 0, 0, outer.as_bytes());
    bench.whole(SampleKind::ResponseHead, back, 1, RESPONSE);
    // Seen on a response only: the earlier sighting is the inner one.
    let mut other = Bench::new();
    other.whole(SampleKind::RequestHead, outer, 1, REQUEST);
    other.record(SampleKind::FlowAlias, back, 0, 0, 0, tuple((7, 8080), (8, 50000)).as_bytes());
    other.whole(SampleKind::ResponseHead, back, 1, RESPONSE);
    for bench in [bench, other] {
        assert_eq!((bench.exchanges[0].client, bench.exchanges[0].server), expected);
    }
}

#[test]
fn whom_a_proxy_header_names_stands_behind_what_the_request_forwards() {
    let mut bench = Bench::new();
    let (to, back) = (tuple((1, 40_000), (2, 80)), tuple((2, 80), (1, 40_000)));
    let line = b"PROXY TCP4 203.0.113.7 10.0.0.2 4711 80\r\n";
    bench.whole(SampleKind::ProxyHeader, to, 0, line);
    let chained = b"GET /a HTTP/1.1\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n";
    for (ordinal, head) in [(1, REQUEST), (2, chained)] {
        bench.whole(SampleKind::RequestHead, to, ordinal, head);
        bench.whole(SampleKind::ResponseHead, back, ordinal, RESPONSE);
    }
    let chains: Vec<Vec<String>> = bench
        .exchanges
        .iter()
        .map(|one| &one.request.forwarded)
        .map(|one| one.chain(ForwardedHeader::Either).map(|it| it.to_string()).collect())
        .collect();
    assert_eq!(chains, [vec!["203.0.113.7"], vec!["198.51.100.1", "203.0.113.7"]]);
    assert_eq!(bench.count(FlowCounter::HeadsMalformed), 0);
    bench.whole(SampleKind::ProxyHeader, to, 0, b"PROXY nonsense\r\n");
    assert_eq!(bench.count(FlowCounter::HeadsMalformed), 1);
}
