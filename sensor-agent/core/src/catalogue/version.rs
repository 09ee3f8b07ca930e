//! Which documents are older versions of others: by an explicit order only, so that a second document never makes zombies.
//!
//! In this order: what the binding file says (`versions`, `retired`), a folder `retired/`, and `info.version` where two documents
//! have the same title, are for the same services under the same prefixes, and share operations: [`VERSION_SHARED_PERCENT_MIN`]
//! of the older's. Two APIs of one title that share less (`/v1/...` and `/v2/...`) are two APIs.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use super::{
    binding::{Age, Binding},
    document::{ParsedDocument, ParsedOperation},
    error::Problem,
    limits::VERSION_SHARED_PERCENT_MIN,
    servers::Server,
};
use crate::{http::Method, shape::Shape};

/// Says how old each document is, in their order; the second value names those that their `info.version` makes older.
pub(super) fn ages(
    documents: &[ParsedDocument],
    bindings: &[Binding],
) -> (Vec<Age>, Vec<(usize, Problem)>) {
    let mut ages = vec![Age(0); documents.len()];
    let mut told = Vec::new();
    let mut groups: BTreeMap<Group<'_>, Vec<(usize, Version<'_>)>> = BTreeMap::new();
    let mut entries: HashMap<&str, Vec<&Binding>> = HashMap::new();
    for binding in bindings {
        entries.entry(&binding.document).or_default().push(binding);
    }
    for (number, (parsed, age)) in documents.iter().zip(&mut ages).enumerate() {
        let document = &parsed.document;
        let own = entries.get(&*document.name).map_or(&[][..], Vec::as_slice);
        if let Some(said) = own.iter().filter_map(|binding| binding.age).max() {
            *age = said;
        } else if document.name.split('/').rev().skip(1).any(|folder| folder == "retired") {
            *age = Age(1);
        } else if let (Some(title), Some(version)) = (&document.title, &document.version)
            && let Some(version) = Version::parse(version)
        {
            let places = own.iter().map(|binding| Place::of(binding)).collect();
            let group = Group { title, servers: servers_of(parsed), places };
            groups.entry(group).or_default().push((number, version));
        }
    }
    for mut group in groups.into_values().filter(|group| group.len() > 1) {
        group.sort_by(|a, b| a.1.cmp(&b.1));
        let have: HashMap<usize, HashSet<Key<'_>>> = group
            .iter()
            .filter_map(|(number, _)| Some((*number, keys_of(documents.get(*number)?))))
            .collect();
        for (at, (number, version)) in group.iter().enumerate() {
            let newer = group.get(at + 1..).unwrap_or_default();
            let newer = newer.iter().rev().filter(|(_, newer)| newer > version);
            let Some(older) = documents.get(*number) else { continue };
            let found = newer
                .clone()
                .find(|(newer, _)| have.get(newer).is_some_and(|newer| shares(older, newer)));
            let Some((newer_number, newer_version)) = found else { continue };
            if let Some(age) = ages.get_mut(*number) {
                *age = Age(newer.count());
            }
            let newer = documents.get(*newer_number).map(|newer| newer.document.name.to_string());
            told.push((
                *number,
                Problem::OlderVersion {
                    version: version.text.to_owned(),
                    newer: newer.unwrap_or_default(),
                    newer_version: newer_version.text.to_owned(),
                },
            ));
        }
    }
    told.sort_by_key(|(number, _)| *number);
    (ages, told)
}

/// What versions of one document have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group<'d> {
    title: &'d str,
    servers: BTreeSet<&'d Server>,
    places: BTreeSet<Place<'d>>,
}

/// Where an entry of the binding file puts a document.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'d> {
    scopes: Vec<String>,
    strip: &'d str,
    add: &'d str,
}

impl<'d> Place<'d> {
    fn of(binding: &'d Binding) -> Self {
        let scopes = binding.scopes.iter().map(super::binding::Scope::text).collect();
        Self { scopes, strip: &binding.strip, add: &binding.add }
    }
}

fn servers_of(document: &ParsedDocument) -> BTreeSet<&Server> {
    document.operations.iter().flat_map(|operation| operation.servers.iter()).collect()
}

/// Whether enough of the older's operations are in the newer one too; those that every service has show nothing.
fn shares(older: &ParsedDocument, newer: &HashSet<Key<'_>>) -> bool {
    let telling = |operation: &&ParsedOperation| {
        let path = operation.operation.path.trim_end_matches('/');
        !path.rsplit('/').next().is_some_and(|last| last.is_empty() || COMMON.contains(&last))
    };
    let own: Vec<&ParsedOperation> = older.operations.iter().filter(telling).collect();
    let shared = own.iter().filter(|operation| newer.contains(&key(operation))).count();
    let all = own.len();
    shared > 0 && shared.saturating_mul(100) >= all.saturating_mul(VERSION_SHARED_PERCENT_MIN)
}

/// Last segments of operations that services have whatever they are for.
const COMMON: &[&str] = &[
    "alive",
    "docs",
    "health",
    "healthcheck",
    "healthz",
    "info",
    "live",
    "livez",
    "metrics",
    "openapi.json",
    "ping",
    "ready",
    "readyz",
    "status",
    "version",
];

/// An operation without the names of its parameters.
#[derive(PartialEq, Eq, Hash)]
struct Key<'d>(&'d Method, Shape<'d>);

fn key(parsed: &ParsedOperation) -> Key<'_> {
    Key(&parsed.operation.method, Shape(&parsed.operation.path))
}

fn keys_of(document: &ParsedDocument) -> HashSet<Key<'_>> {
    document.operations.iter().map(key).collect()
}

/// A version that has an order: `2`, `v1.4.0`, `1.4.0-rc.1`, `2024-06-30`. Others have none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version<'d> {
    text: &'d str,
    numbers: Vec<u64>,
    /// `-rc.1` and the like: before the version without.
    pre: Option<&'d str>,
}

impl<'d> Version<'d> {
    fn parse(text: &'d str) -> Option<Self> {
        let core = text.trim().trim_start_matches(['v', 'V']);
        let core = core.split('+').next().unwrap_or_default();
        let letters = core.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-');
        let (numbers, pre) = match letters {
            None => (core, None),
            // The dash before the letters.
            Some(at) => {
                let dash = core.get(..at)?.rfind('-')?;
                (core.get(..dash)?, core.get(dash + 1..))
            }
        };
        let mut numbers =
            numbers.split(['.', '-']).map(|it| it.parse().ok()).collect::<Option<Vec<u64>>>()?;
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self { text, numbers, pre })
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let pre = match (self.pre, other.pre) {
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (a, b) => a.cmp(&b),
        };
        self.numbers.cmp(&other.numbers).then(pre)
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers() {
        let order =
            ["1", "v1.2", "1.10.0", "2.0.0-beta.1", "2.0.0-rc.1", "2", "2024-01-31", "2024-02-01"];
        for pair in order.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|text| Version::parse(text).expect(text));
            assert!(a < b, "{pair:?}");
        }
        let same = |a, b| Version::parse(a).unwrap().cmp(&Version::parse(b).unwrap());
        assert_eq!(same("1.0.0", "v1+build.7"), Ordering::Equal);
        for none in ["", "latest", "v", "one.2", "1.x", "3rc", "99999999999999999999999"] {
            assert_eq!(Version::parse(none), None, "{none}");
        }
    }
}
