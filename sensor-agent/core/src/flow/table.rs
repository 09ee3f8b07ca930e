//! The table of connections, of a capture or live; keeping it bounded is its owner's part.
//!
//! Which entry to give up: of the next few in turn, the one whose rank is highest (closed before idle before busy, then the
//! longest silent). Idle ones are found by the same hand, which moves on with every segment.

use std::cmp::Reverse;
use std::hash::{BuildHasher as _, Hasher as _};

use hashbrown::HashTable;
use sensor_ebpf::abi::flow_key::FlowKey;
use zerocopy::IntoBytes as _;

/// Entries looked at when one has to go.
const EVICTION_SAMPLE: usize = 16;

/// Slots that are remembered by ports; those of another connection are found by its hash.
const RECENT_MAX: usize = 1024;

/// Index of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// How little is lost by giving an entry up: closed, nothing being read, silent since.
pub(super) type Rank = (bool, bool, Reverse<u64>);

/// What the table holds.
pub(super) trait Entry {
    /// Its key.
    fn key(&self) -> &FlowKey;
    /// How little is lost by giving it up.
    fn rank(&self) -> Rank;
}

#[derive(Debug)]
pub(super) struct Table<E> {
    index: HashTable<Slot>,
    slots: Vec<Option<Box<E>>>,
    free: Vec<Slot>,
    hand: usize,
    hasher: foldhash::fast::FixedState,
    /// Where connections were found last, by their ports.
    recent: Box<[Slot]>,
}

impl<E: Entry> Table<E> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            hasher: foldhash::fast::FixedState::with_seed(seed),
            recent: vec![Slot(u32::MAX); RECENT_MAX].into_boxed_slice(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn hash(&self, key: &FlowKey) -> u64 {
        hash(&self.hasher, key)
    }

    pub(super) fn find(&self, key: &FlowKey) -> Option<Slot> {
        let slots = &self.slots;
        self.index
            .find(self.hash(key), |slot| at(slots, *slot).is_some_and(|entry| entry.key() == key))
            .copied()
    }

    /// As [`Self::find`], without a hash for a connection that was found the last time that its ports were looked for.
    pub(super) fn find_recent(&mut self, key: &FlowKey) -> Option<Slot> {
        let place = usize::from(key.low_port ^ key.high_port) % RECENT_MAX;
        let recent = self.recent.get(place).copied()?;
        if at(&self.slots, recent).is_some_and(|entry| entry.key() == key) {
            return Some(recent);
        }
        let found = self.find(key)?;
        if let Some(recent) = self.recent.get_mut(place) {
            *recent = found;
        }
        Some(found)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut E> {
        self.slots.get_mut(usize::try_from(slot.0).ok()?)?.as_deref_mut()
    }

    pub(super) fn insert(&mut self, entry: E) -> Slot {
        let hash = self.hash(entry.key());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(place) =
            usize::try_from(slot.0).ok().and_then(|index| self.slots.get_mut(index))
        {
            *place = Some(Box::new(entry));
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            at(slots, *slot).map_or(0, |entry| self::hash(hasher, entry.key()))
        });
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Box<E>> {
        let key = *at(&self.slots, slot)?.key();
        let hash = self.hash(&key);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.free.push(slot);
        self.slots.get_mut(usize::try_from(slot.0).ok()?)?.take()
    }

    /// The next entry in turn.
    pub(super) fn next_in_turn(&mut self) -> Option<(Slot, &E)> {
        self.hand = if self.hand + 1 >= self.slots.len() { 0 } else { self.hand + 1 };
        let slot = Slot(u32::try_from(self.hand).ok()?);
        at(&self.slots, slot).map(|entry| (slot, entry))
    }

    /// Which entry to give up.
    pub(super) fn victim(&mut self) -> Option<Slot> {
        let mut best: Option<(Rank, Slot)> = None;
        for _ in 0..EVICTION_SAMPLE {
            if let Some((slot, entry)) = self.next_in_turn() {
                let rank = entry.rank();
                if best.is_none_or(|(before, _)| rank > before) {
                    best = Some((rank, slot));
                }
            }
        }
        best.map(|(_, slot)| slot)
    }

    /// All entries, oldest first.
    pub(super) fn drain(&mut self) -> Vec<Box<E>> {
        self.index.clear();
        self.free.clear();
        let mut all: Vec<_> = std::mem::take(&mut self.slots).into_iter().flatten().collect();
        all.sort_by_key(|entry| Reverse(entry.rank().2));
        all
    }
}

/// The key's bytes in one piece: field by field costs five times as much.
fn hash(hasher: &foldhash::fast::FixedState, key: &FlowKey) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key.as_bytes());
    state.finish()
}

fn at<E>(slots: &[Option<Box<E>>], slot: Slot) -> Option<&E> {
    slots.get(usize::try_from(slot.0).ok()?)?.as_deref()
}
