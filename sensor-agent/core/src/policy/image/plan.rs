//! An image as it will be, before any of its memory is taken; and building it.

use sensor_ebpf::abi::{
    image::{
        ANY4_WORDS, FILTER6_WORDS, Failsafe, HEADER_LINES, Header, IMAGE_VERSION, LimitKind, Line,
        ListId, hash6, meta6,
    },
    settings::{
        POLICY_ALLOW4, POLICY_ALLOW6, POLICY_BLOCK4, POLICY_BLOCK6, POLICY_CONNECTIONS,
        POLICY_LIMIT4, POLICY_LIMIT6, POLICY_NEAR4, POLICY_NEAR6, POLICY_REQUESTS,
    },
};
use zerocopy::transmute;

use super::{
    buckets::{Buckets, NoRoom},
    built::PolicyImage,
    chains::Chains,
    family::{Key as _, Key4, Key6},
    members4,
    members6::{self, Anchors},
    near::{self, Grains},
    walk::Entries,
};

/// Lists in the order of their numbers.
pub(super) const LISTS: [ListId; 3] = [ListId::Block, ListId::Allow, ListId::Limit];

/// Everything that goes into an image, and how large its parts are.
pub(super) struct Plan {
    pub(super) four: [Entries<Key4>; 3],
    pub(super) six: [Entries<Key6>; 3],
    pub(super) chains: Chains,
    pub(super) failsafe: Vec<Failsafe>,
    pub(super) digest: u64,
    anchors: Anchors,
    grains: Grains,
    has_near4: bool,
    has_near6: bool,
    sizes: Sizes,
}

/// Lines of the parts; buckets are powers of two.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    leaves4: usize,
    entries4: usize,
    entries6: usize,
    anchors6: usize,
}

impl Plan {
    pub(super) fn new(
        four: [Entries<Key4>; 3],
        six: [Entries<Key6>; 3],
        chains: Chains,
        failsafe: Vec<Failsafe>,
        digest: u64,
    ) -> Self {
        let [block6, ..] = &six;
        let anchors = Anchors::choose(&block6.keys);
        let dense4: usize = four.iter().map(|list| members4::dense(&list.keys)).sum();
        let entries4: usize = four.iter().map(|list| list.keys.len()).sum();
        let sizes = Sizes {
            leaves4: dense4.div_ceil(2),
            entries4: Buckets::<1>::count_for(entries4 + dense4),
            entries6: Buckets::<1>::count_for(six.iter().map(|list| list.keys.len()).sum()),
            anchors6: Buckets::<2>::count_for(members6::anchors(&block6.keys, anchors)),
        };
        let [block4, ..] = &four;
        let has_near4 = near::is_wanted4(&block4.keys);
        let has_near6 = near::is_wanted6(&block6.keys);
        let grains = Grains::choose(&block6.keys);
        Self { four, six, chains, failsafe, digest, anchors, grains, has_near4, has_near6, sizes }
    }

    fn blocks4(&self) -> bool {
        let [block, ..] = &self.four;
        !block.keys.is_empty()
    }

    fn blocks6(&self) -> bool {
        let [block, ..] = &self.six;
        !block.keys.is_empty()
    }

    fn count4(&self) -> usize {
        self.four.iter().map(|list| list.keys.len()).sum()
    }

    fn count6(&self) -> usize {
        self.six.iter().map(|list| list.keys.len()).sum()
    }

    /// Bytes that the image takes in the kernel, bitmaps included.
    pub(super) fn bytes(&self) -> u64 {
        let bitmaps = usize::from(self.blocks4()) * ANY4_WORDS * 8
            + usize::from(self.blocks6()) * FILTER6_WORDS * 8
            + (usize::from(self.has_near4) + usize::from(self.has_near6)) * near::BYTES;
        (self.lines() * size_of::<Line>() + bitmaps) as u64
    }

    fn lines(&self) -> usize {
        let mut lines = HEADER_LINES as usize;
        if self.count4() > 0 {
            lines += self.sizes.leaves4 + self.sizes.entries4;
        }
        if self.count6() > 0 {
            lines += self.sizes.entries6 + self.count6().div_ceil(2);
        }
        if self.blocks6() {
            lines += self.sizes.anchors6;
        }
        lines + self.chains.rules.len() + self.chains.limits.len() + self.failsafe.len()
    }

