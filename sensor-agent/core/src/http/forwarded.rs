//! `X-Forwarded-For`, `Forwarded` (RFC 7239) and a PROXY header to chains of addresses; whoever reads them decides whose word counts.
//!
//! The two header fields stay apart: a proxy writes one of them and passes the other on as the client sent it, so that in
//! one chain a forged address could come last. Which field the trusted proxies write is a setting ([`ForwardedHeader`]).
//! Bound: the last [`FORWARDED_MAX`] addresses of a request, and [`BYTES_MAX`] of each field from its end; what is no address (`unknown`, an
//! obfuscated name) is passed over.

use std::net::{IpAddr, SocketAddr};

/// Addresses kept of a chain of proxies.
pub const FORWARDED_MAX: usize = 4;

/// The end of a field counts: that is where the nearest proxies write.
const BYTES_MAX: usize = 512;

/// Which header field the trusted proxies write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`; `Forwarded` only where a request has no `X-Forwarded-For`.
    #[default]
    Either,
    /// `X-Forwarded-For` alone.
    XForwardedFor,
    /// `Forwarded` alone.
    Forwarded,
}

/// Addresses that proxies wrote before a request: of each field the last [`FORWARDED_MAX`], the nearest proxy's last. Anyone
/// can write them: they mean something only from a proxy that is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded(Option<Box<Chains>>);

/// By who wrote them; boxed, for most requests have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chains {
    x_forwarded_for: Option<Vec<IpAddr>>,
    forwarded: Option<Vec<IpAddr>>,
    proxy: Option<IpAddr>,
}

impl Forwarded {
    /// Whom the PROXY header of the connection names: the nearest proxy's word.
    pub fn by_proxy_header(&mut self, address: IpAddr) {
        self.0.get_or_insert_default().proxy = Some(address.to_canonical());
    }

    /// Adds an `X-Forwarded-For` field.
    pub(crate) fn add_x_forwarded_for(&mut self, value: &[u8]) {
        let chains = self.0.get_or_insert_default();
        x_forwarded_for(value, chains.x_forwarded_for.get_or_insert_default());
    }

    /// Adds a `Forwarded` field.
    pub(crate) fn add_forwarded(&mut self, value: &[u8]) {
        let chains = self.0.get_or_insert_default();
        forwarded(value, chains.forwarded.get_or_insert_default());
    }

    /// The chain that is to be believed of proxies that write `header`, the nearest proxy's address last.
    pub fn chain(&self, header: ForwardedHeader) -> impl DoubleEndedIterator<Item = IpAddr> + '_ {
        self.0.as_deref().into_iter().flat_map(move |chains| {
            let (x, rfc) = (chains.x_forwarded_for.as_ref(), chains.forwarded.as_ref());
            let field = match header {
                ForwardedHeader::Either => x.or(rfc),
                ForwardedHeader::XForwardedFor => x,
                ForwardedHeader::Forwarded => rfc,
            };
            field.into_iter().flatten().copied().chain(chains.proxy)
        })
    }
}

/// Adds the addresses of an `X-Forwarded-For` field.
fn x_forwarded_for(value: &[u8], into: &mut Vec<IpAddr>) {
    for part in end_of(value).split(|byte| *byte == b',') {
        add(part, into);
    }
}

/// Adds the `for=` addresses of a `Forwarded` field.
fn forwarded(value: &[u8], into: &mut Vec<IpAddr>) {
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
    fn a_forged_field_beside_the_proxys_own_is_not_read() {
        let chain = |fields: &[(&str, &str)], header| {
            let mut forwarded = Forwarded::default();
            for (name, value) in fields {
                match *name {
                    "x" => forwarded.add_x_forwarded_for(value.as_bytes()),
                    _ => forwarded.add_forwarded(value.as_bytes()),
                }
            }
            forwarded.chain(header).map(|address| address.to_string()).collect::<Vec<_>>()
        };
        // nginx writes the one, and copies the other as the client sent it, behind it or before.
        let (real, forged) = (("x", "203.0.113.7"), ("f", "for=198.51.100.66"));
        for fields in [[real, forged], [forged, real]] {
            assert_eq!(chain(&fields, ForwardedHeader::Either), ["203.0.113.7"]);
            assert_eq!(chain(&fields, ForwardedHeader::XForwardedFor), ["203.0.113.7"]);
            assert_eq!(chain(&fields, ForwardedHeader::Forwarded), ["198.51.100.66"]);
        }
        assert_eq!(chain(&[forged], ForwardedHeader::Either), ["198.51.100.66"]);
        assert!(chain(&[forged], ForwardedHeader::XForwardedFor).is_empty());
        assert!(chain(&[("x", "unknown"), forged], ForwardedHeader::Either).is_empty());
    }

    #[test]
    fn a_long_chain_keeps_its_end() {
        let long = (0..200).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>().join(", ");
        check(x_forwarded_for, &long, &["10.0.0.196", "10.0.0.197", "10.0.0.198", "10.0.0.199"]);
        check(x_forwarded_for, &"\u{fffd}".repeat(400), &[]);
    }
}
