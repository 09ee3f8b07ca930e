//! What the catalogue says of a request, and of all endpoints when another catalogue comes into force.

use super::{
    catch_all::{is_rest, rest_kind},
    endpoint::{Declared, Proof, Standing},
    evidence::Outcome,
    kind::file_extension,
    path::{Templating, write_file, write_template},
    service::{ServiceId, with_view},
    table::{EndpointId, Inventory, is_grpc},
};
use crate::{
    catalogue::{Catalogue, LookupLimit},
    http::{Exchange, Method},
    state::DeclarationKind,
};

/// Where the template of a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum TemplateText<'c> {
    Document(&'c str),
    /// In the scratch buffer, by what was learned and by shape.
    Learned,
    /// In the scratch buffer: what is not learned from.
    Verbatim,
}

impl TemplateText<'_> {
    pub(super) const fn is_learned(&self) -> bool {
        matches!(self, Self::Learned)
    }

    pub(super) fn text<'a>(&'a self, scratch: &'a [u8]) -> &'a str {
        match self {
            Self::Document(text) => text,
            // ASCII only.
            Self::Learned | Self::Verbatim => std::str::from_utf8(scratch).unwrap_or("/"),
        }
    }
}

impl Inventory {
    /// Puts a catalogue in force: all declarations are read anew.
    pub fn set_catalogue(&mut self, catalogue: &Catalogue) {
        if catalogue.digest() != self.catalogue_digest {
            self.reload(catalogue);
        }
        // Each look is at all endpoints: the more there are, the rarer it is.
        if self.fold_later > 0 {
            self.fold_later -= 1;
        } else if self.fold_due {
            self.fold_later = self.len() / ENDPOINTS_A_TICK;
            self.fold(catalogue);
        }
    }

    /// Makes the next exchange (or the next call of `set_catalogue`) read all declarations anew.
    pub(super) fn declare_anew(&mut self) {
        self.catalogue_digest = UNREAD;
    }

