//! One path segment to its type, by shape alone: what is an identifier is replaced by `{type}` in a template.
//!
//! | type | shape |
//! |---|---|
//! | `integer` | digits, a minus before them allowed |
//! | `uuid` | 8-4-4-4-12 hexadecimal digits |
//! | `ulid` | 26 digits of Crockford's base32, the first at most 7 |
//! | `date` | `YYYY-MM-DD`, with or without `T` and a time behind it |
//! | `hex` | 8 hexadecimal digits or more with a decimal one among them (`deadbeef` stays a word), or 16 or more |
//! | `email` | has `@` with a dot behind it |
//! | `token` | looks random: a JWT, or 20 characters or more mixing upper case, lower case and two digits, or 32 or more of letters and four digits |
//! | `text` | longer than 64 bytes, or bytes that do not print |
//!
//! `email`, `token` and `text` are there so that no secret becomes a literal. A type before a short extension keeps it
//! (`{integer}.json`). What traffic teaches beyond shape belongs to learned templates, which will sit behind this.

/// Type of a segment that is not a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentType {
    Integer,
    Uuid,
    Ulid,
    Date,
    Hex,
    Email,
    Token,
    Text,
}

impl SegmentType {
    /// Reads the type of a decoded segment; `None` for a literal.
    pub(super) fn of(segment: &[u8]) -> Option<Self> {
        if segment.is_empty() {
            return None;
        }
        if is_integer(segment) {
            return Some(Self::Integer);
        }
        if is_uuid(segment) {
            return Some(Self::Uuid);
        }
        if is_date(segment) {
            return Some(Self::Date);
        }
        if is_hex(segment) {
            return Some(Self::Hex);
        }
        if is_ulid(segment) {
            return Some(Self::Ulid);
        }
        if is_email(segment) {
            return Some(Self::Email);
        }
        if is_token(segment) {
            return Some(Self::Token);
        }
        if segment.len() > LITERAL_BYTES_MAX
            || segment.iter().any(|byte| *byte < 0x20 || *byte == 0x7f)
        {
            return Some(Self::Text);
        }
        None
    }

    /// The parameter as written in a template.
    pub(super) const fn parameter(self) -> &'static str {
        match self {
            Self::Integer => "{integer}",
            Self::Uuid => "{uuid}",
            Self::Ulid => "{ulid}",
            Self::Date => "{date}",
            Self::Hex => "{hex}",
            Self::Email => "{email}",
            Self::Token => "{token}",
            Self::Text => "{text}",
        }
    }

    /// A value that has this type, for asking a catalogue about a template.
    pub(super) fn example_of(parameter: &str) -> &'static str {
        match parameter {
            "{integer}" => "1",
            "{uuid}" => "00000000-0000-4000-8000-000000000000",
            "{ulid}" => "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "{date}" => "2024-01-01",
            "{hex}" => "0123456789abcdef",
            "{email}" => "a@example.com",
            "{token}" => "xY1zW2xY1zW2xY1zW2xY1zW2",
            _ => "x",
        }
    }
}

/// Splits a short extension off, when what is before it has a type.
pub(super) fn with_extension(segment: &[u8]) -> Option<(SegmentType, &str)> {
    let dot = memchr::memrchr(b'.', segment)?;
    let extension = segment.get(dot..)?;
    let letters = extension.get(1..)?;
    if !(1..=5).contains(&letters.len()) || !letters.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    // `1.0` is a version, not an integer with an extension.
    if letters.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let kind = SegmentType::of(segment.get(..dot)?)?;
    Some((kind, std::str::from_utf8(extension).ok()?))
}

