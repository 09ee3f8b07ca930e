//! The policy image: everything that one generation of a policy says, as one immutable array of 64-byte lines.
//!
//! The agent builds an image in memory, writes it into a fresh array map, puts that map into a free slot of `POLICY` (an array of
//! maps) and then moves the selector in [`Settings::policy`](super::settings::Settings::policy), which the programs read once per packet. So a
//! replacement is atomic over everything at once, nothing in use is ever changed, and the old image is freed by the kernel after a
//! grace period. Three bitmaps of fixed size lie outside, because clean packets touch nothing else: `ANY4`, `FILTER6` and [`NEAR`](super::near), arrays
//! of maps with the same slots. The first two are made only for a policy with block entries of their family (the `POLICY_BLOCK*` flags say so), the
//! third only for one with many, so a host without a policy pays for none.
//!
//! An image is the same bytes in the kernel and on the host: [`Lines`] is how both read it.
//!
//! # Layout
//! All integers are in the byte order of the host; a line is eight u64 words. Line numbers are counted from the image's start.
//! Lines 0 and up to [`HEADER_LINES`] hold [`Header`] (its words, in order); everything else is where the header says.
//!
//! - **Membership IPv4.** `ANY4`: bit n set = some block entry touches 10.0.0.0/24 number n (the address's first 24 bits). Then one bucket
//!   of the entries says it exactly: see there.
//! - **Membership IPv6.** `FILTER6`: the bits [`filter6`] names for the [`swift6`] of each entry's prefix cut to the first anchor length
//!   ([`Header::anchor_lengths`]`[0]`), which alone is asked for every packet; it is at most the shortest entry's length, and should be as
//!   long as the entries allow. An entry belongs to the longest anchor length not longer than itself. A hit is then asked from `anchors6`: a
//!   table of buckets of four (hash, lengths) pairs, where `hash` is the whole [`hash6`] of the anchor (of two anchors with one hash the lengths
//!   are joined), and bit n of `lengths` says that an entry of `anchor + n` bits (n = 63: 63 or more) lies in that anchor; a pair with
//!   `lengths` 0 is unused. When all four of the home bucket are in use, the rest is in the bucket [`other_bucket`] names. The first anchor has a pair
//!   only for the entries that belong to it. A false positive costs time, never a verdict.
//! - **Entries IPv4**: buckets of eight u64 slots: [`slot4`]. Home bucket by [`hash4`] of prefix and length; when all eight slots are in use,
//!   the rest is in the bucket [`other_bucket`] names. 0 is an unused slot. Entries longer than /24 share the home of their /24 and list, which is
//!   [`hash24`], so that one line says which of them cover an address: the length in their slots is [`WITH_24`] more, and
//!   [`WITH_COVERED_24`] more where a shorter entry of the list covers the /24 (else no shorter length need be probed). Where a list has more than
//!   [`SHARING_24_MAX`] entries in a /24, there is one slot with the length [`DENSE_24`] (or [`DENSE_COVERED_24`]) in their place, whose number is that
//!   of a leaf: 256 bits, two leaves a line, from `leaves4` on; bit = last octet, set when one of the entries covers the address. Those entries then
//!   have homes and lengths of their own.
//! - **Entries IPv6**: buckets of eight u64 slots: tag (high 40 bits) and number of the entry in `prefixes6` plus one (low 24 bits); the prefix
//!   itself, two a line: address high word, address low word, [`meta6`], 0. Buckets overflow as those of IPv4. Prefixes with the same tag in
//!   one bucket are all looked at, each for a step of the look-up.
//! - **Rules**, **limits**, **failsafe**: one line each ([`Rule`], [`Limit`], [`Failsafe`]); number 0 of rules and limits is never used.
//!
//! The look-up for a member goes from the longest length of [`Header::lengths4`] (or `lengths6`) down, so no entry hides a broader one.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of this layout; the agent refuses to take over maps of another one.
pub const IMAGE_VERSION: u32 = 5;
/// Slots of `POLICY`, `ANY4`, `FILTER6` and `NEAR`: confirmed, provisional, and one for the next.
pub const SLOTS: u32 = 3;
/// Words of one slot of `ANY4`: 2^24 bits.
pub const ANY4_WORDS: usize = 1 << 18;
/// Words of one slot of `FILTER6`: with a million prefixes a few addresses of a hundred pass by chance, to be asked of `NEAR`.
pub const FILTER6_WORDS: usize = 1 << 17;
/// Unused place in [`Header::anchor_lengths`].
pub const NO_ANCHOR: u8 = 255;
/// Entries longer than /24 of one list and /24 that share a home at most.
pub const SHARING_24_MAX: usize = 4;
/// Added to the length of an entry in a slot that is at home with its /24.
pub const WITH_24: u32 = 8;
/// The same where a shorter entry of the list covers the /24.
pub const WITH_COVERED_24: u32 = 16;
/// Length in the slot of a /24 whose entries have homes of their own.
pub const DENSE_24: u32 = 49;
/// The same where a shorter entry of the list covers the /24.
pub const DENSE_COVERED_24: u32 = 50;
/// Anchor lengths at most.
pub const ANCHORS_MAX: usize = 4;
/// Kernel rules at most in one image (24 bits of a slot name them).
pub const IMAGE_RULES_MAX: u32 = 65_536;
/// Steps of one look-up (a length probed or a rule asked) at most; the compiler refuses what needs more.
pub const STEPS_MAX: u32 = 256;
/// Lines of the header.
pub const HEADER_LINES: u32 = 4;
/// Entries of `RULE_HITS`: one for each of 4 096 rules of a policy, and a quarter more, so that the number of a rule that is gone rests
/// before another gets it. Number 0 is never used.
pub const HITS_SLOTS: u32 = 5_121;
/// [`LimitKind::Bytes`]: [`Limit::increment`] is the time of so many bytes (as a shift), because one byte at 100 Gbit/s takes less than the
/// unit of time; the cost of a packet is `increment * bytes >> BYTES_SHIFT`.
pub const BYTES_SHIFT: u32 = 6;

