//! Names by patterns as a shell has them: `*` is any text, `?` one character; case does not count.
//!
//! Time is bounded by the product of both lengths: the last star is remembered, so there is no search in a search.

use std::{convert::Infallible, str::FromStr};

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct Glob(Vec<char>);

impl FromStr for Glob {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_lowercase().chars().collect()))
    }
}

impl Glob {
    /// Whether all of a text fits.
    pub(in crate::commands) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match self.0.get(p) {
                Some('*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(want) if *want == '?' || Some(want) == text.get(t) => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        p = at + 1;
                        t = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        self.0.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        let glob: Glob = pattern.parse().unwrap();
        assert_eq!(glob.matches(text), expected, "{pattern} {text}");
    }

    #[test]
    fn patterns_match_whole_names() {
        check("orders.local", "Orders.Local", true);
        check("orders.local", "orders.local:8080", false);
        check("orders.*", "orders.local:8080", true);
        check("*.shop.example", "a.b.shop.example", true);
        check("*.shop.example", "shop.example", false);
        check("10.0.0.?:80", "10.0.0.7:80", true);
        check("a*b*c", "aXXbYYbc", true);
        check("", "a", false);
        check("**", "", true);
        check("*", "[2001:db8::1]:443", true);
    }

    #[test]
    fn many_stars_take_no_search() {
        let glob: Glob = "a*".repeat(200).parse().unwrap();
        assert!(!glob.matches(&"a".repeat(150)));
        assert!(glob.matches(&"a".repeat(20_000)));
    }
}
