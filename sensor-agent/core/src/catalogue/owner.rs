//! Who stands behind an operation, and who says so: `x-owner` (of the operation, its path or the document), else the
//! binding file (`owner` of the document), else `info.contact`.

use super::{catalogue::Catalogue, document::Operation};

/// Who says who the owner is, the closest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerSource {
    /// `x-owner` in the document, or the column `owner` of a CSV.
    Document,
    /// `owner` in the binding file.
    BindingFile,
    /// `info.contact` of the document.
    Contact,
}

impl OwnerSource {
    /// The source in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::BindingFile => "binding file",
            Self::Contact => "contact of the document",
        }
    }
}

/// An owner as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: Box<str>,
    pub(super) source: OwnerSource,
}

impl Owner {
    pub(super) fn new(name: Box<str>, source: OwnerSource) -> Self {
        Self { name, source }
    }
}

impl Catalogue {
    /// Names of all owners; the same one may come often.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.operations().iter().filter_map(Operation::owner)
    }
}

impl Operation {
    /// The declared owner.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| &*owner.name)
    }

    /// Who says so.
    #[must_use]
    pub fn owner_source(&self) -> Option<OwnerSource> {
        self.owner.as_ref().map(|owner| owner.source)
    }

    /// Declared for internal use only (`x-internal`).
    #[must_use]
    pub fn internal(&self) -> bool {
        self.internal
    }

    /// Takes the binding file's owner unless the document names one itself.
    pub(super) fn owned_by(self, bound: Option<&str>) -> Self {
        let own = self.owner_source() == Some(OwnerSource::Document);
        match bound.filter(|_| !own) {
            None => self,
            Some(name) => {
                Self { owner: Some(Owner::new(name.into(), OwnerSource::BindingFile)), ..self }
            }
        }
    }
}
