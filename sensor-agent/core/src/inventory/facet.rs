//! What a row says of an endpoint beside its counts: who reaches it, whose it is, how risky, which version, what is left of its life.
//!
//! Published JSON, all of it optional: a reader of an older version sees rows as they were. Made with the row, never kept.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::UnixNs;

/// From where a caller reaches an endpoint, narrow to wide.
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
pub enum Exposure {
    /// The same host, over loopback.
    #[default]
    Loopback,
    /// The same host, by one of its addresses, or a workload on it.
    Host,
    /// The cluster's pods, services and nodes.
    Cluster,
    /// The organisation's private networks.
    Private,
    /// Networks of partners.
    Partner,
    /// Anyone.
    Public,
}

impl Exposure {
    /// Every class, narrow to wide.
    pub const ALL: [Self; 6] =
        [Self::Loopback, Self::Host, Self::Cluster, Self::Private, Self::Partner, Self::Public];

    /// The word in JSON and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Host => "host",
            Self::Cluster => "cluster",
            Self::Private => "private",
            Self::Partner => "partner",
            Self::Public => "public",
        }
    }
}

/// Who reached an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExposureRow {
    /// The widest class seen.
    pub widest: Exposure,
    /// Last request from it.
    pub widest_last_seen_unix_ns: UnixNs,
    /// Weighted requests by class; classes without a request are left out.
    pub requests: BTreeMap<Exposure, u64>,
}

/// What names the owner of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerSource {
    /// `x-owner` in its document.
    Document,
    /// The catalogue file.
    Catalogue,
    /// `info.contact` of its document.
    Contact,
    /// `owners` of the configuration.
    Configuration,
}

/// Whether an endpoint answers without credentials, by its successes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthPosture {
    /// Every success had credentials.
    Credentials,
    /// Some had, some had not.
    Mixed,
    /// No success had any.
    Open,
}

/// What adds to a risk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RiskFactor {
    /// Its state.
    State,
    /// Who reaches it.
    Exposure,
    /// How it authenticates.
    Authentication,
    /// What data it carries.
    Data,
    /// What was found at it.
    Findings,
}

/// How risky an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RiskRow {
    /// 0 to 100: the sum of the parts.
    pub score: u8,
    /// What adds to it; a part without points is left out.
    pub parts: Vec<RiskPart>,
}

/// Points of one factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RiskPart {
    /// The factor.
    pub part: RiskFactor,
    /// Its points.
    pub points: u8,
}

/// What tells versions of an endpoint apart.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum VersionSource {
    /// A segment of its path.
    Path,
}

/// Which version of what an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRow {
    /// What all versions have in common: the path template with `{version}` for its version.
    pub family: String,
    /// Its version, as written.
    pub version: String,
    /// What tells it.
    pub source: VersionSource,
}

/// A higher version that takes an endpoint's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SupersededRow {
    /// The highest such version.
    pub by: String,
    /// Its path template.
    pub path_template: String,
    /// Its weighted requests.
    pub requests: u64,
}

/// What an operator said of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorRow {
    /// Why.
    pub note: String,
    /// Who.
    pub by: String,
    /// Until when; none: for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_unix_ns: Option<UnixNs>,
}

/// Calls of the window against those of the window before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrendRow {
    /// Weighted requests in the window that ends now.
    pub window: u64,
    /// Weighted requests in the window before that.
    pub before: u64,
    /// Whether the sensor watched for both.
    pub both_watched: bool,
}

/// What shows that a retired or removed endpoint is off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecommissionRow {
    /// Weighted requests in the window, whatever was answered.
    pub calls: u64,
    /// Days of the window that the sensor watched.
    pub covered_days: f64,
    /// Instances of the service that answered 404 or 410 last, `address:port`.
    pub instances_gone: Vec<String>,
    /// Instances that answered otherwise last.
    pub instances_serving: Vec<String>,
    /// Instances of the service that were never asked.
    pub instances_unasked: u64,
    /// Callers in the window that came past the trusted proxies, masked as set; none where no proxy is trusted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bypass_callers: Option<Vec<String>>,
}

/// All versions of one thing at one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionFamilyRow {
    /// Service.
    pub service: String,
    /// Path templates up to the version, with `{version}` for it.
    pub family: String,
    /// What tells the versions.
    pub source: VersionSource,
    /// Its versions, highest first.
    pub versions: Vec<VersionShare>,
}

/// One version of a family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionShare {
    /// The version, as written.
    pub version: String,
    /// Endpoints of it.
    pub endpoints: u64,
    /// Weighted requests.
    pub requests: u64,
    /// Share of the family's requests, 0 to 1.
    pub share: f64,
    /// Distinct client addresses, estimated.
    pub clients: u64,
    /// Share of the clients of all its versions, 0 to 1; one who calls two versions counts at both.
    pub clients_share: f64,
}
