//! Loaded documents, ready for look-ups, with what evidence says of those that name no host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    binding::{BindingReason, Scope},
    declare::ServiceView,
    document::{Document, Operation},
    evidence::{EvidenceRow, Placements},
    index::{Bound, Index, Insertion},
    limits::NEIGHBOURS_MAX,
};

/// Loaded documents; immutable, and cheap to copy. Empty by default (`NoCatalogue`).
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub(super) parts: Arc<Parts>,
    pub(super) placements: Arc<Placements>,
    bindings: Vec<BindingRow>,
    digest: u64,
}

/// What was loaded.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) index: Index,
    pub(super) documents: Vec<Document>,
    pub(super) operations: Vec<Operation>,
    pub(super) bindings: Vec<BindingRow>,
    pub(super) digest: u64,
}

impl Parts {
    pub(super) fn operation(&self, number: u32) -> Option<&Operation> {
        self.operations.get(usize::try_from(number).ok()?)
    }

    pub(super) fn document(&self, number: u32) -> Option<&Document> {
        self.documents.get(usize::try_from(number).ok()?)
    }

    /// Notes which documents are bound to the same hosts.
    pub(super) fn note_neighbours(&mut self, scopes: &BTreeMap<Scope, Vec<Insertion>>) {
        for insertions in scopes.iter().filter(|(scope, _)| !scope.is_every()).map(|(_, it)| it) {
            let together: BTreeSet<u32> = insertions
                .iter()
                .filter_map(|insertion| self.operation(insertion.operation))
                .map(|operation| operation.document)
                .collect();
            for document in &together {
                let others = together.iter().filter(|other| *other != document);
                let names: Vec<Box<str>> = others
                    .take(NEIGHBOURS_MAX)
                    .filter_map(|other| self.document(*other).map(|it| it.name.clone()))
                    .collect();
                let row = usize::try_from(*document).ok().and_then(|it| self.bindings.get_mut(it));
                let Some(row) = row else { continue };
                row.beside.extend(names);
                row.beside.sort_unstable();
                row.beside.dedup();
                row.beside.truncate(NEIGHBOURS_MAX);
            }
        }
    }
}

/// What one document is bound to, and why; shown at start and by `catalogue coverage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingRow {
    /// Name of the document.
    pub document: Box<str>,
    /// Scopes with their prefix, as a user reads them (`api.example.com/v1`, `every host`), at most 20.
    pub scopes: Vec<String>,
    /// How many scopes there are.
    pub scopes_total: usize,
    /// Why.
    pub reason: BindingReason,
    /// Of a document that names no host: the services that were asked, the best first, at most 16.
    pub evidence: Vec<EvidenceRow>,
    /// Other documents that are bound to one of its hosts, at most 16: the most literal template decides, then the current before
    /// the older, then the first by name.
    pub beside: Vec<Box<str>>,
}

/// Services that a sentence names.
const TOLD_MAX: usize = 4;

impl BindingRow {
    /// The reason with its figures, one sentence.
    #[must_use]
    pub fn explained(&self) -> String {
        let mut text = self.reason.text().to_owned();
        if !self.evidence.is_empty() {
            let told = self.evidence.iter().take(TOLD_MAX).map(ToString::to_string);
            text.extend([": ", &told.collect::<Vec<_>>().join(", ")]);
            let more = self.evidence.len().saturating_sub(TOLD_MAX);
            if more > 0 {
                text.extend([", and ", &more.to_string(), " more"]);
            }
        }
        if !self.beside.is_empty() {
            text.extend(["; beside ", &self.beside.join(", ")]);
        }
        text
    }
}

impl Catalogue {
    pub(super) fn of(parts: Parts, digest: u64) -> Self {
        let bindings = parts.bindings.clone();
        let parts = Arc::new(Parts { digest, ..parts });
        Self { parts, bindings, placements: Arc::default(), digest }
    }

    /// The same documents with other evidence.
    pub(super) fn placed(&self, placements: Placements, bindings: Vec<BindingRow>) -> Self {
        Self {
            parts: Arc::clone(&self.parts),
            digest: placements.mixed_into(self.parts.digest),
            placements: Arc::new(placements),
            bindings,
        }
    }

    /// Whether no document is loaded.
    pub fn is_empty(&self) -> bool {
        self.parts.documents.is_empty()
    }

    /// The documents in use: current ones before older ones, each in the order of their names.
    pub fn documents(&self) -> &[Document] {
        &self.parts.documents
    }

    /// All operations of all documents.
    pub fn operations(&self) -> &[Operation] {
        &self.parts.operations
    }

    /// What each document is bound to, and why; in the order of the documents.
    pub fn bindings(&self) -> &[BindingRow] {
        &self.bindings
    }

    /// Changes when a document, its name or the binding file changes, or what evidence binds; without evidence the same on
    /// every host.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn index(&self) -> &Index {
        &self.parts.index
    }

    pub(super) fn bound(&self, service: &ServiceView<'_>) -> Bound {
        self.index().bind(service, &self.placements.about_others(service))
    }

    pub(super) fn operation(&self, number: u32) -> Option<&Operation> {
        self.parts.operation(number)
    }

    pub(super) fn document(&self, number: u32) -> Option<&Document> {
        self.parts.document(number)
    }
}
