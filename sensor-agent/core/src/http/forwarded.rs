//! `X-Forwarded-For` and `Forwarded` (RFC 7239) to addresses; whoever reads them decides whose word counts.
//!
//! Bound: the last [`FORWARDED_MAX`] addresses of a request, and [`BYTES_MAX`] of each field from its end; what is no address (`unknown`, an
//! obfuscated name) is passed over.

use std::net::{IpAddr, SocketAddr};

use super::exchange::FORWARDED_MAX;

/// The end of a field counts: that is where the nearest proxies write.
const BYTES_MAX: usize = 512;

/// Adds the addresses of an `X-Forwarded-For` field.
pub(super) fn x_forwarded_for(value: &[u8], into: &mut Vec<IpAddr>) {
    for part in end_of(value).split(|byte| *byte == b',') {
        add(part, into);
    }
}

/// Adds the `for=` addresses of a `Forwarded` field.
pub(super) fn forwarded(value: &[u8], into: &mut Vec<IpAddr>) {
    for pair in end_of(value).split(|byte| matches!(byte, b',' | b';')) {
        let pair = pair.trim_ascii();
        if let Some((name, node)) = pair.split_at_checked(4)
            && name.eq_ignore_ascii_case(b"for=")
        {
            add(node, into);
        }
    }
}

fn end_of(value: &[u8]) -> &[u8] {
    value.get(value.len().saturating_sub(BYTES_MAX)..).unwrap_or_default()
}

fn add(text: &[u8], into: &mut Vec<IpAddr>) {
    let Ok(text) = std::str::from_utf8(text.trim_ascii()) else { return };
    let text = text.trim_matches('"');
    let address = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    if let Ok(address) = address {
        if into.len() == FORWARDED_MAX {
            into.remove(0);
        }
        into.push(address.to_canonical());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: fn(&[u8], &mut Vec<IpAddr>), value: &str, expected: &[&str]) {
        let mut found = Vec::new();
        field(value.as_bytes(), &mut found);
        let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        check(x_forwarded_for, "203.0.113.7, 198.51.100.1", &["203.0.113.7", "198.51.100.1"]);
        check(
            x_forwarded_for,
            "203.0.113.7:4711, [2001:db8::1]:80, 2001:db8::2",
            &["203.0.113.7", "2001:db8::1", "2001:db8::2"],
        );
        check(x_forwarded_for, "unknown, , ::ffff:192.0.2.1", &["192.0.2.1"]);
        check(
            forwarded,
            "for=192.0.2.60;proto=http;by=203.0.113.43, For=\"[2001:db8:cafe::17]:4711\"",
            &["192.0.2.60", "2001:db8:cafe::17"],
        );
        check(forwarded, "for=_hidden, for=unknown, for", &[]);
    }

    #[test]
    fn a_long_chain_keeps_its_end() {
        let long = (0..200).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>().join(", ");
        check(x_forwarded_for, &long, &["10.0.0.196", "10.0.0.197", "10.0.0.198", "10.0.0.199"]);
        check(x_forwarded_for, &"\u{fffd}".repeat(400), &[]);
    }
}
