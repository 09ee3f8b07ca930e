//! What of each document is used: the published JSON of `catalogue coverage` (`sensor.catalogue-coverage/v1`).
//!
//! An operation counts once, whatever services and prefixes it was called under, at the document that decides about it. What nobody
//! declared at a service counts for each current document that is about that service.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    path::example_path,
    row::{EndpointRow, Kind},
    service::{ServiceId, with_view},
    table::Inventory,
    view::RowFilter,
};
use crate::{
    catalogue::{BindingReason, BindingRow, Catalogue, Document, Verdict},
    event::Mask,
    http::Method,
    state::{Activity, State},
    time::UnixNs,
};

/// Version of the published JSON.
pub const CATALOGUE_COVERAGE_SCHEMA: &str = "sensor.catalogue-coverage/v1";
/// Services without a document that are listed.
const SERVICES_MAX: usize = 100;

/// The documents and what of them is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogueCoverageView {
    /// Always [`CATALOGUE_COVERAGE_SCHEMA`].
    pub schema: String,
    /// When it was made.
    pub time_unix_ns: UnixNs,
    /// The window that "used" speaks of, seconds.
    pub window_seconds: u64,
    /// Current documents first, each by name.
    pub documents: Vec<DocumentRow>,
    /// Services that no document is about, the busiest first, at most 100.
    pub undocumented: Vec<UndocumentedRow>,
    /// How many such services there are.
    pub undocumented_total: u64,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentRow {
    /// Name, relative to the folder.
    pub document: String,
    /// `info.title`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<String>,
    /// `info.version`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// An older version: what of it is used should be gone.
    pub retired: bool,
    /// Operations that it declares.
    pub declared: u64,
    /// Of these, called in the window.
    pub used: u64,
    /// The others.
    pub unused: u64,
    /// Of the unused, those whose silence is proven (`dormant`, `retired`).
    pub silent_proven: u64,
    /// Called, and answered as absent (`missing`); they count as used.
    pub missing: u64,
    /// `used` of `declared`, percent; none without operations.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub percent: Option<f64>,
    /// Endpoints that nobody declared, at the services that it is about.
    pub shadow: u64,
    /// Endpoints of it that should be gone and are called.
    pub zombie: u64,
    /// How it is bound: `binding-file`, `servers`, `loopback-servers-only`, `evidence` or `no-servers`.
    pub binding: String,
    /// The same in words, with figures.
    pub reason: String,
    /// What it is bound to, at most 20.
    pub bound_to: Vec<String>,
    /// Of a document that names no host: what each service's requests show.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub evidence: Vec<DocumentEvidence>,
    /// Other documents that are bound to one of its hosts, at most 16: the most literal template decides, then the current before
    /// the older, then the first by name.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub beside: Vec<String>,
}

/// What the requests of one service show about a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentEvidence {
    /// The service.
    pub service: String,
    /// Its requests to operations of an API.
    pub requests: u64,
    /// Those that the document declares.
    pub matched: u64,
    /// `about`, `open` (too few requests) or `not-about`.
    pub verdict: String,
}

/// A service that no document is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UndocumentedRow {
    /// The service.
    pub service: String,
    /// Its endpoints.
    pub endpoints: u64,
    /// Their requests.
    pub requests: u64,
}

impl Inventory {
    /// What of each document is used.
    #[must_use]
    pub fn catalogue_coverage(&self, now: UnixNs, catalogue: &Catalogue) -> CatalogueCoverageView {
        let mut tallies: Vec<Tally<'_>> = vec![Tally::default(); catalogue.documents().len()];
        let mut undocumented: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let places = self.places();
        let mut about: HashMap<u64, Vec<u32>> = HashMap::new();
        self.each_row(now, catalogue, &Mask::default(), &RowFilter::default(), |row| {
            if row.state == State::ShadowHost {
                let (endpoints, requests) = undocumented.entry(row.service.clone()).or_default();
                *endpoints += 1;
                *requests += row.requests;
                return;
            }
            let place = places.get(&(row.service.clone(), row.listener.clone()));
            let Some(service) = place.and_then(|id| self.service(*id)) else { return };
            let Some((address, host)) = self.anchor(service) else { return };
            with_view(address, host.as_deref(), |view| {
                let Some(method) = Method::parse(&row.method) else { return };
                let path = example_path(&row.path_template);
                let found = catalogue.declare(view, &method, path.as_bytes());
                if let Some(operation) = found.operation {
                    if let Some(tally) = tallies.get_mut(operation.document as usize) {
                        tally.note(&row, (operation.method.as_str(), &operation.path));
                    }
                } else if is_shadow(row.state) && is_told(row.kind) {
                    let documents = about
                        .entry(catalogue.binding(view))
                        .or_insert_with(|| catalogue.documents_about(view));
                    let is_current = |document: &&u32| {
                        catalogue.documents().get(**document as usize).is_some_and(|it| !it.retired)
                    };
                    for document in documents.iter().filter(is_current) {
                        if let Some(tally) = tallies.get_mut(*document as usize) {
                            tally.shadow += 1;
                        }
                    }
                }
            });
        });
        let documents = catalogue.documents().iter().zip(catalogue.bindings()).zip(&tallies);
        let mut undocumented: Vec<UndocumentedRow> = undocumented
            .into_iter()
            .map(|(service, (endpoints, requests))| UndocumentedRow {
                service,
                endpoints,
                requests,
            })
            .collect();
        undocumented.sort_by(|a, b| (b.requests, &a.service).cmp(&(a.requests, &b.service)));
        let undocumented_total = undocumented.len() as u64;
        undocumented.truncate(SERVICES_MAX);
        CatalogueCoverageView {
            schema: CATALOGUE_COVERAGE_SCHEMA.to_owned(),
            time_unix_ns: now,
            window_seconds: self.window_ns / 1_000_000_000,
            documents: documents.map(|((document, row), tally)| tally.row(document, row)).collect(),
            undocumented,
            undocumented_total,
        }
    }

