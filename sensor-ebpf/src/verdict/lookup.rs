//! Finds the rule of a list that applies to one end of a packet: longest prefix first, rules of a prefix in their order.
//!
//! Bound: `STEPS_MAX` steps for each end (a length probed or a rule asked); the policy's compiler refuses what needs more. No
//! entry hides a broader one: when no rule of a prefix applies (or all only monitor), the next shorter length is probed.

use core::ops::ControlFlow;

use zerocopy::transmute_ref;

use super::{
    address::{prefix4, prefix6},
    header::{Field, line},
    member::{lengths4, member6, touches4},
    rules::applies,
};
use crate::{
    abi::{
        counter::Counter,
        image::{
            Action, Line, ListId, Rule, STEPS_MAX, hash4, hash6, hash24, meta6, other_bucket, slot4,
        },
    },
    tables::{Step, Tables},
    work::Work,
};

/// The end of a packet whose address is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The packet comes from the listed client.
    Source = 0,
    /// The packet goes to the listed client.
    Destination = 1,
}

/// Bits of a slot that name the first rule (or limit) of its entry.
const FIRST: u64 = 0xff_ffff;
/// Slots of a bucket.
const SLOTS_OF_BUCKET: u32 = 8;

/// Prepares the look-up of one end; false when no entry of the list can cover its address.
#[inline(always)]
pub fn begin<T: Tables>(list: ListId, end: End, tables: &T, work: &mut Work) -> bool {
    let search = &mut work.search;
    let tuple = &work.headers.tuple;
    let ((high, low), service_port) = match end {
        End::Source => (work.headers.source(), tuple.dst_port),
        End::Destination => (work.headers.destination(), tuple.src_port),
    };
    search.end = end as u32;
    search.service_port = u32::from(service_port);
    search.low = low;
    search.pending = 0;
    search.resume = 0;
    let four = work.headers.family == 4;
    if four {
        search.high = 0;
        search.low &= 0xffff_ffff;
        if matches!(list, ListId::Block) && !touches4(tables, work) {
            return false;
        }
    } else {
        search.high = high;
        if matches!(list, ListId::Block) {
            member6(tables, work);
        } else {
            search.lengths = [u64::MAX; 4];
        }
        let [first, second, third, _] = work.search.lengths;
        if first | second | third == 0 {
            return false;
        }
    }
    let Some(places) = line(0, tables, work) else { return false };
    let Some(lists) = line(1, tables, work) else { return false };
    let Some(more) = line(2, tables, work) else { return false };
    let search = &mut work.search;
    search.rules = Field::RULES.of(lists);
    search.limits = Field::LIMITS.of(lists);
    // Where `Header` has them (`verdict::header` asserts it).
    let [_, _, _, block4, allow4, limit4, b0, b1] = *lists;
    let [b2, a0, a1, a2, l0, l1, l2, _] = *more;
    if four {
        search.entries = Field::ENTRIES4.of(places);
        search.entries_mask = Field::ENTRIES4_MASK.of(places);
        let lengths = match list {
            ListId::Block => block4,
            ListId::Allow => allow4,
            ListId::Limit => limit4,
        };
        let lengths = lengths4(list, lengths, Field::LEAVES4.of(places), tables, work);
        work.search.lengths = [lengths, 0, 0, 0];
        return lengths != 0;
    }
    search.entries = Field::ENTRIES6.of(places);
    search.entries_mask = Field::ENTRIES6_MASK.of(places);
    search.prefixes = Field::PREFIXES6.of(places);
    let (w0, w1, w2) = match list {
        ListId::Block => (b0, b1, b2),
        ListId::Allow => (a0, a1, a2),
        ListId::Limit => (l0, l1, l2),
    };
    let [first, second, third, _] = &mut search.lengths;
    *first &= w0;
    *second &= w1;
    *third &= w2;
    (*first | *second | *third) != 0
}

/// Goes through the rules of an allow or block list; the one that applies is `work.search.found`.
#[inline(never)]
pub(super) fn resolve<T: Tables>(list: ListId, tables: &T, work: &mut Work) -> bool {
    work.search.found = 0;
    work.search.monitored = 0;
    // The first entry's first rule nearly always decides: without the loop, whose calls cost more than they do.
    if tables.next_entry(list, work).is_break() {
        return false;
    }
    let mut walk = Resolve { list, tables, work };
    if walk.work.search.pending != 0 && walk.ask_rule().is_break() {
        return true;
    }
    if !tables.repeat(STEPS_MAX, &mut walk) {
        tables.count(Counter::LookupLimit);
    }
    work.search.found != 0
}

struct Resolve<'a, T> {
    list: ListId,
    tables: &'a T,
    work: &'a mut Work,
}

impl<T: Tables> Step for Resolve<'_, T> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        if self.work.search.pending != 0 {
            return self.ask_rule();
        }
        self.tables.next_entry(self.list, self.work)
    }
}

impl<T: Tables> Resolve<'_, T> {
    #[inline(always)]
    fn ask_rule(&mut self) -> ControlFlow<()> {
        let number = self.work.search.pending;
        self.work.search.pending = 0;
        let Some(rule) = rule(number, self.tables, self.work) else {
            return ControlFlow::Continue(());
        };
        self.work.search.pending = rule.next;
        if !applies(self.list, rule, self.tables, self.work) {
            return ControlFlow::Continue(());
        }
        let search = &mut self.work.search;
        if matches!(self.list, ListId::Block) && rule.action == Action::Monitor as u8 {
            if search.monitored == 0 {
                search.monitored = rule.hits + 1;
            }
            return ControlFlow::Continue(());
        }
        search.found = number;
        search.hits = rule.hits;
        search.action = u32::from(rule.action);
        ControlFlow::Break(())
    }
}

