//! The rewritten packet and its copy byte by byte, with no VLAN tag, one and two, in both families.

use std::{net::Ipv6Addr, os::fd::AsRawFd as _, process::Command, thread, time::Duration};

use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket},
};
use sensor_agent::kernel::{Bench, Install, Mode};
use sensor_ebpf::{
    abi::image::{Action, ListId, Rule},
    testing::image::Draft,
};
use sensor_tests::{
    is_root_or_skips,
    object::{image, load_config, object},
};

const NEXT: i32 = -1;
const SEQ: u32 = 0x1000_0001;
const ACK: u32 = 0x7000_0009;
const RST_FLAG: u8 = 4;
const RST_ACK: u8 = 0x14;
const LEFT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const RIGHT: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Everything, by one rule.
fn policy() -> Draft {
    let mut draft = Draft::default();
    draft.rules.push(Rule {
        port_max: u16::MAX,
        share: u32::MAX,
        action: Action::Reset as u8,
        hits: 1,
        ..Rule::default()
    });
    draft.list(ListId::Block, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 0], 104, 1);
    draft.list(ListId::Block, "fd01::".parse::<Ipv6Addr>().unwrap().octets(), 64, 1);
    draft
}

fn tags(count: usize) -> Vec<u8> {
    match count {
        0 => vec![],
        1 => vec![0x81, 0, 0, 7],
        _ => vec![0x88, 0xa8, 0, 9, 0x81, 0, 0, 7],
    }
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// A data segment from 10.0.0.2 (fd01::2) to 10.0.0.1 (fd01::1), with TCP options and 300 bytes of payload.
fn data(tag_count: usize, six: bool) -> Vec<u8> {
    let mut tcp = vec![0x9c, 0x40, 0, 80];
    tcp.extend(SEQ.to_be_bytes());
    tcp.extend(ACK.to_be_bytes());
    tcp.extend([0x80, 0x18, 1, 0, 0, 0, 0, 0]);
    tcp.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    tcp.extend([b'x'; 300]);
    let mut frame = [RIGHT, LEFT].concat();
    frame.extend(tags(tag_count));
    let length = u16::try_from(tcp.len()).unwrap();
    if six {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([6, 9]);
        frame.extend("fd01::2".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend("fd01::1".parse::<Ipv6Addr>().unwrap().octets());
    } else {
        let mut header = vec![0x45, 0];
        header.extend((length + 20).to_be_bytes());
        header.extend([0x12, 0x34, 0x40, 0, 9, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        let check = !sum(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        frame.extend([8, 0]);
        frame.extend(header);
    }
    frame.extend(tcp);
    frame
}

/// Checks one RST and gives (source is the client's, sequence number, flags, hop limit).
fn read(frame: &[u8], tag_count: usize, six: bool) -> (bool, u32, u8, u8) {
    assert_eq!(&frame[12..12 + tag_count * 4], tags(tag_count), "{frame:02x?}");
    let ip = &frame[14 + tag_count * 4..];
    let (header, hops, client) = if six {
        assert_eq!(u16::from_be_bytes([ip[4], ip[5]]), 20);
        (40, ip[7], ip[23] == 2)
    } else {
        assert_eq!(u16::from_be_bytes([ip[2], ip[3]]), 40);
        assert_eq!(sum(&ip[..20]), 0xffff, "checksum of the IPv4 header");
        (20, ip[8], ip[15] == 2)
    };
    let tcp = &ip[header..];
    assert_eq!((tcp.len(), tcp[12]), (20, 0x50), "headers only: {frame:02x?}");
    let addresses = if six { &ip[8..40] } else { &ip[12..20] };
    let whole = [addresses, &[0, 6, 0, 20], tcp].concat();
    assert_eq!(sum(&whole), 0xffff, "checksum of the segment");
    let mac = if client { [RIGHT, LEFT] } else { [LEFT, RIGHT] };
    assert_eq!(&frame[..12], mac.concat(), "addresses of the link follow those of the packet");
    assert_eq!(tcp[..2] == [0x9c, 0x40], client, "ports follow the addresses");
    (client, u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]), tcp[13], hops)
}

fn check() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    // Without the namespace's loopback the clone would go nowhere; a packet socket sees it leave.
    let tap = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .unwrap();
    let mut bench = Bench::load(&object().unwrap(), &load_config(Mode::Enforce)).unwrap();
    assert!(bench.degraded().is_empty(), "{:?}", bench.degraded());
    bench.publish(&image(&policy()), Install::Confirmed).unwrap();
    for tag_count in 0..3 {
        for six in [false, true] {
            let frame = data(tag_count, six);
            let (action, left) = bench.rewritten("sensor_tc_ingress_eth", &frame).unwrap();
            assert_eq!(action, NEXT);
            // To the server: the packet's own number, hop limit untouched.
            assert_eq!(read(&left, tag_count, six), (true, SEQ, RST_ACK, 9));
            let mut buffer = [0; 2048];
            let len = (0..100)
                .find_map(|_| {
                    thread::sleep(Duration::from_millis(2));
                    let len = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
                    (buffer[..6] == LEFT).then_some(len)
                })
                .expect("no copy left the device");
            // To the client: the number that it expects.
            assert_eq!(read(&buffer[..len], tag_count, six), (false, ACK, RST_FLAG, 64));
            while recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
        }
    }
}

#[test]
fn a_packet_becomes_two_resets_whatever_its_tags() {
    if !is_root_or_skips("a_packet_becomes_two_resets") {
        return;
    }
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        check();
    })
    .join()
    .unwrap();
}
