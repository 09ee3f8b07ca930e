//! What is compared with: digits and UUIDs are parameters, everything else is a literal.

use super::traffic::Request;

/// Templates of requests by that rule.
#[must_use]
pub fn naive(requests: &[Request]) -> Vec<String> {
    let is_parameter = |segment: &str| {
        let digits = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
        let uuid = segment.len() == 36
            && segment.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        digits || uuid
    };
    requests
        .iter()
        .map(|request| {
            let segments: Vec<&str> = request
                .path
                .split('/')
                .map(|segment| if is_parameter(segment) { "{}" } else { segment })
                .collect();
            segments.join("/")
        })
        .collect()
}
