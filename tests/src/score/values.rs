//! Values of parameters: what a parameter's name suggests, in a style and from a vocabulary of its own, drawn by Zipf's law.

use std::fmt::Write as _;

use crate::generate::Random;

/// How the values of one parameter look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Integer,
    Uuid,
    Hex,
    Token,
    Date,
    Email,
    Word,
    Slug,
    Numbered,
}

/// What the values of all parameters are drawn by.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Seed: the same seed gives the same traffic.
    pub seed: u64,
    /// Values of each parameter; without it as many as its name and the seed have it, from 8 to 3 000.
    pub pool: Option<usize>,
}

impl Draw {
    /// Values as many as each parameter has them.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { seed, pool: None }
    }
}

/// Where the values of one parameter come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vocabulary {
    style: Style,
    size: usize,
    seed: u64,
}

impl Vocabulary {
    /// One for a parameter's name; the same name has the same values in all of a service.
    pub(super) fn of(name: &str, draw: Draw) -> Self {
        let seed = draw.seed;
        let seed = name
            .bytes()
            .fold(seed ^ 0x9e37, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
        let mut random = Random::new(seed);
        random.next_u64();
        let lower = name.to_lowercase();
        let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
        let style = if has(&["date", "fecha"]) {
            Style::Date
        } else if has(&["email", "calendarid"]) {
            Style::Email
        } else if has(&["hash", "sha", "sid"]) {
            Style::Hex
        } else if lower.ends_with("id") || has(&["number", "nummer", "pedido", "factura"]) {
            [Style::Integer, Style::Integer, Style::Uuid, Style::Token, Style::Slug]
                [random.below(5)]
        } else {
            [Style::Word, Style::Slug, Style::Numbered, Style::Word][random.below(4)]
        };
        let size = [8, 30, 100, 300, 1_000, 3_000][random.below(6)];
        Self { style, size: draw.pool.unwrap_or(size), seed }
    }

    /// One of names that look like words, whatever the parameter is called.
    pub(super) fn of_words(name: &str, draw: Draw) -> Self {
        let of = Self::of(name, draw);
        let mut random = Random::new(of.seed ^ 0x5eed);
        let style = [Style::Word, Style::Slug, Style::Numbered][random.below(3)];
        let size = [300, 1_000, 3_000][random.below(3)];
        Self { style, size: draw.pool.unwrap_or(size), ..of }
    }

    /// Draws a value by Zipf's law with exponent 1.
    pub(super) fn draw(&self, random: &mut Random) -> String {
        self.value(zipf(self.size, random))
    }

    fn value(&self, number: usize) -> String {
        let mut random = Random::new(self.seed.wrapping_add((number as u64).wrapping_mul(7_919)));
        random.next_u64();
        let digits = |random: &mut Random, count: usize, of: &str| -> String {
            let of: Vec<char> = of.chars().collect();
            (0..count).map(|_| of[random.below(of.len())]).collect()
        };
        match self.style {
            Style::Integer => (random.below(1_000_000) + 1).to_string(),
            Style::Uuid => {
                let hex = digits(&mut random, 32, "0123456789abcdef");
                format!(
                    "{}-{}-{}-{}-{}",
                    &hex[..8],
                    &hex[8..12],
                    &hex[12..16],
                    &hex[16..20],
                    &hex[20..]
                )
            }
            Style::Hex => digits(&mut random, 40, "0123456789abcdef"),
            Style::Token => digits(
                &mut random,
                21,
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
            ),
            Style::Date => format!(
                "20{:02}-{:02}-{:02}",
                20 + random.below(6),
                1 + random.below(12),
                1 + random.below(28)
            ),
            Style::Email => format!("{}.{}@example.com", word(&mut random), word(&mut random)),
            Style::Word => word(&mut random),
            Style::Slug => format!("{}-{}", word(&mut random), word(&mut random)),
            Style::Numbered => {
                let mut text = word(&mut random);
                let _written = write!(text, "{}", random.below(100));
                text
            }
        }
    }
}

/// A word that could be a name: syllables, now and then an English word.
fn word(random: &mut Random) -> String {
    if random.chance(50) {
        return random.pick(WORDS).to_owned();
    }
    let syllable = |random: &mut Random| {
        let consonants = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "ch"];
        format!("{}{}", random.pick(&consonants), random.pick(&["a", "e", "i", "o", "u", "an"]))
    };
    (0..2 + random.below(3)).map(|_| syllable(random)).collect()
}

/// A number below `size`, by Zipf's law with exponent 1: the first most often.
pub(super) fn zipf(size: usize, random: &mut Random) -> usize {
    let point = fraction(random) * harmonic(size);
    // The inverse of the logarithm that the sum is near to.
    let rank = ((point - 0.577).exp() - 0.5).max(0.0);
    (0..size).find(|at| real(*at + 1) > rank).unwrap_or(0)
}

fn harmonic(size: usize) -> f64 {
    real(size).ln() + 0.577 + 0.5 / real(size)
}

fn fraction(random: &mut Random) -> f64 {
    real(random.below(1 << 30)) / real(1 << 30)
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn real(number: usize) -> f64 {
    number as f64
}

const WORDS: &[&str] = &[
    "amber", "anchor", "apple", "atlas", "autumn", "badger", "bamboo", "beacon", "birch", "bison",
    "bramble", "breeze", "canyon", "cedar", "cinder", "cobalt", "comet", "copper", "coral",
    "cricket", "dahlia", "delta", "dingo", "dune", "eagle", "ember", "falcon", "fern", "flint",
    "fossil", "garnet", "ginger", "glacier", "granite", "harbor", "hazel", "heron", "indigo",
    "ivory", "jasper", "juniper", "kelp", "kestrel", "lagoon", "lantern", "lilac", "linen",
    "lotus", "maple", "marble", "meadow", "mesa", "nebula", "nectar", "north", "oasis", "olive",
    "onyx", "orchid", "otter", "pebble", "pepper", "pine", "plum", "poppy", "prairie", "quartz",
    "quill", "raven", "reef", "river", "rocket", "rowan", "saffron", "sage", "sierra", "silver",
    "sparrow", "spruce", "summit", "tango", "teal", "thistle", "tiger", "topaz", "tundra", "umber",
    "valley", "velvet", "violet", "walnut", "willow", "winter", "wolf", "zephyr", "main",
    "develop",
];
