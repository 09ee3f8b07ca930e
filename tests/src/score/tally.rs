//! Precision, recall and what was swallowed, of the templates that requests got.

use std::collections::{BTreeMap, BTreeSet};

use super::{description::Description, traffic::Request};

/// Counts of one run; ratios are methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    operations: usize,
    recovered: usize,
    swallowed: usize,
    templates: usize,
    requests: usize,
    right: usize,
}

impl Tally {
    /// Compares the template of each request with its operation's.
    #[must_use]
    pub fn of(description: &Description, requests: &[Request], templates: &[String]) -> Self {
        let mut given: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); description.operations.len()];
        let mut owners: BTreeMap<(&str, &str), BTreeSet<usize>> = BTreeMap::new();
        let mut tally = Self::default();
        for (request, template) in requests.iter().zip(templates) {
            let Some(place) = request.operation else { continue };
            tally.requests += 1;
            tally.right += usize::from(*template == description.operations[place].shape());
            given[place].insert(template);
            owners.entry((&request.method, template)).or_default().insert(place);
        }
        tally.templates = owners.len();
        for (operation, given) in description.operations.iter().zip(&given) {
            if given.is_empty() {
                continue;
            }
            let shape = operation.shape();
            let shared =
                given.iter().any(|template| owners[&(&*operation.method, *template)].len() > 1);
            let exact = given.len() == 1 && given.contains(&*shape);
            let swallowed = shared || given.iter().any(|template| swallows(template, &shape));
            tally.operations += 1;
            tally.recovered += usize::from(exact && !shared);
            tally.swallowed += usize::from(swallowed);
        }
        tally
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.recovered += other.recovered;
        self.swallowed += other.swallowed;
        self.templates += other.templates;
        self.requests += other.requests;
        self.right += other.right;
    }

    /// Operations that were asked for.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Recovered operations by templates given.
    #[must_use]
    pub fn precision(&self) -> f64 {
        ratio(self.recovered, self.templates)
    }

    /// Recovered operations by operations.
    #[must_use]
    pub fn recall(&self) -> f64 {
        ratio(self.recovered, self.operations)
    }

    /// Harmonic mean of the two.
    #[must_use]
    pub fn f1(&self) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
    }

    /// Share of requests that got their operation's template.
    #[must_use]
    pub fn right(&self) -> f64 {
        ratio(self.right, self.requests)
    }

    /// Share of operations that were swallowed.
    #[must_use]
    pub fn swallowed(&self) -> f64 {
        ratio(self.swallowed, self.operations)
    }
}

/// Operations with a template that is not theirs: the method, their own, and what they got.
#[must_use]
pub fn mistakes(
    description: &Description,
    requests: &[Request],
    templates: &[String],
) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut out: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (request, template) in requests.iter().zip(templates) {
        let Some(operation) = request.operation.map(|place| &description.operations[place]) else {
            continue;
        };
        if *template != operation.shape() {
            let key = (operation.method.clone(), operation.path.clone());
            out.entry(key).or_default().insert(template.clone());
        }
    }
    out
}

/// Whether a literal of the shape is a parameter of the template.
fn swallows(template: &str, shape: &str) -> bool {
    template.split('/').count() == shape.split('/').count()
        && template
            .split('/')
            .zip(shape.split('/'))
            .any(|(given, wanted)| given.contains("{}") && !wanted.contains("{}"))
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
