//! Addresses and prefixes as operators write them. What could be meant in two ways is refused with both readings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::duration::shown;

/// Reads `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/48`, or `any` (every IPv4 and every IPv6 client).
pub fn parse(text: &str) -> Result<Vec<IpNet>, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("any") {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
        return Ok(vec![v4.into(), v6.into()]);
    }
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| {
        format!(
            "`{}` is not an address; write 203.0.113.7, 203.0.113.0/24, 2001:db8::/48 or any",
            shown(text)
        )
    })?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let len = match len {
        None => max,
        Some(digits) => match digits.parse::<u8>() {
            Ok(len) if len <= max && digits.bytes().all(|byte| byte.is_ascii_digit()) => len,
            _ => {
                return Err(format!(
                    "`/{}` is not a prefix length; write a number from 0 to {max}",
                    shown(digits)
                ));
            }
        },
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
        && len >= 96
    {
        return Err(format!("`{}` is IPv4 in IPv6 notation; write {v4}/{}", shown(text), len - 96));
    }
    let net = IpNet::new(address, len).map_err(|error| error.to_string())?;
    if net.addr() != net.network() {
        return Err(format!(
            "`{}` has bits set beyond its prefix; write {} or {address}",
            shown(text),
            net.trunc()
        ));
    }
    Ok(vec![net])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes_are_read() {
        for (text, expected) in [
            ("203.0.113.7", "203.0.113.7/32"),
            (" 203.0.113.0/24 ", "203.0.113.0/24"),
            ("2001:db8::/48", "2001:db8::/48"),
            ("::", "::/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(parse(text), Ok(vec![expected.parse().unwrap()]), "{text}");
        }
        assert_eq!(parse("any").map(|nets| nets.len()), Ok(2));
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_refused_with_both() {
        for (text, hint) in [
            ("10.0.0.5/8", "write 10.0.0.0/8 or 10.0.0.5"),
            ("2001:db8::1/48", "write 2001:db8::/48 or 2001:db8::1"),
            ("::ffff:10.0.0.1", "write 10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "write 10.0.0.0/8"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/", "0 to 32"),
            ("::/129", "0 to 128"),
            ("010.0.0.1", "not an address"),
            ("10.0.0", "not an address"),
            ("10.0.0.0-10.0.0.9", "not an address"),
            ("host.example", "not an address"),
            ("", "not an address"),
            ("10.0.0.0/8/8", "not a prefix length"),
            ("10.0.0.1\0", "not an address"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
