//! Puts IP fragments of a capture together (RFC 791, RFC 8200 section 4.5); the first copy of a byte wins.
//!
//! Bounds: [`DATAGRAMS_MAX`] datagrams of 64 KiB; the oldest gives way.

use std::collections::VecDeque;

const DATAGRAMS_MAX: usize = 64;
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Identification.
    pub id: u32,
    /// Protocol of the whole.
    pub protocol: u8,
    /// Offset of `data` in the whole, a multiple of 8.
    pub offset: usize,
    /// Others follow.
    pub more: bool,
    /// Its part of the payload.
    pub data: &'a [u8],
}

/// Fragments that wait.
#[derive(Debug, Default)]
pub struct Fragments {
    waiting: VecDeque<Datagram>,
}

#[derive(Debug)]
struct Datagram {
    key: ([u8; 16], [u8; 16], u32, u8),
    data: Vec<u8>,
    /// Which units of 8 bytes are there.
    units: Vec<bool>,
    total: Option<usize>,
}

impl Fragments {
    /// Adds one; returns the payload once it is whole.
    pub fn add(&mut self, part: &Fragment<'_>) -> Option<Vec<u8>> {
        let end = part.offset + part.data.len();
        if end > DATAGRAM_BYTES_MAX
            || part.data.is_empty()
            || (part.more && !part.data.len().is_multiple_of(8))
        {
            return None;
        }
        let key = (part.src, part.dst, part.id, part.protocol);
        let found = self.waiting.iter().position(|datagram| datagram.key == key);
        let index = found.unwrap_or_else(|| {
            if self.waiting.len() >= DATAGRAMS_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Datagram {
                key,
                data: Vec::new(),
                units: Vec::new(),
                total: None,
            });
            self.waiting.len() - 1
        });
        let datagram = self.waiting.get_mut(index)?;
        datagram.add(part, end);
        if !datagram.is_whole() {
            return None;
        }
        let mut whole = self.waiting.remove(index)?;
        whole.data.truncate(whole.total?);
        Some(whole.data)
    }
}

impl Datagram {
    fn add(&mut self, part: &Fragment<'_>, end: usize) {
        if !part.more {
            self.total.get_or_insert(end);
        }
        if self.data.len() < end {
            self.data.resize(end, 0);
            self.units.resize(end.div_ceil(8), false);
        }
        for (index, piece) in part.data.chunks(8).enumerate() {
            let unit = part.offset / 8 + index;
            if let Some(there) = self.units.get_mut(unit)
                && !std::mem::replace(there, true)
                && let Some(place) = self.data.get_mut(unit * 8..unit * 8 + piece.len())
            {
                place.copy_from_slice(piece);
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.total.is_some_and(|total| {
            let needed = total.div_ceil(8);
            self.units.len() >= needed && self.units.iter().take(needed).all(|there| *there)
        })
    }
}
