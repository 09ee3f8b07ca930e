//! Is this request declared, and by what?
//!
//! **Hosts** are compared in one spelling (lower case, no port, no trailing dot). **Paths** are compared segment by segment:
//! - query and fragment do not count; segments are split at raw `/` and then percent-decoded once on both sides;
//! - a path with matrix parameters (`/users;v=2/7`) that fits nothing is asked for again without them;
//! - case counts; `//` is as `/`; a trailing slash does not count, unless both spellings are declared;
//! - a literal beats a partial segment (`{name}.json`), which beats a parameter, which beats a rest (`{path+}`), from
//!   the left; a parameter never stands for nothing, `.` or `..`;
//! - the path decides first, then the method (OpenAPI 3: concrete paths before templated ones): a method that only a
//!   wider template has is `MethodUnknown`. HEAD is declared where GET is;
//! - among documents the more literal template wins, then current before older, then the one bound more closely.

use std::net::IpAddr;

use super::{
    catalogue::Catalogue,
    document::{Document, Operation},
    index::Bound,
    path::Segments,
    trie::Terminal,
};
use crate::{http::Method, state::DeclarationKind, time::UnixNs};

/// A service as the catalogue needs it: where it listens and under which names.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceView<'a> {
    /// Host names, with or without port; empty where only the listener is known.
    pub hosts: &'a [&'a str],
    /// Address of the listener.
    pub address: Option<IpAddr>,
    /// Port of the listener.
    pub port: u16,
}

/// What a document says about an operation's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifecycleInputs {
    /// `deprecated: true`.
    pub deprecated: bool,
    /// `x-sunset`.
    pub sunset: Option<UnixNs>,
}

/// The answer for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declaration<'c> {
    /// How it stands.
    pub kind: DeclarationKind,
    /// The template with the server's prefix, for `Current`, `OlderOnly` and `MethodUnknown`.
    pub template: Option<&'c str>,
    /// The operation, for `Current` and `OlderOnly`.
    pub operation: Option<&'c Operation>,
    /// The operation's document.
    pub document: Option<&'c Document>,
    /// Of the operation; the default without one.
    pub lifecycle: LifecycleInputs,
    /// The bound that the look-up met, if any: what was beyond it was not asked.
    pub limit: Option<LookupLimit>,
}

/// A bound of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupLimit {
    /// A trie was given up after `STEPS_MAX` steps.
    Steps,
    /// The service is bound to more than `BOUND_MAX` tries.
    Tries,
}

/// An operation at one service, for listing what was never called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredOperation<'c> {
    /// The template with the server's prefix.
    pub template: &'c str,
    /// The operation.
    pub operation: &'c Operation,
    /// Its document.
    pub document: &'c Document,
    /// `Current` or `OlderOnly`.
    pub kind: DeclarationKind,
}

impl<'c> Declaration<'c> {
    const fn bare(kind: DeclarationKind) -> Self {
        let lifecycle = LifecycleInputs { deprecated: false, sunset: None };
        Self { kind, template: None, operation: None, document: None, lifecycle, limit: None }
    }

    fn of(catalogue: &'c Catalogue, terminal: &'c Terminal, method: &Method) -> Self {
        let template = Some(&*terminal.template);
        let found = terminal.find(method).and_then(|entry| {
            let operation = catalogue.operation(entry.operation)?;
            Some((operation, catalogue.document(operation.document)?, entry.retired))
        });
        match found {
            None => Self { template, ..Self::bare(DeclarationKind::MethodUnknown) },
            Some((operation, document, retired)) => Self {
                kind: if retired { DeclarationKind::OlderOnly } else { DeclarationKind::Current },
                template,
                operation: Some(operation),
                document: Some(document),
                lifecycle: operation.lifecycle,
                limit: None,
            },
        }
    }
}