    /// What the catalogue says of a request, and the template to count it under.
    pub(super) fn declare<'c>(
        &mut self,
        service: ServiceId,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
        catalogue: &'c Catalogue,
    ) -> (Declared, TemplateText<'c>) {
        let (declared, template, limit) = self.ask(service, &exchange.method, path, catalogue);
        self.note_limit(limit);
        if let Some(template) = template {
            return (declared, TemplateText::Document(template));
        }
        (declared, self.template_by_traffic(service, exchange, outcome, path))
    }

    /// Writes the template of a request that no document declares into the scratch buffer: files of one folder that are
    /// sent as such have one, gRPC methods their own.
    pub(super) fn template_by_traffic<'c>(
        &mut self,
        service: ServiceId,
        exchange: &Exchange,
        outcome: Outcome,
        path: &[u8],
    ) -> TemplateText<'c> {
        if self.write_pinned(service, path) {
            return TemplateText::Learned;
        }
        let media = exchange.response.content_type.as_deref();
        let extension =
            if outcome == Outcome::Success { file_extension(path, media) } else { None };
        if let Some(extension) = extension {
            write_file(path, extension, self.limits.template_bytes, &mut self.scratch);
            return TemplateText::Verbatim;
        }
        let templating = if is_grpc(exchange) { Templating::Verbatim } else { Templating::Typed };
        self.undeclared_template(service, templating, path)
    }

    /// Writes the template of a path that no document declares into the scratch buffer.
    pub(super) fn undeclared_template<'c>(
        &mut self,
        service: ServiceId,
        templating: Templating,
        path: &[u8],
    ) -> TemplateText<'c> {
        let (bytes_max, segments_max) = (self.limits.template_bytes, self.limits.template_segments);
        if templating == Templating::Typed
            && self.segments.read(path, segments_max)
            && let Some(shown) = self.services.get(self.shown_as(service).0 as usize)
        {
            let templates = shown.learned.templates();
            let mut text = std::mem::take(&mut self.scratch);
            match self.pins_of(service) {
                None => templates.write(&self.segments, bytes_max, &mut text),
                Some(pins) => {
                    let stays = |texts: &[&str]| pins.stays(texts);
                    templates.write_keeping(&self.segments, bytes_max, &stays, &mut text);
                    pins.rename(&mut text);
                }
            }
            self.scratch = text;
            return TemplateText::Learned;
        }
        write_template(path, templating, bytes_max, segments_max, &mut self.scratch);
        TemplateText::Verbatim
    }

    pub(super) fn ask<'c>(
        &self,
        service: ServiceId,
        method: &Method,
        path: &[u8],
        catalogue: &'c Catalogue,
    ) -> (Declared, Option<&'c str>, Option<LookupLimit>) {
        let unknown = Declared::bare(DeclarationKind::NoCatalogue);
        if catalogue.is_empty() {
            return (unknown, None, None);
        }
        let anchor = self.service(self.shown_as(service)).and_then(|service| self.anchor(service));
        let Some((address, host)) = anchor else { return (unknown, None, None) };
        let declaration =
            with_view(address, host.as_deref(), |view| catalogue.declare(view, method, path));
        let declared = Declared {
            kind: declaration.kind,
            deprecated: declaration.lifecycle.deprecated,
            sunset: declaration.lifecycle.sunset.unwrap_or_default(),
            owner: declaration.operation.and_then(|operation| self.api_owner(operation)),
        };
        // The bound of templates holds for documents too.
        let template = declaration
            .template
            .filter(|template| template.len() <= self.limits.template_bytes * 4);
        (declared, template, declaration.limit)
    }

    /// Counts a look-up that met a bound.
    fn note_limit(&mut self, limit: Option<LookupLimit>) {
        match limit {
            None => {}
            Some(LookupLimit::Steps) => self.losses.lookups_given_up += 1,
            Some(LookupLimit::Tries) => self.losses.lookups_partial += 1,
        }
    }

    /// Reads all declarations anew: another catalogue is in force.
    pub(super) fn reload(&mut self, catalogue: &Catalogue) {
        self.catalogue_digest = catalogue.digest();
        self.learn_api_owners(catalogue);
        self.cache.clear();
        for service in &mut self.services {
            service.serves_declared = false;
        }
        for slot in 0..self.endpoints.len() {
            let Ok(slot) = u32::try_from(slot) else { break };
            self.redeclare(EndpointId(slot), catalogue);
        }
        self.fold_due = true;
        self.fold_later = 0;
    }

    pub(super) fn redeclare(&mut self, id: EndpointId, catalogue: &Catalogue) {
        let Some(endpoint) = self.endpoint(id) else { return };
        if is_rest(endpoint) {
            self.redeclare_rest(id, catalogue);
            return;
        }
        let (service, path) = (endpoint.service, super::path::example_path(&endpoint.template));
        let (declared, template, limit) =
            self.ask(service, &endpoint.method, path.as_bytes(), catalogue);
        let renamed = template.filter(|template| *template != &*endpoint.template);
        let same = renamed.is_none() && declared == endpoint.declared;
        self.note_limit(limit);
        if same {
            self.note_served_declared(id);
            return;
        }
        let Some(mut endpoint) = self.take(id) else { return };
        if let Some(template) = renamed {
            if endpoint.standing == Standing::Endpoint {
                self.removed.push(self.stored_key(&endpoint));
            }
            endpoint.template = template.into();
            endpoint.template_hash = self.path_hash(template.as_bytes());
        }
        endpoint.declared = declared;
        endpoint.dirty = true;
        let merged = self.merge_or_put(endpoint);
        self.note_served_declared(merged);
        let Some(entry) = self.endpoints.get_mut(merged.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        if entry.standing == Standing::Candidate && !entry.declared.is_undeclared() {
            entry.standing = Standing::Endpoint;
            self.candidates_live -= 1;
            self.totals.probing = self.totals.probing.saturating_sub(entry.observed);
            self.totals.endpoints += entry.observed;
            self.discovered.push(merged);
        }
    }

    /// The rest is of no path, so that no document declares it.
    fn redeclare_rest(&mut self, id: EndpointId, catalogue: &Catalogue) {
        let Some(endpoint) = self.endpoint(id) else { return };
        let (declared, _, _) = self.ask(endpoint.service, &endpoint.method, NO_PATH, catalogue);
        if let Some(Some(endpoint)) = self.endpoints.get_mut(id.0 as usize) {
            endpoint.declared.kind = rest_kind(declared.kind);
            endpoint.dirty = true;
        }
    }

    pub(super) fn note_served_declared(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoint(id) else { return };
        if endpoint.declared.is_undeclared() || endpoint.proof == Proof::NotYet {
            return;
        }
        let service = endpoint.service;
        if let Some(service) = self.services.get_mut(service.0 as usize) {
            service.serves_declared = true;
        }
    }
}

/// Segments that no document has.
const NO_PATH: &[u8] = b"/%00no/%00such/%00path/%00at/%00all";
/// Endpoints that are looked at for folding services, by tick on average.
const ENDPOINTS_A_TICK: usize = 2_000;
/// No catalogue was read yet.
pub(super) const UNREAD: u64 = u64::MAX;
