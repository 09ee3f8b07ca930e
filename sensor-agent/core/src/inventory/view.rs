//! The inventory as rows, made when asked for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    coverage::ListenerTotals,
    egress::shown,
    endpoint::{Declared, Endpoint, Proof, auth_names},
    evaluate::{Evaluated, reason},
    host::{HOST_BYTES_MAX, HostName},
    life::{Announced, Drift},
    risk::{RiskInputs, risk, weakest},
    row::{
        Accuracy, CoverageRow, EgressRow, EndpointRow, INVENTORY_SCHEMA, InventoryTotals,
        InventoryView, Kind, LatencyRow,
    },
    service::{Service, ServiceId, identity, is_named, with_view},
    sources::Gate,
    table::{EndpointId, Inventory, Observed},
    versions::version_of,
};
use crate::{
    catalogue::{Catalogue, DeclaredOperation},
    event::Mask,
    http::{Exchange, Method},
    shape::Shape,
    state::{DeclarationKind, State},
    time::UnixNs,
};

/// Which rows are wanted; empty lists want all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// States.
    pub states: Vec<State>,
    /// Kinds.
    pub kinds: Vec<Kind>,
    /// Services whose name, host or listener contains this.
    pub service: Option<String>,
    /// At most this many rows; the others are counted in `endpoints_left_out` of the view.
    pub rows_max: Option<usize>,
}

impl RowFilter {
    fn wants(&self, row: &EndpointRow) -> bool {
        let service = self.service.as_deref().is_none_or(|part| {
            row.service.contains(part)
                || row.listener.contains(part)
                || row.hosts.iter().any(|host| host.contains(part))
        });
        service
            && (self.states.is_empty() || self.states.contains(&row.state))
            && (self.kinds.is_empty() || self.kinds.contains(&row.kind))
    }
}

impl Inventory {
    /// The whole inventory as published. Endpoints are sorted by service, template and method; egress by requests.
    #[must_use]
    pub fn view(
        &self,
        now: UnixNs,
        catalogue: &Catalogue,
        mask: &Mask,
        filter: &RowFilter,
    ) -> InventoryView {
        let rows_max = filter.rows_max.unwrap_or(usize::MAX);
        let (mut endpoints, mut endpoints_left_out, mut unowned) = (Vec::new(), 0, 0);
        self.all_rows(now, catalogue, mask, |row| {
            unowned += u64::from(row.kind == Kind::Api && row.declared_owner.is_none());
            if !filter.wants(&row) {
                return;
            }
            if endpoints.len() < rows_max {
                endpoints.push(row);
            } else {
                endpoints_left_out += 1;
            }
        });
        InventoryView {
            schema: INVENTORY_SCHEMA.to_owned(),
            time_unix_ns: now,
            window_seconds: self.window_ns / 1_000_000_000,
            coverage: self.coverage(),
            endpoints,
            endpoints_left_out,
            egress: self.egress_rows(mask),
            versions: self.version_families(now),
            totals: InventoryTotals { unowned, ..self.totals },
        }
    }

    /// The endpoints of this host, those never called among them where a document declares them.
    #[must_use]
    pub fn rows(
        &self,
        now: UnixNs,
        catalogue: &Catalogue,
        mask: &Mask,
        filter: &RowFilter,
    ) -> Vec<EndpointRow> {
        let mut rows = Vec::new();
        self.each_row(now, catalogue, mask, filter, |row| rows.push(row));
        rows
    }

    /// Gives the rows one by one, in their order, without holding them all.
    pub fn each_row(
        &self,
        now: UnixNs,
        catalogue: &Catalogue,
        mask: &Mask,
        filter: &RowFilter,
        mut give: impl FnMut(EndpointRow),
    ) {
        self.all_rows(now, catalogue, mask, |row| {
            if filter.wants(&row) {
                give(row);
            }
        });
    }

