//! A policy image from its parts, the plain way: for tests of what reads it. (The agent's builder is the core's; two
//! builders that were written apart also test each other.)
//!
//! Bound: none; it counts every address of a /24 one by one.
#![allow(
    clippy::unwrap_used,
    clippy::field_reassign_with_default,
    reason = "a builder of tests: what it unwraps it has just made"
)]

use std::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};

use zerocopy::transmute;

use crate::abi::{
    image::{
        ANY4_WORDS, DENSE_24, DENSE_COVERED_24, FILTER6_WORDS, Failsafe, HEADER_LINES, Header,
        IMAGE_VERSION, Limit, LimitKind, Line, ListId, NO_ANCHOR, Rule, SHARING_24_MAX, WITH_24,
        WITH_COVERED_24, filter6, hash4, hash6, hash24, meta6, other_bucket, slot4, swift6,
    },
    settings::{
        POLICY_ALLOW4, POLICY_ALLOW6, POLICY_ANCHOR_SHIFT, POLICY_BLOCK4, POLICY_BLOCK6,
        POLICY_CONNECTIONS, POLICY_LIMIT4, POLICY_LIMIT6,
    },
};

/// What an IPv4 address begins with, v4-mapped.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its list.
    pub list: ListId,
    /// Its prefix, IPv4 v4-mapped; bits beyond the length do not matter.
    pub prefix: [u8; 16],
    /// Bits that count, of an IPv4 prefix 96 more.
    pub len: u8,
    /// Its first rule or limit.
    pub first: u32,
}

/// The parts of an image. Number 0 of rules and limits is never used.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Of two entries of one list and prefix the first counts.
    pub entries: Vec<Entry>,
    /// By number.
    pub rules: Vec<Rule>,
    /// By number.
    pub limits: Vec<Limit>,
    /// In order.
    pub failsafe: Vec<Failsafe>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            rules: vec![Rule::default()],
            limits: vec![Limit::default()],
            failsafe: Vec::new(),
        }
    }
}

/// A built image with what lies beside it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The image.
    pub lines: Vec<Line>,
    /// `ANY4`, empty without block entries of IPv4.
    pub any4: Box<[u64]>,
    /// `FILTER6`, likewise.
    pub filter6: Box<[u64]>,
    /// `NEAR` of IPv4, never in an image that is built here: its tables are small.
    pub near4: Box<[u64]>,
    /// The same of IPv6.
    pub near6: Box<[u64]>,
    /// `POLICY_*` flags without the slot, with the anchor length.
    pub flags: u64,
}

impl Draft {
    /// Adds an entry.
    pub fn list(&mut self, list: ListId, prefix: [u8; 16], len: u8, first: u32) {
        self.entries.push(Entry { list, prefix, len, first });
    }

    /// Builds the image.
    #[must_use]
    pub fn build(&self) -> Image {
        let mut header = Header { version: IMAGE_VERSION, ..Header::default() };
        header.anchor_lengths = [NO_ANCHOR; 4];
        let mut image = Image::default();
        image.lines = vec![Line::default(); HEADER_LINES as usize];
        let (mut four, mut six) = (BTreeMap::new(), BTreeMap::new());
        for entry in &self.entries {
            let bits = u128::from_be_bytes(entry.prefix);
            let cut = bits & u128::MAX.checked_shl(128 - u32::from(entry.len)).unwrap_or(0);
            if entry.prefix.starts_with(&MAPPED) && entry.len >= 96 {
                let key = (u32::from(entry.len - 96), cut as u32, entry.list);
                four.entry(key).or_insert(entry.first);
            } else {
                let key = (u32::from(entry.len), cut, entry.list);
                six.entry(key).or_insert(entry.first);
            }
        }
        image.four(&four, &mut header);
        image.six(&six, &mut header);
        let put = |image: &mut Image, lines: Vec<Line>| {
            let first = image.lines.len() as u32;
            image.lines.extend(lines);
            first
        };
        header.rules = put(&mut image, self.rules.iter().map(|rule| transmute!(*rule)).collect());
        header.rules_count = self.rules.len() as u32;
        header.limits =
            put(&mut image, self.limits.iter().map(|limit| transmute!(*limit)).collect());
        header.limits_count = self.limits.len() as u32;
        header.failsafe =
            put(&mut image, self.failsafe.iter().map(|entry| transmute!(*entry)).collect());
        header.failsafe_count = self.failsafe.len() as u32;
        for (ports, nets) in self.failsafe.iter().map(Failsafe::filter) {
            header.failsafe_ports |= ports;
            header.failsafe_nets |= nets;
        }
        header.lines = image.lines.len() as u32;
        let concurrent = |limit: &Limit| limit.kind == LimitKind::Concurrent as u8;
        if self.limits.iter().any(concurrent) {
            image.flags |= POLICY_CONNECTIONS;
        }
        let head: [Line; HEADER_LINES as usize] = transmute!(header);
        image.lines[..HEADER_LINES as usize].copy_from_slice(&head);
        image
    }
}

