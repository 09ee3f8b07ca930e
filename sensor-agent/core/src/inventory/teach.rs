//! Learned templates in the inventory: who teaches, when templates are read anew, and what that does to endpoints.
//!
//! Only successes teach, and requests without an answer: a scan that gets 404 teaches nothing, and neither does what any path
//! might be answered with. What a document declares is not learned from. When a service's templates change, its endpoints get
//! their new ones; those that are the same now become one. A template that falls apart keeps what it counted: its row
//! stays and says so, and the parts are not told as new.

use std::sync::Arc;

use super::{
    answers::is_page,
    catch_all::is_rest,
    declared::TemplateText,
    endpoint::{Endpoint, Standing},
    evidence::Outcome,
    host::{HOST_BYTES_MAX, HostName},
    kind::is_asset_media,
    learned::{Leaf, Values},
    path::{Target, is_file_template},
    service::ServiceId,
    slots::Key,
    table::{EndpointId, Inventory, is_grpc},
};
use crate::{
    catalogue::Catalogue,
    http::Exchange,
    shape::NOWHERE,
    state::{DeclarationKind, State},
    time::UnixNs,
};

impl Inventory {
    /// Counts a request whose segments were just read.
    pub(super) fn teach(
        &mut self,
        service: ServiceId,
        exchange: &Exchange,
        outcome: Outcome,
    ) -> Leaf {
        if !teaches(exchange, outcome) {
            return Leaf::NONE;
        }
        let service = self.shown_as(service);
        if self.learned_nodes >= self.limits.learned_nodes {
            self.make_room_to_learn();
        }
        let Some(entry) = self.services.get_mut(service.0 as usize) else { return Leaf::NONE };
        let before = entry.learned.nodes();
        let room = before + self.limits.learned_nodes.saturating_sub(self.learned_nodes);
        let leaf = entry.learned.insert(&self.segments, &exchange.method, room);
        self.learned_nodes = (self.learned_nodes + entry.learned.nodes()).saturating_sub(before);
        if entry.learned.take_evicted() {
            self.cache.clear();
        }
        if entry.learned.is_due() {
            self.learn_next = Some(service);
        }
        leaf
    }

    /// Has the largest trie keep fewer names, so that who comes later learns too. Looked for once in [`FULL_PAUSE`] requests.
    fn make_room_to_learn(&mut self) {
        self.learned_full += 1;
        if self.learned_full % FULL_PAUSE != 1 {
            return;
        }
        let wanted = self.limits.learned_nodes - self.limits.learned_nodes / ROOM_PART;
        while self.learned_nodes > wanted {
            let largest = self.services.iter_mut().max_by_key(|service| service.learned.nodes());
            let Some(learned) = largest.map(|service| &mut service.learned) else { break };
            let before = learned.nodes();
            let gives_way = learned.give_way();
            self.learned_nodes = (self.learned_nodes + learned.nodes()).saturating_sub(before);
            if learned.take_evicted() {
                self.cache.clear();
            }
            if !gives_way {
                break;
            }
        }
    }

    /// As [`Self::teach`], for a request that was found in the cache.
    pub(super) fn teach_known(
        &mut self,
        id: EndpointId,
        leaf: Leaf,
        hash: u64,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
    ) {
        if !teaches(exchange, outcome) {
            return;
        }
        let Some(endpoint) = self.endpoint(id) else { return };
        let service = self.shown_as(endpoint.service);
        if !is_unknown(endpoint.declared.kind) || is_grpc(exchange) {
            return;
        }
        let Some(entry) = self.services.get_mut(service.0 as usize) else { return };
        if entry.learned.count(leaf, &exchange.method) {
            if entry.learned.is_due() {
                self.learn_next = Some(service);
            }
        } else if self.segments.read(path, self.limits.template_segments) {
            let leaf = self.teach(service, exchange, outcome);
            self.cache.insert(hash, id, leaf);
        }
    }

    /// Reads the templates of a service anew and gives its endpoints theirs.
    pub(super) fn learn(&mut self, service: ServiceId) {
        let Some(entry) = self.services.get_mut(service.0 as usize) else { return };
        if !entry.learned.learn() {
            return;
        }
        self.cache.clear();
        for slot in 0..self.endpoints.len() {
            let Ok(slot) = u32::try_from(slot) else { break };
            let id = EndpointId(slot);
            let Some(endpoint) = self.endpoint(id) else { continue };
            if self.shown_as(endpoint.service) == service
                && is_unknown(endpoint.declared.kind)
                && !self.is_verbatim(endpoint)
            {
                // What its parameters stand for is stored with it.
                if let Some(Some(endpoint)) = self.endpoints.get_mut(id.0 as usize) {
                    endpoint.dirty = true;
                }
                self.renew(id);
            }
        }
    }

