//! Documents and a binding file to a [`Catalogue`], with every problem named; one bad document does not hide others.
//!
//! Deterministic: documents are taken in the order of their names, paths in theirs, so that ties fall the same way
//! whatever order the files were read in.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use serde_json::Value;

use super::{
    binding::{self, Binding, BindingReason, Scope, scopes_of},
    document::{self, Document, Operation, ParsedDocument, Problems},
    error::{DocumentError, Problem, Severity},
    index::{Index, Insertion, Note, Overflow},
    limits::{DOCUMENTS_MAX, OPERATIONS_MAX, PROBLEMS_MAX},
    locate::line_of,
    pointer::{Pointer, push_token},
    read::{self, ReadError},
    refs::DocumentSet,
    servers::Server,
    template::{Template, TemplateError},
};

/// Loaded documents, ready for look-ups; immutable. Empty by default (`NoCatalogue`).
#[derive(Debug, Default)]
pub struct Catalogue {
    pub(super) index: Index,
    documents: Vec<Document>,
    operations: Vec<Operation>,
    bindings: Vec<BindingRow>,
    digest: u64,
}

/// What one document is bound to, and why; shown at start.
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
}

impl Catalogue {
    /// Reads documents (name relative to the folder, bytes) and the binding file, if there is one.
    pub fn load<N: AsRef<str>, B: AsRef<[u8]>>(
        documents: &[(N, B)],
        binding: Option<(&str, &[u8])>,
    ) -> (Self, Vec<DocumentError>) {
        let mut named: Vec<(&str, &[u8])> =
            documents.iter().map(|(name, bytes)| (name.as_ref(), bytes.as_ref())).collect();
        named.sort_by_key(|(name, _)| *name);
        let mut loader = Loader::default();
        let digest = digest(&named, binding);
        named.dedup_by(|second, first| {
            let double = second.0 == first.0;
            if double {
                loader.report(
                    first.0,
                    None,
                    String::new(),
                    Severity::Refused,
                    Problem::DuplicateName,
                );
            }
            double
        });
        for (name, _) in named.iter().skip(DOCUMENTS_MAX) {
            loader.report(name, None, String::new(), Severity::Refused, Problem::TooManyDocuments);
        }
        named.truncate(DOCUMENTS_MAX);
        let bindings = loader.read_bindings(binding);
        let parsed = loader.read_documents(&named);
        let mut catalogue =
            loader.assemble(parsed, &bindings, binding.map_or("", |(name, _)| name), &named);
        catalogue.digest = digest;
        (catalogue, loader.errors)
    }

    /// Whether no document is loaded.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The documents in use, in the order of their names.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// All operations of all documents.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What each document is bound to, and why.
    pub fn bindings(&self) -> &[BindingRow] {
        &self.bindings
    }

    /// Changes when a document, its name or the binding file changes; the same on every host.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn operation(&self, number: u32) -> Option<&Operation> {
        self.operations.get(usize::try_from(number).ok()?)
    }

    pub(super) fn document(&self, number: u32) -> Option<&Document> {
        self.documents.get(usize::try_from(number).ok()?)
    }
}

#[derive(Default)]
struct Loader {
    errors: Vec<DocumentError>,
}

impl Loader {
    fn report(
        &mut self,
        document: &str,
        line: Option<u64>,
        pointer: String,
        severity: Severity,
        problem: Problem,
    ) {
        self.errors.push(DocumentError {
            document: document.to_owned(),
            line,
            pointer,
            severity,
            problem,
        });
    }

    fn report_read(&mut self, document: &str, error: ReadError) {
        self.report(document, error.line, error.pointer, Severity::Refused, error.problem);
    }

    fn read_bindings(&mut self, binding: Option<(&str, &[u8])>) -> Vec<Binding> {
        let Some((name, bytes)) = binding else { return Vec::new() };
        binding::read(bytes).unwrap_or_else(|error| {
            self.report_read(name, error);
            Vec::new()
        })
    }

