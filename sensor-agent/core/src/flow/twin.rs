//! Two connections of one capture that are one: before and after address translation (a capture on all interfaces of a
//! node that does NAT holds each packet twice).
//!
//! Addresses and ports change, sequence and acknowledgement numbers and the payload do not; a router also takes one off
//! the hop limit. So the first segments of a connection are remembered, and a connection whose first payload is one of
//! them, under other addresses, within a second and with another hop limit, is that connection. Without the hop limit
//! captures made by programs, where every connection has the same numbers, would be joined. Bound: [`SETS`] times
//! [`WAYS`] segments, the oldest of its set makes room.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;

use sensor_ebpf::abi::flow_key::FlowKey;

use super::assembled::socket_addr;
use super::segment::Segment;

/// Payload segments of a connection that are remembered; more than one, since one may be missing under other addresses.
pub(super) const REMEMBERED_MAX: u8 = 2;
/// Within this time a segment is the same one elsewhere, as in the kernel.
const SAME_SEGMENT_NS: u64 = 1_000_000_000;
/// Most routers between the two places of one host where it was captured.
const HOPS_MAX: u8 = 4;
/// First payload bytes that must agree.
const BYTES: usize = 16;
const SETS: usize = 256;
const WAYS: usize = 4;

/// A sighting: of which connection, from which side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) key: FlowKey,
    pub(super) from: usize,
    time_ns: u64,
    hop_limit: u8,
}

/// Recent first segments.
#[derive(Debug)]
pub(super) struct Recent {
    tags: Vec<[u64; WAYS]>,
    sightings: Vec<[Sighting; WAYS]>,
    /// Which way of a set is the oldest.
    oldest: Vec<u8>,
    hasher: foldhash::fast::FixedState,
}

impl Recent {
    /// An empty one; `seed` keys the hash, so that nobody can choose segments that push out others.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            tags: vec![[0; WAYS]; SETS],
            sightings: vec![[Sighting::default(); WAYS]; SETS],
            oldest: vec![0; SETS],
            hasher: foldhash::fast::FixedState::with_seed(seed),
        }
    }

    /// What [`Self::find`] and [`Self::remember`] want.
    pub(super) fn tag(&self, segment: &Segment<'_>) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write_u64(u64::from(segment.seq) << 32 | u64::from(segment.ack));
        state.write_u32(segment.wire_len);
        state.write(segment.payload.get(..BYTES).unwrap_or(segment.payload));
        state.finish() | 1
    }

    /// The same segment under the addresses of another connection.
    pub(super) fn find(&self, tag: u64, key: &FlowKey, segment: &Segment<'_>) -> Option<Sighting> {
        let set = set_of(tag);
        let tags = self.tags.get(set)?;
        let sighting = tags.iter().zip(self.sightings.get(set)?).find(|(have, sighting)| {
            let hops = sighting.hop_limit.abs_diff(segment.hop_limit);
            **have == tag
                && sighting.key != *key
                && sighting.time_ns.abs_diff(segment.time.0) < SAME_SEGMENT_NS
                && sighting.hop_limit != 0
                && segment.hop_limit != 0
                && (1..=HOPS_MAX).contains(&hops)
        });
        sighting.map(|(_, sighting)| *sighting)
    }

    /// Remembers a segment of a connection.
    pub(super) fn remember(&mut self, tag: u64, key: FlowKey, from: usize, segment: &Segment<'_>) {
        let set = set_of(tag);
        let Some(oldest) = self.oldest.get_mut(set) else { return };
        let way = usize::from(*oldest) % WAYS;
        *oldest = oldest.wrapping_add(1);
        if let Some(place) = self.tags.get_mut(set).and_then(|ways| ways.get_mut(way)) {
            *place = tag;
        }
        if let Some(place) = self.sightings.get_mut(set).and_then(|ways| ways.get_mut(way)) {
            *place = Sighting { key, from, time_ns: segment.time.0, hop_limit: segment.hop_limit };
        }
    }
}

/// What a connection that is another one's twin knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twin {
    /// The connection that all segments go to.
    pub(super) first: FlowKey,
    /// Whether the lower end of this one is the higher end of the first.
    flipped: bool,
    /// An end of the first one, by its side, that this one knows better: nearer to who really sends or receives.
    pub(super) end: (usize, SocketAddr),
}

impl Twin {
    /// Of a sighting, and the same segment from side `from` of this connection.
    pub(super) fn new(sighting: &Sighting, from: usize, segment: &Segment<'_>) -> Self {
        let tuple = &segment.tuple;
        // Each router takes one off the limit: the lower one was seen later, nearer to the receiver.
        let end = if segment.hop_limit < sighting.hop_limit {
            (1 - sighting.from, socket_addr(tuple.dst, tuple.dst_port))
        } else {
            (sighting.from, socket_addr(tuple.src, tuple.src_port))
        };
        Self { first: sighting.key, flipped: sighting.from != from, end }
    }

    /// Side of the first one that a side of this one is.
    pub(super) fn side(&self, from: usize) -> usize {
        if self.flipped { 1 - from } else { from }
    }
}

fn set_of(tag: u64) -> usize {
    usize::try_from(tag >> 32).unwrap_or(0) % SETS
}

#[cfg(test)]
mod tests;
