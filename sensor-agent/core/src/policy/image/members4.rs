//! Whether an IPv4 address is blocked at all: a bit for each /24, and 256 bits for each /24 that is not blocked as a whole.

use sensor_ebpf::abi::image::{ANY4_WORDS, Line, PARTIAL_BITS};

use super::family::{Key as _, Key4};

/// Lines of `partial4`.
pub(super) const PARTIAL_LINES: usize = (1_usize << 24).div_ceil(PARTIAL_BITS as usize);

/// /24s with a leaf of their own: those that longer prefixes touch and none covers. `keys` are sorted.
pub(super) fn leaves(keys: &[Key4]) -> usize {
    let mut seen = Shape::default();
    keys.iter().filter(|key| seen.leaf(**key).is_some_and(|(_, is_new)| is_new)).count()
}

/// The bitmaps of sorted entries: `ANY4`, `partial4`, `leaves4`.
pub(super) fn bitmaps(keys: &[Key4]) -> (Box<[u64]>, Vec<Line>, Vec<Line>) {
    let mut any4 = vec![0_u64; ANY4_WORDS].into_boxed_slice();
    let mut partial = vec![[0_u64; 8]; PARTIAL_LINES];
    let mut leaves: Vec<Line> = Vec::with_capacity(self::leaves(keys).div_ceil(2));
    let mut shape = Shape::default();
    let mut count = 0_usize;
    for key in keys {
        let number = key.address() >> 8;
        let Some((bits, is_new)) = shape.leaf(*key) else {
            if key.len() <= 24 {
                fill(&mut any4, number, 1 << (24 - key.len()));
            }
            continue;
        };
        if is_new {
            fill(&mut any4, number, 1);
            let (line, bit) = (number / PARTIAL_BITS, number % PARTIAL_BITS);
            if let Some(word) = word_mut(&mut partial, wide(line), wide(bit / 64)) {
                *word |= 1 << (bit % 64);
            }
            if count.is_multiple_of(2) {
                leaves.push([0; 8]);
            }
            count += 1;
        }
        let half = (count - 1) % 2 * 4;
        if let Some(leaf) = leaves.last_mut().and_then(|line| line.get_mut(half..half + 4)) {
            for (word, bits) in leaf.iter_mut().zip(bits) {
                *word |= bits;
            }
        }
    }
    rank(&mut partial);
    (any4, partial, leaves)
}

/// What the prefixes so far cover.
#[derive(Default)]
struct Shape {
    /// /24s below this are covered as a whole, as far as prefixes from here on can touch them.
    covered: u32,
    /// The last /24 with a leaf, plus one.
    last: u32,
}

impl Shape {
    /// For a prefix longer than /24 that no shorter one covers: its bits in the leaf, and whether the leaf is a new one.
    fn leaf(&mut self, key: Key4) -> Option<([u64; 4], bool)> {
        let number = key.address() >> 8;
        if key.len() <= 24 {
            self.covered = self.covered.max(number.saturating_add(1 << (24 - key.len())));
            return None;
        }
        if number < self.covered {
            return None;
        }
        let is_new = number + 1 != self.last;
        self.last = number + 1;
        let (from, count) = (key.address() & 0xff, 1_u32 << (32 - key.len()));
        let mut bits = [0; 4];
        for (word, base) in bits.iter_mut().zip([0_u32, 64, 128, 192]) {
            if from < base + 64 && base < from + count {
                let low = from.saturating_sub(base);
                let len = (from + count).min(base + 64) - base.max(from);
                *word = (u64::MAX >> (64 - len)) << low;
            }
        }
        Some((bits, is_new))
    }
}

/// Sets `count` bits from `from` on.
fn fill(bits: &mut [u64], from: u32, count: u32) {
    let (mut at, end) = (from, from + count);
    while at < end {
        let len = (64 - at % 64).min(end - at);
        if let Some(word) = bits.get_mut(wide(at / 64)) {
            *word |= (u64::MAX >> (64 - len)) << (at % 64);
        }
        at += len;
    }
}

/// Counts the bits before each word and line.
fn rank(partial: &mut [Line]) {
    let mut before = 0;
    for line in partial {
        let [words @ .., counts, total] = line;
        *total = before;
        let mut in_line = 0;
        for (word, place) in words.iter().zip(0_u32..) {
            if place > 0 {
                *counts |= in_line << (9 * (place - 1));
            }
            in_line += u64::from(word.count_ones());
        }
        before += in_line;
    }
}

fn word_mut(lines: &mut [Line], line: usize, word: usize) -> Option<&mut u64> {
    lines.get_mut(line)?.get_mut(word)
}

fn wide(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
