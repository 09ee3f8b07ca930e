//! Requests of a description: so many of each operation, in random order, with 5 % noise.

use std::collections::HashMap;

use super::{description::Description, values::Vocabulary};
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
pub fn traffic(description: &Description, calls: usize, seed: u64) -> Vec<Request> {
    let mut random = Random::new(seed);
    let mut vocabularies = HashMap::new();
    let mut requests = Vec::new();
    for (place, operation) in description.operations.iter().enumerate() {
        for _ in 0..calls {
            let mut path = String::new();
            let mut rest = operation.path.as_str();
            while let Some((before, after)) = rest.split_once('{') {
                let Some((name, behind)) = after.split_once('}') else { break };
                path.push_str(before);
                let vocabulary = vocabularies
                    .entry(name.to_owned())
                    .or_insert_with(|| Vocabulary::of(name, seed));
                path.push_str(&vocabulary.draw(&mut random));
                rest = behind;
            }
            path.push_str(rest);
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
