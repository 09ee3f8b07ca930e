//! Durations as people write them: `90s`, `15m`, `24h`, `30d`, `2w`.

/// Reads a duration as nanoseconds; more than zero, at most ten years.
pub(super) fn parse_ns(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_seconds: u64 = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => {
            return Err(format!(
                "`{}` is not a duration; write a number and a unit, such as 90s, 15m, 24h or 30d",
                shown(text)
            ));
        }
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_seconds));
    match seconds {
        Some(seconds) if (1..=10 * 365 * 86_400).contains(&seconds) => Ok(seconds * 1_000_000_000),
        _ => Err(format!("`{}` is out of range; write a duration from 1s to 3650d", shown(text))),
    }
}

/// A user's text as it may stand in a message: printable, at most 80 characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_ns("90s"), Ok(90_000_000_000));
        assert_eq!(parse_ns("24 h"), Ok(86_400_000_000_000));
        assert_eq!(parse_ns("2w"), Ok(1_209_600_000_000_000));
        for bad in
            ["", "s", "10", "0s", "-1s", "1.5h", "9999999999999999999d", "3651d", "1y", "1\0s"]
        {
            assert!(parse_ns(bad).is_err(), "{bad}");
        }
    }
}
