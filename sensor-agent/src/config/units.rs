//! Values with units as people write them: `8MiB`, `30d`, `0.1`; each refuses what it cannot hold and says
//! what to write instead.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes: an integer, or with a unit (`kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A length of time: a number with a unit (`ms`, `s`, `m`, `h`, `d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A share above 0 and at most 1: `1`, `0.01`, or `1%`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// Everything.
    pub const ALL: Self = Self(1.0);

    /// The share as a number in (0, 1].
    #[must_use]
    pub const fn as_f64(self) -> f64 {
        self.0
    }
}

/// What was wrong with a value; the text says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {wanted}")]
pub struct UnitError {
    value: String,
    wanted: &'static str,
}

const BYTES: &str =
    "a number of bytes; write an integer or one with kB, MB, GB, KiB, MiB or GiB, such as 8MiB";
const SPAN: &str = "a length of time; write a number with ms, s, m, h or d, such as 10ms or 30d";
const SHARE: &str = "a share; write a number above 0 and at most 1, such as 0.1 or 10%";

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { value: text.into(), wanted: BYTES };
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "" | "B" => 1,
            "kB" | "KB" | "k" => 1_000,
            "MB" | "M" => 1_000_000,
            "GB" | "G" => 1_000_000_000,
            "KiB" | "Ki" => 1 << 10,
            "MiB" | "Mi" => 1 << 20,
            "GiB" | "Gi" => 1 << 30,
            _ => return Err(wrong()),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(wrong)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { value: text.into(), wanted: SPAN };
        let (number, unit) = split_unit(text);
        let factor_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let ms = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor_ms))
            .ok_or_else(wrong)?;
        // 1 000 years: keeps every sum of times inside u64 nanoseconds away from its end.
        if ms > 1_000 * 365 * 86_400_000 / 10 {
            return Err(wrong());
        }
        Ok(Self(Duration::from_millis(ms)))
    }
}

impl FromStr for Share {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError { value: text.into(), wanted: SHARE };
        let (number, divisor) =
            text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim_end(), 100.0));
        let share = number.parse::<f64>().map_err(|_| wrong())? / divisor;
        if share > 0.0 && share <= 1.0 { Ok(Self(share)) } else { Err(wrong()) }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(out, "{}{unit}", self.0 >> shift);
            }
        }
        write!(out, "{}", self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if ms > 0 && ms.is_multiple_of(factor) {
                return write!(out, "{}{unit}", ms / factor);
            }
        }
        write!(out, "{ms}ms")
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// A scalar of YAML or JSON, as text: `8`, `0.5` and `"8MiB"` are read by the same parser.
struct Scalar;

impl de::Visitor<'_> for Scalar {
    type Value = String;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number, or a text with a unit")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }
}

macro_rules! as_scalar {
    ($($type:ident: $schema:expr,)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                input.deserialize_any(Scalar)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

as_scalar! {
    Bytes: json_schema!({
        "description": BYTES,
        "oneOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+ ?([kKMG]i?B?|B)?$" }],
        "examples": ["8MiB", 16384],
    }),
    Span: json_schema!({
        "description": SPAN, "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|min|h|d)$", "examples": ["10ms", "30d"],
    }),
    Share: json_schema!({
        "description": SHARE,
        "oneOf": [{ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }, { "type": "string", "pattern": "^[0-9.]+ ?%?$" }],
        "examples": [1, 0.1, "10%"],
    }),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_shown_as_written() {
        for text in ["8MiB", "16KiB", "1000", "3GiB"] {
            assert_eq!(text.parse::<Bytes>().map(|value| value.to_string()).as_deref(), Ok(text));
        }
        for text in ["10ms", "90s", "30d", "5m", "1h"] {
            assert_eq!(text.parse::<Span>().map(|value| value.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("10%".parse::<Share>().map(Share::as_f64), Ok(0.1));
    }

    #[test]
    fn wrong_values_say_what_to_write() {
        for text in ["", "MiB", "8 eggs", "-1", "99999999999999GiB", "1.5MiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        for text in ["", "10", "d", "-1s", "99999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["0", "1.01", "NaN", "inf", "101%", ""] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        let error = "10".parse::<Span>().map_err(|error| error.to_string());
        assert_eq!(error, Err(format!("`10` is not {SPAN}")));
    }
}