impl Catalogue {
    /// Looks a request up. `target` is the path, with or without query.
    pub fn declare(
        &self,
        service: &ServiceView<'_>,
        method: &Method,
        target: &[u8],
    ) -> Declaration<'_> {
        if self.is_empty() {
            return Declaration::bare(DeclarationKind::NoCatalogue);
        }
        let bound = self.bound(service);
        if bound.is_empty() {
            return Declaration::bare(DeclarationKind::ServiceUnknown);
        }
        let mut limit = (bound.ignored > 0).then_some(LookupLimit::Tries);
        let mut found = self.most_literal(&bound, method, target, &mut limit);
        if found.is_none() {
            let plain = without_matrix(target);
            found = plain.and_then(|it| self.most_literal(&bound, method, &it, &mut limit));
        }
        let declaration = found.unwrap_or(Declaration::bare(DeclarationKind::PathUnknown));
        Declaration { limit, ..declaration }
    }

    fn most_literal(
        &self,
        bound: &Bound,
        method: &Method,
        target: &[u8],
        limit: &mut Option<LookupLimit>,
    ) -> Option<Declaration<'_>> {
        let segments = Segments::parse(target)?;
        let mut best: Option<(u64, u8, Declaration<'_>)> = None;
        for trie in self.index().tries(bound) {
            let found = trie.find(&segments, method).unwrap_or_else(|_exceeded| {
                *limit = Some(LookupLimit::Steps);
                None
            });
            let Some(terminal) = found else { continue };
            let declaration = Declaration::of(self, terminal, method);
            let rank = (terminal.generality, declaration.kind as u8);
            // The closer scope comes first and keeps its place on a tie.
            if best.is_none_or(|(generality, kind, _)| rank < (generality, kind)) {
                best = Some((rank.0, rank.1, declaration));
            }
        }
        best.map(|(_, _, declaration)| declaration)
    }

    /// Whether a document that is for this service by name, and not for every host, declares an operation.
    pub fn names_operation(
        &self,
        service: &ServiceView<'_>,
        method: &Method,
        target: &[u8],
    ) -> bool {
        let found = self.declare(service, method, target);
        found.operation.is_some_and(|operation| {
            let binding = self.parts.bindings.get(operation.document as usize);
            binding.is_some_and(|binding| !binding.reason.asks_evidence())
        })
    }

    /// Every operation that is declared for a service, each template and method once, current before older.
    pub fn operations_of(&self, service: &ServiceView<'_>) -> Vec<DeclaredOperation<'_>> {
        let bound = self.bound(service);
        let mut all: Vec<DeclaredOperation<'_>> = self
            .index()
            .tries(&bound)
            .flat_map(super::trie::Trie::terminals)
            .flat_map(|terminal| {
                terminal.operations.iter().map(move |(_, entry)| (terminal, entry))
            })
            .filter_map(|(terminal, entry)| {
                let operation = self.operation(entry.operation)?;
                Some(DeclaredOperation {
                    template: &terminal.template,
                    operation,
                    document: self.document(operation.document)?,
                    kind: if entry.retired {
                        DeclarationKind::OlderOnly
                    } else {
                        DeclarationKind::Current
                    },
                })
            })
            .collect();
        all.sort_by(|a, b| {
            let key = |d: &DeclaredOperation<'_>| (d.kind as u8, d.operation.document);
            a.template
                .cmp(b.template)
                .then_with(|| a.operation.method.cmp(&b.operation.method))
                .then_with(|| key(a).cmp(&key(b)))
        });
        all.dedup_by(|a, b| a.template == b.template && a.operation.method == b.operation.method);
        all
    }

    /// The documents that are about a service, as indices of [`Catalogue::documents`].
    pub fn documents_about(&self, service: &ServiceView<'_>) -> Vec<u32> {
        let bound = self.bound(service);
        let entries = self
            .index()
            .tries(&bound)
            .flat_map(super::trie::Trie::terminals)
            .flat_map(|terminal| &terminal.operations);
        let found: std::collections::BTreeSet<u32> = entries
            .filter_map(|(_, entry)| self.operation(entry.operation))
            .map(|operation| operation.document)
            .collect();
        found.into_iter().collect()
    }

    /// What of the catalogue is about this service: the same number for services with the same documents, zero for none.
    pub fn binding(&self, service: &ServiceView<'_>) -> u64 {
        self.bound(service).digest()
    }

    /// Whether any document names this service.
    pub fn names(&self, service: &ServiceView<'_>) -> bool {
        !self.bound(service).is_empty()
    }
}

/// A path without what stands after `;` in each segment; nothing where there is none.
fn without_matrix(target: &[u8]) -> Option<Vec<u8>> {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let path = target.get(..end)?;
    if !path.contains(&b';') {
        return None;
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut skipped = false;
    for byte in path {
        skipped = (skipped || *byte == b';') && *byte != b'/';
        if !skipped {
            plain.push(*byte);
        }
    }
    Some(plain)
}
