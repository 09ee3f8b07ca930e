//! Entries of the policy maps: what the agent compiles a policy file into and the verdict reads.
//!
//! Terms. A block, allow or limit entry lists the address of a **client**. A packet *matches* an entry when its
//! source is the listed address (client to server) or, if not, when its destination is (server to client).
//! The **service port** is the port of the end that is not listed: the destination port of a packet
//! from the client, the source port of a packet to it. Addresses are in network order, ports and all other integers in host order.
//!
//! Bounds: [`RULES_MAX`], [`LIMITS_MAX`], [`FAILSAFE_MAX`], [`LOOKUPS_MAX`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Rules at most, number 0 included (24 B per rule, and 40 B of hits per rule and CPU: 20 MiB on 128 CPUs).
pub const RULES_MAX: u32 = 4096;
/// Limits at most, number 0 included.
pub const LIMITS_MAX: u32 = 256;
/// Failsafe entries at most; they are walked one by one, but only for packets that would be dropped.
pub const FAILSAFE_MAX: u32 = 64;
/// An entry that does not apply is followed by its `next` rule and then by the next shorter prefix: so many
/// steps at most for each address of a packet. The policy compiler refuses or flattens deeper nesting.
pub const LOOKUPS_MAX: u32 = 8;
/// Fraction bits of [`Limit::increment`] and [`Limit::tolerance`]: units are 1/64 ns.
/// (The largest time that still fits is 9 years after boot.)
pub const LIMIT_FRACTION_BITS: u32 = 6;

/// What happens to a packet that a rule matches. Value of [`Rule::action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Action {
    /// Drop in silence.
    Drop = 1,
    /// TCP RST to both ends; for anything but TCP, and where no reset can be sent, a drop.
    Reset = 2,
    /// Count only; the look-up goes on, so a shorter prefix may still drop.
    Monitor = 3,
}

/// Which way a packet goes, seen from the host's interface. Value of [`Rule::direction`]; 0 is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RuleDirection {
    /// Either way.
    Both = 0,
    /// From the device into the host (TC ingress).
    Ingress = 1,
    /// From the host to the device (TC egress).
    Egress = 2,
}

/// Key of `ALLOW4`, `BLOCK4` and `LIMIT4` (LPM tries). Bits of `addr` beyond the prefix are zero.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LpmKey4 {
    /// Bits that count, 0 to 32.
    pub prefix_len: u32,
    /// Address in network order.
    pub addr: [u8; 4],
}

const _: () = assert!(size_of::<LpmKey4>() == 8);

/// Key of `ALLOW6`, `BLOCK6` and `LIMIT6` (LPM tries). Bits of `addr` beyond the prefix are zero.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LpmKey6 {
    /// Bits that count, 0 to 128.
    pub prefix_len: u32,
    /// Address in network order.
    pub addr: [u8; 16],
}

const _: () = assert!(size_of::<LpmKey6>() == 20);

/// Value of the LPM tries.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PolicyEntry {
    /// `ALLOW*` and `BLOCK*`: index in `RULES`. `LIMIT*`: index in `LIMITS`. 0 in `ALLOW*`: allowed without condition;
    /// 0 in the others: no rule.
    pub rule: u32,
    /// The entry's own prefix length (the trie does not tell it), from which the look-up goes on with one bit less.
    pub prefix_len: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<PolicyEntry>() == 8);

/// Value of `RULES`. Rule 0 is never used. All conditions must hold; for an allow rule `action` has no meaning.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Rule {
    /// Not in force from this `CLOCK_BOOTTIME` on, ns; 0 = never expires.
    pub expires_ns: u64,
    /// Only on this interface; 0 = any.
    pub ifindex: u32,
    /// Another rule of the same prefix, asked when this one does not apply or only monitors; 0 = none.
    pub next: u32,
    /// Smallest service port (0 to 65535 = any, and then packets without ports, such as later fragments, match too).
    pub port_min: u16,
    /// Largest service port.
    pub port_max: u16,
    /// [`Action`].
    pub action: u8,
    /// IP protocol number; 0 = TCP and UDP.
    pub protocol: u8,
    /// [`RuleDirection`].
    pub direction: u8,
    /// Always zero.
    pub flags: u8,
}

