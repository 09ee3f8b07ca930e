//! Raw request to endpoint, remembered: so that a path that comes again is neither matched nor templated again.
//!
//! Two-way set associative over 64-bit seeded hashes of (listener, host, method, path); a hash that collides with
//! another (1 in 2^64) would count a request at the wrong endpoint. Fixed memory, 24 bytes an entry.

use super::{learned::Leaf, table::EndpointId};

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    endpoint: u32,
    leaf: u32,
    used: u32,
}

/// The cache; a look-up is one cache line.
#[derive(Debug)]
pub(super) struct PathCache {
    slots: Vec<[Slot; 2]>,
    clock: u32,
}

impl PathCache {
    /// Makes one of `entries`, rounded up to a power of two.
    pub(super) fn new(entries: usize) -> Self {
        let sets = (entries / 2).next_power_of_two().max(1);
        Self { slots: vec![[Slot::default(); 2]; sets], clock: 0 }
    }

    /// The endpoint of a hash, and where it is counted among learned templates.
    pub(super) fn find(&mut self, hash: u64) -> Option<(EndpointId, Leaf)> {
        let tag = hash | 1;
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let set = self.set(hash)?;
        let slot = set.iter_mut().find(|slot| slot.hash == tag)?;
        slot.used = clock;
        Some((EndpointId(slot.endpoint), Leaf::of(slot.leaf)))
    }

    /// Remembers; the less recently used of the two entries makes room.
    pub(super) fn insert(&mut self, hash: u64, endpoint: EndpointId, leaf: Leaf) {
        let tag = hash | 1;
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let Some(set) = self.set(hash) else { return };
        let age =
            |slot: &Slot| if slot.hash == tag { u32::MAX } else { clock.wrapping_sub(slot.used) };
        if let Some(slot) = set.iter_mut().max_by_key(|slot| age(slot)) {
            *slot = Slot { hash: tag, endpoint: endpoint.0, leaf: leaf.index(), used: clock };
        }
    }

    /// Forgets everything: templates changed, or endpoints went.
    pub(super) fn clear(&mut self) {
        self.slots.fill([Slot::default(); 2]);
    }

    fn set(&mut self, hash: u64) -> Option<&mut [Slot; 2]> {
        let mask = self.slots.len() as u64 - 1;
        self.slots.get_mut(usize::try_from((hash >> 32) & mask).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_until_cleared_and_the_older_makes_room() {
        let mut cache = PathCache::new(2);
        cache.insert(2, EndpointId(1), Leaf::of(7));
        cache.insert(4, EndpointId(2), Leaf::NONE);
        assert_eq!(cache.find(2), Some((EndpointId(1), Leaf::of(7))));
        cache.insert(6, EndpointId(3), Leaf::NONE);
        assert_eq!(cache.find(2), Some((EndpointId(1), Leaf::of(7))));
        assert_eq!(cache.find(4), None);
        assert_eq!(cache.find(6), Some((EndpointId(3), Leaf::NONE)));
        cache.clear();
        assert_eq!(cache.find(2), None);
    }
}
