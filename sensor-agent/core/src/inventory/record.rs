//! What the store keeps: one record an endpoint or egress row, absolute, so that writing it twice changes nothing.
//!
//! JSON bodies with a format number. Addresses are stored as they are shown (masked as set); names as text, since
//! references and cgroup ids do not last.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    clients::ClientSketch,
    egress::{Caller, Egress, EgressKey, shown},
    endpoint::{Declared, Endpoint, Proof, Standing, auth_bits, auth_names},
    evidence::{ByClass, Times},
    kind::Sights,
    latency::LatencySketch,
    learned::Values,
    leaving::{Leaving, LeavingRecord},
    life::Announced,
    names::{NameSet, Names},
    pace::Pace,
    reach::Spread,
    service::{identity, named_identity},
    table::Inventory,
    watch::Span,
};
use crate::{
    event::Mask,
    http::Method,
    state::{DeclarationKind, State},
    time::UnixNs,
};

/// Format of the bodies; a body of another format is skipped and counted.
pub const RECORD_FORMAT: u32 = 1;

/// Which table of the store a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordTable {
    /// Endpoints.
    Endpoints,
    /// Egress rows.
    Egress,
}

/// One record, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Table.
    pub table: RecordTable,
    /// Key within the table.
    pub key: String,
    /// Last request, for retention.
    pub last_seen: UnixNs,
    /// Body in [`RECORD_FORMAT`].
    pub body: Vec<u8>,
}

/// What changed since the last call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// To write.
    pub records: Vec<StoredRecord>,
    /// Keys of endpoints to remove; apply these first.
    pub removed: Vec<String>,
}

/// Why a stored record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The body is not what this version writes.
    #[error("the record is damaged or of another version")]
    Unreadable,
    /// A bound of the inventory was reached.
    #[error("the inventory is full")]
    Full,
}

/// An endpoint in the store.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own in the record")]
#[derive(Clone, Debug, Serialize, Deserialize)]
struct EndpointRecord {
    listener: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Of the service, where it has more than that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    method: String,
    template: String,
    first: UnixNs,
    last: UnixNs,
    times: Times,
    weighted: ByClass,
    observed: u64,
    #[serde(default)]
    sampled: bool,
    proven: bool,
    #[serde(default)]
    told: Option<State>,
    latency: LatencySketch,
    clients: ClientSketch,
    callers: Vec<String>,
    client_owners: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    auth: Vec<String>,
    request_types: Vec<String>,
    response_types: Vec<String>,
    query_names: Vec<String>,
    #[serde(default)]
    absent_calls: u32,
    #[serde(default)]
    refused_in: u8,
    #[serde(default)]
    sights: Sights,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announced: Option<Announced>,
    /// Requests by class of caller; none from a version that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reach: Option<Spread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaving: Option<LeavingRecord>,
    /// What the parameters of a learned template stand for; none for what is no learned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<Values>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    denied: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    split: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct EgressRecord {
    host: String,
    method: String,
    requests: u64,
    observed: u64,
    first: UnixNs,
    last: UnixNs,
    callers: Vec<String>,
}

impl Inventory {
    /// Endpoints and egress rows that changed since the last call. Candidates are not stored.
    pub fn take_changes(&mut self, mask: &Mask) -> Changes {
        let mut changes =
            Changes { records: Vec::new(), removed: std::mem::take(&mut self.removed) };
        for slot in 0..self.endpoints.len() {
            let Some(Some(endpoint)) = self.endpoints.get_mut(slot) else { continue };
            if !endpoint.dirty || endpoint.standing == Standing::Candidate {
                continue;
            }
            endpoint.dirty = false;
            if let Some(Some(endpoint)) = self.endpoints.get(slot)
                && let Some(record) = self.endpoint_record(endpoint, mask)
            {
                changes.records.push(record);
            }
        }
        let owners = &self.owners;
        self.egress.take_dirty(|key, row| {
            let callers = shown(&row.callers, |id| owners.names.name(id).cloned(), mask);
            if let Some(record) = egress_record(key, row, callers) {
                changes.records.push(record);
            }
        });
        changes
    }

