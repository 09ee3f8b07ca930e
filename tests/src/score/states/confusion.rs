//! What states must be and what they are, counted.

use std::collections::BTreeMap;

/// Counts by state: expected, given, and both.
#[derive(Clone, Debug, Default)]
pub struct Confusion {
    counts: BTreeMap<(String, String), usize>,
}

/// Precision and recall of one state.
#[derive(Clone, Debug)]
pub struct Share {
    /// The state.
    pub state: String,
    /// Operations that must have it.
    pub expected: usize,
    /// Of those that have it, those that must.
    pub precision: f64,
    /// Of those that must have it, those that have.
    pub recall: f64,
}

impl Confusion {
    /// Counts one operation.
    pub fn note(&mut self, expected: &str, given: &str) {
        *self.counts.entry((expected.to_owned(), given.to_owned())).or_default() += 1;
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (pair, count) in &other.counts {
            *self.counts.entry(pair.clone()).or_default() += count;
        }
    }

    /// Each state's precision and recall, by name.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        let mut states: Vec<&str> =
            self.counts.keys().flat_map(|(one, other)| [&**one, &**other]).collect();
        states.sort_unstable();
        states.dedup();
        let sum = |test: &dyn Fn(&str, &str) -> bool| -> usize {
            let counted = self.counts.iter();
            counted.filter(|((e, g), _)| test(e, g)).map(|(_, count)| count).sum()
        };
        let shares = states.into_iter().map(|state| {
            let right = sum(&|e, g| e == state && g == state);
            let expected = sum(&|e, _| e == state);
            let given = sum(&|_, g| g == state);
            Share {
                state: state.to_owned(),
                expected,
                precision: ratio(right, given),
                recall: ratio(right, expected),
            }
        });
        shares.collect()
    }

    /// What is taken for what, most often first.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(&str, &str, usize)> {
        let wrong = self.counts.iter().filter(|((expected, given), _)| expected != given);
        let mut all: Vec<_> = wrong.map(|((e, g), count)| (&**e, &**g, *count)).collect();
        all.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
        all
    }
}

/// One where nothing was asked.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}