    fn all_rows(
        &self,
        now: UnixNs,
        catalogue: &Catalogue,
        mask: &Mask,
        mut give: impl FnMut(EndpointRow),
    ) {
        let successors = self.successors();
        let mut give = |mut row: EndpointRow| {
            successors.tell(&mut row);
            give(row);
        };
        let mut made = self.silent_rows(now, catalogue, mask);
        made.extend(self.overflow_rows(now, catalogue, mask));
        let mut order: Vec<(Place<'_>, Made<'_>)> =
            made.iter().map(|row| (place_of(row), Made::Row(row))).collect();
        let addresses: Vec<String> =
            self.listeners.iter().map(|listener| listener.address.to_string()).collect();
        order.extend(self.endpoints.iter().flatten().filter_map(|endpoint| {
            let service = self.service(self.shown_as(endpoint.service))?;
            let address = addresses.get(service.listener as usize)?;
            let (template, method) = (Shape(&endpoint.template), endpoint.method.as_str());
            Some((Place(&service.name, address, template, method), Made::Endpoint(endpoint)))
        }));
        // Those that are not joined stay behind those that are; of several names for a parameter the first is shown.
        order.sort_by_key(|(place, entry)| (*place, entry.is_apart(), place.2.0));
        let mut last: Option<EndpointRow> = None;
        let mut order = order.into_iter().peekable();
        while let Some((place, entry)) = order.next() {
            let row = match entry {
                Made::Row(row) => Some(row.clone()),
                Made::Endpoint(endpoint) => {
                    let mut one: Option<Endpoint> = None;
                    // Counted apart, shown as one: the evidence of all decides.
                    while let Some((_, Made::Endpoint(other))) =
                        order.next_if(|(next, entry)| *next == place && endpoint.joins(entry))
                    {
                        let one = one.get_or_insert_with(|| endpoint.clone());
                        one.absorb(other.clone(), &self.limits, self.window_ns);
                        one.service = self.shown_as(one.service);
                    }
                    self.shown_row(one.as_ref().unwrap_or(endpoint), now, mask)
                }
            };
            let Some(row) = row else { continue };
            match &mut last {
                // Refused under several host names that nothing proved: one row at the listener.
                Some(before) if before.id == row.id => join(before, &row),
                _ => {
                    if let Some(before) = last.replace(row) {
                        give(before);
                    }
                }
            }
        }
        if let Some(row) = last {
            give(row);
        }
    }

    /// One endpoint as a row, whatever its state; `None` for a stale id.
    #[must_use]
    pub fn row(&self, id: EndpointId, now: UnixNs, mask: &Mask) -> Option<EndpointRow> {
        let endpoint = self.endpoint(id)?;
        let row = self.make_row(endpoint, self.evaluate(endpoint, now), now, mask)?;
        Some(self.holds(endpoint, now).told(row))
    }

    /// Whether an exchange was counted where credentials are known to be looked at.
    #[must_use]
    pub fn gate(&self, observed: Observed) -> Gate {
        let Observed::Endpoint(id) = observed else { return Gate::Open };
        if self.endpoint(id).is_some_and(|it| it.denied) { Gate::Guarded } else { Gate::Open }
    }

    /// Names of an endpoint's service and its template.
    #[must_use]
    pub fn names_of(&self, id: EndpointId) -> Option<(Arc<str>, Arc<str>)> {
        let endpoint = self.endpoint(id)?;
        let service = self.service(self.shown_as(endpoint.service))?;
        Some((Arc::clone(&service.name), Arc::clone(&endpoint.template)))
    }

    /// The normalised host that an exchange was sent to; none where it names the listener.
    #[must_use]
    pub fn host_name(&self, exchange: &Exchange) -> Option<Arc<str>> {
        let mut buffer = [0; HOST_BYTES_MAX];
        match HostName::parse(exchange.host.as_deref(), &mut buffer) {
            HostName::Name(name) => Some(name.into()),
            HostName::Listener => None,
        }
    }

    /// What this host calls elsewhere.
    #[must_use]
    pub fn egress_rows(&self, mask: &Mask) -> Vec<EgressRow> {
        self.egress.view(|id| self.owners.names.name(id).cloned(), mask)
    }

