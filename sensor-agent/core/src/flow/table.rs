//! The bounded table of connections of a capture.
//!
//! Bound: a number of connections and a number of held bytes. A full table gives up, of the next few entries in turn,
//! one that is closed, else one that carries no HTTP, else the longest silent. Idle ones are found by the same hand,
//! which moves on with every segment.

use hashbrown::HashTable;
use sensor_ebpf::abi::flow_key::FlowKey;

use super::connection::Connection;
use crate::time::UnixNs;

/// Entries looked at when one has to go.
const EVICTION_SAMPLE: usize = 16;

/// Index of a connection.
pub(super) type Slot = u32;

#[derive(Debug)]
pub(super) struct Table {
    index: HashTable<Slot>,
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<Slot>,
    hand: usize,
    hasher: foldhash::fast::FixedState,
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            hasher: foldhash::fast::FixedState::with_seed(seed),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn hash(&self, key: &FlowKey) -> u64 {
        use std::hash::BuildHasher as _;
        self.hasher.hash_one(key)
    }

    pub(super) fn find(&self, key: &FlowKey) -> Option<Slot> {
        let slots = &self.slots;
        self.index.find(self.hash(key), |slot| connection(slots, *slot).is_some_and(|entry| entry.key == *key)).copied()
    }

    pub(super) fn connection_mut(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.slots.get_mut(usize::try_from(slot).ok()?)?.as_deref_mut()
    }

    pub(super) fn insert(&mut self, entry: Connection) -> Slot {
        let hash = self.hash(&entry.key);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).unwrap_or(Slot::MAX)
        });
        if let Some(place) = usize::try_from(slot).ok().and_then(|index| self.slots.get_mut(index)) {
            *place = Some(Box::new(entry));
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            use std::hash::BuildHasher as _;
            connection(slots, *slot).map_or(0, |entry| hasher.hash_one(entry.key))
        });
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Box<Connection>> {
        let key = connection(&self.slots, slot)?.key;
        let hash = self.hash(&key);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.free.push(slot);
        self.slots.get_mut(usize::try_from(slot).ok()?)?.take()
    }

    /// The next entry in turn.
    pub(super) fn next_in_turn(&mut self) -> Option<(Slot, &Connection)> {
        self.hand = if self.hand + 1 >= self.slots.len() { 0 } else { self.hand + 1 };
        let slot = Slot::try_from(self.hand).ok()?;
        connection(&self.slots, slot).map(|entry| (slot, entry))
    }

    /// Which entry to give up.
    pub(super) fn victim(&mut self) -> Option<Slot> {
        let mut best: Option<((bool, bool, std::cmp::Reverse<UnixNs>), Slot)> = None;
        for _ in 0..EVICTION_SAMPLE {
            if let Some((slot, entry)) = self.next_in_turn() {
                let rank = (entry.is_closed(), entry.is_idle_matter(), std::cmp::Reverse(entry.last));
                if best.is_none_or(|(before, _)| rank > before) {
                    best = Some((rank, slot));
                }
            }
        }
        best.map(|(_, slot)| slot)
    }

    /// All entries, oldest first.
    pub(super) fn drain(&mut self) -> Vec<Box<Connection>> {
        self.index.clear();
        self.free.clear();
        let mut all: Vec<_> = std::mem::take(&mut self.slots).into_iter().flatten().collect();
        all.sort_by_key(|entry| entry.last);
        all
    }
}

fn connection(slots: &[Option<Box<Connection>>], slot: Slot) -> Option<&Connection> {
    slots.get(usize::try_from(slot).ok()?)?.as_deref()
}
