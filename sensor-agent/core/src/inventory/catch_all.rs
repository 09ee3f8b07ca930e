//! What catch-all answers do to the inventory: they prove nothing, teach nothing, and are counted in one row a service.
//!
//! The row is `/{*}` ([`NOWHERE`]) of kind `page`, with method GET for GET and HEAD, and `*` for the others. Endpoints that such
//! answers had proved before they were known for what they are become part of it, and are forgotten by the templates.

use super::{
    answers::{Answer, Asked},
    endpoint::{Declared, Endpoint, Proof, Standing},
    evidence::Outcome,
    service::{ServiceId, canonical},
    table::{EndpointId, Inventory},
};
use crate::{
    http::{Exchange, Method},
    shape::NOWHERE,
    state::DeclarationKind,
    time::UnixNs,
};

/// What an answer means on its listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) answer: Option<Answer>,
    pub(super) given: Given,
}

/// Whom an answer is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    ToAnything,
    Particular,
}

impl Inventory {
    /// Counts an answer to what no document declares at its listener, and judges it.
    pub(super) fn judge(
        &mut self,
        service: ServiceId,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
        template: &str,
    ) -> Judged {
        let answer = self.answer(exchange, outcome, path);
        let template_hash = self.template_hash(template);
        let key = if template.starts_with("/{") { self.path_hash(path) } else { template_hash };
        let first = path.split(|byte| *byte == b'/').find(|part| !part.is_empty());
        let first = self.path_hash(first.unwrap_or_default());
        let asked = Asked { key, template: template_hash, first };
        let anchor = self.service(service).map(|service| service.listener);
        let mut given = Given::Particular;
        if let Some(anchor) = anchor {
            given = self.note_answer(anchor, answer, asked);
        }
        // What is asked under other names there is judged by what that listener says to anything.
        let own = self.listener_ids.get(&canonical(exchange.server)).copied();
        if let Some(own) = own.filter(|own| Some(*own) != anchor) {
            self.note_answer(own, answer, asked);
        }
        Judged { answer, given }
    }

    fn note_answer(&mut self, listener: u32, answer: Option<Answer>, asked: Asked) -> Given {
        let Some(entry) = self.listeners.get_mut(listener as usize) else {
            return Given::Particular;
        };
        let before = answer.is_some_and(|answer| entry.answers.is_catch_all(answer));
        entry.answers.note(answer, asked);
        if !answer.is_some_and(|answer| entry.answers.is_catch_all(answer)) {
            return Given::Particular;
        }
        if !before {
            self.collapse(listener);
        }
        Given::ToAnything
    }

    /// As [`Self::judge`], for a request that was not found in the cache; what a document declares is not judged.
    pub(super) fn judge_new(
        &mut self,
        service: ServiceId,
        exchange: &Exchange,
        outcome: Outcome,
        declared: Declared,
        path: &[u8],
        template: &str,
    ) -> Judged {
        if declared.is_undeclared() {
            return self.judge(service, exchange, outcome, path, template);
        }
        Judged { answer: self.answer(exchange, outcome, path), given: Given::Particular }
    }

    /// Whether an exchange is counted with the rest, and not at the endpoint it would be counted at.
    pub(super) fn belongs_to_rest(
        &self,
        known: Option<EndpointId>,
        outcome: Outcome,
        judged: Judged,
    ) -> bool {
        outcome == Outcome::Success
            && judged.given == Given::ToAnything
            && !known
                .and_then(|id| self.endpoint(id))
                .is_some_and(|endpoint| self.is_proven(endpoint))
    }

    /// As [`Self::belongs_to_rest`], asked when all is read.
    pub(super) fn is_of_rest(
        &self,
        service: ServiceId,
        known: Option<EndpointId>,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
    ) -> bool {
        let listener = self.service(service).map_or(0, |service| service.listener);
        let answer = self.answer(exchange, outcome, path);
        self.is_given_to_anything(listener, answer)
            && self.belongs_to_rest(known, outcome, Judged { answer, given: Given::ToAnything })
    }

    /// Whether an answer that was just counted speaks for its path.
    pub(super) fn speaks(&self, id: EndpointId, judged: Judged) -> bool {
        let Some(endpoint) = self.endpoint(id) else { return false };
        let service = self.service(endpoint.service);
        let listener = service.and_then(|service| self.listeners.get(service.listener as usize));
        let generic = listener.is_some_and(|listener| listener.is_generic(endpoint.redirect));
        judged.given == Given::Particular && (endpoint.proof == Proof::Success || !generic)
    }

    /// As [`Self::judge`], for a request that was found in the cache: only what is new about it is counted.
    pub(super) fn judge_known(
        &mut self,
        id: EndpointId,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
    ) -> Option<Judged> {
        let endpoint = self.endpoint(id)?;
        if endpoint.proofs.firm && outcome == Outcome::Success {
            return Some(Judged { answer: None, given: Given::Particular });
        }
        let answer = self.answer(exchange, outcome, path);
        let known = match outcome {
            Outcome::Success => endpoint.proofs.has(answer),
            Outcome::Refused => endpoint.refused_as == answer,
            Outcome::Redirect => endpoint.redirected_as == answer,
            _ => true,
        };
        if known || !endpoint.declared.is_undeclared() {
            if outcome == Outcome::Success && endpoint.declared.is_undeclared() {
                let template = &endpoint.template;
                let key = if template.starts_with("/{") {
                    self.path_hash(path)
                } else {
                    endpoint.template_hash
                };
                self.note_again(endpoint.service, exchange, answer, key);
            }
            return Some(Judged { answer, given: Given::Particular });
        }
        let (service, template) = (endpoint.service, endpoint.template.clone());
        let judged = self.judge(service, exchange, outcome, path, &template);
        // It may be no more, or no proven one.
        let stays = self.endpoint(id).is_some_and(|endpoint| {
            judged.given == Given::Particular
                || outcome != Outcome::Success
                || self.is_proven(endpoint)
        });
        stays.then_some(judged)
    }

