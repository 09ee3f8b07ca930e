//! What a listener answers, whatever it is asked: its catch-all answers, which prove nothing about a path.
//!
//! Two answers are the same when status, media type (of a redirect: where it leads) and length within 2 % are. Per
//! listener [`BUCKETS_MAX`] are counted, each by the distinct paths it was given to; when there are more, the one given to the
//! fewest makes room. An answer is catch-all once [`KEYS_MIN`] paths with [`FIRSTS_MIN`] first segments got it, and that is
//! no small part of what was asked; values of one template count as one path where its first segment is a word. Asked
//! when a state is decided, so that what was proven by such an answer before it was known for one vanishes again.
//! Methods are not told apart: the page that GET gets everywhere proves nothing of POST either.
//! Bodies that real operations share ([`BODY_BYTES_MIN`]) prove, and so does what cannot be compared.

use super::{evidence::Outcome, listener::FewHashes};
use crate::http::{Exchange, Method};

/// An answer, as far as answers are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Hash of status and media type or location.
    key: u32,
    /// Logarithm of the length in steps of 2 %, [`UNSIZED`] where lengths are not compared.
    size: u16,
    sort: Sort,
}

/// What the answer says, and so how much it takes to call it catch-all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    /// A success that is a page for people.
    #[default]
    Page,
    /// Another success.
    Success,
    Refusal,
    Redirect,
}

impl Answer {
    /// Reads an answer to `path`; `None` where it cannot be compared.
    pub(super) fn of(
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
        hash: impl FnOnce(&(u16, &[u8])) -> u32,
    ) -> Option<Self> {
        let status = exchange.status?;
        let response = &exchange.response;
        let media = response.content_type.as_deref();
        let bytes = response.body_bytes.filter(|_| exchange.method != Method::Head);
        let sort = match outcome {
            Outcome::Success if is_page(media) => Sort::Page,
            Outcome::Success => Sort::Success,
            Outcome::Refused => Sort::Refusal,
            Outcome::Redirect => Sort::Redirect,
            _ => return None,
        };
        let sized = match sort {
            // The length of a page that HEAD does not have is not asked for.
            Sort::Page => bytes.is_some() || exchange.method == Method::Head,
            Sort::Success => bytes.is_some_and(|bytes| bytes >= BODY_BYTES_MIN),
            _ => true,
        };
        if !sized {
            return None;
        }
        let location;
        let (size, about) = match sort {
            Sort::Redirect => {
                location = without_path(response.location.as_deref().unwrap_or_default(), path);
                (UNSIZED, location.as_slice())
            }
            _ => (bytes.map_or(UNSIZED, steps), media.unwrap_or_default().as_bytes()),
        };
        Some(Self { key: hash(&(status, about)), size, sort })
    }

    fn is_like(self, other: Self) -> bool {
        let unsized_page = self.size == UNSIZED || other.size == UNSIZED;
        self.key == other.key && (unsized_page || self.size.abs_diff(other.size) <= 1)
    }
}

/// Whether a media type is that of pages for people.
pub(super) fn is_page(media: Option<&str>) -> bool {
    matches!(media, Some("text/html" | "application/xhtml+xml"))
}

/// The few answers that one endpoint proved itself with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Proofs {
    answers: [Answer; PROOFS_MAX],
    count: u8,
    /// An answer that cannot be compared, or more different ones than are kept: no catch-all answers like that.
    pub(super) firm: bool,
}

impl Proofs {
    fn seen(&self) -> &[Answer] {
        self.answers.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Whether an answer would add nothing.
    pub(super) fn has(&self, answer: Option<Answer>) -> bool {
        let known = |answer: Answer| self.seen().iter().any(|seen| seen.is_like(answer));
        self.firm || answer.is_some_and(known)
    }

    /// Adds a success.
    pub(super) fn add(&mut self, answer: Option<Answer>) {
        let Some(answer) = answer else {
            self.firm = true;
            return;
        };
        if self.has(Some(answer)) {
            return;
        }
        match self.answers.get_mut(usize::from(self.count)) {
            Some(slot) => {
                *slot = answer;
                self.count += 1;
            }
            None => self.firm = true,
        }
    }

    /// Adds another's.
    pub(super) fn merge(&mut self, other: &Self) {
        self.firm |= other.firm;
        for answer in other.seen() {
            self.add(Some(*answer));
        }
    }
}

/// What was asked for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The path, or its template where the first segment is a word.
    pub(super) key: u32,
    pub(super) template: u32,
    pub(super) first: u32,
}

/// Answers of one listener.
#[derive(Debug, Default)]
pub(super) struct Answers {
    buckets: Vec<Bucket>,
    /// Distinct paths asked for: all, those with a success, those refused, those redirected.
    asked: [Distinct<KEYS_KEPT>; 4],
}

