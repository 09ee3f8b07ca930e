//! What the policy's maps hold beside the image ([`super::image`]): hits of rules and the state of limits; and the words that both share.
//!
//! Terms. A block, allow or limit entry lists the address of a **client**. A packet *matches* an entry when its
//! source is the listed address (client to server) or, if not, when its destination is (server to client).
//! The **service port** is the port of the end that is not listed: the destination port of a packet
//! from the client, the source port of a packet to it. Addresses are in network order, ports and all other integers in host order.
//!
//! Bound: [`FAILSAFE_MAX`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Failsafe entries at most; they are walked one by one, but only for packets that would be dropped.
pub const FAILSAFE_MAX: u32 = 64;
/// Fraction bits of [`super::image::Limit::increment`] and [`super::image::Limit::tolerance`]: units are 1/64 ns.
/// (The largest time that still fits is 9 years after boot.)
pub const LIMIT_FRACTION_BITS: u32 = 6;

/// Which way a packet goes, seen from the host's interface. Value of [`super::image::Rule::direction`]; 0 is both.
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

/// Key of `LIMIT_STATE`; the value is one u64, the theoretical arrival time in 1/2^[`LIMIT_FRACTION_BITS`] ns.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct LimitKey {
    /// Client address masked to the limit's prefix, or its network, IPv4 v4-mapped.
    pub client: [u8; 16],
    /// [`super::image::Limit::state`]
    pub limit: u32,
    /// [`Scope`]
    pub scope: u32,
}

/// Whose state it is. Value of [`LimitKey::scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Scope {
    /// A client of its own.
    Client = 0,
    /// All clients of a network that are not told apart yet ([`NETWORK_V4`], [`NETWORK_V6`]).
    Network = 1,
    /// A UDP client that a server has answered.
    Answered = 2,
}

/// Clients that may be forged share the bucket of their IPv4 network of this length.
pub const NETWORK_V4: u8 = 24;
/// The same for IPv6.
pub const NETWORK_V6: u8 = 48;

const _: () = assert!(size_of::<LimitKey>() == 24);

/// Whose port a failsafe entry names. Value of [`super::image::Failsafe::side`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FailsafeSide {
    /// The port of the end that is not the peer (we serve: ssh from the management network).
    Ours = 1,
    /// The port of the peer (it serves: the host's resolver, the API server).
    Peer = 2,
}
