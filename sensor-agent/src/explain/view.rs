//! What `policy explain --json` shows (`sensor.explain/v1`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the published JSON.
pub const EXPLAIN_SCHEMA: &str = "sensor.explain/v1";

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainView {
    /// Always [`EXPLAIN_SCHEMA`].
    pub schema: String,
    /// When it was made.
    pub time_unix_ns: u64,
    /// agent (the maps of a running agent), pinned (maps that an agent left) or file.
    pub source: String,
    /// The socket, the folder or the file.
    pub from: String,
    /// Generation of the policy; 0 = none, or a file.
    pub generation: u64,
    /// Its hash, as `policy list` and the metrics have it; empty = no policy.
    pub hash: String,
    /// It is on trial.
    pub provisional: bool,
    /// Rules are carried out now.
    pub enforced: bool,
    /// Why they are not.
    pub not_enforced: Option<String>,
    /// From the client, then to the client.
    pub packets: Vec<ExplainedPacket>,
    /// What is worth knowing beside it.
    pub notes: Vec<String>,
}

/// What becomes of packets in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedPacket {
    /// ingress or egress.
    pub direction: String,
    /// tcp or udp.
    pub protocol: String,
    /// Address and, where it is known, port.
    pub source: String,
    /// The same.
    pub destination: String,
    /// Many clients share the source.
    pub source_shared: bool,
    /// Many clients share the destination.
    pub destination_shared: bool,
    /// What the policy decides; it is done where the policy is enforced.
    pub verdict: ExplainedVerdict,
    /// The rule that decides: it drops or keeps the packet, or limits it first.
    pub rule: Option<String>,
    /// Why, one sentence.
    pub why: String,
    /// Everything that was asked, in the order of precedence.
    pub steps: Vec<ExplainStep>,
}

/// What a policy decides.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, PartialOrd, Ord,
)]
#[serde(rename_all = "snake_case")]
pub enum ExplainedVerdict {
    /// Nothing that drops applies.
    #[default]
    Pass,
    /// It passes within limits and is dropped (or reset) beyond.
    Limit,
    /// Something wants to drop it, and it is never dropped.
    Failsafe,
    /// Something wants to drop it, and an allow rule keeps it.
    Allow,
    /// Dropped in silence.
    Drop,
    /// Both ends get a RST.
    Reset,
}

/// One thing that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainStep {
    /// verdict, block, failsafe, allow or limits.
    pub list: String,
    /// The rule, or what the failsafe entry is for.
    pub rule: String,
    /// The entry that led to it.
    pub prefix: String,
    /// source or destination: which end of the packet the entry lists.
    pub end: String,
    /// It decides.
    pub decides: bool,
    /// What came of it.
    pub answer: String,
}