    fn read_documents(&mut self, named: &[(&str, &[u8])]) -> Vec<ParsedDocument> {
        let mut trees: Vec<Option<Value>> = Vec::with_capacity(named.len());
        for (name, bytes) in named {
            let tree = read::read(name, bytes).map_err(|error| self.report_read(name, error)).ok();
            trees.push(tree);
        }
        let set = DocumentSet::new(
            named.iter().zip(&trees).map(|((name, _), tree)| (*name, tree.as_ref())).collect(),
        );
        let mut parsed = Vec::new();
        let mut fragments = Vec::new();
        for (index, ((name, bytes), tree)) in named.iter().zip(&trees).enumerate() {
            let Some(tree) = tree else { continue };
            if !document::is_api_document(tree) {
                fragments.push((index, *name));
                continue;
            }
            let mut problems = Problems::default();
            let document = document::parse(&set, index, name, tree, &mut problems);
            let document = document.filter(|document| check_templates(document, &mut problems));
            for (pointer, severity, problem) in problems.list {
                let line = line_of(bytes, &pointer);
                self.report(name, line, pointer, severity, problem);
            }
            parsed.extend(document);
        }
        for (index, name) in fragments {
            if !set.is_referred(index) {
                self.report(
                    name,
                    None,
                    String::new(),
                    Severity::Refused,
                    Problem::NotAnApiDocument,
                );
            }
        }
        parsed
    }

    fn assemble(
        &mut self,
        parsed: Vec<ParsedDocument>,
        bindings: &[Binding],
        binding_name: &str,
        named: &[(&str, &[u8])],
    ) -> Catalogue {
        let mut catalogue = Catalogue::default();
        let mut scopes: BTreeMap<Scope, Vec<Insertion>> = BTreeMap::new();
        for mut document in parsed {
            let name = document.document.name.clone();
            if catalogue.operations.len() + document.operations.len() > OPERATIONS_MAX {
                let operations = document.operations.len();
                self.report(
                    &name,
                    None,
                    String::new(),
                    Severity::Refused,
                    Problem::TooManyOperations { operations },
                );
                continue;
            }
            let own: Vec<&Binding> =
                bindings.iter().filter(|binding| *binding.document == *name).collect();
            document.document.retired =
                name.starts_with("retired/") || own.iter().any(|binding| binding.retired);
            let mut placer =
                Placer { scopes: &mut scopes, shown: BTreeSet::new(), reasons: Vec::new() };
            let first = u32::try_from(catalogue.operations.len()).unwrap_or(u32::MAX);
            placer.place(&document, &own, first);
            let unused =
                own.iter().find(|binding| !binding.strip.is_empty() && !strips(&document, binding));
            if let Some(binding) = unused {
                let problem = Problem::StripWithoutEffect(binding.strip.clone());
                self.report(
                    binding_name,
                    Some(binding.line),
                    String::new(),
                    Severity::Warning,
                    problem,
                );
            }
            catalogue.bindings.push(placer.row(&name));
            let number = u32::try_from(catalogue.documents.len()).unwrap_or(u32::MAX);
            catalogue.documents.push(document.document);
            let owner = own.iter().find_map(|binding| binding.owner.as_deref());
            let operations = document
                .operations
                .into_iter()
                .map(|parsed| Operation { document: number, ..parsed.operation }.owned_by(owner));
            catalogue.operations.extend(operations);
        }
        for binding in bindings {
            if !catalogue.documents.iter().any(|document| *document.name == *binding.document) {
                let problem = Problem::BindingWithoutDocument(binding.document.clone());
                self.report(
                    binding_name,
                    Some(binding.line),
                    String::new(),
                    Severity::Warning,
                    problem,
                );
            }
        }
        let mut notes = Vec::new();
        match Index::build(scopes, &mut notes) {
            Ok(index) => catalogue.index = index,
            Err(overflow) => {
                let problem = match overflow {
                    Overflow::Entries => Problem::TooManyEntries,
                    Overflow::Wildcards => Problem::TooManyWildcards,
                };
                self.report("catalogue", None, String::new(), Severity::Refused, problem);
                return Catalogue::default();
            }
        }
        self.report_notes(&catalogue, notes, named);
        catalogue
    }

    fn report_notes(&mut self, catalogue: &Catalogue, notes: Vec<Note>, named: &[(&str, &[u8])]) {
        let mut told: BTreeMap<u32, usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for note in notes {
            let (number, problem) = match note {
                Note::Taken { operation, by } => (operation, taken(catalogue, operation, by)),
                Note::SameTemplate { operation, first } => {
                    (operation, same_template(catalogue, operation, first))
                }
                Note::PartialFull { operation } => (operation, Some(Problem::TooManyPartial)),
            };
            let Some((problem, operation)) = problem.zip(catalogue.operation(number)) else {
                continue;
            };
            let count = told.entry(operation.document).or_default();
            if *count >= PROBLEMS_MAX || !seen.insert(number) {
                continue;
            }
            *count += 1;
            let Some(document) = catalogue.document(operation.document) else { continue };
            let mut pointer = String::from("/paths");
            push_token(&mut pointer, &operation.path);
            push_token(&mut pointer, &operation.method.as_str().to_ascii_lowercase());
            let bytes =
                named.iter().find(|(name, _)| **name == *document.name).map(|(_, bytes)| *bytes);
            let line = bytes.and_then(|bytes| line_of(bytes, &pointer));
            self.report(&document.name, line, pointer, Severity::Warning, problem);
        }
    }
}

