//! Scratch of one packet: what does not fit on the kernel's 512-byte stack. One per CPU, reused, never cleared as a whole.
//!
//! Bound: [`Window::DATA_BYTES`] of payload are in it at a time.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    abi::{
        dynamic::{Connection, DropKey, DropValue, Handshake},
        flow_key::{FlowKey, Tuple},
        policy::LimitKey,
        sample::{SNAP_BYTES_MAX, SampleHeader},
        settings::ListenerKey,
    },
    packet::Headers,
    tables::{FragmentKey, FragmentVerdict, RecentKey, RecentValue},
    tracker::{Flow, Stream},
};

/// All scratch of one packet. Every bit pattern is valid.
#[repr(C, align(8))]
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// The packet's headers.
    pub headers: Headers,
    /// Its tuple as reported: of the first sighting, in this packet's direction.
    pub tuple: Tuple,
    /// Key of its flow.
    pub key: FlowKey,
    /// Key of the listener table.
    pub listener: ListenerKey,
    /// Key of the table of recent segments.
    pub recent: RecentKey,
    /// First sighting that was found.
    pub seen: RecentValue,
    /// This sighting, on its way into the table.
    pub sighting: RecentValue,
    /// This packet's tuple reversed, and the canonical one's.
    pub back: Tuple,
    /// See `back`.
    pub canonical_back: Tuple,
    /// Key of the fragment table.
    pub fragment: FragmentKey,
    /// A verdict on its way into it.
    pub fragment_verdict: FragmentVerdict,
    /// A client as the verdicts of the agent name it.
    pub client: [u8; 16],
    /// Key of the table of drops.
    pub drop_key: DropKey,
    /// A drop on its way into it.
    pub drop: DropValue,
    /// Until when this CPU takes it for full, ns.
    pub drops_full_until_ns: u64,
    /// Key of the limit states.
    pub limit: LimitKey,
    /// Key of the state of the client's network.
    pub network: LimitKey,
    /// A handshake that was found, or is on its way into the table.
    pub handshake: Handshake,
    /// The same of an open connection.
    pub connection: Connection,
    /// A flow entry before it is inserted.
    pub fresh: Flow,
    /// Where the tracker is in this packet.
    pub cursor: Cursor,
    /// Lines of a head that is read in one pass.
    pub lines: Lines,
    /// Where the policy look-up is.
    pub search: Search,
    /// Limits of HTTP requests that apply to the packet.
    pub requests: Requests,
    /// The sender's stream before a packet that may be refused for its request head.
    pub before: Stream,
    /// Records put into the ring by this CPU.
    pub emitted: u64,
    /// Payload bytes, with room for a record header before them.
    pub window: Window,
}

/// Position of the tracker in a segment. Indexes count from the window's first data byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// Payload bytes of the segment.
    pub segment_len: u32,
    /// Payload offset of the next byte to load into the window.
    pub next: u32,
    /// Sequence number of the window's first byte.
    pub window_seq: u32,
    /// Bytes in the window.
    pub end: u32,
    /// Next byte to look at.
    pub scan: u32,
    /// First byte of the current line (or head).
    pub line: u32,
    /// First byte of the current head that is not in a record yet.
    pub emit_from: u32,
    /// [`crate::abi::sample::Hook`] of the sighting.
    pub hook: u32,
    /// Always zero.
    pub pad: u32,
    /// Which end of the flow key sent this packet: 0 low, 1 high.
    pub side: u32,
    /// 1 when anything of a head was in the segment.
    pub head_seen: u32,
    /// 1 when the window is loaded and the segment consumed up to `scan` (its first head was read in one pass).
    pub resume: u32,
    /// Time of the sighting, 0 = not read yet.
    pub now_ns: u64,
}

/// What a head's lines said ([`crate::tracker::whole_head`]). In map memory, not on the stack: there
/// the verifier would follow every value through the loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// Content-Length, when `flags` says that there is one.
    pub length: u64,
    /// Index behind the blank line, 0 = it was not found.
    pub end: u32,
    /// Index of the first line end, 0 = none yet.
    pub first: u32,
    /// [`crate::tracker::stream_flag`] `LENGTH` and `CHUNKED`.
    pub flags: u32,
    /// Next byte to look at.
    pub at: u32,
}