impl Image {
    fn four(&mut self, entries: &BTreeMap<(u32, u32, ListId), u32>, header: &mut Header) {
        let mut slots = Vec::new();
        // Entries longer than /24, by list and /24.
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut any = BTreeSet::new();
        for ((len, prefix, list), first) in entries {
            header.lengths4[*list as usize] |= 1 << len;
            self.flags |= match list {
                ListId::Block => POLICY_BLOCK4,
                ListId::Allow => POLICY_ALLOW4,
                ListId::Limit => POLICY_LIMIT4,
            };
            if *list == ListId::Block {
                let count = 1_u32 << 24_u32.saturating_sub(*len);
                any.extend((prefix >> 8)..(prefix >> 8) + count);
            }
            if *len > 24 {
                groups.entry((*list, *prefix >> 8)).or_default().push((*len, *prefix, *first));
            } else {
                slots.push((hash4(*prefix, *len, *list), slot4(*prefix, *len, *list, *first)));
            }
        }
        let mut leaves = Vec::new();
        for ((list, number), group) in &groups {
            let covered = (0..=24).any(|len: u32| {
                let shift = 24 - len;
                let prefix = (number >> shift << shift) << 8;
                entries.contains_key(&(len, prefix, *list))
            });
            let home = hash24(number << 8, *list);
            if group.len() <= SHARING_24_MAX {
                let more = if covered { WITH_COVERED_24 } else { WITH_24 };
                slots.extend(group.iter().map(|(len, prefix, first)| {
                    (home, slot4(*prefix, *len + more, *list, *first))
                }));
                continue;
            }
            let mut leaf = [0_u64; 4];
            for (len, prefix, first) in group {
                for address in 0..1_u32 << (32 - len) {
                    let octet = (prefix & 0xff) + address;
                    leaf[(octet / 64) as usize] |= 1 << (octet % 64);
                }
                slots.push((hash4(*prefix, *len, *list), slot4(*prefix, *len, *list, *first)));
            }
            let code = if covered { DENSE_COVERED_24 } else { DENSE_24 };
            slots.push((home, slot4(number << 8, code, *list, leaves.len() as u32)));
            leaves.push(leaf);
        }
        if self.flags & POLICY_BLOCK4 != 0 {
            self.any4 = vec![0; ANY4_WORDS].into();
            for number in any {
                self.any4[(number / 64) as usize] |= 1 << (number % 64);
            }
        }
        header.leaves4 = self.lines.len() as u32;
        for pair in leaves.chunks(2) {
            let [a, b] = [pair[0], pair.get(1).copied().unwrap_or_default()];
            self.lines.push([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]);
        }
        (header.entries4, header.entries4_mask) = self.buckets(&slots);
    }