    /// Builds the image; fails on prefixes that find no place however large their table is.
    pub(super) fn build(&self) -> Result<PolicyImage, NoRoom> {
        let mut lines: Vec<Line> = Vec::with_capacity(self.lines());
        lines.resize(HEADER_LINES as usize, [0; 8]);
        let mut header =
            Header { version: IMAGE_VERSION, digest: self.digest, ..Header::default() };
        header.anchor_lengths = self.anchors.0;
        for (place, list) in header.lengths4.iter_mut().zip(&self.four) {
            let [lengths, ..] = list.lengths;
            *place = lengths;
        }
        for (place, list) in header.lengths6.iter_mut().zip(&self.six) {
            *place = list.lengths;
        }
        let (mut any4, mut filter6) = (Box::default(), Box::default());
        if self.blocks4() {
            let [block, ..] = &self.four;
            any4 = members4::any4(&block.keys);
        }
        if self.count4() > 0 {
            let mut leaves = Vec::new();
            let (table, mask) = grow(self.sizes.entries4, |buckets| {
                leaves.clear();
                self.entries4(buckets, &mut leaves)
            })?;
            header.leaves4 = append(&mut lines, leaves);
            header.entries4 = append(&mut lines, table);
            header.entries4_mask = mask;
        }
        if self.count6() > 0 {
            let (table, mask) = grow(self.sizes.entries6, |buckets| self.entries6(buckets))?;
            header.entries6 = append(&mut lines, table);
            header.entries6_mask = mask;
            header.prefixes6 = append(&mut lines, self.prefixes6());
        }
        if self.blocks6() {
            let [block, ..] = &self.six;
            let mut filter = Box::default();
            let (table, mask) = grow(self.sizes.anchors6, |buckets| {
                let (bits, table) = members6::tables(&block.keys, self.anchors, buckets)?;
                filter = bits;
                Ok(table)
            })?;
            filter6 = filter;
            header.anchors6 = append(&mut lines, table);
            header.anchors6_mask = mask;
        }
        let (rules, limits) = (&self.chains.rules, &self.chains.limits);
        header.rules_count = count(rules.len());
        header.rules = append(&mut lines, rules.iter().map(|rule| transmute!(*rule)));
        header.limits_count = count(limits.len());
        header.limits = append(&mut lines, limits.iter().map(|limit| transmute!(*limit)));
        header.failsafe_count = count(self.failsafe.len());
        for (ports, nets) in self.failsafe.iter().map(Failsafe::filter) {
            header.failsafe_ports |= ports;
            header.failsafe_nets |= nets;
        }
        header.failsafe = append(&mut lines, self.failsafe.iter().map(|kept| transmute!(*kept)));
        header.lines = count(lines.len());
        let head: [Line; HEADER_LINES as usize] = transmute!(header);
        for (line, words) in lines.iter_mut().zip(head) {
            *line = words;
        }
        let ([four, ..], [six, ..]) = (&self.four, &self.six);
        let (mut near4, mut near6) = (Box::default(), Box::default());
        if self.has_near4 {
            near4 = near::near4(&four.keys);
        }
        if self.has_near6 {
            near6 = near::near6(&six.keys, self.grains);
        }
        Ok(PolicyImage { lines, any4, filter6, near4, near6, flags: self.flags() })
    }

    /// Every IPv4 entry of every list.
    fn entries4(&self, buckets: usize, leaves: &mut Vec<Line>) -> Result<Vec<Line>, NoRoom> {
        let mut table = Buckets::<1>::new(buckets);
        let mut count = 0;
        for (entries, list) in self.four.iter().zip(LISTS) {
            members4::slots(list, &entries.keys, (&mut *leaves, &mut count), |hash, slot| {
                table.insert(hash, [slot], |[slot]| members4::hash_of(*slot))
            })?;
        }
        Ok(table.into_lines())
    }

