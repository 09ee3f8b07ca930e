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
    /// Pattern that the file itself demands of the reason of every rule.
    pub require_reason: Option<Box<str>>,
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
    /// Prefixes of the clients as written in the policy, sorted, each once.
    pub clients: Vec<IpNet>,
    /// Files with further clients; read by the caller.
    pub lists: Vec<ListRef>,
    /// Further conditions; all must hold.
    pub when: Conditions,
    /// What happens to a packet (no meaning for an allow rule).
    pub action: RuleAction,
    /// Share of the clients it applies to, 0 to 100; which ones is a hash of rule id and address, the same on every host.
    pub percent: u8,
    /// Per cent of a service's clients that it may hit within a minute before the guard stops it, 1 to 100; `None`: as the agent's
    /// configuration says.
    pub max_share: Option<u8>,
    /// Applies to sources that many clients share (a load balancer, NAT) too.
    pub include_shared: bool,
    /// Meant as it is, whatever [`super::hazards`] says.
    pub force: bool,
    /// Not in force before.
    pub starts: Option<UnixNs>,
    /// Not in force from then on.
    pub expires: Option<UnixNs>,
}

/// A file of clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListRef {
    /// Path; one that was written relative has the folder of the policy file in front.
    pub path: Box<str>,
    /// How it is written.
    pub format: ListFormat,
    /// What happens when a line cannot be read.
    pub on_error: OnError,
    /// Line of the policy file that names it.
    pub line: u64,
}

/// How a list file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListFormat {
    /// An address or prefix a line; `#` and `;` begin a comment.
    #[default]
    Plain,
    /// `address,ttl` a line: the ttl (90s, 24h, ...) counts from the file's last change, a date is a date, nothing is for ever.
    Csv,
}

/// What happens to a list file with a line that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnError {
    /// The whole policy is refused.
    #[default]
    Refuse,
    /// The line is left out, and counted.
    Skip,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Never dropped.
    Allow,
    /// Dropped (or counted).
    Block,
    /// Dropped (or counted) beyond a rate or a number.
    Limit(LimitTerms),
}

/// Terms of a limit; at least one of the first five is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitTerms {
    /// Wire packets from the client.
    pub packets: Option<Rate>,
    /// IP bytes from the client.
    pub bytes: Option<Rate>,
    /// New TCP connections by the client.
    pub new_connections: Option<Rate>,
    /// HTTP requests by the client.
    pub requests: Option<Rate>,
    /// TCP connections open at a time.
    pub connections: Option<u32>,
    /// Who a client is.
    pub key: LimitKey,
    /// IPv4 clients within a prefix of this length share an allowance; 0 with [`LimitTerms::shared`].
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
    /// All clients of the rule share one allowance.
    pub shared: bool,
}

/// Who a client of a limit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitKey {
    /// The source address of its packets; counted in the kernel.
    #[default]
    Address,
    /// The address that a trusted proxy forwards (X-Forwarded-For, Forwarded, PROXY protocol); counted by the agent.
    Forwarded,
    /// A keyed hash of the credential it shows; counted by the agent.
    Credential,
}

/// `count` per `period_ns`, `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Things per period, from 1.
    pub count: u64,
    /// Period, ns.
    pub period_ns: u64,
    /// Things at once, from 1.
    pub burst: u64,
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
    /// TCP is reset at both ends, so that nobody hangs; everything else is dropped.
    Reset,
    /// Counted; the search for a rule goes on.
    Monitor,
}
