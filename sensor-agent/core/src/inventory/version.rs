//! A path template to its version: the first of its leading literal segments that reads as one, and what is before and behind it.
//!
//! `v1`, `v1beta1`, `1.0`, a number of at most four digits, or a day. Behind a parameter nothing is a version. Numbers and days
//! are not compared with each other.

use std::cmp::Ordering;

use super::segment::is_version;

/// Segments that are looked at.
const DEPTH_MAX: usize = 4;
/// Numbers of one version that are compared.
const NUMBERS: usize = 4;

/// A template cut at its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versioned<'a> {
    /// Up to the version, with its slash.
    pub(super) before: &'a str,
    /// The version as written.
    pub(super) version: &'a str,
    /// From the slash behind it; empty when it is the last segment.
    pub(super) behind: &'a str,
}

impl<'a> Versioned<'a> {
    /// Finds the version of a template.
    pub(super) fn of(template: &'a str) -> Option<Self> {
        let mut start = 1;
        for segment in template.strip_prefix('/')?.split('/').take(DEPTH_MAX) {
            if segment.contains('{') {
                return None;
            }
            let end = start + segment.len();
            if Version::parse(segment).is_some() {
                return Some(Self {
                    before: template.get(..start)?,
                    version: template.get(start..end)?,
                    behind: template.get(end..)?,
                });
            }
            start = end + 1;
        }
        None
    }

    /// What the versions of this operation have in common.
    pub(super) fn operation(&self) -> String {
        format!("{}{{version}}{}", self.before, self.behind)
    }
}

/// A version that can be compared with others of its sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version {
    sort: Sort,
    numbers: [u32; NUMBERS],
    stage: Stage,
    stage_number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sort {
    Number,
    Day,
}

/// Before a release, early to late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Alpha,
    Beta,
    Candidate,
    Release,
}

impl Version {
    /// Reads a segment.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let day = |part: &[u8]| {
            matches!(part.split(|it| *it == b'-').collect::<Vec<_>>()[..],
            [year, month, day] if [4, 2, 2] == [year.len(), month.len(), day.len()]
                && [year, month, day].into_iter().all(digits))
        };
        let sort = if day(bytes) {
            Sort::Day
        } else if is_version(bytes) || (digits(bytes) && bytes.len() <= 4) {
            Sort::Number
        } else {
            return None;
        };
        let mut numbers = [0; NUMBERS];
        let stage_at = text
            .char_indices()
            .skip(1)
            .find(|(_, it)| it.is_ascii_alphabetic())
            .map_or(text.len(), |(at, _)| at);
        let (release, rest) = text.split_at_checked(stage_at)?;
        // `v1p2beta1`: the part after `p` is a number of the release.
        let word = rest.to_ascii_lowercase();
        let (stage, name) =
            [(Stage::Alpha, "alpha"), (Stage::Beta, "beta"), (Stage::Candidate, "rc")]
                .into_iter()
                .find(|(_, name)| word.contains(name))
                .unwrap_or((Stage::Release, ""));
        let (patch, behind) = if name.is_empty() {
            (&*word, "")
        } else {
            word.split_once(name).unwrap_or((&word, ""))
        };
        let all = release.split(|it: char| !it.is_ascii_digit()).chain([patch.trim_matches('p')]);
        let found = all.filter(|part| !part.is_empty());
        for (slot, part) in numbers.iter_mut().zip(found) {
            *slot = part.parse().unwrap_or(u32::MAX);
        }
        Some(Self { sort, numbers, stage, stage_number: behind.parse().unwrap_or(0) })
    }

    /// Whether it comes after another one of its sort.
    pub(super) fn is_higher(self, than: Self) -> bool {
        self.sort == than.sort && self.cmp(&than) == Ordering::Greater
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: Option<(&str, &str, &str)>) {
        let found = Versioned::of(template).map(|it| (it.before, it.version, it.behind));
        assert_eq!(found, expected, "{template}");
    }

    #[test]
    fn the_first_literal_segment_that_reads_as_a_version_is_it() {
        check("/v1/users/{user_id}", Some(("/", "v1", "/users/{user_id}")));
        check("/api/v2.1/v3", Some(("/api/", "v2.1", "/v3")));
        check("/2015-03-31/functions", Some(("/", "2015-03-31", "/functions")));
        check("/3/movie/{movie_id}", Some(("/", "3", "/movie/{movie_id}")));
        check("/api/v1", Some(("/api/", "v1", "")));
        check("/users/{user_id}/v2", None);
        check("/users/{user_id}", None);
        check("/a/b/c/d/v1", None);
        check("/", None);
        check("/{*}", None);
        check("/video/vip", None);
        check("/20240101", None);
    }

    #[test]
    fn versions_are_in_order() {
        let ordered = [
            "v0",
            "v1alpha1",
            "v1beta1",
            "v1beta2",
            "v1rc1",
            "v1",
            "1.0.1",
            "V1p1beta1",
            "v1.1",
            "v1.10",
            "v2",
            "3",
            "10",
        ];
        for pair in ordered.windows(2) {
            let [low, high] = [pair[0], pair[1]].map(|it| Version::parse(it).expect(it));
            assert!(high.is_higher(low) && !low.is_higher(high), "{pair:?}");
        }
        let [day, later, number] =
            ["2015-03-31", "2016-01-01", "v99"].map(|it| Version::parse(it).expect(it));
        assert!(later.is_higher(day));
        assert!(!number.is_higher(day) && !day.is_higher(number));
        assert!(!Version::parse("v1").unwrap().is_higher(Version::parse("1.0").unwrap()));
    }
}
