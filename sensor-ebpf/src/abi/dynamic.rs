//! Decisions that come and go while a policy stays: verdicts of the agent, shared sources, what was dropped.
//!
//! Each lives in a small hash map of its own, outside the policy image: `FLOW_VERDICTS` ([`super::flow_key::FlowKey`] to [`Verdict`]),
//! `CLIENT_VERDICTS` (client address to [`Verdict`]; IPv4 v4-mapped, IPv6 the /64 with its low half zero), `SHARED` (source address, whole, to
//! the `CLOCK_BOOTTIME` ns until when it counts as shared, u64), `DROPS` ([`DropKey`] to [`DropValue`]), and what limits remember of clients:
//! `PROVEN`, `HANDSHAKES`, `PENALISED`, `NETWORKS`, `CONNECTIONS` and `OPEN`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{flow_key::Tuple, policy::LimitKey};

/// Flows under a verdict of the agent at most.
pub const FLOW_VERDICTS_MAX: u32 = 16_384;
/// Clients under a verdict of the agent at most.
pub const CLIENT_VERDICTS_MAX: u32 = 65_536;
/// Shared sources at most.
pub const SHARED_MAX: u32 = 16_384;
/// (client, rule, reason) triples at most whose drops are told apart; beyond, they are counted as unattributed.
pub const DROPS_MAX: u32 = 16_384;

/// Addresses at most that are known to complete handshakes.
pub const PROVEN_MAX: u32 = 32_768;
/// Handshakes that wait for their first payload, and conversations by UDP that wait for an answer, at most.
pub const HANDSHAKES_MAX: u32 = 32_768;
/// Clients over a limit at most.
pub const PENALISED_MAX: u32 = 65_536;
/// Networks (and UDP clients) with a state of a limit at most.
pub const NETWORKS_MAX: u32 = 65_536;
/// Open connections that are counted at most.
pub const CONNECTIONS_MAX: u32 = 65_536;
/// Limits of open connections that one connection counts for at most.
pub const CONNECTION_LIMITS_MAX: u32 = 4;

/// A handshake that was answered, or a conversation by UDP that has begun. Value of `HANDSHAKES`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Handshake {
    /// When, `CLOCK_BOOTTIME` ns; UDP: of its last answer, to a second.
    pub time_ns: u64,
    /// TCP: the server's initial sequence number.
    pub server_isn: u32,
    /// TCP: number of the client's first byte.
    pub client_next: u32,
    /// Which end of the flow key is the server: 0 low, 1 high.
    pub server: u32,
    /// UDP: 1 when the server has answered. TCP: 1 when both ends sent a SYN-ACK, so that nobody knows which one is the server.
    pub answered: u32,
}

const _: () = assert!(size_of::<Handshake>() == 24);

/// An open connection under limits of open connections. Value of `CONNECTIONS`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Connection {
    /// Ends that have sent FIN: bit 0 the low end of the flow key, bit 1 the high one.
    pub ended: u64,
    /// Last packet of the client, `CLOCK_BOOTTIME` ns, to a second.
    pub last_ns: u64,
    /// Entries of `keys` in use.
    pub count: u64,
    /// What it is counted for, keys of `OPEN`.
    pub keys: [LimitKey; CONNECTION_LIMITS_MAX as usize],
}

const _: () = assert!(size_of::<Connection>() == 120);

/// What the agent decided about a flow or a client.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Verdict {
    /// In force until then, `CLOCK_BOOTTIME` ns.
    pub until_ns: u64,
    /// Index in `RULE_HITS` of the rule on whose behalf.
    pub hits: u32,
    /// [`super::image::Action`]
    pub action: u32,
}

const _: () = assert!(size_of::<Verdict>() == 16);

/// Why a packet was dropped. Value of [`DropKey::reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum DropReason {
    /// A block rule.
    Block = 1,
    /// A limit.
    Limit = 2,
    /// The agent's verdict on the flow.
    Flow = 3,
    /// The agent's verdict on the client.
    Client = 4,
    /// A limit that the sender's network is charged to, because its address may be forged: a row is a network, not a client.
    Network = 5,
}

impl DropReason {
    /// The reason of a number, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn of_word(word: u32) -> Option<Self> {
        Some(match word {
            1 => Self::Block,
            2 => Self::Limit,
            3 => Self::Flow,
            4 => Self::Client,
            5 => Self::Network,
            _ => return None,
        })
    }
}

/// Key of `DROPS`.
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
pub struct DropKey {
    /// The end of the packet that the rule lists, IPv4 v4-mapped; with [`DropReason::Network`] its network.
    pub client: [u8; 16],
    /// Index in `RULE_HITS` of the rule.
    pub hits: u32,
    /// [`DropReason`]
    pub reason: u32,
}

const _: () = assert!(size_of::<DropKey>() == 24);

/// Value of `DROPS`.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DropValue {
    /// Drops (sightings, as the ledger counts them).
    pub count: u64,
    /// Their bytes, link header included.
    pub bytes: u64,
    /// First of them, `CLOCK_BOOTTIME` ns.
    pub first_ns: u64,
    /// Last of them.
    pub last_ns: u64,
    /// Addresses and ports of the first.
    pub tuple: Tuple,
    /// Interface of the first.
    pub ifindex: u32,
    /// [`super::sample::Hook`] of the first.
    pub hook: u32,
}

const _: () = assert!(size_of::<DropValue>() == 80);
