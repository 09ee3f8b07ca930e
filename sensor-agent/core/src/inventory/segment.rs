//! One path segment to its type, by shape alone: what is an identifier is replaced by `{type}` in a template.
//!
//! | type | shape |
//! |---|---|
//! | `integer` | digits, a minus before them allowed |
//! | `card` | 13 to 19 digits with a right check digit (ISO 7812), in groups or not |
//! | `phone` | `+` and 7 to 16 digits, or 9 to 16 in groups |
//! | `iban` | country, two check digits that are right (ISO 13616), account |
//! | `uuid` | 8-4-4-4-12 hexadecimal digits |
//! | `ulid` | 26 digits of Crockford's base32, the first at most 7 |
//! | `object_id` | 24 hexadecimal digits |
//! | `date`, `timestamp` | `YYYY-MM-DD`; with `T` and a time behind it |
//! | `hex` | 7 hexadecimal digits or more with a decimal one among them (`deadbeef` stays a word), or 16 or more |
//! | `ip` | four numbers with dots |
//! | `email` | has `@` with a dot behind it |
//! | `jwt` | begins as a JSON object in base64 |
//! | `token` | looks random: 20 characters or more mixing upper case, lower case and two digits, 32 or more of letters and four digits, 16 or more mixing upper and lower case in which letters follow each other as in no word, or 8 or more in which letters and digits change places as in no word |
//! | `text` | longer than 64 bytes, `..`, or bytes that no name has |
//!
//! A segment of a sensitive type is never a literal, seen once or often. A type before a short extension keeps it
//! (`{integer}.json`). Versions (`v1`, `v1beta1`, `1.0`) have no type. What traffic teaches beyond shape is in `learned`.

/// Type of a segment that is not a literal.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(super) enum SegmentType {
    Integer,
    Uuid,
    Ulid,
    ObjectId,
    Date,
    Timestamp,
    Hex,
    Ip,
    Email,
    Phone,
    Card,
    Iban,
    Jwt,
    Token,
    Text,
}

/// Whether a segment has a shape.
type Test = fn(&[u8]) -> bool;

impl SegmentType {
    /// Whether hardly a value of the type could be taken for a word, nor a word for one.
    pub(super) const fn is_strict(self) -> bool {
        !matches!(self, Self::Token | Self::Text)
    }

    /// Reads the type of a decoded segment; `None` for a literal.
    pub(super) fn of(segment: &[u8]) -> Option<Self> {
        match Plain::of(segment) {
            Plain::Number => Some(Self::Integer),
            Plain::Word => None,
            Plain::No => Self::by_tests(segment),
        }
    }

    fn by_tests(segment: &[u8]) -> Option<Self> {
        if segment.is_empty() {
            return None;
        }
        let tests: [(Test, Self); 13] = [
            (is_card, Self::Card),
            (is_integer, Self::Integer),
            (is_iban, Self::Iban),
            (is_ip, Self::Ip),
            (is_phone, Self::Phone),
            (is_uuid, Self::Uuid),
            (is_object_id, Self::ObjectId),
            (is_hex, Self::Hex),
            (is_ulid, Self::Ulid),
            (is_email, Self::Email),
            (is_jwt, Self::Jwt),
            (is_token, Self::Token),
            (is_text, Self::Text),
        ];
        if is_date(segment) {
            return Some(if segment.len() == DAY_BYTES { Self::Date } else { Self::Timestamp });
        }
        tests.into_iter().find(|(test, _)| test(segment)).map(|(_, kind)| kind)
    }

    /// The parameter as written in a template.
    pub(super) const fn parameter(self) -> &'static str {
        match self {
            Self::Integer => "{integer}",
            Self::Uuid => "{uuid}",
            Self::Ulid => "{ulid}",
            Self::ObjectId => "{object_id}",
            Self::Date => "{date}",
            Self::Timestamp => "{timestamp}",
            Self::Hex => "{hex}",
            Self::Ip => "{ip}",
            Self::Email => "{email}",
            Self::Phone => "{phone}",
            Self::Card => "{card}",
            Self::Iban => "{iban}",
            Self::Jwt => "{jwt}",
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
            "{timestamp}" => "2024-01-01T00:00:00Z",
            "{object_id}" => "0123456789abcdef01234567",
            "{ip}" => "192.0.2.1",
            "{phone}" => "+15550100",
            "{card}" => "4111111111111111",
            "{iban}" => "DE89370400440532013000",
            "{jwt}" => "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
            "{hex}" => "0123456789abcdef",
            "{email}" => "a@example.com",
            "{token}" => "xY1zW2xY1zW2xY1zW2xY1zW2",
            _ => "x",
        }
    }
}

