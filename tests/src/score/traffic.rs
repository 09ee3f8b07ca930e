//! Requests of a description: so many of each operation, in random order, with 5 % noise.

use std::collections::HashMap;

use super::{
    description::Description,
    values::{Draw, Vocabulary, zipf},
};
use crate::generate::Random;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Request method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Status of the response.
    pub status: u16,
    /// Place of its operation; none for noise.
    pub operation: Option<usize>,
}

/// Draws `calls` requests of each operation.
#[must_use]
pub fn traffic(description: &Description, calls: usize, draw: Draw) -> Vec<Request> {
    let mut random = Random::new(draw.seed);
    let mut vocabularies = HashMap::new();
    let mut requests = Vec::new();
    for (place, operation) in description.operations.iter().enumerate() {
        for _ in 0..calls {
            let path = filled(&operation.path, &mut random, |name| {
                *vocabularies.entry(name.to_owned()).or_insert_with(|| Vocabulary::of(name, draw))
            });
            let status = match random.below(100) {
                0..=2 => 404,
                3 => 500,
                4 => 401,
                _ => 200,
            };
            requests.push(Request {
                method: operation.method.clone(),
                path,
                status,
                operation: Some(place),
            });
        }
    }
    for _ in 0..requests.len() / 20 {
        let noise = noise(&requests, &mut random);
        requests.push(noise);
    }
    for place in (1..requests.len()).rev() {
        requests.swap(place, random.below(place + 1));
    }
    requests
}

/// Draws `count` requests: operations by Zipf's law in a random order of popularity, and so the values of their parameters;
/// owners, repositories and branches are words. No noise.
#[must_use]
pub fn popular(description: &Description, count: usize, draw: Draw) -> Vec<Request> {
    let mut random = Random::new(draw.seed);
    let mut order: Vec<usize> = (0..description.operations.len()).collect();
    for place in (1..order.len()).rev() {
        order.swap(place, random.below(place + 1));
    }
    let mut vocabularies = HashMap::new();
    let mut one = || {
        let place = order[zipf(order.len(), &mut random)];
        let operation = &description.operations[place];
        let path = filled(&operation.path, &mut random, |name| {
            *vocabularies.entry(name.to_owned()).or_insert_with(|| {
                let words = WORD_LIKE.iter().any(|part| name.contains(part));
                if words { Vocabulary::of_words(name, draw) } else { Vocabulary::of(name, draw) }
            })
        });
        let method = operation.method.clone();
        Request { method, path, status: 200, operation: Some(place) }
    };
    (0..count).map(|_| one()).collect()
}

/// A path with a value for each parameter.
fn filled(
    template: &str,
    random: &mut Random,
    mut vocabulary: impl FnMut(&str) -> Vocabulary,
) -> String {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else { break };
        path.push_str(before);
        path.push_str(&vocabulary(name).draw(random));
        rest = behind;
    }
    path + rest
}

fn noise(requests: &[Request], random: &mut Random) -> Request {
    let path = if random.chance(50) {
        format!("{}/{}", random.pick(SCANS), random.below(1_000))
    } else {
        let attacked = &requests[random.below(requests.len())].path;
        let mut segments: Vec<&str> = attacked.split('/').collect();
        let place = 1 + random.below(segments.len() - 1);
        segments[place] = random.pick(ATTACKS);
        segments.join("/")
    };
    let status = [404, 404, 400, 403][random.below(4)];
    Request { method: "GET".to_owned(), path, status, operation: None }
}

/// Parameters whose values are words.
const WORD_LIKE: &[&str] =
    &["owner", "repo", "org", "branch", "user", "ref", "team", "environment"];

const SCANS: &[&str] = &[
    "/.env",
    "/wp-login.php",
    "/admin/config.php",
    "/.git/config",
    "/phpmyadmin",
    "/cgi-bin/test.cgi",
    "/vendor/phpunit",
    "/backup.zip",
];

const ATTACKS: &[&str] = &[
    "..%2f..%2fetc%2fpasswd",
    "1%27%20OR%20%271%27=%271",
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "${jndi:ldap:%2F%2Fx}",
    "admin%27--",
];
