//! What is asked of an image about a packet, and the answer: which rules were asked, in which order, and which of them decides.

use std::net::IpAddr;

use ipnet::IpNet;
use sensor_ebpf::abi::{
    dynamic::{DropReason, Verdict},
    image::ListId,
    policy::RuleDirection,
};

/// A packet as the kernel sees it at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Sender.
    pub src: IpAddr,
    /// Receiver, of the same family.
    pub dst: IpAddr,
    /// Source and destination port; none for a later fragment.
    pub ports: Option<(u16, u16)>,
    /// 6 or 17.
    pub protocol: u8,
    /// Into the host or out of it.
    pub direction: RuleDirection,
    /// Index of the interface; none when it is not known (then rules of one interface do not apply).
    pub ifindex: Option<u32>,
    /// `CLOCK_BOOTTIME`, ns.
    pub now_ns: u64,
    /// Whether many clients share the sender's, and the receiver's address.
    pub shared: (bool, bool),
    /// What the agent decided at layer 7.
    pub verdicts: Verdicts,
}

/// Verdicts of the agent on a packet, as the live maps have them; an image alone has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// On its flow.
    pub flow: Option<Verdict>,
    /// On its sender, and on its receiver.
    pub clients: [Option<Verdict>; 2],
}

/// The end of a packet that a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its sender.
    Source,
    /// Its receiver.
    Destination,
}

/// Why a rule does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Another port, or a packet without ports.
    Port,
    /// Another protocol.
    Protocol,
    /// The other direction.
    Direction,
    /// Another interface.
    Interface,
    /// Outside of the rule's percentage.
    Percent,
    /// Its time has not come.
    NotYet,
    /// Its time is over.
    Expired,
    /// Many clients share the address, and the rule is not for those.
    Shared,
    /// The agent counts it, not the kernel.
    ByAgent,
}

/// What came of asking a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does not apply.
    Skipped(Skipped),
    /// It applies and only counts.
    Monitors,
    /// It decides.
    Decides,
    /// A limit: the packet is charged to it. Behind it only limits of the same prefix are charged.
    Charged,
    /// A limit that only counts is charged.
    ChargedMonitor,
}

/// One rule that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its list.
    pub list: ListId,
    /// The end of the packet.
    pub end: End,
    /// The entry that led to it.
    pub prefix: IpNet,
    /// Number of the kernel rule, and of its hits.
    pub rule: u32,
    /// See `rule`; says which rule of the policy it is.
    pub hits: u32,
    /// A limit's kind.
    pub limit: Option<u8>,
    /// What came of it.
    pub answer: Answer,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// No rule wants to drop it; limits it is charged to are in the list of what was asked.
    Pass,
    /// A block rule or a verdict (its hits) wants to drop it, and this failsafe entry keeps it.
    Failsafe {
        /// Who wants to drop it.
        reason: DropReason,
        /// Hits of the block rule, or of the rule on whose behalf the verdict is.
        block: u32,
        /// Number of the entry, from 0.
        entry: u32,
    },
    /// The same, and this allow rule keeps it.
    Allowed {
        /// Who wants to drop it.
        reason: DropReason,
        /// As for failsafe.
        block: u32,
        /// Hits of the allow rule.
        allow: u32,
    },
    /// Dropped in mode enforce.
    Blocked {
        /// Who drops it.
        reason: DropReason,
        /// As for failsafe.
        block: u32,
        /// Both ends are told.
        reset: bool,
    },
}

/// A decision with the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The decision.
    pub decided: Decided,
    /// Every rule that was asked, in order.
    pub asked: Vec<Asked>,
    /// What would keep the packet if a limit it is charged to were exceeded.
    pub kept: Option<Kept>,
}

/// What keeps a packet that is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A failsafe entry, by number.
    Failsafe(u32),
    /// An allow rule, by its hits.
    Allow(u32),
}
