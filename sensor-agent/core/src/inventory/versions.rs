//! Versions of one thing side by side: how the calls and callers of a family are shared, and which endpoints a higher version takes
//! the place of.
//!
//! Read anew for a view, over endpoints as they are shown; not kept. Bound: [`FAMILIES_MAX`] families, those with most calls.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::{
    clients::ClientSketch,
    endpoint::{Endpoint, Standing},
    facet::{SupersededRow, VersionFamilyRow, VersionRow, VersionShare, VersionSource},
    row::EndpointRow,
    service::Service,
    table::Inventory,
    version::{Version, Versioned},
};
use crate::{http::Method, shape::Shape, time::UnixNs};

/// Families of a view.
const FAMILIES_MAX: usize = 1_000;

/// Operations that succeeded, by service, method and template without the version: the highest version of each.
#[derive(Debug, Default)]
pub(super) struct Successors<'a> {
    best: HashMap<OperationKey<'a>, Successor<'a>>,
}

/// Service, method and template without its version and names.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OperationKey<'a> {
    service: &'a str,
    method: &'a str,
    before: &'a str,
    behind: Shape<'a>,
    sort_of_days: bool,
}

#[derive(Debug)]
struct Successor<'a> {
    version: Version,
    text: &'a str,
    template: &'a str,
    requests: u64,
}

impl<'a> Successors<'a> {
    fn add(&mut self, service: &'a str, endpoint: &'a Endpoint) {
        let Some(cut) = Versioned::of(&endpoint.template) else { return };
        let Some(version) = Version::parse(cut.version) else { return };
        let found = Successor {
            version,
            text: cut.version,
            template: &endpoint.template,
            requests: endpoint.weighted.total(),
        };
        let key = key(service, endpoint.method.as_str(), &cut);
        match self.best.get_mut(&key) {
            Some(best) if best.version == version => best.requests += found.requests,
            Some(best) if !version.is_higher(best.version) => {}
            Some(best) => *best = found,
            None => {
                self.best.insert(key, found);
            }
        }
    }

    /// Fills in what a higher version of a row's operation is.
    pub(super) fn tell(&self, row: &mut EndpointRow) {
        let Some(cut) = Versioned::of(&row.path_template) else { return };
        let Some(version) = Version::parse(cut.version) else { return };
        let best = self.best.get(&key(&row.service, &row.method, &cut));
        row.superseded =
            best.filter(|best| best.version.is_higher(version)).map(|best| SupersededRow {
                by: best.text.to_owned(),
                path_template: best.template.to_owned(),
                requests: best.requests,
            });
    }
}

fn key<'a>(service: &'a str, method: &'a str, cut: &Versioned<'a>) -> OperationKey<'a> {
    let sort_of_days = cut.version.contains('-');
    let behind = Shape(cut.behind);
    OperationKey { service, method, before: cut.before, behind, sort_of_days }
}

/// The version of a row by its template.
pub(super) fn version_of(template: &str) -> Option<VersionRow> {
    let cut = Versioned::of(template)?;
    Some(VersionRow {
        family: cut.operation(),
        version: cut.version.to_owned(),
        source: VersionSource::Path,
    })
}

#[derive(Default)]
struct Family<'a> {
    versions: HashMap<&'a str, Share<'a>>,
}

#[derive(Default)]
struct Share<'a> {
    /// One is counted once, at however many places it was asked.
    endpoints: HashSet<(&'a Method, &'a str)>,
    requests: u64,
    clients: ClientSketch,
}

impl Inventory {
    /// What succeeded, by version.
    pub(super) fn successors(&self) -> Successors<'_> {
        let mut successors = Successors::default();
        for (service, endpoint) in self.versioned() {
            if endpoint.times.success > UnixNs(0) && self.is_proven(endpoint) {
                successors.add(&service.name, endpoint);
            }
        }
        successors
    }

    /// Families of versions by calls in the window, most first.
    pub(super) fn version_families(&self, now: UnixNs) -> Vec<VersionFamilyRow> {
        let mut families: HashMap<(&str, &str), Family<'_>> = HashMap::new();
        for (service, endpoint) in self.versioned() {
            let Some(cut) = Versioned::of(&endpoint.template) else { continue };
            let family = families.entry((&service.name, cut.before)).or_default();
            let share = family.versions.entry(cut.version).or_default();
            share.endpoints.insert((&endpoint.method, &endpoint.template));
            let calls = self.window_calls(endpoint, now);
            share.requests += calls;
            if calls > 0 {
                share.clients.merge(&endpoint.clients);
            }
        }
        let mut rows: Vec<(u64, VersionFamilyRow)> = families
            .into_iter()
            .filter_map(|((service, before), family)| family_row(service, before, &family))
            .collect();
        rows.sort_by(|(a, one), (b, two)| {
            (Reverse(a), &one.service, &one.family).cmp(&(Reverse(b), &two.service, &two.family))
        });
        rows.truncate(FAMILIES_MAX);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Endpoints whose template has a version, with the service that each is shown at.
    fn versioned(&self) -> impl Iterator<Item = (&Service, &Endpoint)> {
        let endpoints = self.endpoints.iter().flatten().map(|it| &**it);
        endpoints
            .filter(|it| it.standing == Standing::Endpoint && it.observed > 0)
            .filter(|it| Versioned::of(&it.template).is_some())
            .filter_map(|it| Some((self.service(self.shown_as(it.service))?, it)))
    }
}

/// One row, with its calls; none for what is only a number or a day that nothing else stands beside.
fn family_row(service: &str, before: &str, family: &Family<'_>) -> Option<(u64, VersionFamilyRow)> {
    let alone = family.versions.len() < 2;
    if alone && !family.versions.keys().all(|it| it.starts_with(['v', 'V'])) {
        return None;
    }
    let requests: u64 = family.versions.values().map(|share| share.requests).sum();
    let mut everybody = ClientSketch::default();
    family.versions.values().for_each(|share| everybody.merge(&share.clients));
    let clients = everybody.estimate();
    let mut versions: Vec<VersionShare> = family
        .versions
        .iter()
        .map(|(version, share)| VersionShare {
            version: (*version).to_owned(),
            endpoints: share.endpoints.len() as u64,
            requests: share.requests,
            share: ratio(share.requests, requests),
            clients: share.clients.estimate(),
            clients_share: ratio(share.clients.estimate(), clients),
        })
        .collect();
    versions.sort_by_key(|it| (Reverse(Version::parse(&it.version)), it.version.clone()));
    let family = format!("{before}{{version}}");
    let row = VersionFamilyRow {
        service: service.to_owned(),
        family,
        source: VersionSource::Path,
        versions,
    };
    Some((requests, row))
}

/// A share, to four places.
#[expect(clippy::cast_precision_loss, reason = "a share, shown")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    ((part as f64 / whole as f64).min(1.0) * 10_000.0).round() / 10_000.0
}
