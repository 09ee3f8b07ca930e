//! The events: owned, masked, ready to be encoded by a sink.

use std::sync::Arc;

use crate::{
    inventory::{CoverageRow, EndpointRow, Kind},
    state::{Role, State},
    time::UnixNs,
};

/// One event with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened (an exchange: its request's first byte).
    pub time: UnixNs,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventBody {
    /// One exchange.
    Exchange(Box<ExchangeEvent>),
    /// An endpoint is new, has another state, or is told again.
    Endpoint(Box<EndpointEvent>),
    /// Totals of the loss ledger.
    Ledger(Vec<LedgerCount>),
    /// Connections of one listener.
    Coverage(Box<CoverageRow>),
    /// A policy came into force, was refused, or was hit.
    Policy(Box<PolicyEvent>),
    /// An entry of the audit log.
    Audit(Box<AuditEvent>),
}

/// A request with its response: template instead of path, scheme instead of credential, address as set.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeEvent {
    /// Request method.
    pub method: Arc<str>,
    /// Normalised host, empty when none was sent.
    pub host: Arc<str>,
    /// Service of the inventory, or the host for egress.
    pub service: Arc<str>,
    /// Path template; `/{*}` where the inventory has no endpoint for it, so no raw path leaves.
    pub path_template: Arc<str>,
    /// Status, none when no response was seen.
    pub status: Option<u16>,
    /// Client, masked as set.
    pub client: Peer,
    /// Server, masked as set when it is not on this host.
    pub server: Peer,
    /// First byte of the request to first byte of the response.
    pub latency_ns: Option<u64>,
    /// Size of the request's body.
    pub request_body_bytes: Option<u64>,
    /// Size of the response's body.
    pub response_body_bytes: Option<u64>,
    /// Media type of the request.
    pub request_content_type: Option<Arc<str>>,
    /// Media type of the response.
    pub response_content_type: Option<Arc<str>>,
    /// Authentication scheme (`none`, `basic`, ...).
    pub auth: &'static str,
    /// Product of the user agent.
    pub user_agent: Option<Arc<str>>,
    /// One stands for this many.
    pub weight: u32,
    /// Where the server is.
    pub role: Role,
}

/// One end of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Address, truncated or hashed by setting.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Unit or container; none when unknown or remote.
    pub owner: Option<Arc<str>>,
}

/// What happened to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointEvent {
    /// What changed.
    pub change: EndpointChange,
    /// The endpoint as it is now.
    pub row: EndpointRow,
}

/// What changed at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointChange {
    /// First seen and proven to exist.
    Discovered,
    /// Its state is another one.
    State {
        /// The state before.
        previous: State,
    },
    /// Told again with new numbers.
    Updated,
}

/// One total of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerCount {
    /// `kernel`, `flow`, `pipeline`, `sink` or `store`.
    pub stage: &'static str,
    /// Name within the stage, from its closed enum.
    pub name: &'static str,
    /// Total since the start of the run.
    pub value: u64,
}

/// What happened to the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEvent {
    /// Applied, refused or hit.
    pub change: PolicyChange,
    /// Generation in force.
    pub generation: u64,
    /// Hash of the file in force, hex.
    pub hash: String,
    /// Where it comes from.
    pub origin: String,
    /// `observe` or `enforce`.
    pub mode: &'static str,
}

/// What happened to the policy, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChange {
    /// Came into force.
    Applied,
    /// Was refused for this reason; the one before stays in force.
    Refused {
        /// What was wrong.
        error: String,
    },
    /// Rules that were hit since they were told last.
    Hits(Vec<RuleHit>),
}

/// Totals of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHit {
    /// Name of the rule.
    pub rule: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Last hit.
    pub last: UnixNs,
}

/// An entry of the audit log, with its hash: whoever has it can tell a log that was cut or written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEvent {
    /// Number of the entry.
    pub number: u64,
    /// `apply`, `add`, `file`, ...
    pub action: String,
    /// Who, in words.
    pub who: String,
    /// Why, as given.
    pub reason: String,
    /// `done`, or why not.
    pub result: String,
    /// In force before.
    pub before: AuditVersion,
    /// In force afterwards.
    pub after: AuditVersion,
    /// One line for each rule that is new, gone or another.
    pub diff: Vec<String>,
    /// Hash of the entry before, hex.
    pub previous: String,
    /// Hash of this entry, hex.
    pub head: String,
}

/// A policy as the audit log names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditVersion {
    /// Counts up with each policy that came into force.
    pub generation: u64,
    /// Short hash, as metrics show it.
    pub hash: String,
    /// SHA-256 over its texts.
    pub sha256: String,
}

impl ExchangeEvent {
    /// What kind the request's response suggests, for filters of sinks.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of_response(&self.path_template, self.response_content_type.as_deref())
    }
}
