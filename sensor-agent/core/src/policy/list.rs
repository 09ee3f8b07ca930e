//! List files as they are kept in memory: sorted prefixes, eight bytes each for IPv4, and where they come from.
//!
//! Bounds: [`LIST_ENTRIES_MAX`] prefixes, [`EXPIRIES_MAX`] points in time at which entries expire.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnet::IpNet;

use super::model::{ListRef, Rule};
use crate::time::UnixNs;

mod read;

pub use read::{LIST_BYTES_MAX, LIST_LINES_MAX, LIST_MEMORY_MAX, ListReader};

/// Prefixes in one list file, after those that are there twice are joined.
pub const LIST_ENTRIES_MAX: usize = 2_000_000;
/// Different points in time at which entries of one list expire; each takes a kernel rule.
pub(super) const EXPIRIES_MAX: usize = 16_384;

/// The list files of a policy, as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    by_ref: BTreeMap<ListRef, Arc<List>>,
}

impl Lists {
    /// Keeps a list under its name in the policy (its line there does not matter).
    pub fn insert(&mut self, name: &ListRef, list: Arc<List>) {
        self.by_ref.insert(key(name), list);
    }

    /// The list of that name.
    pub fn find(&self, name: &ListRef) -> Option<&Arc<List>> {
        self.by_ref.get(&key(name))
    }

    /// Those that a rule names, as far as they are here.
    pub fn of<'l>(&'l self, rule: &'l Rule) -> impl Iterator<Item = &'l Arc<List>> {
        rule.lists.iter().filter_map(|name| self.find(name))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&ListRef, &Arc<List>)> {
        self.by_ref.iter()
    }
}

fn key(name: &ListRef) -> ListRef {
    ListRef { line: 0, ..name.clone() }
}

/// One list file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Where it comes from.
    pub about: ListFacts,
    /// Address (32 bits), length (6), number of its expiry (26); sorted.
    four: Vec<u64>,
    /// High word, low word, length (8) and number of its expiry (24); sorted.
    six: Vec<(u64, u64, u32)>,
    /// Number 0 is "never".
    expiries: Vec<UnixNs>,
}

/// Where a list comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFacts {
    /// The file, as it was opened.
    pub source: String,
    /// When it was last written.
    pub changed: UnixNs,
    /// When it was read; set by who reads files.
    pub read: UnixNs,
    /// Lines read.
    pub lines: u64,
    /// Prefixes kept, each once.
    pub entries: usize,
    /// Prefixes that were there twice: the one that lasts longest was kept.
    pub merged: usize,
    /// Lines that could not be read and were left out (`on_error: skip`).
    pub skipped: u64,
    /// The first of those, with its line.
    pub first_skipped: Option<(u64, String)>,
    /// Digest of the file.
    pub digest: u64,
}

impl List {
    /// Makes a list of prefixes with their expiries.
    pub fn new(
        about: ListFacts,
        entries: impl IntoIterator<Item = (IpNet, Option<UnixNs>)>,
    ) -> Self {
        let mut builder = ListBuilder::default();
        for (net, expires) in entries {
            // More expiries than there are numbers for are refused by the reader of files; here the entry stays for ever.
            let expiry = expires.and_then(|at| builder.expiry(at)).unwrap_or(0);
            builder.push(net, expiry);
        }
        builder.finish(about)
    }