fn taken(catalogue: &Catalogue, operation: u32, by: u32) -> Option<Problem> {
    let (operation, by) = (catalogue.operation(operation)?, catalogue.operation(by)?);
    let first = if operation.document == by.document {
        by.path.to_string()
    } else {
        catalogue.document(by.document)?.name.to_string()
    };
    Some(Problem::Contradiction { method: operation.method.as_str().to_owned(), first })
}

/// Within one document two spellings of a template are a mistake; in two documents they are not.
fn same_template(catalogue: &Catalogue, operation: u32, first: u32) -> Option<Problem> {
    let (operation, first) = (catalogue.operation(operation)?, catalogue.operation(first)?);
    let same = operation.document == first.document && operation.path != first.path;
    same.then(|| Problem::SameTemplate { first: first.path.to_string() })
}

/// Every path must be a template, with every prefix that it gets; refuses the document otherwise.
fn check_templates(document: &ParsedDocument, problems: &mut Problems) -> bool {
    let mut last = None;
    for parsed in &document.operations {
        let path = &parsed.operation.path;
        if last == Some(path) {
            continue;
        }
        last = Some(path);
        let longest =
            parsed.servers.iter().map(|server| segments(&server.prefix)).max().unwrap_or(0);
        let problem = match Template::parse(path) {
            _ if path.chars().any(char::is_control) => Problem::BadTemplate(
                path.escape_debug().collect(),
                "control characters must be percent-encoded",
            ),
            Ok(template) if template.segments.len() + longest > super::limits::SEGMENTS_MAX => {
                Problem::TooManySegments
            }
            Ok(_) => continue,
            Err(TemplateError::TooManySegments) => Problem::TooManySegments,
            Err(TemplateError::Bad(why)) => Problem::BadTemplate(path.to_string(), why),
            Err(TemplateError::NoSlash) => Problem::PathWithoutSlash(path.to_string()),
        };
        let paths = Pointer::Key(&Pointer::Root, "paths");
        problems.refuse(&Pointer::Key(&paths, path), problem);
    }
    !problems.refused
}

fn segments(path: &str) -> usize {
    path.split('/').filter(|segment| !segment.is_empty()).count()
}

/// Puts a document's operations into scopes and remembers what to say about it.
struct Placer<'s> {
    scopes: &'s mut BTreeMap<Scope, Vec<Insertion>>,
    shown: BTreeSet<String>,
    reasons: Vec<BindingReason>,
}

impl Placer<'_> {
    fn place(&mut self, document: &ParsedDocument, bindings: &[&Binding], first: u32) {
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
        parsed: &super::document::ParsedOperation,
        operation: u32,
        binding: &Binding,
    ) {
        let loopback_only = parsed
            .servers
            .iter()
            .all(|server| matches!(server.place, super::servers::Place::Loopback(_)));
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
            let kept: Vec<Scope> = scopes.iter().filter(keep).cloned().collect();
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
            if self.shown.len() < super::limits::SERVERS_MAX * 4 {
                let prefix = seen_prefix(server, binding);
                self.shown.insert(format!("{}{prefix}", scope.text()));
            }
        }
    }

    fn row(&self, name: &str) -> BindingRow {
        BindingRow {
            document: name.into(),
            scopes: self.shown.iter().take(20).cloned().collect(),
            scopes_total: self.shown.len(),
            // The most specific reason is the one to tell; a document without operations is bound to nothing.
            reason: self.reasons.iter().min().copied().unwrap_or(BindingReason::NoServers),
        }
    }
}

/// Whether a binding's prefix is there to be stripped from any path.
fn strips(document: &ParsedDocument, binding: &Binding) -> bool {
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

/// FNV-1a over names and bytes, each with its length.
fn digest(named: &[(&str, &[u8])], binding: Option<(&str, &[u8])>) -> u64 {
    let mut hash = crate::digest::Digest::default();
    for (name, bytes) in named.iter().copied().chain(binding) {
        hash.field(name.as_bytes());
        hash.field(bytes);
    }
    hash.value()
}
