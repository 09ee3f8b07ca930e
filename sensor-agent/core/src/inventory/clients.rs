//! Distinct clients: exact up to [`EXACT_MAX`], then a HyperLogLog (Flajolet and others, 2007) of 512 registers,
//! standard error 4.6 %.
//!
//! Clients are given as 64-bit keyed hashes, so nobody can choose addresses that fool the estimate. Mergeable.

use serde::{Deserialize, Serialize};

/// Up to this many are counted exactly.
pub(super) const EXACT_MAX: usize = 16;

const REGISTERS: usize = 512;
const INDEX_BITS: u32 = REGISTERS.trailing_zeros();

/// Number of distinct clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientSketch {
    /// Their hashes.
    Exact(Vec<u64>),
    /// Registers.
    Registers(Box<[u8]>),
}

impl Default for ClientSketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl ClientSketch {
    /// Adds a client; true when it is certainly a new one. Beyond the exact part it grows only when it may.
    pub(super) fn add(&mut self, hash: u64, may_grow: bool) -> Added {
        match self {
            Self::Exact(hashes) if hashes.contains(&hash) => Added::Known,
            Self::Exact(hashes) if hashes.len() < EXACT_MAX => {
                if hashes.len() == hashes.capacity() {
                    hashes.reserve_exact(hashes.len().clamp(1, 8));
                }
                hashes.push(hash);
                Added::New
            }
            Self::Exact(_) if !may_grow => Added::Refused,
            Self::Exact(hashes) => {
                let mut registers = vec![0_u8; REGISTERS].into_boxed_slice();
                for known in hashes.iter() {
                    set(&mut registers, *known);
                }
                set(&mut registers, hash);
                *self = Self::Registers(registers);
                Added::New
            }
            Self::Registers(registers) => {
                if set(registers, hash) {
                    Added::New
                } else {
                    Added::Known
                }
            }
        }
    }

    /// Adds all of another.
    pub(super) fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(hashes) => {
                for hash in hashes {
                    self.add(*hash, true);
                }
            }
            Self::Registers(theirs) => {
                let mut merged = theirs.clone();
                match self {
                    Self::Exact(hashes) => hashes.iter().for_each(|hash| {
                        set(&mut merged, *hash);
                    }),
                    Self::Registers(ours) => {
                        merged
                            .iter_mut()
                            .zip(ours.iter())
                            .for_each(|(to, from)| *to = (*to).max(*from));
                    }
                }
                *self = Self::Registers(merged);
            }
        }
    }

    /// The estimate.
    pub(super) fn estimate(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Registers(registers) => estimate(registers),
        }
    }

    /// Heap bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(hashes) => hashes.capacity() * size_of::<u64>(),
            Self::Registers(registers) => registers.len(),
        }
    }

    /// Whether the shape is this version's (a stored sketch can be anything).
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Self::Exact(hashes) => hashes.len() <= EXACT_MAX,
            Self::Registers(registers) => {
                registers.len() == REGISTERS && registers.iter().all(|rank| *rank <= 64)
            }
        }
    }
}

/// What adding a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It was counted before, or the sketch cannot tell.
    Known,
    /// It was not.
    New,
    /// The sketch was not allowed to grow.
    Refused,
}

fn set(registers: &mut [u8], hash: u64) -> bool {
    let index = usize::try_from(hash >> (64 - INDEX_BITS)).unwrap_or(0);
    let rank = u8::try_from(((hash << INDEX_BITS) | (1 << (INDEX_BITS - 1))).leading_zeros() + 1)
        .unwrap_or(u8::MAX);
    match registers.get_mut(index) {
        Some(register) if *register < rank => {
            *register = rank;
            true
        }
        _ => false,
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
fn estimate(registers: &[u8]) -> u64 {
    let m = registers.len() as f64;
    let alpha = 0.7213 / (1.0 + 1.079 / m);
    let sum: f64 = registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
    let raw = alpha * m * m / sum;
    let zeros = registers.iter().fold(0_usize, |zeros, rank| zeros + usize::from(*rank == 0));
    // Linear counting is better while registers are still empty.
    let best = if raw <= 2.5 * m && zeros > 0 { m * (m / zeros as f64).ln() } else { raw };
    best.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed_hash::siphash24;

    fn of(range: std::ops::Range<u64>) -> ClientSketch {
        let mut sketch = ClientSketch::default();
        for client in range {
            sketch.add(siphash24([1, 2], &client.to_le_bytes()), true);
        }
        sketch
    }

    #[test]
    fn few_clients_are_exact_and_many_close() {
        for count in [0, 1, 2, 15, 16] {
            assert_eq!(of(0..count).estimate(), count);
        }
        for count in [17, 100, 1_000, 10_000, 100_000] {
            let got = of(0..count).estimate();
            assert!(got.abs_diff(count) * 100 <= count * 12 + 100, "{count} {got}");
        }
    }

    #[test]
    fn merge_equals_one_sketch_of_both() {
        for (a, b) in [(0..5, 3..9), (0..10, 5..40), (0..40, 30..45), (0..500, 400..900)] {
            let mut merged = of(a.clone());
            merged.merge(&of(b.clone()));
            assert_eq!(merged.estimate(), of(a.start..b.end).estimate());
        }
    }

    #[test]
    fn a_full_budget_stops_growth() {
        let mut sketch = of(0..16);
        assert_eq!(sketch.add(1, false), Added::Refused);
        assert_eq!(sketch.estimate(), 16);
    }
}