    /// Connections by what they carried, one row a listener, most connections first.
    #[must_use]
    pub fn coverage(&self) -> Vec<CoverageRow> {
        let mut rows: Vec<CoverageRow> = self
            .listeners
            .iter()
            .filter(|listener| listener.coverage.totals() != ListenerTotals::default())
            .map(|listener| {
                let totals = listener.coverage.totals();
                CoverageRow {
                    listener: listener.address.to_string(),
                    opened: totals.opened,
                    http: totals.http,
                    h2c: totals.h2c,
                    tls: totals.tls,
                    other: totals.other,
                    silent: totals.silent,
                    closed: totals.closed,
                    readable: totals.readable(),
                    server_names: listener.coverage.server_names.texts(&self.hello_names),
                    alpn: listener.coverage.alpn.texts(&self.hello_names),
                    owner: listener
                        .owner
                        .and_then(|id| self.owners.names.name(id))
                        .map(ToString::to_string),
                }
            })
            .collect();
        rows.sort_by(|a, b| (b.opened, &a.listener).cmp(&(a.opened, &b.listener)));
        rows
    }

    fn shown_row(&self, endpoint: &Endpoint, now: UnixNs, mask: &Mask) -> Option<EndpointRow> {
        let evaluated = self.evaluate(endpoint, now);
        match evaluated.decision.state {
            State::Probing | State::Egress => None,
            _ => {
                Some(self.holds(endpoint, now).told(self.make_row(endpoint, evaluated, now, mask)?))
            }
        }
    }

    fn make_row(
        &self,
        endpoint: &Endpoint,
        evaluated: Evaluated,
        now: UnixNs,
        mask: &Mask,
    ) -> Option<EndpointRow> {
        let service = self.service(self.shown_as(endpoint.service))?;
        let listener = self.listeners.get(service.listener as usize)?;
        let host = service.host.as_deref();
        let owner = |id| self.owners.names.name(id).cloned();
        let (declared_owner, declared_owner_source) = self.owner_of(endpoint, service).unzip();
        let response_types = endpoint.response_types.texts(&self.media);
        let called = endpoint.observed > 0;
        let exposure = endpoint.spread().row();
        let auth_posture = endpoint.sights.posture();
        let announced = |of: fn(&Announced) -> &Option<Box<str>>| {
            endpoint.announced.as_deref().and_then(|it| of(it).as_deref()).map(str::to_owned)
        };
        let risk = risk(RiskInputs {
            state: evaluated.decision.state,
            exposure: exposure.as_ref().map(|it| it.widest),
            posture: auth_posture,
            weakest: weakest(endpoint.auth),
            data: 0,
            findings: 0,
        });
        let mut row = EndpointRow {
            id: format!(
                "{:016x}",
                identity(listener.address, host, &endpoint.method, &endpoint.template)
            ),
            service: service.name.to_string(),
            listener: listener.address.to_string(),
            hosts: service.hosts.iter().map(ToString::to_string).collect(),
            method: endpoint.method.as_str().to_owned(),
            path_template: endpoint.template.to_string(),
            kind: Kind::of_endpoint(endpoint),
            state: evaluated.decision.state,
            confidence: evaluated.decision.confidence,
            reason: reason(evaluated.decision).into_owned(),
            not_covered: evaluated.decision.reason,
            declaration: evaluated.declaration,
            lifecycle: evaluated.life.lifecycle,
            deprecation_unix_ns: evaluated.life.deprecation,
            sunset_unix_ns: evaluated.life.sunset,
            successor: announced(|it| &it.successor),
            deprecation_page: announced(|it| &it.deprecation_page),
            sunset_page: announced(|it| &it.sunset_page),
            drift: drift_text(evaluated.life.drift).map(ToOwned::to_owned),
            activity: evaluated.activity,
            first_seen_unix_ns: called.then_some(endpoint.first),
            last_seen_unix_ns: called.then_some(endpoint.last),
            requests: endpoint.weighted.total(),
            requests_observed: endpoint.observed,
            status: endpoint
                .weighted
                .non_zero()
                .map(|(class, count)| (class.to_owned(), count))
                .collect(),
            latency: latency_row(endpoint),
            clients: endpoint.clients.estimate(),
            callers: shown(&endpoint.callers, owner, mask),
            client_owners: endpoint.client_owners.texts(&self.owners.names),
            owner: endpoint.owner.and_then(owner).map(|name| name.to_string()),
            auth: auth_names(endpoint.auth),
            request_types: endpoint.request_types.texts(&self.media),
            response_types,
            query_names: endpoint.query_names.texts(&self.query_names),
            counts_split_off: endpoint.split,
            accuracy: if endpoint.sampled { Accuracy::Sampled } else { Accuracy::Exact },
            exposure,
            declared_owner,
            declared_owner_source,
            auth_posture,
            risk: Some(risk),
            version: version_of(&endpoint.template),
            superseded: None,
            accepted: None,
            ignored: None,
            sunset_days_left: None,
            remaining_callers: None,
            trend: None,
            decommission: None,
        };
        self.tell_end(&mut row, endpoint, &evaluated, now, mask);
        Some(row)
    }

