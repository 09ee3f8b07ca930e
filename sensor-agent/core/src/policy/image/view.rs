//! Reads an image: which rules and limits it holds for an address, in the order in which the kernel asks them.
//!
//! Works on any bytes: line numbers beyond the end and chains that do not end give less, never a panic or an endless walk
//! (`STEPS_MAX` numbers for an address).

use std::net::IpAddr;

use ipnet::IpNet;
use sensor_ebpf::abi::image::{
    Failsafe, HEADER_LINES, Header, IMAGE_VERSION, Limit, Line, Lines, ListId, Rule, STEPS_MAX,
    WITH_24, WITH_COVERED_24, hash4, hash6, hash24, meta6, other_bucket, slot4,
};
use zerocopy::{transmute, transmute_ref};

use super::family::cut;

/// Numbers of first rules in a slot or prefix.
const FIRST: u64 = 0xff_ffff;

/// An image that can be asked.
#[derive(Clone, Copy, Debug)]
pub struct View<'i, L: ?Sized> {
    lines: &'i L,
    /// Its header.
    pub header: Header,
}

impl<'i, L: Lines + ?Sized> View<'i, L> {
    /// Reads the header; `None` for an image of another version.
    pub fn new(lines: &'i L) -> Option<Self> {
        let mut head: [Line; HEADER_LINES as usize] = [[0; 8]; HEADER_LINES as usize];
        for (line, number) in head.iter_mut().zip(0..) {
            *line = *lines.line(number)?;
        }
        let header: Header = transmute!(head);
        (header.version == IMAGE_VERSION).then_some(Self { lines, header })
    }

    /// A kernel rule.
    pub fn rule(&self, number: u32) -> Option<&'i Rule> {
        self.numbered(number, self.header.rules, self.header.rules_count)
            .map(|line| transmute_ref!(line))
    }

    /// A kernel limit.
    pub fn limit(&self, number: u32) -> Option<&'i Limit> {
        self.numbered(number, self.header.limits, self.header.limits_count)
            .map(|line| transmute_ref!(line))
    }

    /// The failsafe entries.
    pub fn failsafe(&self) -> impl Iterator<Item = &'i Failsafe> {
        let (lines, header) = (self.lines, self.header);
        (0..header.failsafe_count).map_while(move |number| {
            lines.line(header.failsafe.wrapping_add(number)).map(|line| transmute_ref!(line))
        })
    }

    fn numbered(&self, number: u32, first: u32, count: u32) -> Option<&'i Line> {
        (number > 0 && number < count).then(|| self.lines.line(first.wrapping_add(number)))?
    }

    /// Entries of a list that cover an address, longest first, each with the number of its first rule or limit.
    pub fn entries(&self, list: ListId, address: IpAddr) -> Vec<(IpNet, u32)> {
        let mut found = Vec::new();
        for len in (0..=if address.is_ipv4() { 32 } else { 128 }).rev() {
            let Ok(net) = IpNet::new(address, len).map(|net| net.trunc()) else { continue };
            found.extend(self.entry(list, net).map(|first| (net, first)));
        }
        found
    }

    /// First rule (or limit) of an entry.
    pub fn entry(&self, list: ListId, net: IpNet) -> Option<u32> {
        let (header, len) = (&self.header, u32::from(net.prefix_len()));
        let at = list as usize;
        match net {
            IpNet::V4(net) => {
                if header.lengths4.get(at)? >> len & 1 == 0 {
                    return None;
                }
                let prefix = net.network().to_bits();
                let at = |hash: u64, len: u32| {
                    let wanted = slot4(prefix, len, list, 0);
                    self.probe(header.entries4, header.entries4_mask, hash, |slot| {
                        (slot & !FIRST == wanted).then(|| first_of(slot))
                    })
                };
                let own = at(hash4(prefix, len, list), len);
                if own.is_some() || len <= 24 {
                    return own;
                }
                let shared = hash24(prefix, list);
                at(shared, len + WITH_24).or_else(|| at(shared, len + WITH_COVERED_24))
            }
            IpNet::V6(net) => {
                let word = header.lengths6.get(at)?.get(usize::try_from(len / 64).ok()?)?;
                if word >> (len % 64) & 1 == 0 {
                    return None;
                }
                let bits = net.network().to_bits();
                #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
                let (high, low) = cut((bits >> 64) as u64, bits as u64, net.prefix_len());
                let hash = hash6(high, low, len, list);
                self.probe(header.entries6, header.entries6_mask, hash, |slot| {
                    let number =
                        first_of(slot).checked_sub(1).filter(|_| slot >> 24 == hash >> 24)?;
                    let pair = self.lines.line(header.prefixes6.wrapping_add(number / 2))?;
                    let half = if number % 2 == 0 { 0 } else { 4 };
                    let [own_high, own_low, meta] = *pair.get(half..half + 3)?.first_chunk()?;
                    let same =
                        (own_high, own_low, meta & !FIRST) == (high, low, meta6(len, list, 0));
                    same.then(|| first_of(meta))
                })
            }
        }
    }

    /// Looks into the home bucket and, when that is full, into the other.
    fn probe(
        &self,
        first: u32,
        mask: u32,
        hash: u64,
        wanted: impl Fn(u64) -> Option<u32>,
    ) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
        let home = hash as u32 & mask;
        if first == 0 {
            return None;
        }
        let bucket = self.lines.line(first.wrapping_add(home))?;
        let used = |slot: &&u64| **slot != 0;
        if let Some(found) = bucket.iter().filter(used).find_map(|slot| wanted(*slot)) {
            return Some(found);
        }
        if bucket.contains(&0) {
            return None;
        }
        let other = self.lines.line(first.wrapping_add(other_bucket(hash, mask)))?;
        other.iter().filter(used).find_map(|slot| wanted(*slot))
    }

    /// The rules of an entry, in the order in which they are asked.
    pub fn rules(&self, first: u32) -> Vec<(u32, Rule)> {
        let mut rules = Vec::new();
        let mut number = first;
        while let Some(rule) = self.rule(number).filter(|_| rules.len() < STEPS_MAX as usize) {
            rules.push((number, *rule));
            number = rule.next;
        }
        rules
    }

    /// The limits of an entry.
    pub fn limits(&self, first: u32) -> Vec<(u32, Limit)> {
        let mut limits = Vec::new();
        let mut number = first;
        while let Some(limit) = self.limit(number).filter(|_| limits.len() < STEPS_MAX as usize) {
            limits.push((number, *limit));
            number = limit.next;
        }
        limits
    }
}

fn first_of(word: u64) -> u32 {
    (word & FIRST) as u32
}
