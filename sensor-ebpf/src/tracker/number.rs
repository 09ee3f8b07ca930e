//! Decimal and hexadecimal numbers out of words of eight bytes, without a loop over the bytes.
//!
//! Bounds: 16 decimal digits, 8 hexadecimal digits behind leading zeros; more is `None`.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Index of the lowest byte whose high bit is set; 8 when none is. `marks` has only high bits.
#[inline(always)]
pub(super) fn first_mark(marks: u64) -> u32 {
    if marks == 0 {
        return 8;
    }
    let lowest = marks & marks.wrapping_neg();
    ((((lowest - 1) & ONES).wrapping_mul(ONES) >> 56) as u32).wrapping_sub(1)
}

/// Digits at the start of `first`, going on in `second`: value and how many. `None` for 0 or more than 16 digits.
#[inline(always)]
pub fn parse_decimal(first: u64, second: u64) -> Option<(u64, u32)> {
    let (high, high_len) = eight_decimal(first);
    if high_len == 0 {
        return None;
    }
    if high_len < 8 {
        return Some((high, high_len));
    }
    let (low, low_len) = eight_decimal(second);
    if low_len == 8 {
        // 16 digits or more: no body is that long.
        return None;
    }
    Some((high * power_of_ten(low_len) + low, 8 + low_len))
}

#[inline(always)]
fn power_of_ten(exponent: u32) -> u64 {
    let mut power = 1;
    if exponent & 1 != 0 {
        power *= 10;
    }
    if exponent & 2 != 0 {
        power *= 100;
    }
    if exponent & 4 != 0 {
        power *= 10_000;
    }
    power
}

/// Value and number of the leading decimal digits of a word.
#[inline(always)]
pub(super) fn eight_decimal(word: u64) -> (u64, u32) {
    let digits = word ^ (ONES * u64::from(b'0'));
    let others = (((digits & !HIGHS) + ONES * 0x76) | digits) & HIGHS;
    let len = first_mark(others);
    if len == 0 {
        return (0, 0);
    }
    // The last digit goes to the highest byte; the bytes below the first are zero.
    let digits = digits << (((8 - len) & 7) * 8);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    ((low.wrapping_add(high) >> 32) & 0xffff_ffff, len)
}

/// Hexadecimal digits at the start of `first`, going on in `second`: value and how many.
/// `None` without a digit, with more than 15, or for a value over 32 bits.
#[inline(always)]
pub fn parse_hex(first: u64, second: u64) -> Option<(u64, u32)> {
    let (high, high_len) = eight_hex(first);
    if high_len == 0 {
        return None;
    }
    if high_len < 8 {
        return Some((high, high_len));
    }
    let (low, low_len) = eight_hex(second);
    if low_len == 8 || (high != 0 && low_len != 0 && high >> (32 - low_len * 4) != 0) {
        return None;
    }
    Some(((high << (low_len * 4)) | low, 8 + low_len))
}

#[inline(always)]
fn eight_hex(word: u64) -> (u64, u32) {
    let digits = word ^ (ONES * u64::from(b'0'));
    let not_decimal = (((digits & !HIGHS) + ONES * 0x76) | digits) & HIGHS;
    // Letters: lower case, less 'a', below 6.
    let lower = (word & !HIGHS) | (ONES * 0x20);
    let at_least_a = (lower + ONES * u64::from(0x80 - b'a')) & HIGHS;
    let above_f = (lower + ONES * u64::from(0x7f - b'f')) & HIGHS;
    // Bytes of 0x40 to 0x5f only gain bit 5; 0x41 to 0x46 and 0x61 to 0x66 are letters, and so nothing else is.
    let letters = at_least_a & !above_f & !word & HIGHS & ((word << 1) & HIGHS);
    let others = not_decimal & !letters;
    let len = first_mark(others);
    if len == 0 {
        return (0, 0);
    }
    let letter_ones = letters >> 7;
    let nibbles = (word & (ONES * 0xf)) + letter_ones * 9;
    let nibbles = nibbles << (((8 - len) & 7) * 8);
    let swapped = nibbles.swap_bytes();
    let bytes = (swapped | (swapped >> 4)) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | (bytes >> 8)) & 0x0000_ffff_0000_ffff;
    ((pairs | (pairs >> 16)) & 0xffff_ffff, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::String};

    fn words(text: &str) -> (u64, u64) {
        let mut bytes = [b'\r'; 16];
        let len = text.len().min(16);
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        (
            u64::from_le_bytes(bytes[..8].try_into().unwrap()),
            u64::from_le_bytes(bytes[8..].try_into().unwrap()),
        )
    }

    #[test]
    fn decimal_numbers_are_read_as_the_standard_library_reads_them() {
        let mut number = 1u64;
        for digits in 1..16 {
            for value in [number, number * 9 + 3, number * 10 - 1] {
                let text = format!("{value}");
                let (first, second) = words(&text);
                if text.len() < 16 {
                    assert_eq!(
                        parse_decimal(first, second),
                        Some((value, u32::try_from(text.len()).unwrap())),
                        "{digits} {text}"
                    );
                }
            }
            number *= 10;
        }
        for text in ["", " 1", "-1", "x", "1234567890123456", "12345678901234567"] {
            let (first, second) = words(text);
            assert_eq!(parse_decimal(first, second), None, "{text}");
        }
        let (first, second) = words("12a4");
        assert_eq!(parse_decimal(first, second), Some((12, 2)));
    }

    #[test]
    fn hexadecimal_numbers_are_read_as_the_standard_library_reads_them() {
        for value in [0u64, 1, 9, 10, 0xf, 0x10, 0xab, 0xABC, 0x1fff, 0xdead_beef, 0xffff_ffff] {
            for text in [
                format!("{value:x}"),
                format!("{value:X}"),
                format!("{value:012x}"),
                format!("000{value:x}"),
            ] {
                let (first, second) = words(&text);
                assert_eq!(
                    parse_hex(first, second),
                    Some((value, u32::try_from(text.len()).unwrap())),
                    "{text}"
                );
            }
        }
        for text in ["", "g", "100000000", "fffffffff", "@1", "`1", "\u{7f}"] {
            let (first, second) = words(text);
            assert_eq!(parse_hex(first, second), None, "{text}");
        }
    }

    #[test]
    fn every_single_byte_is_classified() {
        for byte in 0..=255u8 {
            let word = u64::from(byte) | (u64::from(b'\r') << 8);
            let text = String::from(char::from(byte));
            let decimal = text.parse::<u64>().ok().filter(|_| byte.is_ascii_digit());
            assert_eq!(parse_decimal(word, 0).map(|(value, _)| value), decimal, "{byte}");
            let hex = byte.is_ascii_hexdigit().then(|| u64::from_str_radix(&text, 16).unwrap());
            assert_eq!(parse_hex(word, 0).map(|(value, _)| value), hex, "{byte}");
        }
    }
}
