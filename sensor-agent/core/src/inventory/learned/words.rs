//! Words that APIs use in paths, whatever they are about: a segment made of them is rather a literal than a value.
//!
//! Collected from the literals of 480 public API descriptions (GitHub, Google, Amazon, Datadog, GitLab and others), words
//! that several of them use; a few words of other languages beside. Only a hint: names of things may be such words too.

use std::{collections::HashSet, sync::OnceLock};

/// Whether a segment is made of words of APIs and nothing else.
pub(super) fn is_api(segment: &str) -> bool {
    let mut any = false;
    let known = !has_value(segment)
        && each_word(segment, |word| {
            any = true;
            is_known(word)
        });
    known && any
}

/// Whether digits are in it as in values: anywhere but as a number between words (`users-28-day`).
fn has_value(segment: &str) -> bool {
    let mut parts = segment.split('-').peekable();
    let mut first = true;
    while let Some(part) = parts.next() {
        let number = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
        let between = !std::mem::take(&mut first) && parts.peek().is_some();
        if part.bytes().any(|byte| byte.is_ascii_digit()) && !(number && between) {
            return true;
        }
    }
    false
}

/// Whether it is made of exactly one word.
pub(super) fn is_one_word(segment: &str) -> bool {
    let mut count = 0;
    each_word(segment, |_| {
        count += 1;
        count <= 1
    });
    count == 1
}

/// Whether its last word is a plural: a collection.
pub(super) fn is_plural(segment: &str) -> bool {
    let mut plural = false;
    each_word(segment, |word| {
        plural = word.len() > 3
            && word.ends_with('s')
            && !["ss", "us", "is"].iter().any(|end| word.ends_with(end));
        true
    });
    plural
}

/// The singular of a word, as names of parameters have it.
pub(super) fn singular(word: &str) -> String {
    match word {
        _ if word.len() <= 3 || word.ends_with("ss") || word.ends_with("us") => word.to_owned(),
        _ if word.ends_with("ies") => format!("{}y", word.trim_end_matches("ies")),
        _ if ["ses", "xes", "ches", "shes", "zes"].iter().any(|end| word.ends_with(end)) => {
            let stem = word.strip_suffix("es").unwrap_or(word);
            // `cases` is a `case`, `addresses` an `address`.
            if stem.ends_with("ss") || !stem.ends_with('s') {
                stem.to_owned()
            } else {
                format!("{stem}e")
            }
        }
        _ => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

/// Calls `f` with the words of a segment in lower case, split at joints and changes of case, until it says false.
pub(super) fn each_word(segment: &str, mut f: impl FnMut(&str) -> bool) -> bool {
    let bytes = segment.as_bytes();
    let mut word = String::with_capacity(segment.len());
    for (at, byte) in bytes.iter().enumerate() {
        if !byte.is_ascii_alphabetic() {
            if !word.is_empty() && !f(&word) {
                return false;
            }
            word.clear();
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let border = byte.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || (before.is_ascii_uppercase()
                        && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase))
            });
        if border && !word.is_empty() {
            if !f(&word) {
                return false;
            }
            word.clear();
        }
        word.push(char::from(byte.to_ascii_lowercase()));
    }
    word.is_empty() || f(&word)
}

fn is_known(word: &str) -> bool {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    let set = SET.get_or_init(|| WORDS.split_ascii_whitespace().collect());
    let stem = word.strip_suffix('s');
    set.contains(word)
        || stem.is_some_and(|stem| {
            set.contains(stem) || stem.strip_suffix('e').is_some_and(|stem| set.contains(stem))
        })
        || word.strip_suffix("ies").is_some_and(|stem| set.contains(&*format!("{stem}y")))
}

const WORDS: &str = include_str!("words.txt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_apis_are_known_in_any_spelling() {
        for text in ["users", "userGroups", "access-tokens", "line_items", "GetUsers", "policies"] {
            assert!(is_api(text), "{text}");
        }
        assert!(is_api("users-28-day") && is_api("users-1-day"));
        for text in
            ["octocat", "v1", "2fa", "用户", "", "-", "user-17", "17-users", "users-2024x-day"]
        {
            assert!(!is_api(text), "{text}");
        }
        assert!(is_one_word("users") && !is_one_word("user-groups") && !is_one_word("1"));
        assert!(is_plural("userGroups") && !is_plural("status") && !is_plural("access"));
    }

    #[test]
    fn singulars_are_words() {
        for (many, one) in [
            ("users", "user"),
            ("policies", "policy"),
            ("addresses", "address"),
            ("cases", "case"),
            ("boxes", "box"),
            ("status", "status"),
            ("data", "data"),
        ] {
            assert_eq!(singular(many), one);
        }
    }
}