/// One line.
pub type Line = [u64; 8];

/// Access to the lines of an image.
pub trait Lines {
    /// A line; `None` beyond the end.
    fn line(&self, number: u32) -> Option<&Line>;
}

impl Lines for [Line] {
    fn line(&self, number: u32) -> Option<&Line> {
        self.get(usize::try_from(number).ok()?)
    }
}

/// Which list an entry belongs to. Two bits of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ListId {
    /// Blocked clients.
    Block = 0,
    /// Clients never dropped.
    Allow = 1,
    /// Limited clients.
    Limit = 2,
}

/// Lines 0 to 3 of an image.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Header {
    /// [`IMAGE_VERSION`]
    pub version: u32,
    /// Lines of the image.
    pub lines: u32,
    /// Counted up by the agent with each policy.
    pub generation: u64,
    /// Digest of the policy's source.
    pub digest: u64,
    /// Always zero.
    pub pad: u32,
    /// First line of `leaves4`.
    pub leaves4: u32,
    /// First line of the buckets of IPv4 entries.
    pub entries4: u32,
    /// Their number less one (a power of two less one).
    pub entries4_mask: u32,
    /// First line of the buckets of IPv6 entries.
    pub entries6: u32,
    /// Their number less one.
    pub entries6_mask: u32,
    /// First line of `prefixes6`.
    pub prefixes6: u32,
    /// First line of `anchors6`.
    pub anchors6: u32,
    /// Buckets of `anchors6` less one.
    pub anchors6_mask: u32,
    /// Anchor lengths, shortest first; [`NO_ANCHOR`] = unused.
    pub anchor_lengths: [u8; ANCHORS_MAX],
    // Line 1 begins here.
    /// First line of the rules, and how many there are (number 0 included).
    pub rules: u32,
    /// See `rules`.
    pub rules_count: u32,
    /// First line of the limits, and how many there are.
    pub limits: u32,
    /// See `limits`.
    pub limits_count: u32,
    /// First line of the failsafe entries, and how many there are.
    pub failsafe: u32,
    /// See `failsafe`.
    pub failsafe_count: u32,
    /// Lengths in use by list ([`ListId`]), IPv4: bit n = an entry of n bits.
    pub lengths4: [u64; 3],
    /// The same for IPv6, bits 0 to 128.
    pub lengths6: [[u64; 3]; 3],
    /// Ports that failsafe entries with ports name ([`port_bit`]): a packet with none of them belongs to none of those.
    pub failsafe_ports: u64,
    /// First bytes of the prefixes of failsafe entries for any port ([`first_byte_bit`]), likewise.
    pub failsafe_nets: u64,
    /// Differs from one installation of an image to the next, whatever is in it; the agent fills it in.
    pub install: u64,
    /// Always zero.
    pub spare: [u64; 6],
}