/// Values of [`Search::no_ports`]: the packet's ports were read.
pub const PORTS_KNOWN: u32 = 0;
/// A later fragment, which has none.
pub const NO_PORTS: u32 = 1;
/// They lie behind more extension headers than are walked; protocol and ports are taken to be those that a rule wants.
pub const PORTS_UNKNOWN: u32 = 2;
/// Rules that monitor, for one packet: a verdict on its flow and on each end, a block rule for each end, one of the limits;
/// a power of two.
pub const NOTED_MAX: usize = 8;
/// Value of [`Search::exempt`]: rules may drop this packet.
pub const NOT_EXEMPT: u32 = 1;
/// Value of [`Search::exempt`]: no rule drops this packet.
pub const EXEMPT: u32 = 2;
/// Value of [`Search::exempt`]: a limit applies, so it is to be asked before anything is charged.
pub const ASK_EXEMPT: u32 = 3;
/// Value of [`Search::exempt`]: it was asked and is not, and the limits are walked once more.
pub const WALKED_AGAIN: u32 = 4;
/// Bit of an element of [`Search::noted`].
pub const OF_A_LIMIT: u32 = 1 << 31;

/// Limits of HTTP requests between the verdict, which finds them, and the tracker, which finds the heads. `limits` and `over` are
/// set for every packet, the others only where one of those is not zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    /// Numbers of the limits (lines of the image from its limits on).
    pub places: [u32; REQUEST_LIMITS_MAX as usize],
    /// How many there are.
    pub limits: u32,
    /// Request heads that begin in the packet.
    pub heads: u32,
    /// Rule of a limit without room for one request: a packet with a head is dropped. 0 = all have room.
    pub over: u32,
    /// Its index in `RULE_HITS`.
    pub hits: u32,
    /// Its action.
    pub action: u32,
    /// As [`Search::of_network`], of `over`.
    pub of_network: u32,
    /// 1 when a head was found and refused; the tracker is where it was before the packet.
    pub refused: u32,
}

/// Limits of requests that one packet is charged to at most; more are counted as a look-up that ended at its bound.
pub const REQUEST_LIMITS_MAX: u32 = 8;