    fn six(&mut self, entries: &BTreeMap<(u32, u128, ListId), u32>, header: &mut Header) {
        let mut slots = Vec::new();
        let mut prefixes: Vec<Line> = Vec::new();
        let mut blocked = Vec::new();
        for (number, ((len, prefix, list), first)) in entries.iter().enumerate() {
            header.lengths6[*list as usize][(len / 64) as usize] |= 1 << (len % 64);
            let (high, low) = ((prefix >> 64) as u64, *prefix as u64);
            let hash = hash6(high, low, *len, *list);
            slots.push((hash, hash & !0xff_ffff | (number as u64 + 1)));
            let half = [high, low, meta6(*len, *list, *first), 0];
            if number % 2 == 0 {
                prefixes.push(Line::default());
            }
            prefixes.last_mut().unwrap()[number % 2 * 4..][..4].copy_from_slice(&half);
            match list {
                ListId::Allow => self.flags |= POLICY_ALLOW6,
                ListId::Limit => self.flags |= POLICY_LIMIT6,
                ListId::Block => {
                    self.flags |= POLICY_BLOCK6;
                    blocked.push((*len, *prefix));
                }
            }
        }
        (header.entries6, header.entries6_mask) = self.buckets(&slots);
        header.prefixes6 = self.lines.len() as u32;
        self.lines.extend(prefixes);
        let Some(shortest) = blocked.iter().map(|(len, _)| *len).min() else { return };
        let longer = [48, 64, 96].into_iter().filter(|anchor| *anchor > shortest);
        let anchors: BTreeSet<u32> = longer.chain([shortest]).collect();
        for (place, anchor) in header.anchor_lengths.iter_mut().zip(&anchors) {
            *place = *anchor as u8;
        }
        self.flags |= u64::from(shortest) << POLICY_ANCHOR_SHIFT;
        self.filter6 = vec![0; FILTER6_WORDS].into();
        let mut pairs: BTreeMap<u64, u64> = BTreeMap::new();
        for (len, prefix) in blocked {
            let cut = |anchor: u32| {
                let cut = prefix & u128::MAX.checked_shl(128 - anchor).unwrap_or(0);
                hash6((cut >> 64) as u64, cut as u64, anchor, ListId::Block)
            };
            let anchor = *anchors.range(..=len).next_back().unwrap();
            let (word, bits) = filter6(swift6((prefix >> 64) as u64, prefix as u64, shortest));
            self.filter6[word as usize] |= bits;
            *pairs.entry(cut(anchor)).or_default() |= 1 << (len - anchor).min(63);
        }
        header.anchors6 = self.lines.len() as u32;
        let mut buckets = (pairs.len() / 2).next_power_of_two();
        let lines = loop {
            if let Some(lines) = anchor_lines(&pairs, buckets) {
                break lines;
            }
            buckets *= 2;
        };
        header.anchors6_mask = buckets as u32 - 1;
        self.lines.extend(lines);
    }

    fn buckets(&mut self, slots: &[(u64, u64)]) -> (u32, u32) {
        let mut buckets = (slots.len() / 4).next_power_of_two();
        let lines = loop {
            if let Some(lines) = entry_lines(slots, buckets) {
                break lines;
            }
            buckets *= 2;
        };
        let first = self.lines.len() as u32;
        self.lines.extend(lines);
        (first, buckets as u32 - 1)
    }
}

/// Anchors in so many buckets, or `None` when one is full twice over.
fn anchor_lines(pairs: &BTreeMap<u64, u64>, buckets: usize) -> Option<Vec<Line>> {
    let mask = buckets as u32 - 1;
    let mut lines = vec![Line::default(); buckets];
    for (hash, lengths) in pairs {
        let homes = [*hash as u32 & mask, other_bucket(*hash, mask)];
        let (line, word) = homes.iter().find_map(|home| {
            let free = (0..4).find(|pair| lines[*home as usize][pair * 2 + 1] == 0)?;
            Some((*home as usize, free * 2))
        })?;
        lines[line][word] = *hash;
        lines[line][word + 1] = *lengths;
    }
    Some(lines)
}

/// Slots in so many buckets, or `None` when one is full twice over.
fn entry_lines(slots: &[(u64, u64)], buckets: usize) -> Option<Vec<Line>> {
    let mask = buckets as u32 - 1;
    let mut lines = vec![Line::default(); buckets];
    for (hash, slot) in slots {
        let homes = [*hash as u32 & mask, other_bucket(*hash, mask)];
        let (line, word) = homes.iter().find_map(|home| {
            let free = lines[*home as usize].iter().position(|slot| *slot == 0)?;
            Some((*home as usize, free))
        })?;
        lines[line][word] = *slot;
    }
    Some(lines)
}
