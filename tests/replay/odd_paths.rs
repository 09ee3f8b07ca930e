//! Paths that no honest client sends, on the wire: as long as a segment's worth of IP packets, and bytes that are no text.

use serde_json::Value;

use super::support::agent;

/// Longest payload of a segment here.
const SEGMENT_BYTES: usize = 60_000;
const PATH_BYTES: usize = 64 * 1024;

/// A capture of raw IP with one connection for each request, answered by 200 and a line of JSON.
fn capture(requests: &[Vec<u8>]) -> Vec<u8> {
    let mut out = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 101].map(u32::to_le_bytes).concat();
    let mut time = 0_u32;
    let mut packet = |ports: (u16, u16), ends: ([u8; 4], [u8; 4]), seq: (u32, u32), data: &[u8]| {
        let total = u16::try_from(40 + data.len()).unwrap();
        let mut bytes = vec![0x45, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        bytes.extend([ends.0, ends.1].concat());
        bytes.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
        bytes.extend([seq.0.to_be_bytes(), seq.1.to_be_bytes()].concat());
        bytes.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(data);
        time += 1;
        let len = u32::try_from(bytes.len()).unwrap();
        out.extend([time / 1_000, time % 1_000 * 1_000, len, len].map(u32::to_le_bytes).concat());
        out.extend(bytes);
    };
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let (client, server) = ([192, 0, 2, 1], [192, 0, 2, 80]);
    for (port, request) in (20_000_u16..).zip(requests) {
        let mut seq = 1_000;
        for part in request.chunks(SEGMENT_BYTES) {
            packet((port, 80), (client, server), (seq, 500), part);
            seq += u32::try_from(part.len()).unwrap();
        }
        packet((80, port), (server, client), (500, seq), answer);
    }
    out
}

fn request(path: &[u8]) -> Vec<u8> {
    [b"GET ", path, b" HTTP/1.1\r\nHost: api.example\r\n\r\n"].concat()
}

/// JSON lines of a replay of these paths.
fn replay(paths: &[Vec<u8>], emit: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odd.pcap");
    let requests: Vec<Vec<u8>> = paths.iter().map(|path| request(path)).collect();
    std::fs::write(&file, capture(&requests)).unwrap();
    let output = agent(&["replay", file.to_str().unwrap(), "--emit", emit], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What is written is UTF-8, whatever was read.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn paths_of_64_kib_are_read_whole_and_take_little_room() {
    let path = |number: usize| {
        let mut path = format!("/files/{number}-").into_bytes();
        while path.len() < PATH_BYTES {
            path.extend(format!("/part{}", path.len() * (number + 1)).as_bytes());
        }
        path.truncate(PATH_BYTES);
        path
    };
    let mut paths: Vec<Vec<u8>> = (0..50).map(path).collect();
    // One segment that never ends.
    paths.push([b"/x/".to_vec(), vec![b'a'; PATH_BYTES]].concat());
    paths.push(b"/ok".to_vec());
    let exchanges = replay(&paths, "exchanges");
    let read: Vec<&str> = exchanges.iter().filter_map(|it| it["path"].as_str()).collect();
    let sent: Vec<&str> = paths.iter().map(|path| std::str::from_utf8(path).unwrap()).collect();
    assert!(read == sent, "{} exchanges", read.len());
    let rows = replay(&paths, "inventory");
    let templates: Vec<&str> = rows.iter().filter_map(|it| it["path_template"].as_str()).collect();
    assert!(templates.contains(&"/ok") && templates.contains(&"/x/{x_id}"), "{templates:?}");
    assert!(templates.iter().all(|it| it.len() <= 512), "{templates:?}");
    let requests: u64 = rows.iter().filter_map(|it| it["requests"].as_u64()).sum();
    assert_eq!(requests, paths.len() as u64);
}

#[test]
fn bytes_that_are_not_utf_8_are_encoded_and_said_so() {
    let paths: Vec<Vec<u8>> = vec![
        b"/caf\xe9/menu".to_vec(),
        b"/\xff\xfe\x80".to_vec(),
        "/café/menu".as_bytes().to_vec(),
        b"/ok".to_vec(),
    ];
    let exchanges = replay(&paths, "exchanges");
    let read: Vec<(&str, bool)> = exchanges
        .iter()
        .map(|it| (it["path"].as_str().unwrap(), it["lossy"].as_bool().unwrap_or(false)))
        .collect();
    assert_eq!(
        read,
        [("/caf%E9/menu", true), ("/%FF%FE%80", true), ("/café/menu", false), ("/ok", false)]
    );
    let rows = replay(&paths, "inventory");
    let requests: u64 = rows.iter().filter_map(|it| it["requests"].as_u64()).sum();
    assert_eq!(requests, 4, "{rows:?}");
}
