//! For which services a document is that names no host: those whose requests match it best.
//!
//! Per service, the share of its requests whose method and path the document has. A document is about the service with the
//! largest share, and about those with at least half of it (the same API at several places is not told apart by chance);
//! a service that it is about stays so until its share falls below a quarter of the best. Services that asked fewer than
//! [`EVIDENCE_REQUESTS_MIN`] requests show nothing, and no service is the best with less than [`EVIDENCE_SHARE_MIN`]
//! percent: as long as there is no best one, the document is for every host. A pure function of what was asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use super::{
    binding::BindingReason,
    catalogue::{BindingRow, Catalogue},
    declare::ServiceView,
    host::normalise,
    limits::{
        EVIDENCE_OPERATIONS_MAX, EVIDENCE_REQUESTS_MIN, EVIDENCE_ROWS_MAX, EVIDENCE_SERVICES_MAX,
        EVIDENCE_SHARE_MIN,
    },
    path::Segments,
};
use crate::{digest::Digest, http::Method};

/// What was asked of one service.
#[derive(Clone, Debug)]
pub struct ServiceEvidence {
    /// As it is shown.
    pub name: Arc<str>,
    /// Its host names and listeners.
    pub places: Vec<(Option<Arc<str>>, SocketAddr)>,
    /// Its operations.
    pub asked: Vec<Asked>,
}

/// Requests of one operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// How many.
    pub requests: u64,
    /// Method.
    pub method: Method,
    /// A path as it was asked, or like it.
    pub path: String,
}

/// What the requests of one service say about one document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvidenceRow {
    /// The service as it is shown.
    pub service: Arc<str>,
    /// Its requests to operations of an API.
    pub requests: u64,
    /// Those that the document declares.
    pub matched: u64,
    /// What follows.
    pub verdict: Verdict,
}

/// Whether a document is about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is.
    About,
    /// Not enough was asked, or no service has a share to speak of: it counts as about this one.
    Open,
    /// It is about others.
    NotAbout,
}

impl EvidenceRow {
    fn share(&self) -> u64 {
        self.matched.saturating_mul(100).checked_div(self.requests).unwrap_or(0)
    }

    const fn is_enough(&self) -> bool {
        self.requests >= EVIDENCE_REQUESTS_MIN
    }
}

impl fmt::Display for EvidenceRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, share, requests) = (&self.service, self.share(), self.requests);
        match self.verdict {
            Verdict::About => write!(f, "{service} ({share} % of {requests} requests)"),
            Verdict::Open => write!(f, "open for {service} ({share} % of {requests} requests)"),
            Verdict::NotAbout => write!(f, "not {service} ({share} % of {requests} requests)"),
        }
    }
}

/// Services and the documents that are about others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placements {
    /// By [`place_of`].
    not_about: BTreeMap<String, BTreeSet<u32>>,
    /// By [`place_of`]: what was decided for a service that has enough requests.
    about: BTreeMap<String, BTreeSet<u32>>,
}

impl Placements {
    /// Documents that are not about a service, whatever name of it is asked for.
    pub(super) fn about_others(&self, service: &ServiceView<'_>) -> Vec<u32> {
        if self.not_about.is_empty() {
            return Vec::new();
        }
        let port = service.port;
        let of = |place: String| self.not_about.get(&place).cloned().unwrap_or_default();
        let mut places = service.hosts.iter().map(|raw| place(&normalise(raw).0, port));
        let address = service.address.map(|address| place(&address.to_string(), port));
        let first = places.next().or(address).map(of).unwrap_or_default();
        places.fold(first, |all, place| &all & &of(place)).into_iter().collect()
    }

    /// The digest of the documents and of this.
    pub(super) fn mixed_into(&self, digest: u64) -> u64 {
        if self.not_about.is_empty() {
            return digest;
        }
        let mut mixed = Digest::default();
        mixed.field(&digest.to_le_bytes());
        for (place, documents) in &self.not_about {
            mixed.field(place.as_bytes());
            for document in documents {
                mixed.field(&document.to_le_bytes());
            }
        }
        mixed.value()
    }
}

fn place(name: &str, port: u16) -> String {
    format!("{name}\0{port}")
}

fn places_of(service: &ServiceEvidence) -> impl Iterator<Item = String> {
    service.places.iter().map(|(host, address)| match host {
        Some(host) => place(&normalise(host).0, address.port()),
        None => place(&address.ip().to_string(), address.port()),
    })
}

impl Catalogue {
    /// Whether there is a document that evidence may bind.
    pub fn asks_evidence(&self) -> bool {
        self.index().floating().next().is_some()
    }

    /// Takes over which documents were about which services, where they are still there: a small share that was enough
    /// stays enough when documents are read again.
    #[must_use]
    pub fn following(&self, before: &Self) -> Self {
        let number = |old: &u32| {
            let name = &before.document(*old)?.name;
            let at = self.documents().iter().position(|document| document.name == *name)?;
            u32::try_from(at).ok()
        };
        let about = before.placements.about.iter().map(|(place, documents)| {
            (place.clone(), documents.iter().filter_map(number).collect())
        });
        let placements = Placements { about: about.collect(), ..Placements::default() };
        self.placed(placements, self.parts.bindings.clone())
    }

