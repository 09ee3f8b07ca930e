//! What the inventory shows: the published JSON (`sensor.inventory/v1`), made on demand, never kept.
//!
//! Addresses are masked as set, paths are templates, no value of a query or header is in a row.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facet::{
    AuthPosture, DecommissionRow, ExposureRow, OperatorRow, OwnerSource, RiskRow, SupersededRow,
    TrendRow, VersionFamilyRow, VersionRow,
};
use crate::{
    state::{Activity, Confidence, DeclarationKind, Lifecycle, NotCovered, State},
    time::UnixNs,
};

/// Version of the published JSON; a change that a reader could misread raises it.
pub const INVENTORY_SCHEMA: &str = "sensor.inventory/v1";

/// The whole inventory as published: `sensor-agent inventory --json`, `replay --emit inventory` (row by row).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryView {
    /// Always [`INVENTORY_SCHEMA`].
    pub schema: String,
    /// When it was made.
    pub time_unix_ns: UnixNs,
    /// The window W that activity and coverage speak of, seconds.
    pub window_seconds: u64,
    /// Connections per listener by what they carried.
    pub coverage: Vec<CoverageRow>,
    /// Endpoints of this host.
    pub endpoints: Vec<EndpointRow>,
    /// Endpoints that were not asked for because of a limit on rows.
    #[serde(default)]
    pub endpoints_left_out: u64,
    /// What this host calls elsewhere.
    pub egress: Vec<EgressRow>,
    /// Versions that are told apart by a segment of the path.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub versions: Vec<VersionFamilyRow>,
    /// What was counted beside the rows.
    pub totals: InventoryTotals,
}

impl InventoryView {
    /// The JSON Schema of this version, as published.
    #[must_use]
    pub fn json_schema() -> String {
        let schema = schemars::schema_for!(Self);
        serde_json::to_string_pretty(&schema).unwrap_or_default()
    }
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointRow {
    /// Stable identity: hash of (service, method, path template without names of parameters), 16 hex digits.
    pub id: String,
    /// Service: `host` (with the listener's port where it is not 80 or 443), or `address:port`.
    pub service: String,
    /// Listener, `address:port`.
    pub listener: String,
    /// Host names of the service.
    pub hosts: Vec<String>,
    /// Request method.
    pub method: String,
    /// Path template: declared, learned, or by the shape of its segments.
    pub path_template: String,
    /// What kind of endpoint it is.
    pub kind: Kind,
    /// State by the table.
    pub state: State,
    /// How sure the state is.
    pub confidence: Confidence,
    /// Why the state is what it is, one sentence.
    pub reason: String,
    /// Why silence proves nothing, with state `not-covered`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_covered: Option<NotCovered>,
    /// What the catalogue says.
    pub declaration: DeclarationKind,
    /// Where it stands in its life.
    pub lifecycle: Lifecycle,
    /// From when its responses say it is deprecated, also when that is ahead (RFC 9745).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deprecation_unix_ns: Option<UnixNs>,
    /// Its sunset: the document's, else that of its responses (RFC 8594).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sunset_unix_ns: Option<UnixNs>,
    /// Path of the next version as its responses link it, as a template.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub successor: Option<String>,
    /// The page about its deprecation that its responses link (RFC 9745).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deprecation_page: Option<String>,
    /// The page about its sunset that its responses link (RFC 8594).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sunset_page: Option<String>,
    /// What its responses say of its life that was not used, and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drift: Option<String>,
    /// What was answered in the window.
    pub activity: Activity,
    /// First request, none when never called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_seen_unix_ns: Option<UnixNs>,
    /// Last request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen_unix_ns: Option<UnixNs>,
    /// Requests observed, multiplied by the weight of their samples.
    pub requests: u64,
    /// Requests observed, unweighted. Equal to `requests` when nothing was sampled out.
    pub requests_observed: u64,
    /// Weighted requests by status class: `1xx` to `5xx`, `none` (no response seen); classes without a request are left out.
    pub status: BTreeMap<String, u64>,
    /// Time from the request's first to the response's first byte.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency: Option<LatencyRow>,
    /// Distinct client addresses, estimated (exact up to 16).
    pub clients: u64,
    /// Some client addresses, masked as set.
    pub callers: Vec<String>,
    /// Units or containers of clients on this host.
    pub client_owners: Vec<String>,
    /// Unit or container of the server.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
    /// Authentication schemes seen with requests.
    pub auth: Vec<String>,
    /// Media types of requests.
    pub request_types: Vec<String>,
    /// Media types of responses.
    pub response_types: Vec<String>,
    /// Names of query parameters, never values.
    pub query_names: Vec<String>,
    /// Its counts hold requests from before a part of it got a template, and a row, of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub counts_split_off: bool,
    /// How the numbers were obtained.
    pub accuracy: Accuracy,
    /// Who reached it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exposure: Option<ExposureRow>,
    /// Whose API it is: a team or a person; `owner` is the unit or container that serves it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub declared_owner: Option<String>,
    /// What says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub declared_owner_source: Option<OwnerSource>,
    /// Whether it answers without credentials; none without a success.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub auth_posture: Option<AuthPosture>,
    /// How risky it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub risk: Option<RiskRow>,
    /// Which version of what it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<VersionRow>,
    /// A higher version of the same is used or declared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub superseded: Option<SupersededRow>,
    /// An operator took it into the catalogue overlay.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepted: Option<OperatorRow>,
    /// An operator asked not to be shown it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ignored: Option<OperatorRow>,
    /// Days until its sunset, rounded up; negative and rounded down once it has passed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sunset_days_left: Option<i64>,
    /// Distinct client addresses in the window of what is deprecated, past its sunset or removed, estimated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remaining_callers: Option<u64>,
    /// How its calls change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trend: Option<TrendRow>,
    /// What shows that it is off, where it should be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decommission: Option<DecommissionRow>,
}

/// What kind of endpoint a row is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An operation of an API.
    #[default]
    Api,
    /// A page for people (HTML).
    Page,
    /// A file (images, scripts, styles, fonts).
    Asset,
    /// Health, readiness and metrics.
    Operational,
    /// Requests beyond a bound, counted in one row of the service.
    Overflow,
}