/// Short words and numbers, as most segments are: no test says anything else of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plain {
    /// Too short to be a card.
    Number,
    /// Letters, and what joins words: what looks random has digits, or is longer.
    Word,
    No,
}

impl Plain {
    fn of(segment: &[u8]) -> Self {
        let all = |test: fn(&u8) -> bool| segment.iter().all(test);
        match segment.len() {
            0 => Self::Word,
            1..=NUMBER_BYTES_MAX if all(u8::is_ascii_digit) => Self::Number,
            1..=WORD_BYTES_MAX
                if all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_')) =>
            {
                Self::Word
            }
            _ => Self::No,
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
    segment.len() >= 7
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
    let Some(day) = segment.get(..DAY_BYTES) else { return false };
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
        && segment.get(DAY_BYTES).is_none_or(|byte| matches!(byte, b'T' | b't' | b' '))
}

fn is_email(segment: &[u8]) -> bool {
    memchr::memchr(b'@', segment)
        .is_some_and(|at| at > 0 && segment.get(at..).is_some_and(|host| host.contains(&b'.')))
}

fn is_object_id(segment: &[u8]) -> bool {
    segment.len() == 24 && segment.iter().all(u8::is_ascii_hexdigit)
}

fn is_jwt(segment: &[u8]) -> bool {
    segment.starts_with(b"eyJ") && segment.len() >= 20
}

fn is_ip(segment: &[u8]) -> bool {
    let mut parts = 0;
    let numbers = segment.split(|byte| *byte == b'.').all(|part| {
        parts += 1;
        (1..=3).contains(&part.len()) && part.iter().all(u8::is_ascii_digit)
    });
    numbers && parts == 4
}

fn is_phone(segment: &[u8]) -> bool {
    let rest = segment.strip_prefix(b"+").unwrap_or(segment);
    let digits = rest.iter().filter(|byte| byte.is_ascii_digit()).count();
    let joint = |byte: &u8| b" -.()".contains(byte);
    // Without a plus, only what is in groups and longer than a date.
    (if rest.len() < segment.len() { 7 } else { 9 }..=16).contains(&digits)
        && rest.iter().all(|byte| byte.is_ascii_digit() || joint(byte))
        && (rest.len() < segment.len() || rest.iter().any(joint))
}

fn is_card(segment: &[u8]) -> bool {
    let joint = |byte: &u8| matches!(byte, b'-' | b' ');
    let grouped = segment.iter().any(joint);
    let groups = || segment.split(|byte| joint(byte));
    if !segment.iter().all(|byte| byte.is_ascii_digit() || joint(byte))
        || (grouped && (groups().count() < 3 || groups().any(|it| !(4..=6).contains(&it.len()))))
    {
        return false;
    }
    let digits = segment.iter().rev().filter(|byte| byte.is_ascii_digit());
    let count = digits.clone().count();
    let sum: u32 = digits
        .zip([1, 2].into_iter().cycle())
        .map(|(digit, factor)| {
            let value = u32::from(digit - b'0') * factor;
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    (13..=19).contains(&count) && sum.is_multiple_of(10)
}

fn is_iban(segment: &[u8]) -> bool {
    let mut text = [0_u8; 34];
    let mut length = 0;
    for byte in segment.iter().filter(|byte| **byte != b' ') {
        let Some(place) = text.get_mut(length) else { return false };
        *place = byte.to_ascii_uppercase();
        length += 1;
    }
    let (Some(head), Some(rest)) = (text.get(..4), text.get(4..length)) else { return false };
    if length < 15
        || !head.iter().take(2).all(u8::is_ascii_alphabetic)
        || !head.iter().skip(2).all(u8::is_ascii_digit)
        || !rest.iter().all(u8::is_ascii_alphanumeric)
    {
        return false;
    }
    let rest = rest.iter().chain(head).fold(0_u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    rest == 1
}

fn is_token(segment: &[u8]) -> bool {
    let shape =
        segment.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=+~:".contains(byte));
    if !shape || is_version(segment) {
        return false;
    }
    let count = |test: fn(&u8) -> bool| segment.iter().filter(|byte| test(byte)).count();
    let (digits, upper, lower) =
        (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
    // Words joined by hyphens are slugs; random tokens have few or none.
    let joints = count(|byte| matches!(byte, b'-' | b'_' | b'.'));
    let slug = joints * 8 > segment.len();
    let long = segment.len() >= 20
        && !slug
        && ((digits >= 2 && upper >= 2 && lower >= 2) || (segment.len() >= 32 && digits >= 4));
    long || (segment.len() >= 8 && digits >= 2 && joints <= 2 && is_mixed(segment))
        || (segment.len() >= 16 && !slug && is_scrambled(segment, upper, lower))
}

/// Whether upper and lower case change as often as by chance and letters follow each other that no word has so: what is random has two
/// digits only in seven of eight 21-character ids (64 signs).
fn is_scrambled(segment: &[u8], upper: usize, lower: usize) -> bool {
    let place = |byte: &u8| byte.to_ascii_lowercase().checked_sub(b'a').map(usize::from);
    let pairs = segment.iter().zip(segment.iter().skip(1));
    let strange = pairs.filter(|(one, next)| {
        let after = place(one).and_then(|at| SELDOM_AFTER.get(at));
        after.is_some_and(|after| after.contains(&next.to_ascii_lowercase()))
    });
    upper.min(lower) * 4 >= segment.len() && strange.count() >= 3
}

/// Whether letters and digits change places as often as in no word; a prefix (`cus_`, `i-`) does not count.
fn is_mixed(segment: &[u8]) -> bool {
    let class = |byte: u8| match byte {
        b'0'..=b'9' => 0,
        b'A'..=b'Z' => 1,
        b'a'..=b'z' => 2,
        _ => 3,
    };
    let prefix = segment.iter().rposition(|byte| matches!(byte, b'_' | b'-'));
    let body = prefix
        .filter(|at| segment.len() - at > 8)
        .and_then(|at| segment.get(at + 1..))
        .unwrap_or(segment);
    let changes = body
        .iter()
        .zip(body.iter().skip(1))
        .map(|(one, next)| (class(*one), class(*next)))
        .filter(|(one, next)| one != next && *one != 3 && *next != 3)
        .count();
    let digits = body.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits >= 2 && changes >= 3 && changes * 3 >= body.len()
}

fn is_text(segment: &[u8]) -> bool {
    segment.len() > LITERAL_BYTES_MAX
        || segment.split(|byte| *byte == b'/').any(|part| part == b"..")
        || segment.iter().any(|byte| *byte < 0x20 || *byte == 0x7f || NO_NAME.contains(byte))
        || std::str::from_utf8(segment).is_err()
}

/// Whether a segment is a version: `v1`, `v1beta1`, `v1p2beta1`, `1.0`.
pub(super) fn is_version(segment: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(rest) = segment.strip_prefix(b"v").or_else(|| segment.strip_prefix(b"V")) else {
        return segment.len() <= 6
            && segment.contains(&b'.')
            && segment.iter().all(|byte| digit(byte) || *byte == b'.')
            && segment.first().is_some_and(digit);
    };
    let numbers = rest.iter().take_while(|byte| digit(byte) || matches!(byte, b'.' | b'_')).count();
    if !(1..=4).contains(&numbers) || !rest.first().is_some_and(digit) {
        return false;
    }
    let stage = rest.get(numbers..).unwrap_or_default();
    let word = stage.iter().rposition(|byte| !digit(byte)).map_or(0, |at| at + 1);
    let stage = stage.get(..word).unwrap_or_default();
    matches!(stage, b"" | b"alpha" | b"beta" | b"rc" | b"p")
        || (stage.first() == Some(&b'p')
            && stage.len() <= 7
            && (stage.ends_with(b"beta") || stage.ends_with(b"alpha")))
}

/// Letters that hardly ever follow each letter of the alphabet, in the words of names.
#[rustfmt::skip]
const SELDOM_AFTER: [&[u8]; 26] = [
    b"", b"qwxz", b"jx", b"kqx", b"", b"bcdghjkmnpqvwxz", b"bcfjkpqtvwxz", b"cfghjkpqxz", b"",
    b"bcdfghjklmnpqrstvwxz", b"cdfgjpqvxz", b"qx", b"jkqvwxz", b"", b"", b"bcdfgjkmqvxz",
    b"abcdefghijklmnopqrstvwxyz", b"jqx", b"jx", b"jkqvx", b"", b"bcdfghjkmpqtvwxz",
    b"cfgjmpqvwxz", b"bdfgjklmnqrsvwxz", b"", b"bfgjkmpqrstvx",
];
/// Longest segment that can be a literal.
const LITERAL_BYTES_MAX: usize = 64;
/// Digits of which a card has more.
const NUMBER_BYTES_MAX: usize = 12;
/// Letters of which a hash or a token has more.
const WORD_BYTES_MAX: usize = 15;
/// Bytes of `YYYY-MM-DD`.
const DAY_BYTES: usize = 10;
/// Printable bytes that names in paths do not have, and attacks do.
const NO_NAME: &[u8] = b" <>\"'`|\\^{}";

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
        check("2024-02-29T10:00:00Z", Some(SegmentType::Timestamp));
        check("4111111111111111", Some(SegmentType::Card));
        check("4111-1111-1111-1111", Some(SegmentType::Card));
        check("4111111111111112", Some(SegmentType::Integer));
        check("DE89370400440532013000", Some(SegmentType::Iban));
        check("GB29 NWBK 6016 1331 9268 19", Some(SegmentType::Iban));
        check("+4915112345678", Some(SegmentType::Phone));
        check("(555) 010-0199", Some(SegmentType::Phone));
        check("192.0.2.7", Some(SegmentType::Ip));
        check("cus_4eC39HqLyjWDar", Some(SegmentType::Token));
        check("V1StGXR8_Z5jdHi6B-myT", Some(SegmentType::Token));
        check("xbEpOSv-jutU0hjGmnHJK", Some(SegmentType::Token));
        check("dtiWNzqsii2JCxQNQhqse", Some(SegmentType::Token));
        check("1' OR '1'='1", Some(SegmentType::Text));
        check("..", Some(SegmentType::Text));
        check("5f2b1c9e", Some(SegmentType::Hex));
        check("507f1f77bcf86cd799439011", Some(SegmentType::ObjectId));
        check("ann@example.com", Some(SegmentType::Email));
        check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", Some(SegmentType::Jwt));
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
            "v1beta1",
            "v2p1alpha3",
            "1.0",
            "admin-2fa",
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
            "queryOrgVpcFlowLogsConfigs",
            "publishXunitXmlFiles",
            "XMLHttpRequestProxyConfig",
            "szczegolyZamowieniaKlienta",
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
        for kind in [
            T::Integer,
            T::Uuid,
            T::Ulid,
            T::ObjectId,
            T::Date,
            T::Timestamp,
            T::Hex,
            T::Ip,
            T::Email,
            T::Phone,
            T::Card,
            T::Iban,
            T::Jwt,
            T::Token,
        ] {
            check(T::example_of(kind.parameter()), Some(kind));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_typed_without_panic(segment in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _kind = SegmentType::of(&segment);
            let _extension = with_extension(&segment);
        }

        #[test]
        fn plain_segments_are_what_the_tests_say(segment in "[a-zA-Z]{0,20}|[0-9]{0,20}|[a-fA-F_-]{0,20}|[0-9a-f-]{0,20}|eyJ[a-z]{0,17}") {
            prop_assert_eq!(SegmentType::of(segment.as_bytes()), SegmentType::by_tests(segment.as_bytes()));
        }
    }
}