    /// Declared operations that no service of this host was called for: one row each, at the busiest service that its
    /// document is about. A document for every host is about the services that answered one of its operations.
    fn silent_rows(&self, now: UnixNs, catalogue: &Catalogue, mask: &Mask) -> Vec<EndpointRow> {
        if catalogue.is_empty() {
            return Vec::new();
        }
        let mut open: HashMap<Silent<'_>, (u64, ServiceId, Declared)> = HashMap::new();
        let mut called: HashSet<Silent<'_>> = HashSet::new();
        let seen = self.declared_and_seen();
        let serving: HashSet<ServiceId> = (0_u32..)
            .map(ServiceId)
            .zip(&self.services)
            .filter(|(_, service)| service.serves_declared && !service.gone)
            .map(|(id, _)| self.shown_as(id))
            .collect();
        for (id, service) in (0_u32..).map(ServiceId).zip(&self.services) {
            if service.gone || service.shown != id {
                continue;
            }
            for operation in self.operations_of(service, serving.contains(&id), catalogue) {
                let key = Silent::of(&operation);
                if seen.contains(&(id, key.method, key.template)) {
                    called.insert(key);
                    continue;
                }
                let declared = self.declared(&operation);
                let best = open.entry(key).or_insert((service.requests, id, declared));
                // The busiest; of two as busy, the first by name, whichever was seen first.
                let name = self.service(best.1).map(|service| &service.name);
                if service.requests > best.0
                    || (service.requests == best.0 && Some(&service.name) < name)
                {
                    *best = (service.requests, id, declared);
                }
            }
        }
        open.into_iter()
            .filter(|(key, _)| !called.contains(key))
            .filter_map(|(key, (_, service, declared))| {
                let (method, template) = (key.method.clone(), key.template.0);
                let endpoint = Endpoint::new(service, method, template.into(), 0, declared);
                self.shown_row(&endpoint, now, mask)
            })
            .collect()
    }

    /// Declared operations that were asked for, by the service that they are shown at.
    fn declared_and_seen(&self) -> HashSet<(ServiceId, &Method, Shape<'_>)> {
        self.endpoints
            .iter()
            .flatten()
            .filter(|it| it.folded_host == 0 && !it.declared.is_undeclared())
            .map(|it| (self.shown_as(it.service), &it.method, Shape(&it.template)))
            .collect()
    }