    /// Reads the templates of all services that were asked anything since.
    pub fn learn_all(&mut self) {
        self.learn_next = None;
        for service in 0..self.services.len() {
            if self.services.get(service).is_some_and(|entry| entry.learned.is_behind())
                && let Ok(id) = u32::try_from(service)
            {
                self.learn(ServiceId(id));
            }
        }
    }

    /// What the parameters of a learned template stand for, to be stored; none for what a document or a shape alone gave.
    pub(super) fn learned_values(&self, endpoint: &Endpoint) -> Option<Vec<Values>> {
        if !is_unknown(endpoint.declared.kind) || self.is_verbatim(endpoint) {
            return None;
        }
        let service = self.services.get(self.shown_as(endpoint.service).0 as usize)?;
        service.learned.templates().values_of(&endpoint.template)
    }

    /// Takes back what an earlier run learned about an endpoint; [`Self::learn_restored`] makes it count.
    pub(super) fn sow(&mut self, endpoint: &Endpoint, values: &[Values]) {
        let service = self.shown_as(endpoint.service);
        let Some(entry) = self.services.get_mut(service.0 as usize) else { return };
        let before = entry.learned.nodes();
        let room = before + self.limits.learned_nodes.saturating_sub(self.learned_nodes);
        let calls = (&endpoint.method, endpoint.observed);
        entry.learned.sow(&endpoint.template, values, calls, room);
        self.learned_nodes = (self.learned_nodes + entry.learned.nodes()).saturating_sub(before);
    }

    /// Reads the templates of what was restored: at a start, once all records are back.
    pub fn learn_restored(&mut self) {
        for service in 0..self.services.len() {
            if self.services.get_mut(service).is_some_and(|entry| entry.learned.take_sown())
                && let Ok(id) = u32::try_from(service)
            {
                self.learn(ServiceId(id));
            }
        }
    }

    /// Adds what another inventory learned about templates: the result is as if all its traffic had been here.
    pub fn learn_from(&mut self, other: &Self) {
        for theirs in &other.services {
            let address = other.listeners.get(theirs.listener as usize).map(|it| it.address);
            let Some(address) = address else { continue };
            let Some(id) = self.restored_service(address, theirs.host.as_deref()) else { continue };
            if let Some(ours) = self.services.get_mut(id.0 as usize) {
                let before = ours.learned.nodes();
                ours.learned.merge(&theirs.learned);
                self.learned_nodes =
                    (self.learned_nodes + ours.learned.nodes()).saturating_sub(before);
            }
        }
        self.cache.clear();
        self.learn_all();
    }

    pub(super) fn is_verbatim(&self, endpoint: &Endpoint) -> bool {
        if is_rest(endpoint) || is_file_template(&endpoint.template) {
            return true;
        }
        endpoint.request_types.any(&self.media, |media| media.starts_with("application/grpc"))
    }

    fn renewed(&self, id: EndpointId, text: &mut Vec<u8>) -> Option<Arc<str>> {
        let endpoint = self.endpoint(id)?;
        let service = self.services.get(self.shown_as(endpoint.service).0 as usize)?;
        let found = match self.pins_of(endpoint.service) {
            None => service.learned.templates().renew(&endpoint.template, &|_| Vec::new(), text),
            Some(pins) => pins.renew(&endpoint.template, service.learned.templates(), text),
        };
        let template = std::str::from_utf8(text).ok()?;
        let other = found
            && template != &*endpoint.template
            && template.len() <= self.limits.template_bytes;
        other.then(|| template.into())
    }

    pub(super) fn renew(&mut self, id: EndpointId) {
        let mut text = std::mem::take(&mut self.scratch);
        let template = self.renewed(id, &mut text);
        self.scratch = text;
        let Some(template) = template else { return };
        let Some(mut endpoint) = self.take(id) else { return };
        let old = self.stored_key(&endpoint);
        let standing = endpoint.standing;
        endpoint.template_hash = self.template_hash(&template);
        endpoint.template = template;
        endpoint.dirty = true;
        if standing == Standing::Endpoint && old != self.stored_key(&endpoint) {
            self.removed.push(old);
        }
        let now = self.merge_or_put(endpoint);
        self.discovered.moved(id, now);
    }

