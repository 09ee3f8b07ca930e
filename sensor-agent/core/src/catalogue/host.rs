//! Host names: one spelling for each, and patterns with `*`.
//!
//! A leading `*.` stands for one or more labels; any other `*` for one or more characters without a dot.

use std::borrow::Cow;

use crate::glob::{self, Star};

/// Which hosts something is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HostPattern {
    /// This name, normalised.
    Exact(Box<str>),
    /// Names that fit a pattern with at least one `*`, normalised.
    Wildcard(Box<str>),
    /// Every name, and none.
    Any,
}

impl HostPattern {
    /// Reads `api.example.com`, `*.example.com` or `*`; `None` when it is none of these.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, _) = normalise(text);
        let has_port = text.matches(':').count() == 1 || text.contains("]:");
        if has_port || host.is_empty() || host.len() > 253 || !host.bytes().all(is_pattern_byte) {
            return None;
        }
        Some(match &*host {
            "*" => Self::Any,
            name if name.contains('*') => Self::Wildcard(name.into()),
            name => Self::Exact(name.into()),
        })
    }

    /// Whether a normalised name is one of these.
    pub(crate) fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(pattern) => matches(pattern, host),
            Self::Any => true,
        }
    }

    /// How closely it says which: letters that are no `*`, and a whole name most of all.
    pub(crate) fn literals(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Wildcard(pattern) => pattern.bytes().filter(|byte| *byte != b'*').count(),
            Self::Any => 0,
        }
    }
}

fn is_pattern_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._*:~".contains(&byte) || byte >= 0x80
}

/// Brings a host to its one spelling (lower case, no port, no brackets, no trailing dot) and splits off the port.
/// Borrows where nothing had to change.
pub(super) fn normalise(raw: &str) -> (Cow<'_, str>, Option<u16>) {
    let raw = raw.trim();
    let (host, port) = match raw.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, tail)) => (inside, tail.strip_prefix(':')),
        // More than one colon without brackets: a bare IPv6 address.
        None => match raw.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (raw, None),
        },
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    (host, port.and_then(|digits| digits.parse().ok()))
}

/// Whether a normalised host fits a pattern. Time is bounded by the product of both lengths (253 each).
pub(super) fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        // Several labels: each suffix that starts behind a dot may be the rest.
        Some(rest) => host.match_indices('.').any(|(at, _)| {
            at > 0 && host.get(at + 1..).is_some_and(|tail| fits_labels(rest, tail))
        }),
        None => fits_labels(pattern, host),
    }
}

fn fits_labels(pattern: &str, host: &str) -> bool {
    glob::fits(pattern.as_bytes(), host.as_bytes(), Star::Label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_host_are_one() {
        for raw in [
            "api.example.com",
            "API.Example.COM",
            "api.example.com:443",
            "api.example.com.",
            " api.example.com ",
        ] {
            assert_eq!(normalise(raw).0, "api.example.com", "{raw}");
        }
        assert_eq!(normalise("[::1]:8080"), (Cow::Borrowed("::1"), Some(8080)));
        assert_eq!(normalise("::1"), (Cow::Borrowed("::1"), None));
        assert_eq!(normalise(""), (Cow::Borrowed(""), None));
        assert_eq!(normalise("a:99999"), (Cow::Borrowed("a"), None));
    }

    #[test]
    fn a_leading_wildcard_is_one_or_more_labels() {
        let cases = [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("*.example.com", "a.example.com.evil", false),
            ("api-*.example.com", "api-eu.example.com", true),
            ("api-*.example.com", "api-a.b.example.com", false),
        ];
        for (pattern, host, expected) in cases {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn a_pattern_has_neither_port_nor_path() {
        assert_eq!(HostPattern::parse("*"), Some(HostPattern::Any));
        assert_eq!(HostPattern::parse("A.b."), Some(HostPattern::Exact("a.b".into())));
        for bad in ["", "a:80", "a/b", "http://a", "a b", "a\0b"] {
            assert_eq!(HostPattern::parse(bad), None, "{bad:?}");
        }
    }
}