    fn operations_of<'c>(
        &self,
        service: &Service,
        serves_declared: bool,
        catalogue: &'c Catalogue,
    ) -> Vec<DeclaredOperation<'c>> {
        let Some(listener) = self.listeners.get(service.listener as usize) else {
            return Vec::new();
        };
        let host = service.host.as_deref();
        if !serves_declared && !host.is_some_and(|host| is_named(catalogue, host, listener.address))
        {
            return Vec::new();
        }
        with_view(listener.address, host, |view| catalogue.operations_of(view))
    }

    fn declared(&self, operation: &DeclaredOperation<'_>) -> Declared {
        let lifecycle = operation.operation.lifecycle;
        Declared {
            kind: operation.kind,
            deprecated: lifecycle.deprecated,
            sunset: lifecycle.sunset.unwrap_or_default(),
            owner: self.api_owner(operation.operation),
        }
    }

    /// What found no room, one row a service.
    fn overflow_rows(&self, now: UnixNs, catalogue: &Catalogue, mask: &Mask) -> Vec<EndpointRow> {
        let kind = if catalogue.is_empty() {
            DeclarationKind::NoCatalogue
        } else {
            DeclarationKind::PathUnknown
        };
        let declared = Declared::bare(kind);
        (0_u32..)
            .zip(&self.services)
            .filter(|(_, service)| service.overflow.observed > 0 && !service.gone)
            .filter_map(|(id, service)| {
                let overflow = service.overflow;
                let method = Method::parse("*")?;
                let mut endpoint =
                    Endpoint::new(ServiceId(id), method, "/{overflow}".into(), 0, declared);
                endpoint.proof = Proof::Success;
                endpoint.proofs.add(None);
                endpoint.times.success = overflow.last;
                (endpoint.first, endpoint.last) = (overflow.first, overflow.last);
                (endpoint.observed, endpoint.weighted) = (overflow.observed, overflow.weighted);
                let mut row = self.shown_row(&endpoint, now, mask)?;
                row.kind = Kind::Overflow;
                "more endpoints than the inventory keeps; counted together"
                    .clone_into(&mut row.reason);
                Some(row)
            })
            .collect()
    }
}

/// Adds the counts of a row of the same endpoint.
fn join(row: &mut EndpointRow, other: &EndpointRow) {
    row.requests = row.requests.saturating_add(other.requests);
    row.requests_observed += other.requests_observed;
    for (class, count) in &other.status {
        *row.status.entry(class.clone()).or_default() += count;
    }
    row.clients = row.clients.max(other.clients);
    row.first_seen_unix_ns = row.first_seen_unix_ns.min(other.first_seen_unix_ns);
    row.last_seen_unix_ns = row.last_seen_unix_ns.max(other.last_seen_unix_ns);
}

/// Service, listener, template and method: the order of rows. As in their ids, names of parameters do not count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a>(&'a str, &'a str, Shape<'a>, &'a str);

fn place_of(row: &EndpointRow) -> Place<'_> {
    Place(&row.service, &row.listener, Shape(&row.path_template), &row.method)
}

/// A row that is made already, or an endpoint to make one of.
enum Made<'a> {
    Row(&'a EndpointRow),
    Endpoint(&'a Endpoint),
}

impl Made<'_> {
    /// Whether it stands for itself: a row, or what was asked under a host that nothing proved.
    fn is_apart(&self) -> bool {
        match self {
            Self::Row(_) => true,
            Self::Endpoint(endpoint) => endpoint.folded_host != 0,
        }
    }
}

impl Endpoint {
    fn joins(&self, other: &Made<'_>) -> bool {
        self.folded_host == 0 && !other.is_apart()
    }
}

/// An operation of a document that may not have been called.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Silent<'c> {
    document: u32,
    template: Shape<'c>,
    method: &'c Method,
}

impl<'c> Silent<'c> {
    fn of(operation: &DeclaredOperation<'c>) -> Self {
        Self {
            document: operation.operation.document,
            template: Shape(operation.template),
            method: &operation.operation.method,
        }
    }
}

const fn drift_text(drift: Drift) -> Option<&'static str> {
    match drift {
        Drift::None => None,
        Drift::SunsetsDiffer => {
            Some("responses name another sunset than the document, which counts")
        }
        Drift::SunsetBeforeDeprecation => {
            Some("responses name a sunset before their deprecation: it is ignored")
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds, shown")]
fn latency_row(endpoint: &Endpoint) -> Option<LatencyRow> {
    let us = |percent| endpoint.latency.percentile(percent).map(|ns| ns as f64 / 1_000.0);
    Some(LatencyRow {
        p50_us: us(50)?,
        p90_us: us(90)?,
        p99_us: us(99)?,
        count: endpoint.latency.count(),
    })
}
