//! What users write: one struct for the file (serde), the environment and the flags (clap), all optional.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::callers::RawExposure;
use super::units::{Bytes, Share, Span};

/// Whether packets may be dropped.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Drop nothing: the drop path is not even in the loaded program
    #[default]
    Observe,
    /// Do what the policy says
    Enforce,
}

impl Mode {
    /// As users write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// Where packets are seen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// TC classifiers: TCX at the head of the chain, clsact where the kernel has no TCX
    #[default]
    Tc,
    /// An AF_PACKET socket: observes only, attaches nothing to an interface
    Socket,
}

/// How the programs are attached with `hook: tc`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum TcAttach {
    /// TCX where the kernel has it (6.6), else clsact
    #[default]
    Auto,
    /// TCX or nothing
    Tcx,
    /// A filter of a clsact qdisc
    Clsact,
}

/// Whether enforcement goes on without the agent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Pin {
    /// In mode enforce where bpffs can be written; otherwise the agent runs without, and says so
    #[default]
    Auto,
    /// In mode enforce, or the agent does not start
    Always,
    /// Enforcement ends with the agent
    Never,
}

/// Whether the sampling rate follows the fill of the ring.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum SamplingBudget {
    /// Halved when the ring fills, doubled again when it drains
    #[default]
    Adaptive,
    /// As set; a full ring loses records, counted
    Fixed,
}

/// How client addresses leave the sensor.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum ClientAddress {
    /// As they are
    #[default]
    Full,
    /// Cut to /24 (IPv4) or /48 (IPv6)
    Truncate,
    /// A keyed hash (key per installation)
    Hash,
}

/// Header field that trusted proxies write the client's address into.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// X-Forwarded-For; Forwarded only in a request without X-Forwarded-For
    #[default]
    Auto,
    /// X-Forwarded-For alone
    XForwardedFor,
    /// Forwarded (RFC 7239) alone
    Forwarded,
}

impl From<ForwardedHeader> for sensor_core::http::ForwardedHeader {
    fn from(header: ForwardedHeader) -> Self {
        match header {
            ForwardedHeader::Auto => Self::Either,
            ForwardedHeader::XForwardedFor => Self::XForwardedFor,
            ForwardedHeader::Forwarded => Self::Forwarded,
        }
    }
}

