//! Dates of HTTP fields to [`UnixNs`]: HTTP-date in its three forms (RFC 9110 section 5.6.7), `@seconds` (RFC 9651), RFC 3339.

use crate::{catalogue::parse_rfc3339, time::UnixNs};

/// Reads a date; `None` for anything else, and outside 1970 to 2262.
pub(super) fn parse(text: &str) -> Option<UnixNs> {
    let text = text.trim().trim_matches('"');
    if let Some(seconds) = text.strip_prefix('@') {
        return of_seconds(seconds.parse().ok()?);
    }
    parse_rfc3339(text).or_else(|| http_date(text))
}

fn http_date(text: &str) -> Option<UnixNs> {
    let parts: Vec<&str> =
        text.split([' ', ',', '-']).filter(|part| !part.is_empty()).take(8).collect();
    // `Sun, 06 Nov 1994 08:49:37 GMT` and `Sunday, 06-Nov-94 08:49:37 GMT`; `Sun Nov  6 08:49:37 1994`.
    let ([_, day, month, year, time, "GMT" | "UTC"] | [_, month, day, time, year]) =
        *parts.as_slice()
    else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? + 1;
    let year: u32 = match (year.len(), year.parse().ok()?) {
        (2, year @ 70..) => 1_900 + year,
        (2, year) => 2_000 + year,
        (4, year) => year,
        _ => return None,
    };
    let day: u32 = day.parse().ok()?;
    // The calendar is that of RFC 3339, which refuses what there is not.
    parse_rfc3339(&format!("{year:04}-{month:02}-{day:02}T{time}Z"))
}

fn of_seconds(seconds: u64) -> Option<UnixNs> {
    seconds.checked_mul(1_000_000_000).map(UnixNs).filter(|time| time.0 < i64::MAX as u64)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_every_form_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "@784111777",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(parse(text), Some(UnixNs(784_111_777_000_000_000)), "{text}");
        }
        for text in [
            "",
            "true",
            "@",
            "@-1",
            "@99999999999999999999",
            "Sun, 31 Feb 2026 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "6 é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