    /// An endpoint that was just made, where its requests were counted at a wider template before: that one keeps what it
    /// counted and is marked, this one is not told as new.
    pub(super) fn note_split(&mut self, id: EndpointId, template: &TemplateText<'_>) {
        if !template.is_learned() {
            return;
        }
        let Some(endpoint) = self.endpoint(id) else { return };
        let Some(service) = self.services.get(self.shown_as(endpoint.service).0 as usize) else {
            return;
        };
        // Without what operators want: a split takes apart what is learned now.
        let before = [service.learned.previous(), service.learned.templates()];
        let parent = before.iter().find_map(|templates| {
            let mut text = Vec::new();
            templates.write(&self.segments, self.limits.template_bytes, &mut text);
            if let Some(pins) = self.pins_of(endpoint.service) {
                pins.rename(&mut text);
            }
            let wider = std::str::from_utf8(&text).ok()?;
            let key = Key {
                service: endpoint.service,
                folded_host: endpoint.folded_host,
                method: &endpoint.method,
                template: wider,
            };
            if wider == &*endpoint.template { None } else { self.find(&key) }
        });
        let Some(parent) = parent else { return };
        let told = self
            .endpoint(parent)
            .map(|it| it.told.unwrap_or_else(|| self.evaluate(it, it.last).decision.state));
        if let Some(Some(parent)) = self.endpoints.get_mut(parent.0 as usize) {
            parent.split = true;
            parent.dirty = true;
        }
        if let Some(Some(endpoint)) = self.endpoints.get_mut(id.0 as usize) {
            endpoint.told = told;
        }
    }

    /// The template of a request by what is known now. [`NOWHERE`] for one whose answers do not show that it exists.
    pub fn template_of(&mut self, exchange: &Exchange, catalogue: &Catalogue) -> String {
        let path = match Target::parse(&exchange.target) {
            Target::Path { path, .. } => path,
            Target::NoPath => return NOWHERE.to_owned(),
        };
        let mut buffer = [0; HOST_BYTES_MAX];
        let listener = self.listener_id(exchange.server).unwrap_or_default();
        let own = self.known_service(listener, None).unwrap_or(ServiceId(0));
        let host = HostName::parse(exchange.host.as_deref(), &mut buffer);
        let (service, folded_host) = match host {
            HostName::Name(name) => match self.known_service(listener, Some(name)) {
                Some(service) => (service, 0),
                None => (own, self.template_hash(name)),
            },
            HostName::Listener => (own, 0),
        };
        let (_, declared, _) = self.ask(service, &exchange.method, path, catalogue);
        if let Some(template) = declared {
            return template.to_owned();
        }
        let outcome = Outcome::of(exchange, path);
        let text = self.template_by_traffic(service, exchange, outcome, path);
        let template = text.text(&self.scratch).to_owned();
        let key = Key { service, folded_host, method: &exchange.method, template: &template };
        let found = self.find(&key);
        if self.is_of_rest(service, found, exchange, outcome, path) {
            return NOWHERE.to_owned();
        }
        // Without any answer, nothing speaks against it either.
        let absent = found.and_then(|id| self.endpoint(id)).is_some_and(|endpoint| {
            let answered = endpoint.times.absent.max(endpoint.times.refused) > UnixNs(0);
            answered && self.evaluate(endpoint, endpoint.last).decision.state == State::Probing
        });
        if absent { NOWHERE.to_owned() } else { template }
    }
}

/// Requests that find no room to learn for each look for some.
const FULL_PAUSE: u64 = 256;
/// One part in so many of all nodes is made free then.
const ROOM_PART: usize = 16;

/// Whether an answer speaks for an operation; where none was seen, nothing speaks against it.
///
/// Pages and files do not: a site's many names would be taken for values of one parameter, beside which the words of
/// an API are not told apart.
fn teaches(exchange: &Exchange, outcome: Outcome) -> bool {
    let media = exchange.response.content_type.as_deref();
    match outcome {
        Outcome::Success => !is_page(media) && !media.is_some_and(is_asset_media),
        Outcome::NotModified | Outcome::Redirect => true,
        _ => exchange.status.is_none(),
    }
}

/// Whether no document gave the endpoint its template.
pub(super) const fn is_unknown(kind: DeclarationKind) -> bool {
    matches!(
        kind,
        DeclarationKind::NoCatalogue
            | DeclarationKind::ServiceUnknown
            | DeclarationKind::PathUnknown
    )
}