/// Where [`Header::install`] lies: the line, and the word in it.
pub const INSTALL_LINE: u32 = 3;
/// See [`INSTALL_LINE`].
pub const INSTALL_WORD: usize = 1;

const _: () = assert!(
    core::mem::offset_of!(Header, install) == INSTALL_LINE as usize * 64 + INSTALL_WORD * 8
);

const _: () = assert!(size_of::<Header>() == 64 * HEADER_LINES as usize);

/// What happens to a packet that a rule matches. Value of [`Rule::action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Action {
    /// Drop in silence.
    Drop = 1,
    /// TCP RST to both ends; for anything but TCP, and where no reset can be sent, a drop.
    Reset = 2,
    /// Count only; the look-up goes on, so that a broader rule may still drop.
    Monitor = 3,
}

/// [`Rule::flags`]: the rule applies to sources that many clients share as well.
pub const RULE_INCLUDE_SHARED: u8 = 1;

/// One rule, one line. All conditions must hold; for an allow rule `action` has no meaning.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Rule {
    /// Not in force before this `CLOCK_BOOTTIME`, ns; 0 = always was.
    pub starts_ns: u64,
    /// Not in force from then on; 0 = never expires.
    pub expires_ns: u64,
    /// Salt of the canary hash ([`super::image::canary`]): which clients a percentage means differs from rule to rule.
    pub salt: u64,
    /// Only on this interface; 0 = any.
    pub ifindex: u32,
    /// Another rule of the same prefix, asked when this one does not apply or only monitors; 0 = none.
    pub next: u32,
    /// Index in `RULE_HITS`, below [`HITS_SLOTS`], 0 for none: stays with the rule's id over all generations.
    pub hits: u32,
    /// Applies to clients whose canary hash is below this, of 2^32; `u32::MAX` = all.
    pub share: u32,
    /// Smallest service port (0 to 65535 = any, and then packets without ports, such as later fragments, match too).
    pub port_min: u16,
    /// Largest service port.
    pub port_max: u16,
    /// [`Action`]
    pub action: u8,
    /// IP protocol number; 0 = TCP and UDP.
    pub protocol: u8,
    /// [`super::policy::RuleDirection`]
    pub direction: u8,
    /// `RULE_*`
    pub flags: u8,
    /// Always zero.
    pub pad: [u64; 2],
}

const _: () = assert!(size_of::<Rule>() == 64);

/// What a limit counts. Value of [`Limit::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum LimitKind {
    /// Wire packets from the client (an skb counts its GSO segments).
    Packets = 1,
    /// New TCP connections by the client: SYN without ACK; a retransmitted SYN is not charged again.
    Connections = 2,
    /// IP bytes from the client; see [`BYTES_SHIFT`].
    Bytes = 3,
    /// Connections open at a time.
    Concurrent = 4,
    /// HTTP request heads that the kernel sees.
    Requests = 5,
}

