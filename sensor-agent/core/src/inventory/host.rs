//! A `Host` header to the name of a service: one spelling for each, or the listener itself.
//!
//! Lower case, port and trailing dot removed. IP literals and `localhost` name the listener, not a service of their own;
//! so does what is no host name (RFC 1123 letters, digits, `-`, `.`, and `_`, at most 253 bytes).

use std::net::Ipv6Addr;

/// What a host header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostName<'a> {
    /// The listener.
    Listener,
    /// A name, in the given buffer.
    Name(&'a str),
}

impl<'a> HostName<'a> {
    /// Reads a host as sent, using `buffer` for its one spelling.
    pub(super) fn parse(raw: Option<&[u8]>, buffer: &'a mut [u8; HOST_BYTES_MAX]) -> Self {
        let Some(raw) = raw else { return Self::Listener };
        let raw = raw.trim_ascii();
        // User information of an absolute-form target is a credential.
        let raw = memchr::memrchr(b'@', raw).and_then(|at| raw.get(at + 1..)).unwrap_or(raw);
        let host = without_port(raw);
        let host = host.strip_suffix(b".").unwrap_or(host);
        let Some(into) = buffer.get_mut(..host.len()) else { return Self::Listener };
        for (to, from) in into.iter_mut().zip(host) {
            *to = from.to_ascii_lowercase();
        }
        let valid = !into.is_empty()
            && into
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
            && !into.starts_with(b".");
        let Ok(name) = std::str::from_utf8(into) else { return Self::Listener };
        if !valid || name == "localhost" || name.ends_with(".localhost") {
            return Self::Listener;
        }
        // `127.1`, `0x7f000001` and `2130706433` are IPv4 addresses as well as `127.0.0.1`, to every resolver.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return Self::Listener;
        }
        Self::Name(name)
    }
}

fn without_port(host: &[u8]) -> &[u8] {
    if host.first() == Some(&b'[') {
        // An IPv6 literal; `parse` refuses the bracket, so it names the listener.
        return host;
    }
    match memchr::memchr(b':', host) {
        // An address has more than one colon.
        Some(at)
            if memchr::memrchr(b':', host) != Some(at)
                && std::str::from_utf8(host).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()) =>
        {
            host
        }
        Some(at) => host.get(..at).unwrap_or(host),
        None => host,
    }
}

/// Longest host name (RFC 1035).
pub(super) const HOST_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(raw: &str, expected: Option<&str>) {
        let mut buffer = [0; HOST_BYTES_MAX];
        let expected = expected.map_or(HostName::Listener, HostName::Name);
        assert_eq!(HostName::parse(Some(raw.as_bytes()), &mut buffer), expected, "{raw}");
    }

    #[test]
    fn spellings_of_a_host_are_one() {
        for raw in [
            "api.example.com",
            "API.Example.com",
            "api.example.com:80",
            "api.example.com.",
            " api.example.com:8443 ",
            "api.example.com.:80",
            "ann:secret@api.example.com:80",
        ] {
            check(raw, Some("api.example.com"));
        }
    }

    #[test]
    fn literals_and_noise_name_the_listener() {
        for raw in [
            "",
            ".",
            "10.0.0.1",
            "10.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "::1",
            "localhost",
            "LOCALHOST:8080",
            "127.1",
            "0x7f.1",
            "a b",
            "a/b",
            "é",
            "<script>",
            "a.0x7f000001",
        ] {
            check(raw, None);
        }
        check(&"a".repeat(254), None);
        check(&"a".repeat(253), Some(&"a".repeat(253)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = [0; HOST_BYTES_MAX];
            if let HostName::Name(name) = HostName::parse(Some(&raw), &mut buffer) {
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
            }
        }
    }
}
