//! RFC 3339 dates and date-times to [`UnixNs`]. A date alone is its first instant in UTC.

use crate::time::UnixNs;

/// Reads `2026-06-30` or `2026-06-30T12:00:00.5+02:00`; `None` for anything else, and outside 1970 to 2262.
#[must_use]
pub fn parse_date(text: &str) -> Option<UnixNs> {
    let text = text.trim();
    if !text.is_ascii() {
        return None;
    }
    let date = text.get(..10)?;
    let mut parts = date.split('-');
    let (year, month, day) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || !(1970..2262).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    if day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * 86_400;
    let (seconds, nanos) = match text.get(10..)? {
        "" => (midnight, 0),
        time => {
            let (seconds, nanos) = time_of_day(time)?;
            (midnight + seconds, nanos)
        }
    };
    let ns = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    u64::try_from(ns).ok().map(UnixNs)
}

/// Reads `T12:00:00[.fraction](Z|+hh:mm|-hh:mm)` as seconds from midnight UTC and nanoseconds.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    let time = text.strip_prefix(['T', 't', ' '])?;
    let clock = time.get(..8)?;
    let mut parts = clock.split(':');
    let (hour, minute, second) =
        (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    // A leap second (60) is read as the second after.
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = time.get(8..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let shown = fraction.get(..digits.min(9))?;
        nanos = shown.parse::<i64>().ok()? * 10_i64.pow(9 - u32::try_from(shown.len()).ok()?);
        rest = fraction.get(digits..)?;
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = match rest.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = rest.get(1..)?.split_once(':')?;
            let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 3600 + minutes * 60)
        }
    };
    Some((hour * 3600 + minute * 60 + second - offset, nanos))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years: i64 = (1970..year).map(|y| if is_leap(y) { 366 } else { 365 }).sum();
    let months: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected_seconds: Option<u64>) {
        assert_eq!(parse_date(text), expected_seconds.map(|s| UnixNs(s * 1_000_000_000)), "{text}");
    }

    #[test]
    fn dates_and_date_times_are_read() {
        check("1970-01-01", Some(0));
        check("2026-06-30", Some(1_782_777_600));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800));
        check("2024-02-29T02:00:00+02:00", Some(1_709_164_800));
        check("2024-02-28T22:00:00.000-02:00", Some(1_709_164_800));
        assert_eq!(parse_date("1970-01-01T00:00:00.5Z"), Some(UnixNs(500_000_000)));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-06-31",
            "2026-06-30T",
            "2026-06-30T25:00:00Z",
            "2026-06-30T10:00Z",
            "2026-06-30T10:00:00",
            "2026-06-30T10:00:00+2:00",
            "30.06.2026",
            "1969-12-31",
            "9999-01-01",
            "2026-06-30é",
            "2026-06-30T10:00:00.Z",
            "+026-06-30",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn every_prefix_of_a_date_time_is_read_or_refused() {
        let text = "2026-06-30T12:34:56.123456789+02:00";
        for len in 0..text.len() {
            assert_eq!(parse_date(&text[..len]).is_some(), len == 10, "{len}");
        }
        assert!(parse_date(text).is_some());
    }
}