/// A limit, one line. With T = max(stored time, now) + cost, a thing is admitted when T - now <= `tolerance`, and T is stored; `cost` is
/// `increment` times the count, at most `tolerance`. Only what comes **from** the client is charged.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Limit {
    /// Time that one thing costs (period / rate), in 1/2^[`super::policy::LIMIT_FRACTION_BITS`] ns. [`LimitKind::Concurrent`]: 0.
    pub increment: u64,
    /// How far ahead of now the theoretical arrival time may run (burst * increment), same unit. [`LimitKind::Concurrent`]: the
    /// number of connections.
    pub tolerance: u64,
    /// Rule that says when the limit applies, with which action, and that counts its hits.
    pub rule: u32,
    /// Another limit of the same prefix that is charged as well; 0 = none.
    pub next: u32,
    /// Number of the state: stays with the limit's id and terms over all generations, so that a new policy forgives nobody.
    pub state: u32,
    /// [`LimitKind`]
    pub kind: u8,
    /// Clients that share an IPv4 prefix of this length share one allowance (default 32; 0 = all clients share it).
    pub prefix_v4: u8,
    /// The same for IPv6 (default 64).
    pub prefix_v6: u8,
    /// 1 = the agent counts (limit key `forwarded` or `credential`, or TLS); the kernel skips it.
    pub by_agent: u8,
    /// Always zero.
    pub pad: [u64; 4],
}

const _: () = assert!(size_of::<Limit>() == 64);

/// Traffic that is never dropped, one line. The peer is the packet's source or its destination; one of the two must lie in the prefix,
/// with the port on the side named.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Failsafe {
    /// The peer's prefix, network order, IPv4 v4-mapped.
    pub addr: [u8; 16],
    /// Bits that count, 0 to 128 (an IPv4 prefix has 96 more).
    pub prefix_len: u8,
    /// [`super::policy::FailsafeSide`]
    pub side: u8,
    /// IP protocol number; 0 = any.
    pub protocol: u8,
    /// [`super::policy::RuleDirection`]
    pub direction: u8,
    /// Smallest port (0 to 65535 = any, packets without ports included).
    pub port_min: u16,
    /// Largest port.
    pub port_max: u16,
    /// What it is for, UTF-8, cut, zeros behind; for people who ask, not for the program.
    pub name: [[u8; 8]; 5],
}

const _: () = assert!(size_of::<Failsafe>() == 64);

impl Failsafe {
    /// What the entry adds to [`Header::failsafe_ports`] and [`Header::failsafe_nets`].
    #[must_use]
    pub fn filter(&self) -> (u64, u64) {
        if self.port_min != 0 || self.port_max != u16::MAX {
            if self.port_max.saturating_sub(self.port_min) >= 64 {
                return (u64::MAX, 0);
            }
            let ports = self.port_min..=self.port_max;
            return (ports.fold(0, |bits, port| bits | port_bit(port)), 0);
        }
        let [first, .., a, _, _, _] = self.addr;
        let mapped = self.prefix_len >= 96 && self.addr.starts_with(&MAPPED);
        let (byte, len) = if mapped { (a, self.prefix_len - 96) } else { (first, self.prefix_len) };
        // A short prefix of zeros may hold the v4-mapped addresses too.
        let wide = len < 8 || (!mapped && first == 0 && len < 96);
        (0, if wide { u64::MAX } else { first_byte_bit(byte.into()) })
    }
}

/// What a v4-mapped address begins with.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];

/// The bit of a port in [`Header::failsafe_ports`].
#[inline(always)]
#[must_use]
pub const fn port_bit(port: u16) -> u64 {
    1 << (port & 63)
}

/// The bit of an address in [`Header::failsafe_nets`], by its first byte (of an IPv4 address, not its mapping).
#[inline(always)]
#[must_use]
pub const fn first_byte_bit(byte: u64) -> u64 {
    1 << (byte & 63)
}

