//! Values that must not be seen anywhere: card numbers, IBANs, e-mail addresses, JWTs and phone numbers, from a seed; and a
//! search for many of them at once.

use std::collections::HashSet;

use crate::generate::Random;

/// Bytes of a value by which it is found.
const CORE: usize = 14;

/// Values of the five classes, `each` of each.
#[derive(Debug)]
pub struct Secrets {
    /// The values.
    pub values: Vec<String>,
    cores: HashSet<Vec<u8>>,
}

impl Secrets {
    /// Makes them.
    #[must_use]
    pub fn new(each: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut values = Vec::new();
        for number in 0..each {
            values.push(card(&mut random, number % 2 == 0));
            values.push(iban(&mut random));
            values.push(format!(
                "{}.{}@example.com",
                letters(&mut random, 9),
                letters(&mut random, 9)
            ));
            values.push(jwt(&mut random));
            values.push(format!("+49151{}", digits(&mut random, 10)));
        }
        let cores = values.iter().map(|value| core(value).to_vec()).collect();
        Self { values, cores }
    }

    /// Paths with each value once, in different places.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let path = |(number, value): (usize, &String)| match number % 4 {
            0 => format!("/v1/things/{value}"),
            1 => format!("/v1/things/{value}/parts"),
            2 => format!("/{value}"),
            _ => format!("/v1/search/{}/of?key={value}", value.replace('@', "%40")),
        };
        self.values.iter().enumerate().map(|(number, value)| path((number / 5, value))).collect()
    }

    /// The values that are somewhere in these bytes, by their beginnings.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let found: HashSet<&[u8]> =
            bytes.windows(CORE).filter(|window| self.cores.contains(*window)).collect();
        found.into_iter().map(|core| String::from_utf8_lossy(core).into_owned()).collect()
    }
}

/// What is looked for: the sign of a phone number and the header that all JWTs share are left out.
fn core(value: &str) -> &[u8] {
    let rest = value.trim_start_matches('+');
    let rest = rest.split_once('.').filter(|(head, _)| *head == JWT_HEAD).map_or(rest, |it| it.1);
    &rest.as_bytes()[..CORE]
}

const JWT_HEAD: &str = "eyJhbGciOiJIUzI1NiJ9";

fn card(random: &mut Random, grouped: bool) -> String {
    let body = format!("4{}", digits(random, 14));
    let sum: u32 = body
        .chars()
        .enumerate()
        .map(|(place, digit)| {
            let digit = digit.to_digit(10).unwrap_or(0);
            if place % 2 == 0 { digit * 2 % 10 + digit * 2 / 10 } else { digit }
        })
        .sum();
    let all = format!("{body}{}", (10 - sum % 10) % 10);
    if !grouped {
        return all;
    }
    format!("{}-{}-{}-{}", &all[..4], &all[4..8], &all[8..12], &all[12..])
}

fn iban(random: &mut Random) -> String {
    let account = digits(random, 18);
    // DE00 behind the account, letters as numbers: D is 13, E is 14.
    let rest = format!("{account}131400")
        .bytes()
        .fold(0_u64, |rest, digit| (rest * 10 + u64::from(digit - b'0')) % 97);
    format!("DE{:02}{account}", 98 - rest)
}

fn jwt(random: &mut Random) -> String {
    // `{"` begins every claim set: `eyJ`.
    format!("{JWT_HEAD}.eyJ{}.{}", letters(random, 40), letters(random, 43))
}

fn digits(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + u8::try_from(random.below(10)).unwrap_or(0))).collect()
}

fn letters(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_beginning_and_nothing_else_is() {
        let secrets = Secrets::new(20, 1);
        assert_eq!((secrets.values.len(), secrets.cores.len()), (100, 100));
        for path in secrets.paths() {
            assert_eq!(secrets.found_in(path.as_bytes()).len(), 1, "{path}");
        }
        assert!(
            secrets
                .found_in(b"/v1/things/{thing_id} 4000-0000-0000 eyJhbGciOiJIUzI1NiJ9")
                .is_empty()
        );
    }
}
