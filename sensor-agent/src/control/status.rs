//! What `status --json` shows (`sensor.status/v1`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the published JSON.
pub const STATUS_SCHEMA: &str = "sensor.status/v1";

/// The running agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Always [`STATUS_SCHEMA`].
    pub schema: String,
    /// Of the agent.
    pub version: String,
    /// Process number.
    pub pid: u32,
    /// When it was started.
    pub started_unix_ns: u64,
    /// When this was made.
    pub time_unix_ns: u64,
    /// Identity of the installation.
    pub sensor_id: String,
    /// Identity of this run.
    pub boot_id: String,
    /// Attached everywhere, heartbeat fresh, packets seen where they should be.
    pub ready: bool,
    /// Why it is not ready.
    pub not_ready: Vec<String>,
    /// observe or enforce.
    pub mode: String,
    /// tc or socket.
    pub hook: String,
    /// Wanted interfaces.
    pub interfaces: Vec<InterfaceView>,
    /// Whether rules are carried out, and whether they are without the agent.
    #[serde(default)]
    pub enforcement: EnforcementStatus,
    /// Programs that the kernel refused: what they do is missing.
    pub programs_missing: Vec<ProgramMissing>,
    /// Packets judged.
    pub packets: u64,
    /// One sample stands for this many flows.
    pub sample_weight: u32,
    /// The loss ledger: stage, name, total since the start.
    pub ledger: BTreeMap<String, BTreeMap<String, u64>>,
    /// The ring between kernel and agent.
    pub ring: RingStatus,
    /// Sinks.
    pub sinks: Vec<crate::sink::SinkStatus>,
    /// The store.
    pub store: crate::store::StoreStatus,
    /// Rules of the policy with their hits.
    pub rules: Vec<RuleStatus>,
    /// List files of the policy.
    #[serde(default)]
    pub lists: Vec<ListStatus>,
    /// What limits remember of clients, as of the last recount.
    #[serde(default)]
    pub clients: crate::kernel::ClientCounts,
    /// The policy, if one is configured.
    pub policy: Option<PolicyStatus>,
    /// The catalogue, if one is configured.
    pub catalogue: Option<CatalogueStatus>,
    /// The audit log.
    #[serde(default)]
    pub audit: AuditStatus,
    /// Endpoints, as of the last look at all of them.
    #[serde(default)]
    pub endpoints: EndpointsStatus,
}

/// Endpoints that were called, by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointsStatus {
    /// By state.
    pub by_state: BTreeMap<String, u64>,
    /// By the widest class of callers that reached them.
    pub by_exposure: BTreeMap<String, u64>,
    /// Of kind `api`, without a declared owner.
    pub unowned: u64,
    /// Names at places of paths beside those that learned templates tell apart: an estimate. Their requests are `learned_templates_rest` in the
    /// ledger, exactly.
    #[serde(default)]
    pub names_together: u64,
}

/// One wanted interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceView {
    /// `own`, or the file of the network namespace.
    pub namespace: String,
    /// Number, 0 when it is not there.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// tcx, clsact or socket; absent when not attached.
    pub hook: Option<String>,
    /// attached, unsupported, failed or missing.
    pub state: String,
    /// Why not.
    pub error: Option<String>,
    /// Chain at ingress, where the kernel tells it.
    pub ingress: Option<ChainStatus>,
    /// Chain at egress.
    pub egress: Option<ChainStatus>,
}

/// Our neighbours at one hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainStatus {
    /// Whether our program is there.
    pub attached: bool,
    /// Programs before ours: they may end the chain.
    pub ahead: Vec<String>,
    /// Programs after ours.
    pub behind: Vec<String>,
}

/// Enforcement, and what of it goes on without the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnforcementStatus {
    /// `enforcement off`: every rule only monitors.
    pub switched_off: bool,
    /// Links and maps are pinned: rules stay in force when the agent ends.
    pub pinned: bool,
    /// Why they are not, where they should be.
    pub not_pinned: Option<String>,
    /// Where they are.
    pub folder: Option<String>,
    /// Name of the maps' layout.
    pub layout: Option<String>,
    /// Maps of an earlier agent were taken over, with their counts.
    pub taken_over: bool,
    /// Layouts of earlier agents that are still attached, until a policy of this one is in force.
    pub other_layouts: Vec<String>,
    /// Silence of the agent after which rules only monitor; 0 = never.
    pub stale_open_after_ms: u64,
    /// Memory that the agent's cgroup, or the host, has room for; none = not known.
    #[serde(default)]
    pub memory_left_bytes: Option<u64>,
    /// What leaves no more, in words.
    #[serde(default)]
    pub memory_left_by: Option<String>,
    /// Links that could not be pinned: they end with the agent.
    pub links_not_pinned: u64,
    /// Times that our program was put in front of another one again.
    pub put_in_front: u64,
    /// Pins and filters of earlier agents, or of devices that are gone, that were removed.
    pub swept: u64,
}

