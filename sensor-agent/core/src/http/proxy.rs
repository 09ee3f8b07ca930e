//! A PROXY protocol header to the address that the proxy speaks for (haproxy's proxy-protocol.txt, sections 2.1 and 2.2).
//!
//! Version 2 is read from the byte 0 in its signature on: the kernel takes the two line ends before it for blank lines. Bound: the header as it was
//! cut out; ports and TLVs are not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const LINE: &[u8] = b"PROXY ";
/// What of the signature is left behind `\r\n\r\n`.
const QUIT: &[u8] = b"\0\r\nQUIT\n";
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Whom a proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The client at this address.
    For(IpAddr),
    /// Itself (a health check), or it does not know for whom.
    Nobody,
}

/// Reads a header; `None` for what is no header.
#[must_use]
pub fn parse_proxy(header: &[u8]) -> Option<ProxyHeader> {
    match header.strip_prefix(LINE) {
        Some(line) => version_1(line),
        None => version_2(header.strip_prefix(QUIT)?),
    }
}

fn version_1(line: &[u8]) -> Option<ProxyHeader> {
    let mut words = std::str::from_utf8(line).ok()?.trim_end_matches(['\r', '\n']).split(' ');
    let (protocol, source) = (words.next()?, words.next());
    let address: Option<IpAddr> = match protocol {
        "UNKNOWN" => return Some(ProxyHeader::Nobody),
        "TCP4" => source?.parse::<Ipv4Addr>().ok().map(Into::into),
        "TCP6" => source?.parse::<Ipv6Addr>().ok().map(Into::into),
        _ => None,
    };
    // Destination address and both ports have to be there too.
    let complete = words.count() == 3;
    address.filter(|_| complete).map(|address| ProxyHeader::For(address.to_canonical()))
}

/// Version and command, family and protocol, length, then the addresses.
fn version_2(rest: &[u8]) -> Option<ProxyHeader> {
    let (fixed, addresses) = rest.split_first_chunk::<4>()?;
    let [version_command, family, _, _] = *fixed;
    match version_command {
        // LOCAL: a health check of the proxy itself.
        0x20 => return Some(ProxyHeader::Nobody),
        0x21 => {}
        _ => return None,
    }
    match family {
        TCP4 => {
            let (source, _) = addresses.split_first_chunk::<4>()?;
            Some(ProxyHeader::For(Ipv4Addr::from(*source).into()))
        }
        TCP6 => {
            let (source, _) = addresses.split_first_chunk::<16>()?;
            Some(ProxyHeader::For(Ipv6Addr::from(*source).to_canonical()))
        }
        // UDP, unix sockets, not specified: nobody that a rule could name.
        _ => Some(ProxyHeader::Nobody),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &[u8], expected: Option<&str>) {
        let expected = expected.map(|expected| match expected {
            "nobody" => ProxyHeader::Nobody,
            address => ProxyHeader::For(address.parse().unwrap()),
        });
        assert_eq!(parse_proxy(header), expected, "{}", header.escape_ascii());
    }

    #[test]
    fn both_versions_say_whom_they_speak_for() {
        check(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n", Some("203.0.113.7"));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", Some("2001:db8::7"));
        check(b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 80\r\n", Some("203.0.113.7"));
        check(b"PROXY UNKNOWN\r\n", Some("nobody"));
        check(b"PROXY UNKNOWN ffff::1 ffff::1 1 2\r\n", Some("nobody"));
        check(
            b"\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x10\0\0\x50",
            Some("203.0.113.7"),
        );
        let mut six = b"\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
        six.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        six.extend([0; 20]);
        check(&six, Some("2001:db8::7"));
        check(b"\0\r\nQUIT\n\x20\0\0\0", Some("nobody"));
        check(b"\0\r\nQUIT\n\x21\x12\0\0", Some("nobody"));
    }

    #[test]
    fn what_is_cut_or_wrong_is_no_header() {
        for wrong in [
            &b"PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n"[..],
            b"PROXY TCP4 2001:db8::7 10.0.0.1 4711 80\r\n",
            b"PROXY TCP5 203.0.113.7 10.0.0.1 4711 80\r\n",
            b"PROXY ",
            b"PROXY \xff\r\n",
            b"\0\r\nQUIT\n\x31\x11\0\x0c\xcb\0\x71\x07",
            b"\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71",
            b"GET / HTTP/1.1\r\n",
            b"",
        ] {
            check(wrong, None);
        }
    }
}