/// Slot of an IPv4 entry: prefix (32 bits), length (6), list (2), number of its first rule or limit (24, from 1). Never 0.
#[inline(always)]
#[must_use]
pub const fn slot4(prefix: u32, length: u32, list: ListId, first: u32) -> u64 {
    (prefix as u64) << 32
        | ((length & 0x3f) as u64) << 26
        | (list as u64) << 24
        | (first & 0xff_ffff) as u64
}

/// Third word of an IPv6 entry: length (8 bits), list (2), number of its first rule or limit (24).
#[inline(always)]
#[must_use]
pub const fn meta6(length: u32, list: ListId, first: u32) -> u64 {
    ((length & 0xff) as u64) << 32 | (list as u64) << 24 | (first & 0xff_ffff) as u64
}

/// Mixes a word well enough for buckets and filters (the finaliser of a 64-bit multiply-xorshift hash). Not secret: an image is
/// immutable, so a client can choose addresses but not what lies in a bucket.
#[inline(always)]
#[must_use]
pub const fn mix(word: u64) -> u64 {
    let mut x = word;
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// Hash of an IPv4 prefix of a list; the home bucket is its low bits under the mask.
#[inline(always)]
#[must_use]
pub const fn hash4(prefix: u32, length: u32, list: ListId) -> u64 {
    mix((prefix as u64) << 8 | (length as u64) << 2 | list as u64)
}

/// Hash of the home that the entries of a list in a /24 share; any address of it.
#[inline(always)]
#[must_use]
pub const fn hash24(address: u32, list: ListId) -> u64 {
    hash4(address & 0xffff_ff00, 33, list)
}

/// The word of `FILTER6` that a [`swift6`] chooses, and its bits in it: all set where it may be there.
#[inline(always)]
#[must_use]
pub const fn filter6(hash: u64) -> (u32, u64) {
    let bits = 1 << ((hash >> 41) & 63) | 1 << ((hash >> 35) & 63) | 1 << ((hash >> 29) & 63);
    ((hash >> (64 - FILTER6_WORDS.trailing_zeros())) as u32, bits)
}

/// Hash of the prefix of `length` bits that an IPv6 address (two words) lies in, for the filters that clean packets ask: a third of the steps
/// of [`hash6`], one after the other. The high bits are the good ones.
#[inline(always)]
#[must_use]
pub const fn swift6(high: u64, low: u64, length: u32) -> u64 {
    let sum = if length > 64 {
        let low = low >> (128_u32.wrapping_sub(length) & 63);
        high.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(low.wrapping_mul(0xd6e8_feb8_6659_fd93))
    } else {
        let mask = if length == 64 { u64::MAX } else { !(u64::MAX >> length) };
        (high & mask).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let sum = sum.wrapping_add(length as u64);
    (sum ^ (sum >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Hash of an IPv6 prefix (two words, bits beyond the length zero) of a list. `anchors6` uses [`ListId::Block`].
/// The low bits choose the bucket, the high 40 are the tag.
#[inline(always)]
#[must_use]
pub const fn hash6(high: u64, low: u64, length: u32, list: ListId) -> u64 {
    mix(mix(high ^ ((length as u64) << 2 | list as u64)) ^ low)
}

/// Bucket of what did not fit into the home bucket.
#[inline(always)]
#[must_use]
pub const fn other_bucket(hash: u64, mask: u32) -> u32 {
    ((hash >> 32) as u32 ^ 0x9e37_79b9) & mask
}

/// Which clients a percentage means: applies when this is below [`Rule::share`]. The same on every host, for IPv4 by address (`high` is 0, `low` the
/// address), for IPv6 by /64 (`low` is 0 then), so that a client stays in or out while the percentage grows.
#[inline(always)]
#[must_use]
pub const fn canary(salt: u64, high: u64, low: u64) -> u32 {
    (mix(mix(high ^ salt) ^ low) >> 32) as u32
}