    /// Whether [`Self::take_changes`] would give something.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        let changed = |it: &Endpoint| it.dirty && it.standing == Standing::Endpoint;
        !self.removed.is_empty()
            || self.endpoints.iter().flatten().any(|endpoint| changed(endpoint))
    }

    /// Takes a stored record back. Evidence of this run, if there is any yet, is added to it.
    pub fn restore(&mut self, table: RecordTable, body: &[u8]) -> Result<(), RestoreError> {
        match table {
            RecordTable::Endpoints => {
                let record = serde_json::from_slice(body).map_err(|_| RestoreError::Unreadable)?;
                self.restore_endpoint(record)
            }
            RecordTable::Egress => {
                let record = serde_json::from_slice(body).map_err(|_| RestoreError::Unreadable)?;
                self.restore_egress(record)
            }
        }
    }

    /// Spans of earlier runs in which the sensor was attached, oldest first.
    pub fn restore_spans(&mut self, spans: &[Span]) {
        self.watch.restore(spans);
    }

    /// Spans in which the sensor was attached, this run's last.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.watch.spans()
    }

    pub(super) fn stored_key(&self, endpoint: &Endpoint) -> String {
        let service = self.service(endpoint.service);
        let listener = service.and_then(|service| self.listeners.get(service.listener as usize));
        match (service, listener) {
            (Some(service), Some(listener)) => {
                let host = service.host.as_deref();
                format!(
                    "{:016x}",
                    identity(listener.address, host, &endpoint.method, &endpoint.template)
                )
            }
            _ => String::new(),
        }
    }

    /// The key that versions before 0.2 gave it, where it was another one.
    fn key_with_names(&self, endpoint: &Endpoint) -> Option<String> {
        let service = self.service(endpoint.service)?;
        let listener = self.listeners.get(service.listener as usize)?;
        let host = service.host.as_deref();
        let old = named_identity(listener.address, host, &endpoint.method, &endpoint.template);
        let old = format!("{old:016x}");
        (old != self.stored_key(endpoint)).then_some(old)
    }

    fn endpoint_record(&self, endpoint: &Endpoint, mask: &Mask) -> Option<StoredRecord> {
        let service = self.service(endpoint.service)?;
        let listener = self.listeners.get(service.listener as usize)?;
        let owner = |id| self.owners.names.name(id).cloned();
        let more = endpoint.more.as_deref();
        let record = EndpointRecord {
            listener: listener.address,
            host: service.host.as_deref().map(str::to_owned),
            names: service.other_names(),
            method: endpoint.method.as_str().to_owned(),
            template: endpoint.template.to_string(),
            first: endpoint.first,
            last: endpoint.last,
            times: endpoint.times.stored(self.redirects(endpoint)),
            weighted: endpoint.weighted,
            observed: endpoint.observed,
            sampled: endpoint.sampled,
            proven: self.is_proven(endpoint),
            told: endpoint.told,
            latency: endpoint.latency.clone(),
            clients: endpoint.clients.clone(),
            callers: shown(&endpoint.callers, owner, mask),
            client_owners: endpoint.client_owners.texts(&self.owners.names),
            owner: endpoint.owner.and_then(owner).map(|name| name.to_string()),
            auth: auth_names(endpoint.auth),
            request_types: endpoint.request_types.texts(&self.media),
            response_types: endpoint.response_types.texts(&self.media),
            query_names: endpoint.query_names.texts(&self.query_names),
            absent_calls: endpoint.absent_calls,
            refused_in: endpoint.refused_in,
            denied: endpoint.denied,
            sights: endpoint.sights,
            announced: endpoint.announced.as_deref().cloned(),
            reach: Some(endpoint.spread()),
            pace: more.and_then(|more| more.pace.as_deref().cloned()),
            leaving: more.and_then(|more| more.leaving.as_deref()).map(|it| it.record(mask)),
            values: self.learned_values(endpoint),
            split: endpoint.split,
        };
        let body = serde_json::to_vec(&record).ok()?;
        Some(StoredRecord {
            table: RecordTable::Endpoints,
            key: self.stored_key(endpoint),
            last_seen: endpoint.last,
            body,
        })
    }

    fn restore_endpoint(&mut self, record: EndpointRecord) -> Result<(), RestoreError> {
        let method = Method::parse(&record.method).ok_or(RestoreError::Unreadable)?;
        let plain = record.template.starts_with('/')
            && record.template.len() <= self.limits.template_bytes * 4;
        if !plain || !record.latency.is_valid() || !record.clients.is_valid() {
            return Err(RestoreError::Unreadable);
        }
        if self.len() >= self.limits.endpoints {
            return Err(RestoreError::Full);
        }
        let service = self
            .restored_service(record.listener, record.host.as_deref())
            .ok_or(RestoreError::Full)?;
        if let Some(entry) = self.services.get_mut(service.0 as usize) {
            entry.restored = true;
        }
        self.restore_names(service, &record.names);
        let limits = self.limits;
        let hash = self.template_hash(&record.template);
        let unknown = Declared::bare(DeclarationKind::NoCatalogue);
        let mut endpoint = Endpoint::new(service, method, record.template.into(), hash, unknown);
        endpoint.standing = Standing::Endpoint;
        endpoint.proof = if record.proven { Proof::Success } else { Proof::NotYet };
        endpoint.proofs.firm = record.proven;
        endpoint.sights = record.sights;
        endpoint.announced = record.announced.map(Box::new);
        (endpoint.first, endpoint.last) = (record.first, record.last);
        (endpoint.times, endpoint.weighted) = (record.times, record.weighted);
        (endpoint.observed, endpoint.sampled) = (record.observed, record.sampled);
        (endpoint.told, endpoint.auth) = (record.told, auth_bits(&record.auth));
        (endpoint.latency, endpoint.clients) = (record.latency, record.clients);
        (endpoint.absent_calls, endpoint.refused_in) = (record.absent_calls, record.refused_in);
        (endpoint.split, endpoint.denied) = (record.split, record.denied);
        endpoint.restore_reach(record.reach);
        endpoint.restore_more(record.pace, record.leaving.and_then(Leaving::restored));
        endpoint.callers =
            record.callers.iter().take(limits.callers).map(|text| Caller::restored(text)).collect();
        endpoint.owner = record.owner.and_then(|name| self.owners.names.intern(&name));
        endpoint.client_owners =
            named(&mut self.owners.names, &record.client_owners, limits.client_owners);
        endpoint.request_types = named(&mut self.media, &record.request_types, limits.media_types);
        endpoint.response_types =
            named(&mut self.media, &record.response_types, limits.media_types);
        endpoint.query_names =
            named(&mut self.query_names, &record.query_names, limits.query_names);
        if let Some(key) = self.key_with_names(&endpoint) {
            self.removed.push(key);
        }
        if let Some(values) = record.values.filter(|_| record.proven) {
            self.sow(&endpoint, &values);
        }
        self.merge_or_put(Box::new(endpoint));
        self.declare_anew();
        Ok(())
    }

    fn restore_egress(&mut self, record: EgressRecord) -> Result<(), RestoreError> {
        Method::parse(&record.method).ok_or(RestoreError::Unreadable)?;
        let key = EgressKey { host: record.host.into(), method: record.method.into() };
        let row = Egress {
            requests: record.requests,
            observed: record.observed,
            first: record.first,
            last: record.last,
            callers: record
                .callers
                .iter()
                .take(self.limits.callers)
                .map(|text| Caller::restored(text))
                .collect(),
            dirty: false,
        };
        self.egress.restore(key, row, self.limits.egress);
        Ok(())
    }
}

fn named(names: &mut Names, texts: &[String], max: usize) -> NameSet {
    let mut set = NameSet::default();
    for text in texts {
        set.add(names, text, max);
    }
    set
}

fn egress_record(key: &EgressKey, row: &Egress, callers: Vec<String>) -> Option<StoredRecord> {
    let record = EgressRecord {
        host: key.host.to_string(),
        method: key.method.to_string(),
        requests: row.requests,
        observed: row.observed,
        first: row.first,
        last: row.last,
        callers,
    };
    Some(StoredRecord {
        table: RecordTable::Egress,
        key: format!("{} {}", key.method, key.host),
        last_seen: row.last,
        body: serde_json::to_vec(&record).ok()?,
    })
}
