//! A PROXY protocol header before the first request, cut at any byte: it is told, and what follows is read as at the start of a connection.

use super::*;

const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\0\x50";
const REQUEST: &[u8] = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz";

/// What comes out of these bytes, cut into segments of `piece` bytes.
fn heads(bytes: &[u8], piece: usize) -> (Vec<(SampleKind, u32, String)>, Connection) {
    let mut connection = Connection::new(1);
    connection.handshake();
    for part in bytes.chunks(piece) {
        connection.send(From::Client, part);
    }
    connection.send(From::Server, b"HTTP/1.1 204 No Content\r\n\r\n");
    connection.send(From::Client, b"GET /b HTTP/1.1\r\n\r\n");
    connection.close();
    connection.check_ledger();
    (connection.heads(), connection)
}

#[test]
fn a_header_of_either_version_is_told_and_the_requests_behind_it_are_read() {
    // The two blank lines that version 2 begins with are passed over.
    for (header, told) in [(LINE, LINE), (BINARY, &BINARY[4..])] {
        let bytes = [header, REQUEST].concat();
        for piece in (1..=bytes.len()).chain([1_400]) {
            let (heads, connection) = heads(&bytes, piece);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let expected = [
                (SampleKind::ProxyHeader, 0, text(told)),
                (SampleKind::RequestHead, 1, text(&REQUEST[..REQUEST.len() - 3])),
                (SampleKind::ResponseHead, 1, "HTTP/1.1 204 No Content\r\n\r\n".into()),
                (SampleKind::RequestHead, 2, "GET /b HTTP/1.1\r\n\r\n".into()),
            ];
            assert_eq!(heads, expected, "in pieces of {piece}");
            assert_eq!(connection.host.counter(Counter::RequestHeads), 2);
        }
    }
}

#[test]
fn what_only_looks_like_one_is_something_else_and_tls_behind_one_is_tls() {
    let kinds = |bytes: &[u8]| -> Vec<SampleKind> {
        heads(bytes, 1_400).0.into_iter().map(|(kind, ..)| kind).collect()
    };
    assert_eq!(kinds(b"PROXYING / HTTP/1.1\r\n\r\n"), []);
    assert_eq!(kinds(b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c............"), []);
    let hello = [LINE, b"\x16\x03\x01\0\x05\x01\0\0\x01\0"].concat();
    assert_eq!(kinds(&hello), [SampleKind::ProxyHeader, SampleKind::ClientHello]);
    // A version that ends before its length says.
    let cut = [BINARY, &[b'x'; 4]].concat();
    assert_eq!(kinds(&cut)[0], SampleKind::ProxyHeader);
}

#[test]
fn in_the_middle_of_a_connection_it_is_no_header() {
    let (heads, _) = heads(&[REQUEST, LINE].concat(), 1_400);
    assert!(heads.iter().all(|(kind, ..)| *kind != SampleKind::ProxyHeader), "{heads:?}");
}