impl Kind {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Page => "page",
            Self::Asset => "asset",
            Self::Operational => "operational",
            Self::Overflow => "overflow",
        }
    }
}

/// How the numbers of a row were obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accuracy {
    /// Every exchange was counted.
    #[default]
    Exact,
    /// Some stood for more than one.
    Sampled,
}

/// Quantiles of the latency in microseconds, relative error at most 1.6 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyRow {
    /// Median.
    pub p50_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// Number of latencies.
    pub count: u64,
}

/// What this host calls elsewhere: one host and method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EgressRow {
    /// Normalised host name, or `address:port` where none was sent.
    pub host: String,
    /// Request method.
    pub method: String,
    /// Requests, weighted.
    pub requests: u64,
    /// Requests, unweighted.
    pub requests_observed: u64,
    /// First request.
    pub first_seen_unix_ns: UnixNs,
    /// Last request.
    pub last_seen_unix_ns: UnixNs,
    /// Callers on this host: owners where known, else addresses, masked as set.
    pub callers: Vec<String>,
}

/// Connections of one listener by what they carried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoverageRow {
    /// `address:port`.
    pub listener: String,
    /// Connections opened, and those joined in the middle.
    pub opened: u64,
    /// HTTP/1.
    pub http: u64,
    /// HTTP/2 with prior knowledge.
    pub h2c: u64,
    /// TLS.
    pub tls: u64,
    /// Another protocol.
    pub other: u64,
    /// Ended without payload.
    pub silent: u64,
    /// Ended.
    pub closed: u64,
    /// Share of the connections with payload that could be read (HTTP/1), 0 to 1; none without such connections.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub readable: Option<f64>,
    /// Server names of TLS connections, bounded.
    pub server_names: Vec<String>,
    /// ALPN protocols of TLS connections, bounded.
    pub alpn: Vec<String>,
    /// Unit or container of the listener.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
}

/// What this run of the agent counted; the parts sum to all exchanges. All 0 where a store is read without an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryTotals {
    /// Exchanges given to the inventory, unweighted.
    pub exchanges: u64,
    /// Counted at endpoints that are shown or ignored.
    pub endpoints: u64,
    /// To operations whose existence is not proven.
    pub probing: u64,
    /// Beyond a bound, counted in overflow rows.
    pub overflow: u64,
    /// CORS preflights.
    pub preflight: u64,
    /// CONNECT and `OPTIONS *`: not operations of a service.
    pub no_operation: u64,
    /// Only the client is on this host.
    pub egress: u64,
    /// Neither end is on this host.
    pub transit: u64,
    /// No exchanges: endpoints of kind `api` without a declared owner.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub unowned: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}