    /// Binds the documents that name no host by what was asked; the same catalogue where nothing follows.
    #[must_use]
    pub fn placed_by(&self, services: &[ServiceEvidence]) -> Self {
        let mut tries: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (document, trie) in self.index().floating() {
            tries.entry(document).or_default().push(trie);
        }
        if tries.is_empty() {
            return self.clone();
        }
        let mut busiest: Vec<&ServiceEvidence> = services.iter().collect();
        busiest.sort_by_key(|it| (std::cmp::Reverse(total(&it.asked)), Arc::clone(&it.name)));
        busiest.truncate(EVIDENCE_SERVICES_MAX);
        let documents: Vec<&[u32]> = tries.values().map(Vec::as_slice).collect();
        let counted: Vec<Vec<u64>> =
            busiest.iter().map(|it| self.count(&it.asked, &documents)).collect();
        let mut placements = Placements::default();
        let mut bindings = self.parts.bindings.clone();
        for (column, document) in tries.keys().enumerate() {
            let rows = busiest.iter().zip(&counted).map(|(service, counts)| EvidenceRow {
                service: Arc::clone(&service.name),
                requests: total(&service.asked),
                matched: counts.get(column).copied().unwrap_or(0),
                verdict: Verdict::Open,
            });
            let mut rows: Vec<EvidenceRow> = rows.collect();
            self.judge(*document, &busiest, &mut rows);
            placements.note(*document, &busiest, &rows);
            let binding =
                usize::try_from(*document).ok().and_then(|number| bindings.get_mut(number));
            if let Some(binding) = binding {
                explain(binding, rows);
            }
        }
        self.placed(placements, bindings)
    }

    /// Requests that each document declares.
    fn count(&self, asked: &[Asked], documents: &[&[u32]]) -> Vec<u64> {
        let mut counts = vec![0_u64; documents.len()];
        let mut busiest: Vec<&Asked> = asked.iter().collect();
        busiest.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.cmp(b)));
        for asked in busiest.into_iter().take(EVIDENCE_OPERATIONS_MAX) {
            let Some(segments) = Segments::parse(asked.path.as_bytes()) else { continue };
            for (tries, count) in documents.iter().zip(&mut counts) {
                let is_declared =
                    tries.iter().filter_map(|it| self.index().trie(*it)).any(|trie| {
                        let found = trie.find(&segments, &asked.method).ok().flatten();
                        found.is_some_and(|terminal| terminal.find(&asked.method).is_some())
                    });
                *count += if is_declared { asked.requests } else { 0 };
            }
        }
        counts
    }

    fn judge(&self, document: u32, services: &[&ServiceEvidence], rows: &mut [EvidenceRow]) {
        let enough = rows.iter().filter(|row| row.is_enough());
        let best = enough.map(EvidenceRow::share).max().unwrap_or(0);
        if best < EVIDENCE_SHARE_MIN {
            return;
        }
        for (row, service) in rows.iter_mut().zip(services).filter(|(row, _)| row.is_enough()) {
            let was = places_of(service).any(|place| {
                self.placements.about.get(&place).is_some_and(|it| it.contains(&document))
            });
            let least = if was { best / 4 } else { best / 2 };
            row.verdict =
                if row.share() >= least.max(1) { Verdict::About } else { Verdict::NotAbout };
        }
    }
}

impl Placements {
    fn note(&mut self, document: u32, services: &[&ServiceEvidence], rows: &[EvidenceRow]) {
        for (row, service) in rows.iter().zip(services) {
            let to = match row.verdict {
                Verdict::About => &mut self.about,
                Verdict::NotAbout => &mut self.not_about,
                Verdict::Open => continue,
            };
            for place in places_of(service) {
                to.entry(place).or_default().insert(document);
            }
        }
    }
}

fn total(asked: &[Asked]) -> u64 {
    asked.iter().map(|it| it.requests).fold(0, u64::saturating_add)
}

/// Says in a row what evidence came to; the best service first.
fn explain(binding: &mut BindingRow, mut rows: Vec<EvidenceRow>) {
    rows.sort_by(|a, b| {
        let rank = |row: &EvidenceRow| (row.verdict, std::cmp::Reverse(row.share()));
        rank(a).cmp(&rank(b)).then_with(|| b.requests.cmp(&a.requests)).then_with(|| a.cmp(b))
    });
    // What is open for want of requests is no news, unless some of them match.
    rows.retain(|row| row.verdict != Verdict::Open || row.matched > 0);
    rows.truncate(EVIDENCE_ROWS_MAX);
    let about = rows.iter().filter(|row| row.verdict == Verdict::About);
    let about: Vec<String> = about.map(|row| row.service.to_string()).collect();
    binding.evidence = rows;
    if about.is_empty() {
        return;
    }
    binding.scopes_total = about.len();
    binding.scopes = about;
    binding.reason = BindingReason::Evidence;
}
