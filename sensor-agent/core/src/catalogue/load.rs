//! Documents and a binding file to a [`Catalogue`], with every problem named; one bad document does not hide others.
//!
//! Deterministic: documents are taken in the order of their names, paths in theirs, so that ties fall the same way
//! whatever order the files were read in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    binding::{self, Age, Binding, Scope},
    catalogue::{Catalogue, Parts},
    csv, descriptor,
    document::{self, Operation, ParsedDocument, Problems, Spot},
    error::{DocumentError, Problem, Severity},
    format::{self, Format},
    index::{Index, Insertion, Note, Overflow},
    limits::{DOCUMENTS_MAX, EVIDENCE_DOCUMENTS_MAX, OPERATIONS_MAX, PROBLEMS_MAX},
    locate::line_of,
    place::{Evidence, Placer, strips},
    pointer::{Pointer, push_token},
    read::{self, ReadError},
    refs::DocumentSet,
    template::{Template, TemplateError},
    version,
};

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
        let parts =
            loader.assemble(parsed, &bindings, binding.map_or("", |(name, _)| name), &named);
        (Self::of(parts, digest), loader.errors)
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
            let tree = match format::of(name) {
                Format::OpenApi => {
                    read::read(name, bytes).map_err(|error| self.report_read(name, error)).ok()
                }
                Format::Descriptors | Format::Csv => None,
            };
            trees.push(tree);
        }
        let set = DocumentSet::new(
            named.iter().zip(&trees).map(|((name, _), tree)| (*name, tree.as_ref())).collect(),
        );
        let mut parsed = Vec::new();
        let mut fragments = Vec::new();
        for (index, ((name, bytes), tree)) in named.iter().zip(&trees).enumerate() {
            let mut problems = Problems::default();
            let document = match (format::of(name), tree) {
                (Format::Descriptors, _) => descriptor::parse(name, bytes, &mut problems),
                (Format::Csv, _) => csv::parse(name, bytes, &mut problems),
                (Format::OpenApi, None) => continue,
                (Format::OpenApi, Some(tree)) if !document::is_api_document(tree) => {
                    fragments.push((index, *name));
                    continue;
                }
                (Format::OpenApi, Some(tree)) => {
                    document::parse(&set, index, name, tree, &mut problems)
                }
            };
            let document = document.filter(|document| check_templates(document, &mut problems));
            for (spot, severity, problem) in problems.list {
                let (line, pointer) = match spot {
                    Spot::Line(line) => (Some(line).filter(|line| *line > 0), String::new()),
                    Spot::Pointer(pointer) => (pointer_line(name, bytes, &pointer), pointer),
                };
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
    ) -> Parts {
        let mut catalogue = Parts::default();
        let mut floating = 0;
        let mut scopes: BTreeMap<Scope, Vec<Insertion>> = BTreeMap::new();
        for document in self.by_age(parsed, bindings, named) {
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
            let number = u32::try_from(catalogue.documents.len()).unwrap_or(u32::MAX);
            let evidence =
                if floating < EVIDENCE_DOCUMENTS_MAX { Evidence::Asked } else { Evidence::TooMany };
            let mut placer = Placer::new(&mut scopes, number, evidence);
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
            let row = placer.row(&name);
            floating += usize::from(row.reason.asks_evidence());
            catalogue.bindings.push(row);
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
        catalogue.note_neighbours(&scopes);
        let mut notes = Vec::new();
        match Index::build(scopes, &mut notes) {
            Ok(index) => catalogue.index = index,
            Err(overflow) => {
                let problem = match overflow {
                    Overflow::Entries => Problem::TooManyEntries,
                    Overflow::Wildcards => Problem::TooManyWildcards,
                };
                self.report("catalogue", None, String::new(), Severity::Refused, problem);
                return Parts::default();
            }
        }
        self.report_notes(&catalogue, notes, named);
        catalogue
    }

    /// Says which documents are older versions; the newer stand before the older, those of one age by name.
    fn by_age(
        &mut self,
        parsed: Vec<ParsedDocument>,
        bindings: &[Binding],
        named: &[(&str, &[u8])],
    ) -> Vec<ParsedDocument> {
        let (ages, told) = version::ages(&parsed, bindings);
        for (number, problem) in told {
            let Some(document) = parsed.get(number) else { continue };
            let name = &*document.document.name;
            let pointer = "/info/version";
            let bytes = named.iter().find(|(have, _)| *have == name);
            let line = bytes.and_then(|(name, bytes)| pointer_line(name, bytes, pointer));
            self.report(name, line, pointer.to_owned(), Severity::Warning, problem);
        }
        let mut sorted: Vec<_> = ages.into_iter().zip(parsed).collect();
        sorted.sort_by_key(|(age, _)| *age);
        sorted
            .into_iter()
            .map(|(age, mut it)| {
                it.document.retired = age > Age(0);
                it
            })
            .collect()
    }

    fn report_notes(&mut self, catalogue: &Parts, notes: Vec<Note>, named: &[(&str, &[u8])]) {
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
            let bytes =
                named.iter().find(|(name, _)| **name == *document.name).map(|(_, bytes)| *bytes);
            let (line, pointer) = place_of(operation, &document.name, bytes.unwrap_or_default());
            self.report(&document.name, line, pointer, Severity::Warning, problem);
        }
    }
}

/// Where an operation stands in its document: its line, and a pointer where there are such.
fn place_of(operation: &Operation, name: &str, bytes: &[u8]) -> (Option<u64>, String) {
    let method = operation.method.as_str();
    match format::of(name) {
        Format::Csv => (csv::line_of(bytes, method, &operation.path), String::new()),
        Format::Descriptors => (None, operation.path.to_string()),
        Format::OpenApi => {
            let mut pointer = String::from("/paths");
            push_token(&mut pointer, &operation.path);
            push_token(&mut pointer, &method.to_ascii_lowercase());
            (line_of(bytes, &pointer), pointer)
        }
    }
}

fn pointer_line(name: &str, bytes: &[u8], pointer: &str) -> Option<u64> {
    (format::of(name) == Format::OpenApi).then(|| line_of(bytes, pointer)).flatten()
}

fn taken(catalogue: &Parts, operation: u32, by: u32) -> Option<Problem> {
    let (operation, by) = (catalogue.operation(operation)?, catalogue.operation(by)?);
    let is_retired = |it: &Operation| catalogue.document(it.document).is_some_and(|it| it.retired);
    if operation.document != by.document && is_retired(operation) && is_retired(by) {
        // That older versions have an operation in common says nothing.
        return None;
    }
    let first = if operation.document == by.document {
        by.path.to_string()
    } else {
        catalogue.document(by.document)?.name.to_string()
    };
    Some(Problem::Contradiction { method: operation.method.as_str().to_owned(), first })
}

/// Within one document two spellings of a template are a mistake; in two documents they are not.
fn same_template(catalogue: &Parts, operation: u32, first: u32) -> Option<Problem> {
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

/// FNV-1a over names and bytes, each with its length.
fn digest(named: &[(&str, &[u8])], binding: Option<(&str, &[u8])>) -> u64 {
    let mut hash = crate::digest::Digest::default();
    for (name, bytes) in named.iter().copied().chain(binding) {
        hash.field(name.as_bytes());
        hash.field(bytes);
    }
    hash.value()
}