/// The configuration of `run` as written. Everything is optional; nothing needs to be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
#[schemars(title = "sensor-agent configuration")]
pub struct Raw {
    /// Drop nothing (observe), or do what the policy says (enforce) [default: observe]
    #[arg(long, env = "SENSOR_MODE", value_enum, hide_possible_values = true)]
    pub mode: Option<Mode>,
    /// Interfaces to watch, as globs; repeat or separate by commas [default: all]
    #[arg(
        long = "interface",
        short = 'i',
        env = "SENSOR_INTERFACES",
        value_name = "GLOB",
        value_delimiter = ','
    )]
    pub interfaces: Option<Vec<String>>,
    /// Interfaces to leave alone, as globs; stronger than `interfaces`
    #[arg(
        long = "exclude-interface",
        env = "SENSOR_EXCLUDE_INTERFACES",
        value_name = "GLOB",
        value_delimiter = ','
    )]
    pub exclude_interfaces: Option<Vec<String>>,
    /// Network namespace to work in: a name of `ip netns` or a path [default: this one]
    #[arg(long, env = "SENSOR_NETNS", value_name = "NAME|PATH")]
    pub netns: Option<PathBuf>,
    /// Where packets are seen: tc, or socket (observes only) [default: tc]
    #[arg(long, env = "SENSOR_HOOK", value_enum, hide_possible_values = true)]
    pub hook: Option<Hook>,
    /// How programs are attached with hook tc: auto, tcx or clsact [default: auto]
    #[arg(long, env = "SENSOR_TC_ATTACH", value_enum, hide_possible_values = true)]
    pub tc_attach: Option<TcAttach>,
    /// Whether enforcement goes on when the agent ends, by links and maps pinned in bpffs: auto, always or never [default: auto]
    #[arg(long, env = "SENSOR_PIN", value_enum, hide_possible_values = true)]
    pub pin: Option<Pin>,
    /// Folder in a bpf file system where they are pinned [default: /sys/fs/bpf/api-sensor]
    #[arg(long, env = "SENSOR_PIN_FOLDER", value_name = "FOLDER")]
    pub pin_folder: Option<PathBuf>,
    /// Name of this sensor among those of the host [default: `default`, or made from the socket when that is not the default one]
    #[arg(long, env = "SENSOR_INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,
    /// Rules only monitor when the agent has given no sign of life for this long [default: they stay in force]
    #[arg(long, env = "SENSOR_STALE_OPEN_AFTER", value_name = "TIME")]
    pub stale_open_after: Option<Span>,
    /// Share of the flows that is sampled [default: 1]
    #[arg(long, env = "SENSOR_SAMPLING", value_name = "SHARE")]
    pub sampling: Option<Share>,
    /// Whether the share falls when the ring fills: adaptive or fixed [default: adaptive]
    #[arg(long, env = "SENSOR_SAMPLING_BUDGET", value_enum, hide_possible_values = true)]
    pub sampling_budget: Option<SamplingBudget>,
    /// Size of the ring buffer between kernel and agent, a power of two [default: 8MiB]
    #[arg(long, env = "SENSOR_RING_BYTES", value_name = "BYTES")]
    pub ring_bytes: Option<Bytes>,
    /// Longest request or response head that is read [default: 16KiB]
    #[arg(long, env = "SENSOR_HEAD_BYTES_MAX", value_name = "BYTES")]
    pub head_bytes_max: Option<Bytes>,
    /// Flows that are followed at once; the longest idle one makes room [default: 65536]
    #[arg(long, env = "SENSOR_FLOWS_MAX", value_name = "N")]
    pub flows_max: Option<u32>,
    /// How often the ring is polled; grows to 100ms when idle [default: 10ms]
    #[arg(long, env = "SENSOR_POLL_INTERVAL", value_name = "TIME")]
    pub poll_interval: Option<Span>,
    /// Window over which an endpoint counts as active [default: 30d]
    #[arg(long, env = "SENSOR_WINDOW", value_name = "TIME")]
    pub window: Option<Span>,
    /// Folder of OpenAPI documents (YAML, JSON); reloaded when it changes
    #[arg(long, env = "SENSOR_CATALOGUE", value_name = "FOLDER")]
    pub catalogue: Option<PathBuf>,
    /// File of path templates: pinned, split, renamed; reloaded when it changes
    #[arg(long, env = "SENSOR_TEMPLATES", value_name = "FILE")]
    pub templates: Option<PathBuf>,
    /// Policy file (allow, block, limits); reloaded when it changes
    #[arg(long, env = "SENSOR_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Pattern that the reason of every rule must match, such as `CHG[0-9]{7}`; a policy file can demand more, never less
    #[arg(long, env = "SENSOR_REQUIRE_REASON", value_name = "PATTERN")]
    pub require_reason: Option<String>,
    /// Addresses and prefixes that nothing is dropped of, whatever a policy says; repeat or separate by commas
    #[arg(
        long = "protect",
        env = "SENSOR_PROTECTED",
        value_name = "PREFIX",
        value_delimiter = ','
    )]
    pub protected: Option<Vec<String>>,
    /// Collector to stream events to, such as http://127.0.0.1:4640
    #[arg(long, env = "SENSOR_UPSTREAM", value_name = "URL")]
    pub upstream: Option<String>,
    /// Further sinks: `stdout`, `file:PATH[?format=jsonl|protobuf&rotate_bytes=N&keep=N]`
    #[arg(long = "sink", env = "SENSOR_SINKS", value_name = "SINK", value_delimiter = ',')]
    pub sinks: Option<Vec<String>>,
    /// Send one event per exchange too, beside those of endpoints, coverage, policy and ledger [default: false]
    #[arg(long, env = "SENSOR_EXCHANGE_EVENTS", num_args = 0..=1, default_missing_value = "true")]
    pub exchange_events: Option<bool>,
    /// How client addresses leave the sensor: full, truncate or hash [default: full]
    #[arg(long, env = "SENSOR_CLIENT_ADDRESS", value_enum, hide_possible_values = true)]
    pub client_address: Option<ClientAddress>,
    /// Folder of the store [default: /var/lib/api-sensor, or $XDG_STATE_HOME/api-sensor when not root]
    #[arg(long, env = "SENSOR_STORE", value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// Unix socket that the other commands talk to [default: /run/api-sensor/agent.sock]
    #[arg(long, env = "SENSOR_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Group that may read by the socket, beside root
    #[arg(long, env = "SENSOR_SOCKET_GROUP", value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Group that may change the policy by the socket, beside root; may read too
    #[arg(long, env = "SENSOR_WRITE_GROUP", value_name = "GROUP")]
    pub write_group: Option<String>,
    /// Proxies that are believed when they name the client they speak for (X-Forwarded-For, Forwarded); address rules skip them
    #[arg(long, env = "SENSOR_TRUSTED_PROXIES", value_name = "PREFIX", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<String>>,
    /// Header field that they write the client's address into; the other one is the client's own word [default: auto]
    #[arg(
        long,
        env = "SENSOR_FORWARDED_HEADER",
        value_enum,
        hide_possible_values = true,
        value_name = "auto|x-forwarded-for|forwarded"
    )]
    pub forwarded_header: Option<ForwardedHeader>,
    /// Networks of callers by class, for the exposure of endpoints
    #[arg(skip)]
    pub exposure: Option<RawExposure>,
    /// Owners of APIs by host name (`*.pay.example.com: Payments`), where no document names one; the closest glob counts
    #[arg(skip)]
    pub owners: Option<BTreeMap<String, String>>,
    /// A rule that hits more than this share of a service's clients in 60s only monitors from then on; 100% = never [default: 5%]
    #[arg(long, env = "SENSOR_GUARD_MAX_SHARE", value_name = "SHARE")]
    pub guard_max_share: Option<Share>,
    /// Asked while a policy is on trial, and reverted when it fails: http://ADDRESS:PORT/PATH or tcp://ADDRESS:PORT
    #[arg(long, env = "SENSOR_POLICY_HEALTH", value_name = "URL")]
    pub policy_health: Option<String>,
    /// Address of /metrics, /healthz and /readyz, or `off` [default: 127.0.0.1:9464]
    #[arg(long, env = "SENSOR_METRICS_LISTEN", value_name = "ADDRESS|off")]
    pub metrics_listen: Option<String>,
    /// eBPF object to load in place of the one that is built in
    #[arg(long, env = "SENSOR_EBPF_OBJECT_FILE", value_name = "FILE")]
    pub ebpf_object: Option<PathBuf>,
}

impl Raw {
    /// Lays `over` on top of this: what it sets wins.
    #[must_use]
    pub fn overlaid_by(self, over: Self) -> Self {
        macro_rules! overlay {
            ($($field:ident),* $(,)?) => { Self { $($field: over.$field.or(self.$field),)* } };
        }
        overlay!(
            mode,
            interfaces,
            exclude_interfaces,
            netns,
            hook,
            tc_attach,
            pin,
            pin_folder,
            instance,
            stale_open_after,
            sampling,
            sampling_budget,
            ring_bytes,
            head_bytes_max,
            flows_max,
            poll_interval,
            window,
            catalogue,
            templates,
            policy,
            require_reason,
            protected,
            upstream,
            sinks,
            exchange_events,
            client_address,
            store,
            socket,
            socket_group,
            write_group,
            trusted_proxies,
            forwarded_header,
            exposure,
            owners,
            guard_max_share,
            policy_health,
            metrics_listen,
            ebpf_object,
        )
    }
}
