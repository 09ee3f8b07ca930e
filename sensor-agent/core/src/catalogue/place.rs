//! Operations of one document into the scopes that it is bound to, as the sensor sees their paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    binding::{self, Binding, BindingReason, Scope, scopes_of},
    catalogue::BindingRow,
    document::{ParsedDocument, ParsedOperation},
    index::Insertion,
    limits::SERVERS_MAX,
    servers::{Place, Server},
};

/// Whether evidence may say for whom a document is that names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Asked,
    /// There are too many such documents.
    TooMany,
}

/// Puts a document's operations into scopes and remembers what to say about it.
pub(super) struct Placer<'s> {
    scopes: &'s mut BTreeMap<Scope, Vec<Insertion>>,
    shown: BTreeSet<String>,
    reasons: Vec<BindingReason>,
    /// The document, where it may be bound by evidence.
    floating: Option<u32>,
}

impl<'s> Placer<'s> {
    /// For document `number`, which is bound by evidence where nothing else says for whom it is and `evidence` may be asked.
    pub(super) fn new(
        scopes: &'s mut BTreeMap<Scope, Vec<Insertion>>,
        number: u32,
        evidence: Evidence,
    ) -> Self {
        let floating = (evidence == Evidence::Asked).then_some(number);
        Self { scopes, shown: BTreeSet::new(), reasons: Vec::new(), floating }
    }

    pub(super) fn place(&mut self, document: &ParsedDocument, bindings: &[&Binding], first: u32) {
        let whole = Binding::default();
        for (parsed, operation) in document.operations.iter().zip(first..) {
            if bindings.is_empty() {
                self.operation(document, parsed, operation, &whole);
            }
            for binding in bindings {
                self.operation(document, parsed, operation, binding);
            }
        }
    }

    fn operation(
        &mut self,
        document: &ParsedDocument,
        parsed: &ParsedOperation,
        operation: u32,
        binding: &Binding,
    ) {
        let loopback_only =
            parsed.servers.iter().all(|server| matches!(server.place, Place::Loopback(_)));
        for server in parsed.servers.iter() {
            let text = seen_path(server, &parsed.operation.path, binding);
            let insertion = Insertion {
                text,
                method: parsed.operation.method.clone(),
                operation,
                retired: document.document.retired,
            };
            if !binding.scopes.is_empty() {
                self.add(&binding.scopes, BindingReason::BindingFile, server, binding, &insertion);
                continue;
            }
            let (scopes, reason) = scopes_of(server);
            let keep = |scope: &&Scope| loopback_only || !scope.fallback;
            let floating = |scope: &Scope| Scope {
                floating: self.floating.filter(|_| scope.is_every()),
                ..scope.clone()
            };
            let kept: Vec<Scope> = scopes.iter().filter(keep).map(floating).collect();
            let reason = match reason {
                BindingReason::LoopbackServersOnly if !loopback_only => BindingReason::Servers,
                other => other,
            };
            self.add(&kept, reason, server, binding, &insertion);
        }
    }

    fn add(
        &mut self,
        scopes: &[Scope],
        reason: BindingReason,
        server: &Server,
        binding: &Binding,
        insertion: &Insertion,
    ) {
        self.reasons.push(reason);
        self.reasons.dedup();
        for scope in scopes {
            let list = self.scopes.entry(scope.clone()).or_default();
            if list.last() != Some(insertion) {
                list.push(insertion.clone());
            }
            if self.shown.len() < SERVERS_MAX * 4 {
                let prefix = seen_prefix(server, binding);
                self.shown.insert(format!("{}{prefix}", scope.text()));
            }
        }
    }

    pub(super) fn row(&self, name: &str) -> BindingRow {
        BindingRow {
            document: name.into(),
            scopes: self.shown.iter().take(20).cloned().collect(),
            scopes_total: self.shown.len(),
            // The most specific reason is the one to tell; a document without operations is bound to nothing.
            reason: self.reasons.iter().min().copied().unwrap_or(BindingReason::NoServers),
            evidence: Vec::new(),
            beside: Vec::new(),
        }
    }
}

/// Whether a binding's prefix is there to be stripped from any path.
pub(super) fn strips(document: &ParsedDocument, binding: &Binding) -> bool {
    document.operations.iter().any(|parsed| {
        parsed.servers.iter().any(|server| {
            let full = format!("{}{}", server.prefix, parsed.operation.path);
            binding::strip_prefix(&full, &binding.strip).is_some()
        })
    })
}

/// The path as the sensor sees it: `add` + (server prefix + path, without `strip`).
fn seen_path(server: &Server, path: &str, binding: &Binding) -> Rc<str> {
    let full = format!("{}{path}", server.prefix);
    let rest = binding::strip_prefix(&full, &binding.strip).unwrap_or(&full);
    match format!("{}{rest}", binding.add) {
        empty if empty.is_empty() => "/".into(),
        seen => seen.into(),
    }
}

fn seen_prefix(server: &Server, binding: &Binding) -> String {
    let rest = binding::strip_prefix(&server.prefix, &binding.strip).unwrap_or(&server.prefix);
    format!("{}{rest}", binding.add)
}
