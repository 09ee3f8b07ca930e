//! A validated policy: it cannot hold an invalid value.

use ipnet::IpNet;

use super::failsafe::Failsafe;
use crate::time::UnixNs;

/// A policy file that was accepted whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name of the file.
    pub file: String,
    /// All rules: `allow`, then `block`, then `limits`, each in the order of the file.
    pub rules: Vec<Rule>,
    /// What keeps the host manageable.
    pub failsafe: Failsafe,
    /// What is allowed but worth a look, with its line.
    pub warnings: Vec<(u64, String)>,
    /// Changes when the file's bytes change; the same on every host.
    pub digest: u64,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who wrote it, and why.
    pub about: About,
    /// What it is for.
    pub what: What,
    /// Prefixes of the clients, sorted, each once.
    pub clients: Vec<IpNet>,
    /// Further conditions; all must hold.
    pub when: Conditions,
    /// What happens to a packet (no meaning for an allow rule).
    pub action: RuleAction,
    /// Not in force from then on.
    pub expires: Option<UnixNs>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Never dropped.
    Allow,
    /// Dropped (or counted).
    Block,
    /// Dropped (or counted) beyond a rate.
    Limit(LimitTerms),
}

/// Terms of a limit, per client; at least one of the two rates is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitTerms {
    /// Packets from the client.
    pub packets: Option<Rate>,
    /// New TCP connections by the client.
    pub connections: Option<Rate>,
    /// IPv4 clients within a prefix of this length share an allowance.
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
}

/// `count` per `period_ns`, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Things per period, 1 to 100 million.
    pub count: u32,
    /// Period, ns.
    pub period_ns: u64,
    /// Things at once, from 1.
    pub burst: u32,
}

/// What a person wants to know about a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Unique in the policy.
    pub id: Box<str>,
    /// A title.
    pub name: Option<Box<str>>,
    /// Why it is there.
    pub reason: Option<Box<str>>,
    /// Where it comes from (`manual`, a list's name, ...).
    pub origin: Option<Box<str>>,
    /// Who answers for it.
    pub owner: Option<Box<str>>,
    /// Line in the file.
    pub line: u64,
}

/// When a rule applies, beside its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Service ports as inclusive ranges, sorted, merged; empty = any.
    pub ports: Vec<(u16, u16)>,
    /// TCP, UDP, or both.
    pub protocol: Option<Protocol>,
    /// Into the host, out of it, or both.
    pub direction: Direction,
    /// Name of an interface; `None` = any.
    pub interface: Option<Box<str>>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Protocol {
    /// Number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Which way a packet goes, seen from the host's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Either way.
    #[default]
    Both,
    /// From the device into the host.
    Ingress,
    /// From the host to the device.
    Egress,
}

/// What happens to a packet that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Dropped in silence.
    Drop,
    /// Counted; the search for a rule goes on.
    Monitor,
}
