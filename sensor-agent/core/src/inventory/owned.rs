//! Whose API an endpoint is: what its document or the catalogue file says, else the configuration, by globs of host names.
//!
//! The closest glob counts: a whole name, then the one with most letters besides `*`, then the first in the alphabet. Bound: [`OWNER_GLOBS_MAX`].

use super::{
    endpoint::Endpoint, facet::OwnerSource, names::NameId, service::Service, table::Inventory,
};
use crate::catalogue::{self, Catalogue, HostPattern};

/// Globs of host names at most.
pub const OWNER_GLOBS_MAX: usize = 1_024;

/// Owners by glob of host names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerGlobs {
    /// The closest first.
    globs: Vec<(HostPattern, Box<str>)>,
}

/// A glob that no host name can fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host name or glob: write one such as api.example.com, *.pay.example.com or *")]
pub struct BadGlob(String);

impl OwnerGlobs {
    /// Reads globs, each with its owner.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BadGlob> {
        let mut globs = Vec::new();
        for (glob, owner) in pairs.into_iter().take(OWNER_GLOBS_MAX) {
            let pattern = HostPattern::parse(glob).ok_or_else(|| BadGlob(glob.to_owned()))?;
            globs.push((pattern, owner.into()));
        }
        globs.sort_by(|(a, _), (b, _)| (b.literals(), a).cmp(&(a.literals(), b)));
        Ok(Self { globs })
    }

    /// The owner of a host name.
    #[must_use]
    pub fn owner(&self, host: &str) -> Option<&str> {
        let found = self.globs.iter().find(|(pattern, _)| pattern.fits(host));
        found.map(|(_, owner)| &**owner)
    }

    fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }
}

/// The owner that a catalogue names, as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApiOwner {
    pub(super) name: NameId,
    pub(super) source: OwnerSource,
}

impl Inventory {
    /// Puts the owners of the configuration in force.
    pub fn set_owner_globs(&mut self, globs: OwnerGlobs) {
        self.owner_globs = globs;
    }

    /// Learns the names of owners before any endpoint refers to them.
    pub(super) fn learn_api_owners(&mut self, catalogue: &Catalogue) {
        for name in catalogue.owners() {
            self.api_owners.intern(name);
        }
    }

    /// The owner of an operation, of the catalogue in force.
    pub(super) fn api_owner(&self, operation: &catalogue::Operation) -> Option<ApiOwner> {
        let name = self.api_owners.id(operation.owner()?)?;
        let source = match operation.owner_source()? {
            catalogue::OwnerSource::Document => OwnerSource::Document,
            catalogue::OwnerSource::BindingFile => OwnerSource::Catalogue,
            catalogue::OwnerSource::Contact => OwnerSource::Contact,
        };
        Some(ApiOwner { name, source })
    }

    /// The address of a service that no host names: what stands for its host where configuration is about hosts.
    pub(super) fn address_of(&self, service: &Service) -> Option<String> {
        let listener = self.listeners.get(service.listener as usize)?;
        service.host.is_none().then(|| listener.address.ip().to_string())
    }

    /// Whose an endpoint of a service is.
    pub(super) fn owner_of(
        &self,
        endpoint: &Endpoint,
        service: &Service,
    ) -> Option<(String, OwnerSource)> {
        if let Some(owner) = endpoint.declared.owner {
            return Some((self.api_owners.name(owner.name)?.to_string(), owner.source));
        }
        Some((self.owner_by_globs(service)?.to_owned(), OwnerSource::Configuration))
    }

    /// Whose the endpoints of a service are by the configuration.
    pub(super) fn owner_by_globs(&self, service: &Service) -> Option<&str> {
        if self.owner_globs.is_empty() {
            return None;
        }
        let address = self.address_of(service);
        let own = service.host.as_deref().or(address.as_deref());
        let mut names = own.into_iter().chain(service.hosts.iter().map(|name| &**name));
        names.find_map(|name| self.owner_globs.owner(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_glob_counts_in_whatever_order() {
        let mut pairs = [
            ("*", "platform"),
            ("*.example.com", "web"),
            ("*.pay.example.com", "payments"),
            ("Cards.pay.example.com", "cards"),
            ("api-*.example.com", "apis"),
        ];
        for _ in 0..pairs.len() {
            pairs.rotate_left(1);
            let globs = OwnerGlobs::new(pairs).unwrap();
            for (host, owner) in [
                ("cards.pay.example.com", "cards"),
                ("a.pay.example.com", "payments"),
                ("pay.example.com", "web"),
                ("api-eu.example.com", "apis"),
                ("other.example", "platform"),
                ("10.0.0.1", "platform"),
            ] {
                assert_eq!(globs.owner(host), Some(owner), "{host}");
            }
        }
        assert_eq!(OwnerGlobs::default().owner("a.example"), None);
        assert!(OwnerGlobs::new([("http://a", "x")]).unwrap_err().to_string().contains("http://a"));
    }
}
