//! Numbers that stay with a rule over all generations: where its hits are counted, and the state of its limits.
//!
//! Bounds: [`HITS_SLOTS`] numbers for hits (a rule that is gone keeps its own until all others are taken, the one gone for longest gives way),
//! [`STATES_MAX`] remembered limits (numbers of limits are never used again).

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use sensor_ebpf::abi::image::{HITS_SLOTS, Limit};

/// Limits whose number is remembered.
const STATES_MAX: usize = 16_384;

/// The numbers in use. Kept by the agent as long as the kernel's counts live.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    slots: HashMap<Box<str>, u32, FixedState>,
    /// Numbers up to this one were given.
    slots_given: u32,
    /// Rules that are gone, the one gone for longest first.
    resting: VecDeque<Box<str>>,
    states: HashMap<(Box<str>, Limit), u32, FixedState>,
    states_given: u32,
    /// Remembered limits, oldest first.
    states_order: VecDeque<(Box<str>, Limit)>,
}

impl Numbers {
    /// Takes over the numbers under which a kernel counts already.
    pub fn restore(slots: impl IntoIterator<Item = (Box<str>, u32)>) -> Self {
        let mut numbers = Self::default();
        for (id, slot) in slots {
            if (1..HITS_SLOTS).contains(&slot) && numbers.slots.values().all(|known| *known != slot)
            {
                numbers.slots_given = numbers.slots_given.max(slot);
                numbers.resting.push_back(id.clone());
                numbers.slots.insert(id, slot);
            }
        }
        // Numbers between those taken over have no rule; they rest under a name that no rule can have.
        let known: Vec<u32> = numbers.slots.values().copied().collect();
        for free in (1..numbers.slots_given).filter(|slot| !known.contains(slot)) {
            let name: Box<str> = format!("?{free}").into();
            numbers.resting.push_front(name.clone());
            numbers.slots.insert(name, free);
        }
        numbers
    }

    /// Rules and their numbers, those that are gone included.
    pub fn slots(&self) -> impl Iterator<Item = (&str, u32)> {
        self.slots.iter().filter(|(id, _)| !id.starts_with('?')).map(|(id, slot)| (&**id, *slot))
    }

    /// Numbers for the rules of a policy, in their order, and those of them whose counts must begin at zero.
    pub(super) fn assign<'i>(
        &mut self,
        ids: impl Iterator<Item = &'i str> + Clone,
    ) -> (Vec<u32>, Vec<u32>) {
        let wanted: HashSet<&str, FixedState> = ids.clone().collect();
        // Who returns rests no more; who is gone begins to.
        self.resting.retain(|id| !wanted.contains(&**id));
        let mut gone: Vec<Box<str>> = {
            let resting: HashSet<&str, FixedState> = self.resting.iter().map(|id| &**id).collect();
            let ids = self.slots.keys();
            ids.filter(|id| !wanted.contains(&***id) && !resting.contains(&***id))
                .cloned()
                .collect()
        };
        gone.sort_unstable();
        self.resting.extend(gone);
        let mut slots = Vec::new();
        let mut fresh = Vec::new();
        for id in ids {
            let slot = if let Some(slot) = self.slots.get(id) {
                *slot
            } else {
                let slot = self.next();
                self.slots.insert(id.into(), slot);
                fresh.push(slot);
                slot
            };
            slots.push(slot);
        }
        (slots, fresh)
    }

    /// A number nobody uses; 0 (hits are not counted) when there is none, which the bound of rules does not let happen.
    fn next(&mut self) -> u32 {
        if self.slots_given + 1 < HITS_SLOTS {
            self.slots_given += 1;
            return self.slots_given;
        }
        self.resting.pop_front().and_then(|id| self.slots.remove(&id)).unwrap_or(0)
    }

    /// The number of a limit's state. `terms` has everything but rule, next and state.
    pub(super) fn state(&mut self, id: &str, terms: Limit) -> u32 {
        let key = (Box::from(id), terms);
        if let Some(state) = self.states.get(&key) {
            return *state;
        }
        if self.states_order.len() >= STATES_MAX
            && let Some(oldest) = self.states_order.pop_front()
        {
            self.states.remove(&oldest);
        }
        self.states_given = self.states_given.wrapping_add(1);
        self.states.insert(key.clone(), self.states_given);
        self.states_order.push_back(key);
        self.states_given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_keeps_its_number_while_others_come_and_go() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.assign(["a", "b"].into_iter()), (vec![1, 2], vec![1, 2]));
        assert_eq!(numbers.assign(["b", "c"].into_iter()), (vec![2, 3], vec![3]));
        // Back again, with what it counted.
        assert_eq!(numbers.assign(["a", "c"].into_iter()), (vec![1, 3], vec![]));
    }

    #[test]
    fn numbers_are_bounded_and_the_rule_gone_for_longest_gives_way() {
        let mut numbers = Numbers::default();
        let ids: Vec<String> = (0..HITS_SLOTS - 1).map(|n| format!("r{n}")).collect();
        numbers.assign(ids.iter().map(String::as_str));
        numbers.assign(ids.iter().skip(1).map(String::as_str));
        numbers.assign(ids.iter().skip(2).map(String::as_str));
        let with_new = || ids.iter().skip(2).map(String::as_str).chain(["new"]);
        let (slots, fresh) = numbers.assign(with_new());
        assert_eq!((slots.last(), &fresh[..]), (Some(&1), &[1][..]));
        assert!(slots.iter().all(|slot| (1..HITS_SLOTS).contains(slot)));
    }

    #[test]
    fn numbers_taken_over_are_kept() {
        let mut numbers =
            Numbers::restore([("a".into(), 7), ("b".into(), 7), ("c".into(), 9_999_999)]);
        assert_eq!(numbers.assign(["x", "a"].into_iter()), (vec![8, 7], vec![8]));
    }

    #[test]
    fn a_limit_keeps_its_state_while_its_terms_stay() {
        let mut numbers = Numbers::default();
        let terms = Limit { increment: 5, ..Limit::default() };
        let first = numbers.state("a", terms);
        assert_ne!(numbers.state("b", terms), first);
        assert_ne!(numbers.state("a", Limit { increment: 6, ..terms }), first);
        assert_eq!(numbers.state("a", terms), first);
    }
}