#[derive(Clone, Debug)]
struct Bucket {
    answer: Answer,
    keys: Keys,
    firsts: Distinct<FIRSTS_MANY>,
    templates: FewHashes<TEMPLATES_MIN>,
}

impl Answers {
    /// Counts an answer.
    pub(super) fn note(&mut self, answer: Option<Answer>, asked: Asked) {
        for slot in [Some(0), answer.map(|answer| class(answer.sort))].into_iter().flatten() {
            if let Some(set) = self.asked.get_mut(slot) {
                set.add(asked.key);
            }
        }
        let Some(answer) = answer else { return };
        let bucket = self.bucket(answer);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.keys.add(asked.key);
            bucket.firsts.add(asked.first);
            bucket.templates.add(asked.template);
        }
    }

    /// Counts an answer to a path that got it before.
    pub(super) fn note_again(&mut self, answer: Answer, key: u32) {
        if let Some(bucket) = self.buckets.iter_mut().find(|it| it.answer == answer) {
            bucket.keys.again(key);
        }
    }

    /// Whether any path might get this answer.
    pub(super) fn is_catch_all(&self, answer: Answer) -> bool {
        self.buckets.iter().any(|it| it.answer.is_like(answer) && self.is_open(it))
    }

    /// Whether an endpoint has a success that is not catch-all.
    pub(super) fn proves(&self, proofs: &Proofs) -> bool {
        proofs.firm || proofs.seen().iter().any(|answer| !self.is_catch_all(*answer))
    }

    fn bucket(&mut self, answer: Answer) -> usize {
        if let Some(at) = self.buckets.iter().position(|it| it.answer == answer) {
            return at;
        }
        let new = Bucket {
            answer,
            keys: Keys::default(),
            firsts: Distinct::default(),
            templates: FewHashes::default(),
        };
        if self.buckets.len() < BUCKETS_MAX {
            self.buckets.push(new);
            return self.buckets.len() - 1;
        }
        let fewest = (0..self.buckets.len())
            .min_by_key(|at| self.buckets.get(*at).map_or(0, |it| it.keys.distinct.estimate()));
        let at = fewest.unwrap_or(0);
        if let Some(slot) = self.buckets.get_mut(at) {
            *slot = new;
        }
        at
    }

    fn is_open(&self, it: &Bucket) -> bool {
        if it.firsts.len() < FIRSTS_MIN || !it.templates.is_full() {
            return false;
        }
        // An error page that names the path is spread over neighbours.
        let like = self.buckets.iter().filter(|other| other.answer.is_like(it.answer));
        let (keys, calls) = like.fold((0_u64, 0_u64), |(keys, calls), other| {
            let estimate = other.keys.distinct.estimate();
            (keys.saturating_add(estimate), calls.saturating_add(other.keys.calls_of(estimate)))
        });
        let is_part = |slot: usize| {
            let of = self.asked.get(slot).map_or(0, Distinct::estimate);
            keys.saturating_mul(PART_OF) >= of
        };
        let many = || {
            keys >= KEYS_MANY && it.firsts.len() >= FIRSTS_MANY && is_part(class(it.answer.sort))
        };
        match it.answer.sort {
            // Operations may well answer alike, but they are called again.
            Sort::Success => many() && calls <= keys.saturating_mul(CALLS_OF_OPERATIONS),
            _ => keys >= KEYS_MIN && (is_part(0) || many()),
        }
    }
}

const fn class(sort: Sort) -> usize {
    match sort {
        Sort::Page | Sort::Success => 1,
        Sort::Refusal => 2,
        Sort::Redirect => 3,
    }
}

/// Distinct keys, and how often some of them were asked, which stand for all: each counts for at most [`CALLS_COUNTED`], or one that is
/// polled would speak for thousands.
#[derive(Clone, Copy, Debug, Default)]
struct Keys {
    distinct: Distinct<KEYS_KEPT>,
    /// Beside those that are kept.
    calls: [u8; KEYS_KEPT],
}

impl Keys {
    fn add(&mut self, key: u32) {
        if self.again(key) {
            return;
        }
        let Some(at) = self.distinct.add(key) else { return };
        if let Some(moved) = self.calls.get_mut(at..) {
            moved.rotate_right(1);
        }
        if let Some(calls) = self.calls.get_mut(at) {
            *calls = 1;
        }
    }

    /// Counts one more; whether it is kept.
    fn again(&mut self, key: u32) -> bool {
        let Some(calls) = self.distinct.place(key).and_then(|at| self.calls.get_mut(at)) else {
            return false;
        };
        *calls = (*calls + 1).min(CALLS_COUNTED);
        true
    }

    /// Calls of so many keys as those that are kept were called.
    fn calls_of(&self, keys: u64) -> u64 {
        let kept = self.distinct.len();
        let calls: u64 = self.calls.iter().take(kept).map(|calls| u64::from(*calls)).sum();
        keys.saturating_mul(calls) / (kept as u64).max(1)
    }
}

