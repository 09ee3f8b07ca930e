//! Numbers that stay with a rule over all generations: where its hits are counted, and the state of its limits.
//!
//! Bounds: [`HITS_SLOTS`] numbers for hits (a rule that is gone keeps its own until all others are taken, the one gone for longest gives way),
//! [`STATES_MAX`] remembered limits (numbers of limits are never used again).

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use sensor_ebpf::abi::image::{HITS_SLOTS, Limit, LimitKind};
use zerocopy::{FromBytes as _, IntoBytes as _};

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

    /// The numbers as bytes, for an agent that comes after this one; at most so many bytes: of the limits the ones remembered for
    /// longest are left out.
    pub fn to_bytes(&self, bytes_max: usize) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        let slots: Vec<_> = self.slots().collect();
        number(&mut bytes, slots.len());
        for (id, slot) in slots {
            text(&mut bytes, id);
            bytes.extend(slot.to_le_bytes());
        }
        let mut states = Vec::new();
        for (id, terms) in self.states_order.iter().rev() {
            let Some(state) = self.states.get(&(id.clone(), *terms)) else { continue };
            let mut entry = Vec::new();
            text(&mut entry, id);
            entry.extend(terms.as_bytes());
            entry.extend(state.to_le_bytes());
            if bytes.len() + states.len() + entry.len() + 4 > bytes_max {
                break;
            }
            states.extend(entry);
        }
        number(&mut bytes, states.len());
        bytes.extend(states);
        bytes
    }

    /// Reads what [`Numbers::to_bytes`] gave; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take_number(&mut rest)? != FORMAT {
            return None;
        }
        let mut slots = Vec::new();
        for _ in 0..take_number(&mut rest)?.min(HITS_SLOTS) {
            slots.push((take_text(&mut rest)?, take_number(&mut rest)?));
        }
        let mut numbers = Self::restore(slots);
        let len = usize::try_from(take_number(&mut rest)?).ok()?;
        let mut rest = rest.get(..len)?;
        let mut states = Vec::new();
        while !rest.is_empty() {
            let id = take_text(&mut rest)?;
            let (terms, after) = Limit::read_from_prefix(rest).ok()?;
            rest = after;
            states.push(((id, terms), take_number(&mut rest)?));
        }
        for (key, state) in states.into_iter().rev().take(STATES_MAX) {
            numbers.states_given = numbers.states_given.max(state);
            if numbers.states.insert(key.clone(), state).is_none() {
                numbers.states_order.push_back(key);
            }
        }
        Some(numbers)
    }

    /// Numbers of limits up to this one were given.
    pub const fn states_given(&self) -> u32 {
        self.states_given
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

    /// Forgets the numbers of limits on open connections that a policy is without: connections of that time are not counted for them, and
    /// under the number of before nobody would count them anew.
    pub(super) fn without(&mut self, limits: &[Limit]) {
        let here: HashSet<u32, FixedState> = limits.iter().map(|limit| limit.state).collect();
        let stays = |terms: &Limit, state: u32| {
            terms.kind != LimitKind::Concurrent as u8 || here.contains(&state)
        };
        self.states.retain(|(_, terms), state| stays(terms, *state));
        self.states_order.retain(|key| self.states.contains_key(key));
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

/// Version of the bytes.
const FORMAT: u32 = 1;

fn number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len());
    bytes.extend(text.as_bytes());
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn take_text(rest: &mut &[u8]) -> Option<Box<str>> {
    let len = usize::try_from(take_number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    std::str::from_utf8(text).ok().map(Box::from)
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
    fn a_limit_on_connections_that_was_gone_is_another_when_it_returns() {
        let mut numbers = Numbers::default();
        let open = Limit { kind: LimitKind::Concurrent as u8, ..Limit::default() };
        let with_state = |terms: Limit, state| Limit { state, ..terms };
        let [kept, gone] = ["kept", "gone"].map(|id| numbers.state(id, open));
        let rate = numbers.state("rate", Limit::default());
        numbers.without(&[with_state(open, kept)]);
        let mut numbers = Numbers::from_bytes(&numbers.to_bytes(1 << 20)).unwrap();
        assert_eq!(
            (numbers.state("kept", open), numbers.state("rate", Limit::default())),
            (kept, rate)
        );
        let given = numbers.states_given();
        assert!(
            numbers.state("gone", open) > given,
            "taken for one that connections are counted for"
        );
        assert_ne!(numbers.state("gone", open), gone);
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

    #[test]
    fn numbers_come_back_from_their_bytes_and_no_prefix_is_fatal() {
        let mut numbers = Numbers::default();
        let (slots, _) = numbers.assign(["a", "b"].into_iter());
        let terms = |burst| Limit { tolerance: burst, ..Limit::default() };
        let states: Vec<_> = (0..3).map(|burst| numbers.state("a", terms(burst))).collect();
        let bytes = numbers.to_bytes(1 << 20);
        let mut heir = Numbers::from_bytes(&bytes).expect("readable");
        assert_eq!(heir.assign(["b", "a"].into_iter()), (vec![slots[1], slots[0]], vec![]));
        assert_eq!((0..3).map(|burst| heir.state("a", terms(burst))).collect::<Vec<_>>(), states);
        assert_eq!(heir.state("a", terms(9)), 4, "never one that was given");
        for len in 0..bytes.len() {
            assert!(Numbers::from_bytes(&bytes[..len]).is_none(), "{len}");
        }
        let short = numbers.to_bytes(bytes.len() - 1);
        let mut heir = Numbers::from_bytes(&short).expect("readable");
        assert_eq!(heir.state("a", terms(2)), states[2], "the newest are kept");
        assert_eq!(heir.state("a", terms(0)), 4, "the oldest was left out");
    }
}