/// A program that the kernel refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramMissing {
    /// Its name.
    pub program: String,
    /// Why.
    pub reason: String,
}

/// The ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RingStatus {
    /// Its size.
    pub bytes: u64,
    /// Most that was found waiting in it.
    pub fill_bytes_max: u64,
    /// Records read.
    pub records: u64,
    /// Times it was polled.
    pub rounds: u64,
    /// Times the sampling rate was halved because it filled.
    pub sampling_down: u64,
    /// Times it was doubled again.
    pub sampling_up: u64,
}

/// The policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStatus {
    /// The file.
    pub origin: String,
    /// Counts up with each one that came into force; 0 = none yet.
    pub generation: u64,
    /// Hash of the file in force.
    pub hash: String,
    /// When it came into force.
    pub applied_unix_ns: u64,
    /// Entries in the kernel.
    pub installed: u64,
    /// Entries that were left out because the prefix around them says the same.
    #[serde(default)]
    pub merged: u64,
    /// Bytes in the kernel.
    #[serde(default)]
    pub kernel_bytes: u64,
    /// Entries of the file as it is now: more or fewer than `installed` when they did not get into the kernel (`error` says why).
    pub wanted: u64,
    /// Why the file as it is now was refused.
    pub error: Option<String>,
    /// SHA-256 over the texts that make it, as the audit log has it.
    #[serde(default)]
    pub sha256: String,
    /// Where its base comes from: file, applied (by command), or none.
    #[serde(default)]
    pub layer: String,
    /// Rules added by command.
    #[serde(default)]
    pub added: u64,
    /// Until when it is on trial, if it is.
    #[serde(default)]
    pub provisional: Option<ProvisionalStatus>,
}

/// A policy that ends by itself unless it is confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProvisionalStatus {
    /// When it ends.
    pub until_unix_ns: u64,
    /// Generation that is in force again then.
    pub back_to_generation: u64,
}

/// The audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditStatus {
    /// Entries so far.
    pub entries: u64,
    /// Hash of the last one.
    pub head: String,
    /// Why the last one could not be written: no command may change anything until it can.
    pub error: Option<String>,
}

/// Hits of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleStatus {
    /// As the file names it.
    pub id: String,
    /// allow, block or limit.
    pub kind: String,
    /// in force, expired, or why not.
    pub state: String,
    /// Packets dropped.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that would have been dropped (observe mode, action monitor).
    pub would_packets: u64,
    /// Their bytes.
    pub would_bytes: u64,
    /// Packets that it left alone because many clients share their source.
    #[serde(default)]
    pub shared_packets: u64,
    /// Requests over a limit that the agent counts (`key: forwarded`, `key: credential`).
    #[serde(default)]
    pub requests_over: u64,
    /// Of those, without consequence: several clients share the connection, or the rule only monitors. `would_packets` counts them too.
    #[serde(default)]
    pub requests_would: u64,
    /// Last hit, 0 = never.
    pub last_unix_ns: u64,
    /// pass, drop or monitor.
    #[serde(default)]
    pub action: String,
    /// Prefixes that it names.
    #[serde(default)]
    pub clients: u64,
    /// When it ends, 0 = never.
    #[serde(default)]
    pub expires_unix_ns: u64,
    /// Why the guard stopped it: it only monitors.
    #[serde(default)]
    pub stopped: Option<String>,
    /// File and line, or who added it.
    #[serde(default)]
    pub from: String,
    /// Why it is there.
    #[serde(default)]
    pub reason: Option<String>,
    /// Where it comes from, as the rule says.
    #[serde(default)]
    pub origin: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
}