    /// Prefixes of the list.
    pub fn len(&self) -> usize {
        self.four.len() + self.six.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory it takes, bytes.
    pub fn bytes(&self) -> usize {
        self.four.capacity() * size_of::<u64>()
            + self.six.capacity() * size_of::<(u64, u64, u32)>()
            + self.expiries.capacity() * size_of::<UnixNs>()
    }

    /// The points in time at which entries expire; number 0 is "never".
    pub(super) fn expiries(&self) -> &[UnixNs] {
        &self.expiries
    }

    /// IPv4 prefixes: address, length, number of the expiry.
    pub(super) fn four(&self) -> impl Iterator<Item = (u32, u8, u32)> {
        self.four.iter().map(|word| {
            #[expect(clippy::cast_possible_truncation, reason = "fields of a packed word")]
            let (address, len) = ((*word >> 32) as u32, (*word >> 26) as u8 & 0x3f);
            (address, len, low26(*word))
        })
    }

    /// IPv6 prefixes: high and low word, length, number of the expiry.
    pub(super) fn six(&self) -> impl Iterator<Item = (u64, u64, u8, u32)> {
        self.six.iter().map(|(high, low, last)| {
            let len = (*last >> 24) as u8;
            (*high, *low, len, last & 0xff_ffff)
        })
    }

    /// All prefixes with their expiry, by family and address.
    pub fn entries(&self) -> impl Iterator<Item = (IpNet, Option<UnixNs>)> {
        let at = |number: u32| match number {
            0 => None,
            number => self.expiries.get(usize::try_from(number).ok()?).copied(),
        };
        let four = self.four().filter_map(move |(address, len, expiry)| {
            Some((ipnet::Ipv4Net::new(address.into(), len).ok()?.into(), at(expiry)))
        });
        let six = self.six().filter_map(move |(high, low, len, expiry)| {
            let bits = u128::from(high) << 64 | u128::from(low);
            Some((ipnet::Ipv6Net::new(bits.into(), len).ok()?.into(), at(expiry)))
        });
        four.chain(six)
    }
}

/// A list while it is read.
#[derive(Debug, Default)]
pub(super) struct ListBuilder {
    list: List,
    expiries: HashMap<UnixNs, u32, FixedState>,
    last: (UnixNs, u32),
    merged: usize,
}

impl ListBuilder {
    /// Number of an expiry; `None` when there are too many.
    pub(super) fn expiry(&mut self, at: UnixNs) -> Option<u32> {
        // Lists are often written with one ttl for many lines in a row.
        if self.last == (at, self.last.1) && self.last.1 != 0 {
            return Some(self.last.1);
        }
        let expiries = &mut self.list.expiries;
        if expiries.is_empty() {
            expiries.push(UnixNs(0));
        }
        let number = match self.expiries.get(&at) {
            Some(number) => *number,
            None if expiries.len() > EXPIRIES_MAX => return None,
            None => {
                let number = u32::try_from(expiries.len()).ok()?;
                expiries.push(at);
                self.expiries.insert(at, number);
                number
            }
        };
        self.last = (at, number);
        Some(number)
    }

    /// Prefixes so far, those that are there twice counted twice.
    fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none so far.
    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a prefix.
    pub(super) fn push(&mut self, net: IpNet, expiry: u32) {
        match net {
            IpNet::V4(net) => self.list.four.push(
                u64::from(net.network().to_bits()) << 32
                    | u64::from(net.prefix_len()) << 26
                    | u64::from(expiry),
            ),
            IpNet::V6(net) => {
                let bits = net.network().to_bits();
                #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
                let words = ((bits >> 64) as u64, bits as u64);
                self.list.six.push((words.0, words.1, u32::from(net.prefix_len()) << 24 | expiry));
            }
        }
    }

    /// Sorts, and keeps of a prefix that is there twice what lasts longest.
    pub(super) fn settle(&mut self) {
        let before = self.list.len();
        let expiries = std::mem::take(&mut self.list.expiries);
        let lasts = |number: u32| match number {
            0 => u64::MAX,
            number => {
                usize::try_from(number).ok().and_then(|at| expiries.get(at)).map_or(0, |at| at.0)
            }
        };
        self.list.four.sort_unstable();
        self.list.four.dedup_by(|next, kept| {
            let same = *next >> 26 == *kept >> 26;
            if same && lasts(low26(*next)) > lasts(low26(*kept)) {
                *kept = *next;
            }
            same
        });
        self.list.six.sort_unstable();
        self.list.six.dedup_by(|next, kept| {
            let same = (next.0, next.1, next.2 >> 24) == (kept.0, kept.1, kept.2 >> 24);
            if same && lasts(next.2 & 0xff_ffff) > lasts(kept.2 & 0xff_ffff) {
                *kept = *next;
            }
            same
        });
        self.list.expiries = expiries;
        self.merged += before - self.list.len();
    }

    /// The list, sorted.
    pub(super) fn finish(mut self, about: ListFacts) -> List {
        self.settle();
        let mut list = self.list;
        list.four.shrink_to_fit();
        list.six.shrink_to_fit();
        list.about = ListFacts { entries: list.len(), merged: self.merged, ..about };
        list
    }
}

fn low26(word: u64) -> u32 {
    (word & 0x3ff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_prefix_that_is_there_twice_the_longer_lasting_one_is_kept() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let entries = [
            (net("10.0.0.0/8"), Some(UnixNs(9))),
            (net("2001:db8::/32"), Some(UnixNs(5))),
            (net("10.0.0.0/8"), Some(UnixNs(5))),
            (net("2001:db8::/32"), None),
            (net("9.0.0.0/8"), Some(UnixNs(5))),
        ];
        let list = List::new(ListFacts::default(), entries);
        let expected = [
            (net("9.0.0.0/8"), Some(UnixNs(5))),
            (net("10.0.0.0/8"), Some(UnixNs(9))),
            (net("2001:db8::/32"), None),
        ];
        assert_eq!(list.entries().collect::<Vec<_>>(), expected);
        assert_eq!((list.about.entries, list.about.merged), (3, 2));
    }
}
