//! Captures that tcpdump made of nginx and curl (`make-captures.sh`, `make-nat-capture.sh`): super-segments, unfilled checksums, cooked headers.

use std::fmt::Write as _;

use sensor_core::flow::FlowCounter;

use super::support::{Read, file, read, truth};

/// Exchanges without what changes with each recording (ports of clients).
fn listing(read: &Read) -> String {
    let mut lines: Vec<String> = Vec::new();
    for exchange in &read.exchanges {
        let found = truth(exchange);
        let mut line = format!("{} {} {} ", found.method, found.host, found.path);
        match found.status {
            Some(status) => write!(line, "{status}").unwrap(),
            None => line.push('-'),
        }
        write!(line, " -> {}", found.server).unwrap();
        write!(line, " {:?}/{:?}", exchange.request.body_bytes, exchange.response.body_bytes)
            .unwrap();
        lines.push(line);
    }
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_capture_on_a_veth_has_every_exchange() {
    let read = read(&file("replay/captures/veth.pcap")).unwrap();
    insta::assert_snapshot!(listing(&read));
}

#[test]
fn a_capture_on_all_interfaces_has_every_exchange_once() {
    insta::assert_snapshot!(listing(&read(&file("replay/captures/any.pcap")).unwrap()));
    insta::assert_snapshot!(listing(&read(&file("replay/captures/cooked.pcap")).unwrap()));
}

#[test]
fn a_capture_on_a_node_that_translates_addresses_has_every_exchange_once() {
    let read = read(&file("replay/captures/nat.pcap")).unwrap();
    insta::assert_snapshot!(listing(&read));
    let connections = 11;
    assert_eq!(read.counts.value(FlowCounter::Aliases), connections);
    for exchange in &read.exchanges {
        assert_eq!(exchange.client.ip().to_string(), "192.0.2.10", "the true client");
    }
}

#[test]
fn a_capture_cut_to_160_bytes_a_packet_has_what_can_be_known_and_no_request_of_a_body() {
    let read = read(&file("replay/captures/snap.pcap")).unwrap();
    insta::assert_snapshot!(listing(&read));
    assert!(read.counts.value(FlowCounter::Gaps) > 0);
}

#[test]
fn the_demo_shows_what_the_readme_says() {
    let read = read(&file("../demo.pcap")).unwrap();
    insta::assert_snapshot!(listing(&read));
}