/// A rule of the image in force.
#[inline(always)]
pub(super) fn rule<'t, T: Tables>(number: u32, tables: &'t T, work: &Work) -> Option<&'t Rule> {
    line(work.search.rules.wrapping_add(number), tables, work).map(|line| transmute_ref!(line))
}

/// Probes the longest length that is left; `work.search.pending` is the first rule (or limit) of an entry that was found.
#[inline(always)]
pub fn next_entry<T: Tables>(list: ListId, tables: &T, work: &mut Work) -> ControlFlow<()> {
    if work.headers.family == 4 {
        let [lengths, ..] = &mut work.search.lengths;
        let Some(len) = longest(*lengths) else { return ControlFlow::Break(()) };
        *lengths &= !(1 << (len & 63));
        work.search.pending = probe4(list, len, tables, work);
        return ControlFlow::Continue(());
    }
    let [first, second, third, _] = work.search.lengths;
    let (word, base) = if third != 0 {
        (third, 128)
    } else if second != 0 {
        (second, 64)
    } else {
        (first, 0)
    };
    let Some(bit) = longest(word) else { return ControlFlow::Break(()) };
    if probe6(list, base + bit, tables, work) {
        // The probe of this length is over (else the same bucket holds another prefix of the same tag).
        let rest = !(1 << (bit & 63));
        let [first, second, third, _] = &mut work.search.lengths;
        *(if base == 128 {
            third
        } else if base == 64 {
            second
        } else {
            first
        }) &= rest;
        work.search.resume = 0;
    }
    ControlFlow::Continue(())
}

/// The number of the highest bit.
#[inline(always)]
fn longest(lengths: u64) -> Option<u32> {
    lengths.checked_ilog2()
}

/// First rule (or limit) of the IPv4 entry of this length, 0 = there is none.
#[inline(always)]
fn probe4<T: Tables>(list: ListId, len: u32, tables: &T, work: &Work) -> u32 {
    let prefix = prefix4(&work.search, len);
    let with_24 = if len > 24 { work.search.with_24 } else { 0 };
    let hash = if with_24 == 0 { hash4(prefix, len, list) } else { hash24(prefix, list) };
    let wanted = slot4(prefix, len + with_24, list, 0);
    let (entries, mask) = (work.search.entries, work.search.entries_mask);
    let Some(home) = line(entries + (hash as u32 & mask), tables, work) else { return 0 };
    let (first, full) = scan4(home, wanted);
    if first != 0 || !full {
        return first;
    }
    let Some(other) = line(entries + other_bucket(hash, mask), tables, work) else { return 0 };
    scan4(other, wanted).0
}

/// The entry in a bucket, and whether the bucket is full.
#[inline(always)]
fn scan4(bucket: &Line, wanted: u64) -> (u32, bool) {
    let (mut first, mut full) = (0, true);
    for slot in bucket {
        if slot & !FIRST == wanted && *slot != 0 {
            first = (slot & FIRST) as u32;
        }
        full &= *slot != 0;
    }
    (first, full)
}

/// Looks for the IPv6 entry of this length; false when another slot of the bucket is to be looked at by the next step.
#[inline(always)]
fn probe6<T: Tables>(list: ListId, len: u32, tables: &T, work: &mut Work) -> bool {
    let (high, low) = prefix6(&work.search, len);
    let hash = hash6(high, low, len, list);
    let (entries, mask) = (work.search.entries, work.search.entries_mask);
    let mut place = None;
    if work.search.resume < SLOTS_OF_BUCKET {
        let Some(home) = line(entries + (hash as u32 & mask), tables, work) else { return true };
        let (found, full) = scan6(home, hash, work.search.resume);
        if found.is_none() && !full {
            return true;
        }
        place = found;
    }
    if place.is_none() {
        let Some(other) = line(entries + other_bucket(hash, mask), tables, work) else {
            return true;
        };
        let from = work.search.resume.saturating_sub(SLOTS_OF_BUCKET);
        place = scan6(other, hash, from).0.map(|(at, number)| (at + SLOTS_OF_BUCKET, number));
    }
    let Some((at, number)) = place else { return true };
    let Some(pair) = line(work.search.prefixes + (number >> 1), tables, work) else { return true };
    let [a0, a1, a2, _, b0, b1, b2, _] = *pair;
    let (own_high, own_low, meta) = if number & 1 == 0 { (a0, a1, a2) } else { (b0, b1, b2) };
    if own_high == high && own_low == low && meta & !FIRST == meta6(len, list, 0) {
        work.search.pending = (meta & FIRST) as u32;
        return true;
    }
    work.search.resume = at + 1;
    false
}

/// The first slot from `from` on with the tag of a hash, and the number of its prefix; and whether the bucket is full.
#[inline(always)]
fn scan6(bucket: &Line, hash: u64, from: u32) -> (Option<(u32, u32)>, bool) {
    let (mut found, mut full) = (None, true);
    for (at, slot) in (0..SLOTS_OF_BUCKET).zip(bucket) {
        let number = (slot & FIRST) as u32;
        if number != 0 && slot >> 24 == hash >> 24 && at >= from && found.is_none() {
            found = Some((at, number - 1));
        }
        full &= *slot != 0;
    }
    (found, full)
}