const _: () = assert!(size_of::<Rule>() == 24);

/// Value of `RULE_HITS` (per CPU; the index stays with a rule over all generations).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RuleHits {
    /// Packets dropped (wire packets: GSO segments).
    pub packets: u64,
    /// Their bytes, link header included.
    pub bytes: u64,
    /// Last hit of either kind, `CLOCK_BOOTTIME` ns.
    pub last_ns: u64,
    /// Packets that would have been dropped (observe mode or action monitor), or, for an allow rule, that it saved.
    pub would_packets: u64,
    /// Their bytes.
    pub would_bytes: u64,
    /// Packets of sources that many clients share, which the rule therefore skipped.
    pub shared_packets: u64,
}

const _: () = assert!(size_of::<RuleHits>() == 48);

/// What a limit counts. Value of [`Limit::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum LimitKind {
    /// Packets from the client (GSO segments count each).
    Packets = 1,
    /// New TCP connections by the client: SYN without ACK; a retransmitted SYN is not charged again.
    Connections = 2,
}

/// Value of `LIMITS`: a GCRA limit per client. Limit 0 is never used.
///
/// With T = max(stored time, now) + cost, the packet is admitted when T - now <= `tolerance`, and T is stored.
/// `cost` is `increment` for each packet, at most `tolerance` (a GSO packet larger than the burst passes when the
/// allowance is whole). Only packets **from** the client are charged.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Limit {
    /// Time that one packet or connection costs (period / rate), in 1/2^[`LIMIT_FRACTION_BITS`] ns.
    pub increment: u64,
    /// How far ahead of now the theoretical arrival time may run (burst * increment), same unit.
    pub tolerance: u64,
    /// Rule that says when the limit applies (ports, protocol, interface, expiry), with which action, and that counts its hits.
    pub rule: u32,
    /// Another limit of the same prefix that is charged as well; 0 = none. The chain has at most [`LOOKUPS_MAX`] limits.
    pub next: u32,
    /// [`LimitKind`].
    pub kind: u8,
    /// Clients that share an IPv4 prefix of this length share one allowance (default 32).
    pub prefix_v4: u8,
    /// The same for IPv6 (default 64).
    pub prefix_v6: u8,
    /// Always zero.
    pub pad: [u8; 5],
}

const _: () = assert!(size_of::<Limit>() == 32);

/// Key of `LIMIT_STATE`; the value is one u64, the theoretical arrival time in 1/2^[`LIMIT_FRACTION_BITS`] ns.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LimitKey {
    /// Client address masked to the limit's prefix, IPv4 v4-mapped.
    pub client: [u8; 16],
    /// [`super::image::Limit::state`]
    pub limit: u32,
    /// Always zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<LimitKey>() == 24);

/// Whose port a failsafe entry names. Value of [`FailsafeEntry::side`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FailsafeSide {
    /// The port of the end that is not the peer (we serve: ssh from the management network).
    Ours = 1,
    /// The port of the peer (it serves: the host's resolver, the API server).
    Peer = 2,
}

/// Value of `FAILSAFE`: traffic that is never dropped. The walk ends at the first entry whose `side` is 0.
///
/// The peer is the packet's source or its destination; one of the two must lie in the prefix, with the port on the side named.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FailsafeEntry {
    /// The peer's prefix, network order, IPv4 v4-mapped.
    pub addr: [u8; 16],
    /// Bits that count, 0 to 128 (an IPv4 prefix has 96 more).
    pub prefix_len: u8,
    /// [`FailsafeSide`]; 0 ends the list.
    pub side: u8,
    /// IP protocol number; 0 = any.
    pub protocol: u8,
    /// [`RuleDirection`].
    pub direction: u8,
    /// Smallest port (0 to 65535 = any, packets without ports included).
    pub port_min: u16,
    /// Largest port.
    pub port_max: u16,
}

const _: () = assert!(size_of::<FailsafeEntry>() == 24);
