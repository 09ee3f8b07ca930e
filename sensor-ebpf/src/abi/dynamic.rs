//! Decisions that come and go while a policy stays: verdicts of the agent, shared sources, what was dropped.
//!
//! Each lives in a small hash map of its own, outside the policy image: `FLOW_VERDICTS` ([`super::flow_key::FlowKey`] to [`Verdict`]),
//! `CLIENT_VERDICTS` (client address to [`Verdict`]; IPv4 v4-mapped, IPv6 the /64 with its low half zero), `SHARED` (source address, whole, to
//! the `CLOCK_BOOTTIME` ns until when it counts as shared, u64) and `DROPS` ([`DropKey`] to [`DropValue`]).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::flow_key::Tuple;

/// Flows under a verdict of the agent at most.
pub const FLOW_VERDICTS_MAX: u32 = 16_384;
/// Clients under a verdict of the agent at most.
pub const CLIENT_VERDICTS_MAX: u32 = 65_536;
/// Shared sources at most.
pub const SHARED_MAX: u32 = 16_384;
/// (client, rule, reason) triples at most whose drops are told apart; beyond, they are counted as unattributed.
pub const DROPS_MAX: u32 = 16_384;

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
    /// The end of the packet that the rule lists, IPv4 v4-mapped.
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