    /// Counts an answer that a path got before: operations that answer alike are told from a scan by that.
    fn note_again(
        &mut self,
        service: ServiceId,
        exchange: &Exchange,
        answer: Option<Answer>,
        key: u32,
    ) {
        let Some(answer) = answer else { return };
        let Some(anchor) = self.service(service).map(|service| service.listener) else { return };
        let Some(entry) = self.listeners.get_mut(anchor as usize) else { return };
        entry.answers.note_again(answer, key);
        let address = canonical(exchange.server);
        if entry.address == address {
            return;
        }
        let own = self.listener_ids.get(&address).filter(|own| **own != anchor);
        if let Some(entry) = own.and_then(|own| self.listeners.get_mut(*own as usize)) {
            entry.answers.note_again(answer, key);
        }
    }

    fn answer(&self, exchange: &Exchange, outcome: Outcome, path: &[u8]) -> Option<Answer> {
        Answer::of(exchange, outcome, path, |parts| self.parts_hash(parts))
    }

    /// Whether a success that is not catch-all proves that an endpoint exists.
    pub(super) fn is_proven(&self, endpoint: &Endpoint) -> bool {
        if endpoint.proof == Proof::NotYet || is_rest(endpoint) {
            return endpoint.proof == Proof::Success;
        }
        let service = self.service(endpoint.service);
        let listener = service.and_then(|service| self.listeners.get(service.listener as usize));
        listener.is_none_or(|listener| listener.answers.proves(&endpoint.proofs))
    }

    /// Whether a listener gives an answer to anything.
    pub(super) fn is_given_to_anything(&self, listener: u32, answer: Option<Answer>) -> bool {
        let entry = self.listeners.get(listener as usize);
        answer.is_some_and(|answer| entry.is_some_and(|entry| entry.answers.is_catch_all(answer)))
    }

    /// Endpoints of a listener that nothing proves any more become part of the row of the rest.
    fn collapse(&mut self, listener: u32) {
        let fallen: Vec<EndpointId> = (0_u32..)
            .zip(&self.endpoints)
            .filter(|(_, entry)| {
                entry.as_deref().is_some_and(|it| {
                    self.service(it.service).is_some_and(|service| service.listener == listener)
                        && it.declared.is_undeclared()
                        && !is_rest(it)
                        && (it.proof == Proof::Success || it.times.redirect > UnixNs(0))
                        && !self.is_proven(it)
                        && (it.redirected_as.is_none()
                            || self.is_given_to_anything(listener, it.redirected_as))
                })
            })
            .map(|(slot, _)| EndpointId(slot))
            .collect();
        if fallen.is_empty() {
            return;
        }
        self.cache.clear();
        for id in fallen {
            self.forget_template(id);
            if self.endpoint(id).is_some_and(|endpoint| endpoint.proof == Proof::Success) {
                self.fold_into_rest(id);
            }
        }
    }

    fn forget_template(&mut self, id: EndpointId) {
        let Some((service, template)) =
            self.endpoint(id).map(|it| (self.shown_as(it.service), it.template.clone()))
        else {
            return;
        };
        let Some(service) = self.services.get_mut(service.0 as usize) else { return };
        let before = service.learned.nodes();
        service.learned.forget(&template);
        self.learned_nodes = (self.learned_nodes + service.learned.nodes()).saturating_sub(before);
    }

    fn fold_into_rest(&mut self, id: EndpointId) {
        let Some(mut endpoint) = self.take(id) else { return };
        if endpoint.standing == Standing::Endpoint {
            self.removed.push(self.stored_key(&endpoint));
        }
        endpoint.method = rest_method(&endpoint.method);
        endpoint.template = NOWHERE.into();
        endpoint.template_hash = self.template_hash(NOWHERE);
        endpoint.declared.kind = rest_kind(endpoint.declared.kind);
        endpoint.dirty = true;
        let rest = self.merge_or_put(endpoint);
        self.discovered.moved(id, rest);
    }
}

/// Whether an endpoint is the row of the rest.
pub(super) fn is_rest(endpoint: &Endpoint) -> bool {
    &*endpoint.template == NOWHERE
}

/// The method under which the rest is counted.
pub(super) fn rest_method(method: &Method) -> Method {
    match method {
        Method::Get | Method::Head => Method::Get,
        _ => Method::Other("*".into()),
    }
}

/// What is said of the declaration of the rest: no single path is meant.
pub(super) const fn rest_kind(kind: DeclarationKind) -> DeclarationKind {
    match kind {
        DeclarationKind::MethodUnknown | DeclarationKind::Current | DeclarationKind::OlderOnly => {
            DeclarationKind::PathUnknown
        }
        kind => kind,
    }
}