    /// Services by the names that rows have for them.
    fn places(&self) -> HashMap<(String, String), ServiceId> {
        let shown = (0_u32..)
            .map(ServiceId)
            .zip(&self.services)
            .filter(|(id, service)| !service.gone && service.shown == *id);
        shown
            .filter_map(|(id, service)| {
                let listener = self.listeners.get(service.listener as usize)?;
                Some(((service.name.to_string(), listener.address.to_string()), id))
            })
            .collect()
    }
}

/// What rows say of one document.
#[derive(Clone, Debug, Default)]
struct Tally<'c> {
    used: HashSet<(&'c str, &'c str)>,
    missing: BTreeSet<(&'c str, &'c str)>,
    silent_proven: HashSet<(&'c str, &'c str)>,
    zombie: u64,
    shadow: u64,
}

impl<'c> Tally<'c> {
    fn note(&mut self, row: &EndpointRow, operation: (&'c str, &'c str)) {
        if row.activity != Activity::Silent {
            self.used.insert(operation);
        }
        match row.state {
            State::Missing => {
                self.missing.insert(operation);
            }
            State::Dormant | State::Retired => {
                self.silent_proven.insert(operation);
            }
            state if is_zombie(state) => self.zombie += 1,
            _ => {}
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share, shown")]
    fn row(&self, document: &Document, binding: &BindingRow) -> DocumentRow {
        let (declared, used) = (document.operations as u64, self.used.len() as u64);
        let text = |text: &Option<Box<str>>| text.as_deref().map(ToOwned::to_owned);
        let silent = self.silent_proven.difference(&self.used).count();
        DocumentRow {
            document: document.name.to_string(),
            title: text(&document.title),
            version: text(&document.version),
            retired: document.retired,
            declared,
            used,
            unused: declared.saturating_sub(used),
            silent_proven: silent as u64,
            missing: self.missing.len() as u64,
            percent: (declared > 0).then(|| (used * 1_000 / declared) as f64 / 10.0),
            shadow: self.shadow,
            zombie: self.zombie,
            binding: binding_word(binding.reason).to_owned(),
            reason: binding.explained(),
            bound_to: binding.scopes.clone(),
            beside: binding.beside.iter().map(ToString::to_string).collect(),
            evidence: binding
                .evidence
                .iter()
                .map(|row| DocumentEvidence {
                    service: row.service.to_string(),
                    requests: row.requests,
                    matched: row.matched,
                    verdict: verdict_word(row.verdict).to_owned(),
                })
                .collect(),
        }
    }
}

const fn binding_word(reason: BindingReason) -> &'static str {
    match reason {
        BindingReason::BindingFile => "binding-file",
        BindingReason::Servers => "servers",
        BindingReason::LoopbackServersOnly => "loopback-servers-only",
        BindingReason::Evidence => "evidence",
        BindingReason::NoServers => "no-servers",
    }
}

const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::About => "about",
        Verdict::Open => "open",
        Verdict::NotAbout => "not-about",
    }
}

const fn is_shadow(state: State) -> bool {
    matches!(state, State::ShadowPath | State::ShadowMethod)
}

const fn is_told(kind: Kind) -> bool {
    matches!(kind, Kind::Api | Kind::Operational)
}

const fn is_zombie(state: State) -> bool {
    matches!(state, State::ZombieRemoved | State::ZombieSunset | State::ZombieDeprecated)
}
