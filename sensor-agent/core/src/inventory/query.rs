//! A query to the names of its parameters; values never leave this file.
//!
//! A part without `=` is a value and not looked at; so is a name that is long or not made of name characters. One that
//! looks random could be a secret itself: [`is_plain`] tells.

use super::segment::SegmentType;

/// Names of parameters in a query, as sent (percent-encoded ones are left out), in order.
pub(super) fn names(query: &[u8], bytes_max: usize) -> impl Iterator<Item = &str> {
    query.split(|byte| matches!(byte, b'&' | b';')).take(PARTS_MAX).filter_map(move |part| {
        let equals = memchr::memchr(b'=', part)?;
        let name = part.get(..equals)?;
        let shape = !name.is_empty()
            && name.len() <= bytes_max
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]$:@".contains(byte));
        if !shape {
            return None;
        }
        std::str::from_utf8(name).ok()
    })
}

/// Whether a name can be kept: one that looks random could be a secret itself.
pub(super) fn is_plain(name: &str) -> bool {
    SegmentType::of(name.as_bytes()).is_none()
}

/// Parts of one query that are looked at.
const PARTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(query: &str, expected: &[&str]) {
        let kept: Vec<&str> = names(query.as_bytes(), 64).filter(|name| is_plain(name)).collect();
        assert_eq!(kept, expected, "{query}");
    }

    #[test]
    fn names_are_read_and_values_are_not() {
        check("page=1&size=20", &["page", "size"]);
        check("filter[name]=x&$top=3&a.b=", &["filter[name]", "$top", "a.b"]);
        check("", &[]);
        check("secret-without-equals", &[]);
        check("=x&&a=1", &["a"]);
        check("eyJhbGciOiJIUzI1NiJ9.e30.c2ln=1", &[]);
        check("5f2b1c9e77=1&12345=1", &[]);
        check("a%20b=1&<b>=2", &[]);
    }

    proptest! {
        #[test]
        fn any_bytes_give_short_printable_names(query in proptest::collection::vec(any::<u8>(), 0..300)) {
            for name in names(&query, 64) {
                prop_assert!(name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