/// State of a policy look-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// The policy in force for this packet, as [`crate::abi::settings::Settings::policy`]: read once.
    pub policy: u64,
    /// Address that is looked up; of an IPv4 address `low` is all and `high` 0.
    pub high: u64,
    /// See `high`.
    pub low: u64,
    /// The first moment at which a rule that was asked begins or ends, ns; `u64::MAX` = none has a time.
    pub until_ns: u64,
    /// Prefix lengths still to be probed, bit n = n bits; the last word is room for a shift.
    pub lengths: [u64; 4],
    /// First line of the buckets of entries.
    pub entries: u32,
    /// Their number less one.
    pub entries_mask: u32,
    /// First line of the IPv6 prefixes.
    pub prefixes: u32,
    /// Place in the buckets from which the probe of an IPv6 length goes on.
    pub resume: u32,
    /// Added to lengths above 24 in the slots of this address's /24, 0 = they have homes of their own (IPv4).
    pub with_24: u32,
    /// Always zero.
    pub pad: u32,
    /// First line of the rules.
    pub rules: u32,
    /// First line of the limits.
    pub limits: u32,
    /// Rule (or limit) to be asked next, 0 = probe the next length.
    pub pending: u32,
    /// Rule that applies, 0 = none (yet).
    pub found: u32,
    /// Its index in `RULE_HITS`.
    pub hits: u32,
    /// Its action.
    pub action: u32,
    /// Which end of the packet is looked up: 0 source, 1 destination.
    pub end: u32,
    /// Port of the end that is not listed.
    pub service_port: u32,
    /// Whether the packet's ports are known: [`PORTS_KNOWN`], [`NO_PORTS`] or [`PORTS_UNKNOWN`].
    pub no_ports: u32,
    /// [`crate::abi::policy::RuleDirection`] of the packet.
    pub direction: u32,
    /// Interface of the packet.
    pub ifindex: u32,
    /// Wire packets in the skb.
    pub packets: u32,
    /// Bytes of the skb.
    pub bytes: u32,
    /// Rule that only monitors and matched: one more than its index in `RULE_HITS`; 0 = none.
    pub monitored: u32,
    /// Such rules of all look-ups of this packet, with [`OF_A_LIMIT`]; they are counted once it is known whether it was exempt.
    pub noted: [u32; NOTED_MAX],
    /// Their number.
    pub noted_count: u32,
    /// Whether failsafe or the allowlist exempts the packet: 0 not asked yet, [`NOT_EXEMPT`], [`EXEMPT`],
    /// [`ASK_EXEMPT`] or [`WALKED_AGAIN`].
    pub exempt: u32,
    /// Bit 0: the packet was counted as one that a block rule would have dropped; bit 1: a limit.
    pub would_counted: u32,
    /// Whether the packet was charged at another hook: 0 not asked yet, 1 no, 2 yes.
    pub packet_seen: u32,
    /// The same for a SYN and limits of connections.
    pub syn_seen: u32,
    /// 1 when the limit at hand is charged to the sender's network, because its address may be forged.
    pub of_network: u32,
    /// Whether the sender is the server of its connection: 0 not asked yet, 1 not that we know, 2 yes.
    pub server: u32,
    /// What is known of the sender: 0 not asked yet, else one more than [`crate::verdict::Standing`].
    pub standing: u32,
    /// Whether its connection is there: 0 not asked yet, else one more than [`crate::verdict::Completion`].
    pub completion: u32,
    /// The table that holds the state of the limit at hand: one more than [`crate::tables::Tier`]; 0 = it is not a client's.
    pub tier: u32,
}

/// Payload bytes on their way into the ring, behind the header of their record. Words, because scanning goes by aligned words.
#[repr(C, align(8))]
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Window {
    /// Header of the next record.
    pub header: SampleHeader,
    words: [u64; Self::WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { header: SampleHeader::default(), words: [0; Self::WORDS] }
    }
}

impl Window {
    /// Room before the data for a record's header.
    pub const HEADROOM: usize = size_of::<SampleHeader>();
    /// Payload bytes at most: one record's worth.
    pub const DATA_BYTES: u32 = SNAP_BYTES_MAX;
    /// Words of data: any masked index, and one record behind it.
    pub const WORDS: usize = 532;
    /// Mask of an index into the data.
    pub const INDEX_MASK: u32 = 2047;

    /// The aligned word in which data byte `index` lies.
    #[inline(always)]
    pub fn aligned_word(&self, index: u32) -> u64 {
        self.words.get(((index & Self::INDEX_MASK) >> 3) as usize).copied().unwrap_or(0)
    }

    /// Eight data bytes from `index` on, the first in the lowest bits. Bytes beyond the window's end are noise.
    #[inline(always)]
    pub fn word_at(&self, index: u32) -> u64 {
        let low = u64::from_le(self.aligned_word(index));
        let high = u64::from_le(self.aligned_word(index + 8));
        let shift = (index & 7) * 8;
        // Two shifts, because one by 64 is not defined.
        (low >> shift) | ((high << 1) << (63 - shift))
    }

    /// Sets the word of data at an index that is a multiple of 8.
    #[inline(always)]
    pub fn put_word(&mut self, index: u32, word: u64) {
        if let Some(slot) = self.words.get_mut(((index & Self::INDEX_MASK) >> 3) as usize) {
            *slot = word.to_le();
        }
    }

    /// Puts a tuple at the start of the data.
    pub fn put_tuple(&mut self, tuple: &Tuple) {
        if let Some((to, _)) = self.data_mut().split_at_mut_checked(size_of::<Tuple>()) {
            to.copy_from_slice(tuple.as_bytes());
        }
    }

    /// The data as bytes.
    pub fn data(&self) -> &[u8] {
        self.words.as_bytes()
    }

    /// The data as bytes.
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.words.as_mut_bytes()
    }
}