/// A list file in force: where it comes from, what is in it, and the hits of the rules that name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListStatus {
    /// The file.
    pub file: String,
    /// Rules that name it.
    pub rules: Vec<String>,
    /// When it was last written.
    pub changed_unix_ns: u64,
    /// When it was read.
    pub read_unix_ns: u64,
    /// Lines of it.
    pub lines: u64,
    /// Prefixes in force, each once.
    pub entries: u64,
    /// Prefixes that were there twice.
    pub merged: u64,
    /// Lines that could not be read and were left out (on_error: skip).
    pub skipped: u64,
    /// The first of those.
    pub first_skipped: Option<String>,
    /// Packets that its rules dropped; a rule that names several lists or clients of its own counts them together.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that its rules would have dropped.
    pub would_packets: u64,
    /// Their bytes.
    pub would_bytes: u64,
    /// Last hit of its rules, 0 = never.
    pub last_unix_ns: u64,
}

/// The catalogue in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogueStatus {
    /// The folder.
    pub folder: String,
    /// Documents in use.
    pub documents: u64,
    /// Operations in them.
    pub operations: u64,
    /// When it was loaded.
    pub loaded_unix_ns: u64,
    /// Documents that were refused, and warnings.
    pub errors: Vec<String>,
}

/// What a change came to (`sensor.change/v1`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    /// Generation in force.
    pub generation: u64,
    /// Its hash.
    pub hash: String,
    /// One line for each rule that is new (`+`), gone (`-`) or another (`~`).
    pub diff: Vec<String>,
    /// What is worth knowing beside it.
    pub notes: Vec<String>,
    /// Until when it is on trial, if it is.
    pub provisional: Option<ProvisionalStatus>,
    /// The audit log with the entry of this change.
    pub audit: AuditStatus,
}

/// Version of the published JSON.
pub const POLICY_SCHEMA: &str = "sensor.policy/v1";

/// What is in force, as `policy list --json` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyView {
    /// Always [`POLICY_SCHEMA`].
    pub schema: String,
    /// When this was made.
    pub time_unix_ns: u64,
    /// observe or enforce.
    pub mode: String,
    /// The policy, if there is one.
    pub policy: Option<PolicyStatus>,
    /// Its rules, in the order in which they are asked.
    pub rules: Vec<RuleStatus>,
    /// Its list files.
    #[serde(default)]
    pub lists: Vec<ListStatus>,
    /// Sources that many clients share: rules by address skip them unless they say `include_shared`.
    #[serde(default)]
    pub shared_sources: Vec<SharedSource>,
}

/// A source that many clients share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SharedSource {
    /// Its address.
    pub address: String,
    /// Until when, unless it is seen to be shared again.
    pub until_unix_ns: u64,
}

/// What is in force as a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Generation in force.
    pub generation: u64,
    /// The document.
    pub text: String,
    /// Rules in it that were added by command: they stay when a file is applied.
    #[serde(default)]
    pub added: Vec<String>,
}

/// Version of the published JSON.
pub const DROPS_SCHEMA: &str = "sensor.drops/v1";

/// Drops since a number, as `drops --json` takes them apart into lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropsView {
    /// Always [`DROPS_SCHEMA`].
    pub schema: String,
    /// Number of the last record of this answer: ask after it next.
    pub last: u64,
    /// Records that are not kept any more.
    pub missed_records: u64,
    /// Records, oldest first.
    pub records: Vec<DropRecord>,
    /// Drops so far that could not be told apart (the kernel's table was full).
    pub unattributed: u64,
    /// The ledger's blocked and limited so far.
    pub ledger: u64,
}

/// Drops of one client by one rule since the last record of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropRecord {
    /// From 1, without a hole.
    pub number: u64,
    /// Of the last of them.
    pub time_unix_ns: u64,
    /// The rule.
    pub rule: String,
    /// block, limit, flow verdict or client verdict.
    pub reason: String,
    /// The client that the rule hit.
    pub client: String,
    /// Source of the first packet of this client and rule, with its port.
    pub source: String,
    /// Its destination.
    pub destination: String,
    /// tcp or udp.
    pub protocol: String,
    /// Where it was seen.
    pub interface: String,
    /// The first record of this client and rule.
    pub first: bool,
    /// Packets of this record.
    pub packets: u64,
    /// Packets of all records up to this one.
    pub packets_so_far: u64,
}
