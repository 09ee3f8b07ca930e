//! Fields of an image's header, straight from its lines: a packet reads one or two of the four.

use core::mem::offset_of;

use zerocopy::transmute_ref;

use crate::{
    abi::{
        image::{Header, Line},
        settings::POLICY_SLOT,
    },
    tables::Tables,
    work::Work,
};

/// A header field of four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(usize);

impl Field {
    pub(super) const LEAVES4: Self = Self(offset_of!(Header, leaves4));
    pub(super) const ENTRIES4: Self = Self(offset_of!(Header, entries4));
    pub(super) const ENTRIES4_MASK: Self = Self(offset_of!(Header, entries4_mask));
    pub(super) const ENTRIES6: Self = Self(offset_of!(Header, entries6));
    pub(super) const ENTRIES6_MASK: Self = Self(offset_of!(Header, entries6_mask));
    pub(super) const PREFIXES6: Self = Self(offset_of!(Header, prefixes6));
    pub(super) const ANCHORS6: Self = Self(offset_of!(Header, anchors6));
    pub(super) const ANCHORS6_MASK: Self = Self(offset_of!(Header, anchors6_mask));
    /// Four lengths of a byte each.
    pub(super) const ANCHOR_LENGTHS: Self = Self(offset_of!(Header, anchor_lengths));
    pub(super) const RULES: Self = Self(offset_of!(Header, rules));
    pub(super) const LIMITS: Self = Self(offset_of!(Header, limits));
    pub(super) const FAILSAFE: Self = Self(offset_of!(Header, failsafe));
    pub(super) const FAILSAFE_COUNT: Self = Self(offset_of!(Header, failsafe_count));

    /// Reads it from the line of the header in which it lies.
    #[inline(always)]
    pub(super) fn of(self, line: &Line) -> u32 {
        let halves: &[u32; 16] = transmute_ref!(line);
        halves.get((self.0 / 4) & 15).copied().unwrap_or(0)
    }
}

// Which field is in which line: who reads them rests on it.
const _: () = assert!(offset_of!(Header, anchor_lengths) == 60);
const _: () = assert!(offset_of!(Header, rules) == 64 && offset_of!(Header, lengths4) == 88);
const _: () = assert!(offset_of!(Header, lengths6) == 112);
const _: () = assert!(offset_of!(Header, failsafe_ports) == 184);

/// A line of the image in force for this packet.
#[inline(always)]
pub(super) fn line<'t, T: Tables>(number: u32, tables: &'t T, work: &Work) -> Option<&'t Line> {
    tables.line((work.search.policy & POLICY_SLOT) as u32, number)
}