/// The `K` lowest hashes, from which the number of distinct ones is known up to `K` and estimated beyond.
#[derive(Clone, Copy, Debug)]
struct Distinct<const K: usize> {
    lowest: [u32; K],
    count: u8,
}

impl<const K: usize> Default for Distinct<K> {
    fn default() -> Self {
        Self { lowest: [0; K], count: 0 }
    }
}

impl<const K: usize> Distinct<K> {
    fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Where a hash is, if it is kept.
    fn place(&self, hash: u32) -> Option<usize> {
        self.lowest.get(..self.len()).unwrap_or_default().binary_search(&hash).ok()
    }

    /// Adds a hash; its place where it is kept and was not before.
    fn add(&mut self, hash: u32) -> Option<usize> {
        let kept = self.lowest.get(..self.len()).unwrap_or_default();
        let Err(at) = kept.binary_search(&hash) else { return None };
        if at >= K {
            return None;
        }
        let end = (self.len() + 1).min(K);
        if let Some(moved) = self.lowest.get_mut(at..end) {
            moved.rotate_right(1);
        }
        if let Some(slot) = self.lowest.get_mut(at) {
            *slot = hash;
        }
        self.count = u8::try_from(end).unwrap_or(u8::MAX);
        Some(at)
    }

    fn estimate(&self) -> u64 {
        match self.lowest.last() {
            Some(highest) if self.len() == K => {
                (K as u64 - 1) * (1 << 32) / (u64::from(*highest) + 1)
            }
            _ => self.len() as u64,
        }
        .max(self.len() as u64)
    }
}

/// Location of a redirect with the path that was asked for cut out of it.
fn without_path(location: &str, path: &[u8]) -> Vec<u8> {
    let location = location.as_bytes();
    let found = (path.len() > 1).then(|| memchr::memmem::find(location, path)).flatten();
    match found {
        Some(at) => {
            let mut out = location.get(..at).unwrap_or_default().to_vec();
            out.push(0);
            out.extend_from_slice(location.get(at + path.len()..).unwrap_or_default());
            out
        }
        None => location.to_vec(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a logarithm: from 0 to 2 300"
)]
fn steps(bytes: u64) -> u16 {
    ((bytes as f64 + 1.0).ln() / 0.02) as u16
}

/// Buckets of one listener; about 280 B each.
const BUCKETS_MAX: usize = 32;
/// Distinct paths that must get an answer for it to be catch-all,
const KEYS_MIN: u64 = 20;
/// and distinct first segments among them,
const FIRSTS_MIN: usize = 5;
/// and templates: what one or two templates answer is theirs.
const TEMPLATES_MIN: usize = 3;
/// Not less than this part (one in ..) of the paths asked for: a scan of a server that knows what it has is answered otherwise.
const PART_OF: u64 = 10;
/// Distinct paths and first segments from which on only the part of the same kind of answers is asked for,
const KEYS_MANY: u64 = 100;
const FIRSTS_MANY: usize = 20;
/// and calls of a path on average, up to which it may be a scan.
const CALLS_OF_OPERATIONS: u64 = 4;
/// Calls of a key that are counted.
const CALLS_COUNTED: u8 = 16;
/// Bodies below this are the same for many operations (`{"ok":true}`); pages never are.
const BODY_BYTES_MIN: u64 = 64;
/// Hashes kept to count paths.
const KEYS_KEPT: usize = 32;
/// Different answers of one endpoint; catch-all ones are fewer.
const PROOFS_MAX: usize = 6;
const UNSIZED: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_is_exact_up_to_its_bound_and_near_beyond() {
        let mut set = Distinct::<32>::default();
        for round in 0..2 {
            for number in 0..32_u32 {
                set.add(number.wrapping_mul(2_654_435_761));
                assert!(round == 1 || set.estimate() == u64::from(number) + 1);
            }
        }
        assert_eq!(set.len(), 32);
        for number in 0..10_000_u32 {
            set.add(number.wrapping_mul(2_654_435_761).rotate_left(7) ^ 0x5555);
        }
        assert!((5_000..20_000).contains(&set.estimate()), "{}", set.estimate());
    }

    #[test]
    fn lengths_within_two_percent_are_alike() {
        for (one, other, alike) in [(1_000, 1_015, true), (1_000, 1_050, false), (80, 81, true)] {
            let of = |bytes| Answer { key: 1, size: steps(bytes), sort: Sort::Page };
            assert_eq!(of(one).is_like(of(other)), alike, "{one} {other}");
        }
    }

    #[test]
    fn a_location_that_has_the_path_is_the_same_for_all_paths() {
        assert_eq!(without_path("/en/a/b", b"/a/b"), without_path("/en/c", b"/c"));
        assert_ne!(without_path("/home", b"/start"), without_path("/end", b"/start"));
    }
}
