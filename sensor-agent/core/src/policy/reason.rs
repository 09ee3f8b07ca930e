//! A pattern that the reason of every rule must match, such as a change number.
//!
//! Linear in the text (regex-lite has no backtracking); bounds: [`PATTERN_MAX`] and the size of the compiled pattern.

use regex_lite::{Regex, RegexBuilder};

use super::duration::shown;

/// Longest pattern, bytes.
const PATTERN_MAX: usize = 256;
/// Largest compiled pattern, bytes.
const COMPILED_MAX: usize = 64 * 1024;

/// A regular expression with who demands it; a reason matches when it contains a match (write `^` and `$` for the whole of it).
#[derive(Clone, Debug)]
pub struct ReasonPattern {
    regex: Regex,
    source: Box<str>,
}

impl ReasonPattern {
    /// Reads a pattern; `source` names who demands it.
    pub fn new(pattern: &str, source: &str) -> Result<Self, String> {
        if pattern.is_empty() || pattern.len() > PATTERN_MAX {
            return Err(format!(
                "write a pattern of 1 to {PATTERN_MAX} bytes, such as CHG[0-9]{{7}}"
            ));
        }
        let regex = RegexBuilder::new(pattern).size_limit(COMPILED_MAX).build();
        let regex = regex.map_err(|error| {
            format!("`{}` is not a pattern: {}", shown(pattern), shown(&error.to_string()))
        })?;
        Ok(Self { regex, source: source.into() })
    }

    /// What is wrong with a reason, if anything.
    pub fn refusal(&self, reason: Option<&str>) -> Option<String> {
        let (pattern, source) = (self.regex.as_str(), &self.source);
        match reason {
            Some(reason) if self.regex.is_match(reason) => None,
            Some(reason) => Some(format!(
                "`{}` does not match `{pattern}`, which {source} demands of every reason",
                shown(reason)
            )),
            None => Some(format!(
                "no reason; write one that matches `{pattern}`, which {source} demands"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_matches_or_the_refusal_says_what_is_wanted() {
        let pattern = ReasonPattern::new("CHG[0-9]{7}", "the configuration").unwrap();
        assert_eq!(pattern.refusal(Some("CHG0012345: scanners")), None);
        assert!(pattern.refusal(None).unwrap().contains("no reason; write one that matches `CHG"));
        assert!(pattern.refusal(Some("CHG12")).unwrap().starts_with("`CHG12` does not match"));
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        for bad in ["", "(", "a{1000}{1000}{1000}", &"a".repeat(300)] {
            assert!(ReasonPattern::new(bad, "x").is_err(), "{bad}");
        }
    }
}
