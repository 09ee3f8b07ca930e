//! Cut, corrupt and wrong inputs: everything before the damage is used, the message says what is wrong, nothing panics.

use std::io::Cursor;

use proptest::prelude::*;
use sensor_agent::source::pcap::CaptureError;
use sensor_agent::source::recording::Recording;

use super::support::{file, read};

/// Packets of a little-endian pcap: time ns, data.
fn packets(pcap: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap());
    let unit = if word(0) == 0xa1b2_3c4d { 1 } else { 1_000 };
    let (mut at, mut all) = (24, Vec::new());
    while at < pcap.len() {
        let len = usize::try_from(word(at + 8)).unwrap();
        let time = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)) * unit;
        all.push((time, pcap[at + 16..at + 16 + len].to_vec()));
        at += 16 + len;
    }
    all
}

/// The same packets as pcapng, in either byte order, with blocks that are not known between them.
fn as_pcapng(pcap: &[u8], big: bool) -> Vec<u8> {
    let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut out = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let len = word(u32::try_from(12 + body.len().next_multiple_of(4)).unwrap());
        out.extend(word(kind));
        out.extend(len);
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(len);
    };
    let link = if big { [0, 1, 0, 0] } else { [1, 0, 0, 0] };
    let version = if big { [0, 1, 0, 0] } else { [1, 0, 0, 0] };
    block(0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat());
    // if_tsresol = 9 (nanoseconds), end of options.
    let resolution = if big {
        [0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0]
    } else {
        [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]
    };
    block(1, &[&link[..], &word(0), &resolution].concat());
    for (index, (time, data)) in packets(pcap).into_iter().enumerate() {
        let len = word(u32::try_from(data.len()).unwrap());
        let high = word(u32::try_from(time >> 32).unwrap());
        let low = word(u32::try_from(time & 0xffff_ffff).unwrap());
        block(6, &[&word(0)[..], &high, &low, &len, &len, &data].concat());
        if index % 10 == 0 {
            block(5, &[7; 24]);
        }
    }
    out
}

fn swapped(pcap: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for at in (0..24).step_by(4) {
        out.extend(pcap[at..at + 4].iter().rev());
    }
    // The version is two halves.
    out[4..8].copy_from_slice(&[0, 2, 0, 4]);
    let unit = if pcap[0] == 0x4d { 1 } else { 1_000 };
    for (time, data) in packets(pcap) {
        let len = u32::try_from(data.len()).unwrap();
        let (seconds, fraction) = (time / 1_000_000_000, time % 1_000_000_000 / unit);
        for word in [u32::try_from(seconds).unwrap(), u32::try_from(fraction).unwrap(), len, len] {
            out.extend(word.to_be_bytes());
        }
        out.extend(data);
    }
    out
}

#[test]
fn every_container_gives_the_same_exchanges() {
    let pcap = file("../demo.pcap");
    let expected = read(&pcap).unwrap().exchanges;
    assert!(expected.len() > 30);
    for other in [as_pcapng(&pcap, false), as_pcapng(&pcap, true), swapped(&pcap)] {
        let read = read(&other).unwrap();
        assert!(read.end.fault.is_none(), "{:?}", read.end.fault);
        assert_eq!(read.exchanges, expected);
    }
}

#[test]
fn a_capture_cut_at_any_byte_gives_what_came_before_and_says_where() {
    let pcap = file("../demo.pcap");
    for whole in [pcap.clone(), as_pcapng(&pcap, false)] {
        let all = read(&whole).unwrap().exchanges.len();
        let mut before = 0;
        let cuts =
            (0..600).chain((600..whole.len()).step_by(211)).chain(whole.len() - 40..whole.len());
        for len in cuts {
            match Recording::open(&whole[..len]) {
                Err(CaptureError::Format(_) | CaptureError::Cut { .. }) => {
                    assert!(len < 32, "{len}");
                }
                Err(other) => panic!("{len}: {other}"),
                Ok(_) => {
                    let Some(read) = read(&whole[..len]) else { continue };
                    if let Some(fault) = &read.end.fault {
                        assert!(
                            matches!(fault, CaptureError::Cut { at, .. } if *at == len as u64),
                            "{len}: {fault}"
                        );
                    }
                    assert!(read.exchanges.len() >= before && read.exchanges.len() <= all, "{len}");
                    before = read.exchanges.len();
                }
            }
        }
    }
}

#[test]
fn what_is_no_recording_is_named() {
    let check = |bytes: &[u8], word: &str| {
        let error = Recording::open(Cursor::new(bytes.to_vec())).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    check(b"", "empty");
    check(b"\x1f\x8b\x08", "gzip");
    check(b"<html>", "HTML");
    check(b"\x7fELF", "program");
    check(b"openapi: 3.0.0", "OpenAPI");
    check(b"[{}]", "JSON array");
    check(b"{\"a\":1}x", "JSON");
    check(&[7; 100], "unknown");
    check(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0], "cut at byte 6");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn corrupt_captures_never_panic_and_the_sums_hold(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..60),
        ng in any::<bool>(),
        name in prop::sample::select(vec!["../demo.pcap", "replay/captures/snap.pcap", "replay/captures/veth.pcap"]),
    ) {
        let mut bytes = file(name);
        bytes.truncate(30_000);
        if ng {
            bytes = as_pcapng(&file("../demo.pcap"), false);
        }
        for (at, value) in changes {
            let at = 24 + at.index(bytes.len() - 24);
            bytes[at] = value;
        }
        drop(read(&bytes));
    }

    #[test]
    fn random_bytes_after_a_good_header_never_panic(tail in prop::collection::vec(any::<u8>(), 0..2000), link in 0_u32..300) {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
        bytes.extend(link.to_le_bytes());
        for part in tail.chunks(60) {
            let len = u32::try_from(part.len()).unwrap().to_le_bytes();
            bytes.extend([0; 8]);
            bytes.extend(len);
            bytes.extend(len);
            bytes.extend(part);
        }
        drop(read(&bytes));
    }
}
