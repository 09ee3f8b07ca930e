//! Names against patterns with `*`: the one search behind host names of documents and configuration, and behind what commands filter by.
//!
//! What a star stands for differs on purpose, see [`Star`]. Time is bounded by the product of both lengths: the last star is
//! remembered, so there is no search in a search.

/// What a star of a pattern stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Star {
    /// One or more, none of them a dot: part of a label of a host name. For what is in force of a host (documents, owners, pins):
    /// `api-*.example.com` is not to reach into the names of others.
    Label,
    /// Any text, none too, and `?` is any one: for what a person looks for among names, ports and all.
    Text,
}

/// Whether all of a text fits a pattern, by bytes or by characters.
#[must_use]
pub fn fits<T: Copy + PartialEq + From<u8>>(pattern: &[T], text: &[T], star: Star) -> bool {
    let is = |found: Option<&T>, byte: u8| found.copied() == Some(T::from(byte));
    // What a star takes at the least, and whether it may take what stands at a place.
    let floor = usize::from(star == Star::Label);
    let may_take = |at: usize| {
        let found = text.get(at);
        found.is_some() && !(star == Star::Label && is(found, b'.'))
    };
    let (mut p, mut t) = (0, 0);
    let mut last: Option<(usize, usize)> = None;
    while t < text.len() {
        let want = pattern.get(p);
        if is(want, b'*') && (floor == 0 || may_take(t)) {
            t += floor;
            last = Some((p, t));
            p += 1;
        } else if !is(want, b'*') && want.is_some() && want == text.get(t)
            || (star == Star::Text && is(want, b'?'))
        {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = last.filter(|(_, taken)| may_take(*taken)) {
            // The last star takes one more.
            last = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    let rest = pattern.get(p..).unwrap_or_default();
    rest.is_empty() || (floor == 0 && rest.iter().all(|c| *c == T::from(b'*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(star: Star, pattern: &str, text: &str, expected: bool) {
        assert_eq!(fits(pattern.as_bytes(), text.as_bytes(), star), expected, "{pattern} {text}");
        let [pattern_chars, text_chars] = [pattern, text].map(|it| it.chars().collect::<Vec<_>>());
        assert_eq!(fits(&pattern_chars, &text_chars, star), expected, "{pattern} {text}");
    }

    #[test]
    fn a_star_in_a_label_is_one_or_more_without_a_dot() {
        for (pattern, text, expected) in [
            ("api-*.example.com", "api-eu.example.com", true),
            ("api-*.example.com", "api-.example.com", false),
            ("api-*.example.com", "api-a.b.example.com", false),
            ("a.example", "a.example", true),
            ("a.example", "a.example.evil", false),
            ("*-*.x", "a-b.x", true),
            ("a*a", "aaaa", true),
            ("a*a", "aa", false),
            ("a*", "a", false),
            ("*", "", false),
            ("a?", "ab", false),
            ("a*c*e", "abcde", true),
            ("ab*ba", "aba", false),
            ("*.a", "b.ab", false),
            ("*", "x", true),
            ("*.a.*", "x.a.y", true),
            ("*.a.*", "x.b.y", false),
        ] {
            check(Star::Label, pattern, text, expected);
        }
    }

    #[test]
    fn a_star_in_a_text_is_anything() {
        for (pattern, text, expected) in [
            ("orders.local", "orders.local", true),
            ("orders.local", "orders.local:8080", false),
            ("orders.*", "orders.local:8080", true),
            ("*.shop.example", "a.b.shop.example", true),
            ("*.shop.example", "shop.example", false),
            ("10.0.0.?:80", "10.0.0.7:80", true),
            ("a*b*c", "aXXbYYbc", true),
            ("ab*ba", "aba", false),
            ("a*", "a", true),
            ("", "a", false),
            ("**", "", true),
            ("", "", true),
            ("*", "[2001:db8::1]:443", true),
        ] {
            check(Star::Text, pattern, text, expected);
        }
        assert!(fits(&['a', '?'], &['a', 'é'], Star::Text));
    }

    #[test]
    fn many_stars_take_no_search() {
        let pattern = "a*".repeat(200).into_bytes();
        for star in [Star::Label, Star::Text] {
            assert!(!fits(&pattern, &[b'a'; 150], star));
            assert!(fits(&pattern, &vec![b'a'; 20_000], star));
        }
    }
}