fn is_integer(segment: &[u8]) -> bool {
    let digits = segment.strip_prefix(b"-").unwrap_or(segment);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

fn is_uuid(segment: &[u8]) -> bool {
    segment.len() == 36
        && segment.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_hex(segment: &[u8]) -> bool {
    segment.len() >= 8
        && segment.iter().all(u8::is_ascii_hexdigit)
        && (segment.len() >= 16 || segment.iter().any(u8::is_ascii_digit))
}

fn is_ulid(segment: &[u8]) -> bool {
    segment.len() == 26
        && matches!(segment.first(), Some(b'0'..=b'7'))
        && segment.iter().all(|byte| {
            byte.is_ascii_alphanumeric()
                && !matches!(byte.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
        })
}

fn is_date(segment: &[u8]) -> bool {
    let Some(day) = segment.get(..10) else { return false };
    let shape = day.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let two = |at: usize| match day.get(at..at + 2) {
        Some([tens, ones]) => tens.wrapping_sub(b'0') * 10 + ones.wrapping_sub(b'0'),
        _ => 0,
    };
    shape
        && (1..=12).contains(&two(5))
        && (1..=31).contains(&two(8))
        && segment.get(10).is_none_or(|byte| matches!(byte, b'T' | b't' | b' '))
}

fn is_email(segment: &[u8]) -> bool {
    memchr::memchr(b'@', segment)
        .is_some_and(|at| at > 0 && segment.get(at..).is_some_and(|host| host.contains(&b'.')))
}

fn is_token(segment: &[u8]) -> bool {
    if segment.len() < 20 {
        return false;
    }
    let shape =
        segment.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=+~:".contains(byte));
    if !shape {
        return false;
    }
    if segment.starts_with(b"eyJ") {
        return true;
    }
    let count = |test: fn(&u8) -> bool| segment.iter().filter(|byte| test(byte)).count();
    let (digits, upper, lower) =
        (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
    // Words joined by hyphens are slugs; random tokens have few or none.
    let joints = count(|byte| matches!(byte, b'-' | b'_' | b'.'));
    let slug = joints * 8 > segment.len();
    (digits >= 2 && upper >= 2 && lower >= 2 && !slug)
        || (segment.len() >= 32 && digits >= 4 && !slug)
}

/// Longest segment that can be a literal.
const LITERAL_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(segment: &str, expected: Option<SegmentType>) {
        assert_eq!(SegmentType::of(segment.as_bytes()), expected, "{segment}");
    }

    #[test]
    fn identifiers_have_types() {
        check("42", Some(SegmentType::Integer));
        check("-1", Some(SegmentType::Integer));
        check("550e8400-e29b-41d4-a716-446655440000", Some(SegmentType::Uuid));
        check("01ARZ3NDEKTSV4RRFFQ69G5FAV", Some(SegmentType::Ulid));
        check("2024-02-29", Some(SegmentType::Date));
        check("2024-02-29T10:00:00Z", Some(SegmentType::Date));
        check("5f2b1c9e", Some(SegmentType::Hex));
        check("507f1f77bcf86cd799439011", Some(SegmentType::Hex));
        check("ann@example.com", Some(SegmentType::Email));
        check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", Some(SegmentType::Token));
        check("sk_live_4eC39HqLyjWDarjtT1zdp7dc", Some(SegmentType::Token));
        check(&"a".repeat(65), Some(SegmentType::Hex));
        check(&"z".repeat(65), Some(SegmentType::Text));
        check("a\u{1}b", Some(SegmentType::Text));
    }

    #[test]
    fn words_stay_literals() {
        for word in [
            "users",
            "v1",
            "1.0",
            "deadbeef",
            "facade",
            "me",
            "orders-export",
            "2024-13-01",
            "",
            "a",
            "-",
            "how-to-configure-3-things-in-2024",
            "petstore.swagger.io",
            "getUserByIdAndNameOrEmail",
            "@me",
            "用户",
        ] {
            check(word, None);
        }
    }

    #[test]
    fn extension_stays_behind_a_type() {
        assert_eq!(with_extension(b"17.json"), Some((SegmentType::Integer, ".json")));
        assert_eq!(with_extension(b"1.0"), None);
        assert_eq!(with_extension(b"report.json"), None);
        assert_eq!(with_extension(b".json"), None);
    }

    #[test]
    fn examples_have_their_own_type() {
        use SegmentType as T;
        for kind in [T::Integer, T::Uuid, T::Ulid, T::Date, T::Hex, T::Email, T::Token] {
            check(T::example_of(kind.parameter()), Some(kind));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_typed_without_panic(segment in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _kind = SegmentType::of(&segment);
            let _extension = with_extension(&segment);
        }
    }
}
