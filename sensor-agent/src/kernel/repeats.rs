//! What the rows of `REPEATS` counted, taken and added to the rows of the table of drops.
//!
//! Bound: [`CARRIED_MAX`] rows of drops; what comes for more counts as unattributed.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd as _,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use sensor_ebpf::abi::{
    dynamic::{DROPS_MAX, DropKey, DropReason, DropValue},
    repeat::{REPEATS_PER_CPU, Repeat, tallied},
};
use zerocopy::FromBytes as _;

use super::{memory::Mapped, object};

/// Rows of drops that counts are carried for at most.
const CARRIED_MAX: usize = DROPS_MAX as usize;
/// Words of a row.
const WORDS: usize = size_of::<Repeat>() / 8;
const TALLY: usize = std::mem::offset_of!(Repeat, tally) / 8;
const TURN: usize = std::mem::offset_of!(Repeat, turn) / 8;

/// Rows for this host: some for each CPU that it may have.
pub(super) fn rows() -> io::Result<u32> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    let cpus = u32::try_from(cpus).map_err(io::Error::other)?;
    Ok(cpus.saturating_mul(REPEATS_PER_CPU))
}

/// The rows, and what was taken out of them so far for rows of drops that are still there.
#[derive(Debug)]
pub(super) struct Repeats {
    /// Stays open: further copies of the programs are loaded on the same descriptors.
    _map: MapData,
    rows: Mapped,
    carried: HashMap<DropKey, DropValue>,
    unattributed: u64,
}

impl Repeats {
    pub(super) fn new(map: MapData) -> io::Result<Self> {
        let fd = map.fd().as_fd();
        let rows = usize::try_from(object::map(fd)?.max_entries).map_err(io::Error::other)?;
        let rows = Mapped::new(fd, rows * size_of::<Repeat>())?;
        Ok(Self { _map: map, rows, carried: HashMap::new(), unattributed: 0 })
    }

    /// Drops that could not be told whose they are.
    pub(super) const fn unattributed(&self) -> u64 {
        self.unattributed
    }

    /// Takes what the programs counted, and adds all that was carried to the rows of the table of drops.
    pub(super) fn add_to(&mut self, rows: &mut Vec<(DropKey, DropValue)>) {
        for row in self.rows.words().as_chunks::<WORDS>().0 {
            let Some(taken) = take(row) else { continue };
            match taken {
                Taken::Unknown(count) => self.unattributed += count,
                Taken::Of(key, value) => {
                    if self.carried.len() >= CARRIED_MAX && !self.carried.contains_key(&key) {
                        self.unattributed += value.count;
                    } else {
                        add(
                            self.carried.entry(key).or_insert(DropValue {
                                count: 0,
                                bytes: 0,
                                ..value
                            }),
                            &value,
                        );
                    }
                }
            }
        }
        if self.carried.is_empty() {
            return;
        }
        let mut rest = self.carried.clone();
        for (key, value) in rows.iter_mut() {
            if let Some(more) = rest.remove(key) {
                add(value, &more);
            }
        }
        rows.extend(rest);
    }

    /// Ends a row of drops: what was carried for it, added to what the kernel's row had, if there was one.
    pub(super) fn end(&mut self, key: &DropKey, last: Option<DropValue>) -> Option<DropValue> {
        match (self.carried.remove(key), last) {
            (Some(more), Some(mut last)) => {
                add(&mut last, &more);
                Some(last)
            }
            (carried, last) => last.or(carried),
        }
    }
}

fn add(to: &mut DropValue, more: &DropValue) {
    to.count += more.count;
    to.bytes += more.bytes;
    to.last_ns = to.last_ns.max(more.last_ns);
}

/// What a row had counted.
enum Taken {
    Of(DropKey, DropValue),
    /// The row was given to another packet meanwhile.
    Unknown(u64),
}

fn take(row: &[AtomicU64; WORDS]) -> Option<Taken> {
    let word = |at: usize| row.get(at).map_or(0, |word| word.load(Ordering::Acquire));
    if word(TALLY) == 0 {
        return None;
    }
    let turn = word(TURN);
    let words: [u64; WORDS] = std::array::from_fn(word);
    let (count, bytes) = tallied(row.get(TALLY).map_or(0, |word| word.swap(0, Ordering::AcqRel)));
    if count == 0 {
        return None;
    }
    if word(TURN) != turn || turn % 2 != 0 {
        return Some(Taken::Unknown(count));
    }
    let row = Repeat::read_from_bytes(zerocopy::IntoBytes::as_bytes(&words)).ok()?;
    let key = DropKey { client: row.src, hits: row.hits, reason: DropReason::Block as u32 };
    let value = DropValue {
        count,
        bytes,
        first_ns: row.last_ns,
        last_ns: row.last_ns,
        tuple: row.tuple(),
        ifindex: row.ifindex,
        hook: row.hook(),
    };
    Some(Taken::Of(key, value))
}
