//! Pins in the inventory: which of them are for a service, and what another file of them does to endpoints.

use std::{borrow::Cow, sync::Arc};

use super::{
    learned::Templates,
    path::decoded,
    pins::{Pins, ServicePins},
    service::ServiceId,
    table::{EndpointId, Inventory},
    teach::is_unknown,
};

impl Inventory {
    /// Puts templates of operators in force; endpoints that no document declares get theirs at once. What a pin joined stays one when
    /// the pin is gone, until it is not called any more.
    pub fn set_pins(&mut self, pins: Arc<Pins>) {
        if *pins == *self.pins {
            return;
        }
        self.pins = pins;
        self.cache.clear();
        for slot in 0..self.endpoints.len() {
            let Ok(slot) = u32::try_from(slot) else { break };
            self.renew_pinned(EndpointId(slot));
        }
    }

    /// What operators want for the templates of a service.
    pub(super) fn pins_of(&self, service: ServiceId) -> Option<ServicePins<'_>> {
        if self.pins.is_empty() {
            return None;
        }
        let (own, shown) = (self.service(service)?, self.service(self.shown_as(service))?);
        let addresses = [own, shown].map(|service| self.address_of(service));
        let addresses = addresses.iter().flatten().map(String::as_str);
        let names = [own, shown].into_iter().flat_map(|service| &service.names);
        self.pins.of(&names.map(|name| &**name).chain(addresses))
    }

    /// Writes the template of a path into the scratch buffer if it is pinned.
    pub(super) fn write_pinned(&mut self, service: ServiceId, path: &[u8]) -> bool {
        if self.pins.is_empty() || !self.segments.read(path, self.limits.template_segments) {
            return false;
        }
        let mut text = std::mem::take(&mut self.scratch);
        let found = self.pins_of(service).is_some_and(|pins| pins.write(&self.segments, &mut text));
        self.scratch = text;
        found
    }

    /// Gives an endpoint the template that operators want.
    pub(super) fn renew_pinned(&mut self, id: EndpointId) {
        let wanted = !self.pins.is_empty()
            && self.endpoint(id).is_some_and(|endpoint| {
                is_unknown(endpoint.declared.kind) && !self.is_verbatim(endpoint)
            });
        if wanted {
            self.renew(id);
        }
    }
}

impl ServicePins<'_> {
    /// The template that a template has now.
    pub(super) fn renew(&self, template: &str, learned: &Templates, out: &mut Vec<u8>) -> bool {
        // As segments of a path are, and what pins say: decoded.
        let texts: Vec<Cow<'_, str>> =
            template.split('/').filter(|text| !text.is_empty()).map(decoded).collect();
        if self.write_texts(&texts.iter().map(|text| &**text).collect::<Vec<_>>(), out) {
            return true;
        }
        if !learned.renew(template, &|texts| self.stays(texts), out) {
            out.clear();
            out.extend_from_slice(template.as_bytes());
        }
        self.rename(out);
        true
    }
}