    /// Every IPv6 entry of every list, in the order of its number.
    fn keys6(&self) -> impl Iterator<Item = (Key6, ListId)> {
        self.six
            .iter()
            .zip(LISTS)
            .flat_map(|(entries, list)| entries.keys.iter().map(move |key| (*key, list)))
    }

    fn key6(&self, number: u64) -> Option<(Key6, ListId)> {
        let mut at = usize::try_from(number).ok()?;
        for (entries, list) in self.six.iter().zip(LISTS) {
            match entries.keys.get(at) {
                Some(key) => return Some((*key, list)),
                None => at -= entries.keys.len(),
            }
        }
        None
    }

    fn entries6(&self, buckets: usize) -> Result<Vec<Line>, NoRoom> {
        let mut table = Buckets::<1>::new(buckets);
        let hash_of =
            |(key, list): (Key6, ListId)| hash6(key.high, key.low, key.len().into(), list);
        for (entry, number) in self.keys6().zip(1_u64..) {
            let hash = hash_of(entry);
            table.insert(hash, [hash >> 24 << 24 | number], |[slot]| {
                self.key6((slot & 0xff_ffff) - 1).map_or(0, hash_of)
            })?;
        }
        Ok(table.into_lines())
    }

    fn prefixes6(&self) -> Vec<Line> {
        let mut lines = Vec::with_capacity(self.count6().div_ceil(2));
        for ((key, list), number) in self.keys6().zip(0_usize..) {
            if number.is_multiple_of(2) {
                lines.push([0; 8]);
            }
            let half = number % 2 * 4;
            if let Some(place) =
                lines.last_mut().and_then(|line: &mut Line| line.get_mut(half..half + 3))
            {
                let meta = meta6(key.len().into(), list, key.number());
                place.copy_from_slice(&[key.high, key.low, meta]);
            }
        }
        lines
    }

    fn flags(&self) -> u64 {
        let [_, allow4, limit4] = &self.four;
        let [_, allow6, limit6] = &self.six;
        let (requests, concurrent) = (LimitKind::Requests as u8, LimitKind::Concurrent as u8);
        let mut in_kernel = self.chains.limits.iter().skip(1).filter(|limit| limit.by_agent == 0);
        let any_packet = in_kernel.clone().any(|limit| limit.kind != requests);
        let any_connection = in_kernel.clone().any(|limit| limit.kind == concurrent);
        let any_request = in_kernel.any(|limit| limit.kind == requests);
        [
            (self.blocks4(), POLICY_BLOCK4),
            (self.blocks6(), POLICY_BLOCK6),
            (!allow4.keys.is_empty(), POLICY_ALLOW4),
            (!allow6.keys.is_empty(), POLICY_ALLOW6),
            (any_packet && !limit4.keys.is_empty(), POLICY_LIMIT4),
            (any_packet && !limit6.keys.is_empty(), POLICY_LIMIT6),
            (any_request, POLICY_REQUESTS),
            (any_connection, POLICY_CONNECTIONS),
            (self.has_near4, POLICY_NEAR4),
            (self.has_near6, POLICY_NEAR6 | self.grains.flags()),
        ]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |flags, (_, flag)| flags | flag)
    }
}

/// Doublings of a table at most. The hash has no secret, so who writes a list that others load can choose prefixes that fill
/// one bucket of a table of any size.
const DOUBLINGS_MAX: u32 = 2;

/// Builds a table, with twice the buckets when it does not fit (which three quarters of them in use hardly ever need).
fn grow(
    buckets: usize,
    mut build: impl FnMut(usize) -> Result<Vec<Line>, NoRoom>,
) -> Result<(Vec<Line>, u32), NoRoom> {
    let mut tries = (0..=DOUBLINGS_MAX).map(|doublings| buckets << doublings);
    tries.find_map(|buckets| Some((build(buckets).ok()?, count(buckets - 1)))).ok_or(NoRoom)
}

/// Adds lines; gives the number of the first.
fn append(lines: &mut Vec<Line>, more: impl IntoIterator<Item = Line>) -> u32 {
    let first = count(lines.len());
    lines.extend(more);
    first
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
