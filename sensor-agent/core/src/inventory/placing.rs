//! What was asked of each service, for the catalogue to say which documents without a host are about which of them.
//!
//! Only operations of an API count: pages, files and health checks are everywhere and show nothing; neither does what
//! neither a document nor a success proves.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{
    catch_all::is_rest, endpoint::Standing, path::example_path, row::Kind, service::ServiceId,
    table::Inventory,
};
use crate::catalogue::{Asked, Catalogue, ServiceEvidence};

impl Inventory {
    /// Binds the documents that name no host by what was asked so far; nothing where that changes nothing.
    #[must_use]
    pub fn place_documents(&self, catalogue: &Catalogue) -> Option<Catalogue> {
        if !catalogue.asks_evidence() {
            return None;
        }
        let placed = catalogue.placed_by(&self.asked());
        let changed =
            placed.digest() != catalogue.digest() || placed.bindings() != catalogue.bindings();
        changed.then_some(placed)
    }

    /// Requests to operations of an API, by the service that they are shown at.
    fn asked(&self) -> Vec<ServiceEvidence> {
        let mut services: HashMap<ServiceId, ServiceEvidence, FixedState> = HashMap::default();
        for (id, service) in (0_u32..).map(ServiceId).zip(&self.services) {
            if service.gone || service.shown != id {
                continue;
            }
            let listeners = service.listeners.iter();
            let addresses: Vec<_> = listeners
                .filter_map(|listener| self.listeners.get(*listener as usize))
                .map(|listener| listener.address)
                .collect();
            let hosts: Vec<Option<Arc<str>>> = match &*service.names {
                [] => vec![None],
                names => names.iter().cloned().map(Some).collect(),
            };
            let at = |address| hosts.iter().map(move |host| (host.clone(), address));
            let places = addresses.into_iter().flat_map(at).collect();
            let name = Arc::clone(&service.name);
            services.insert(id, ServiceEvidence { name, places, asked: Vec::new() });
        }
        for endpoint in self.endpoints.iter().flatten() {
            let is_known = endpoint.standing == Standing::Endpoint
                && endpoint.folded_host == 0
                && !is_rest(endpoint)
                && Kind::of_endpoint(endpoint) == Kind::Api;
            let is_proven = self.is_proven(endpoint) || !endpoint.declared.is_undeclared();
            if !is_known || !is_proven {
                continue;
            }
            if let Some(service) = services.get_mut(&self.shown_as(endpoint.service)) {
                service.asked.push(Asked {
                    requests: endpoint.observed,
                    method: endpoint.method.clone(),
                    path: example_path(&endpoint.template),
                });
            }
        }
        services.into_values().filter(|it| !it.asked.is_empty()).collect()
    }
}
