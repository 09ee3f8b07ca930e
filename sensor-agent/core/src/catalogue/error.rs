//! What is wrong with a document: which one, where, what, and what to write instead.

use std::fmt::{self, Write as _};

use super::limits::{
    BINDING_BYTES_MAX, DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, ENTRIES_MAX, OPERATIONS_MAX, PARTIAL_MAX,
    REF_DEPTH_MAX, SEGMENTS_MAX, SERVERS_MAX, VALUES_MAX, WILDCARDS_MAX,
};

/// Whether a document is used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document is not used at all; others are.
    Refused,
    /// The document is used; what the problem names is not, or is used as described.
    Warning,
}

/// One problem of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// Name of the document as given to the loader.
    pub document: String,
    /// Line, from 1, where it could be found.
    pub line: Option<u64>,
    /// JSON pointer (RFC 6901) to the place; empty for the document itself.
    pub pointer: String,
    /// Whether the document is used.
    pub severity: Severity,
    /// What is wrong.
    pub problem: Problem,
}

/// One line, whatever a document has for names: pointers and paths are its own words.
impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = Printable(f);
        f.write_str(&self.document)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.pointer.is_empty() {
            write!(f, " at {}", self.pointer)?;
        }
        let tail = match self.severity {
            Severity::Refused => "; the document is not used",
            Severity::Warning => "",
        };
        write!(f, ": {}{tail}", self.problem)
    }
}

/// Escapes control characters on their way out.
struct Printable<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Printable<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for DocumentError {}

/// What can be wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the text of each variant says what it is")]
pub enum Problem {
    #[error("{bytes} bytes are over the limit of {DOCUMENT_BYTES_MAX} for a document; split it")]
    TooLarge { bytes: usize },
    #[error("{bytes} bytes are over the limit of {BINDING_BYTES_MAX} for a binding file")]
    BindingTooLarge { bytes: usize },
    #[error("over the limit of {DOCUMENTS_MAX} documents")]
    TooManyDocuments,
    #[error(
        "over the limit of {VALUES_MAX} values in paths, servers and extensions; split the document"
    )]
    TooManyValues,
    #[error(
        "over the limit of {OPERATIONS_MAX} operations in the catalogue; this document has {operations}"
    )]
    TooManyOperations { operations: usize },
    #[error(
        "over the limit of {ENTRIES_MAX} templates over all servers; name fewer servers or bind by `catalogue.yaml`"
    )]
    TooManyEntries,
    #[error(
        "over the limit of {SERVERS_MAX} servers (variables with `enum` count once for each value)"
    )]
    TooManyServers,
    #[error("over the limit of {WILDCARDS_MAX} wildcard hosts in the catalogue")]
    TooManyWildcards,
    #[error("a second document of this name; names must differ")]
    DuplicateName,
    #[error("not UTF-8 text; save the file as UTF-8")]
    NotUtf8,
    #[error("cannot be read: {0}")]
    Syntax(String),
    #[error("the key `{0}` is there twice; remove one")]
    DuplicateKey(String),
    #[error("expected {expected}, found {found}")]
    WrongType { expected: &'static str, found: &'static str },
    #[error(
        "not an API document: neither `openapi: 3.0.3` (or 3.1.0) nor `swagger: \"2.0\"` at the top; bindings are read from catalogue.yaml"
    )]
    NotAnApiDocument,
    #[error("version `{0}` of the OpenAPI specification is not known; 2.0, 3.0 and 3.1 are")]
    UnknownSpecification(String),
    #[error("OpenAPI {0} is read as 3.1")]
    NewerSpecification(String),
    #[error("`paths` is missing; write `paths: {{}}` if there are none")]
    NoPaths,
    #[error("a path must start with `/`; write `/{0}`")]
    PathWithoutSlash(String),
    #[error("`{0}` is not a path template: {1}")]
    BadTemplate(String, &'static str),
    #[error("over {SEGMENTS_MAX} segments in a path")]
    TooManySegments,
    #[error("over {PARTIAL_MAX} templates such as `{{name}}.json` in one place")]
    TooManyPartial,
    #[error(
        "what follows `?` or `#` in a path is ignored: operations are told apart by method and path only"
    )]
    PathWithQuery,
    #[error(
        "the same as `{first}` but for the names of its parameters; its operations are shown under `{first}`"
    )]
    SameTemplate { first: String },
    #[error("{method} is declared for the same path in `{first}` too; that one is used")]
    Contradiction { method: String, first: String },
    #[error("`$ref: {0}` leads nowhere{1}")]
    RefNotFound(String, &'static str),
    #[error("`$ref: {0}` leads back to itself")]
    RefCycle(String),
    #[error("`$ref: {0}` is longer than {REF_DEPTH_MAX} steps")]
    RefTooDeep(String),
    #[error("`{0}` is not a server: {1}")]
    BadServer(String, &'static str),
    #[error("`{0}` is not an RFC 3339 date or date-time; write 2026-06-30 or 2026-06-30T00:00:00Z")]
    BadSunset(String),
    #[error(
        "`{0}` is not a host; write `api.example.com` or `*.example.com`, without scheme, port or path"
    )]
    BadHost(String),
    #[error("`{0}` is not an address or prefix; write `10.0.0.5` or `10.0.0.0/24`")]
    BadAddress(String),
    #[error(
        "not a gRPC descriptor set: {0}; write one by `protoc --include_imports --descriptor_set_out=api.binpb` or `buf build -o api.binpb`"
    )]
    NotADescriptorSet(String),
    #[error("no gRPC service is in this descriptor set")]
    NoServices,
    #[error(
        "the column `{0}` is missing: the first line must be a header such as `method,host,path` (and, if you like, `owner,deprecated,sunset,internal`)"
    )]
    CsvColumnMissing(&'static str),
    #[error("the column `{0}` is not read")]
    CsvColumnUnknown(String),
    #[error(
        "{found} fields, but the header has {expected}; put a field with a separator in it into quotes"
    )]
    CsvTooManyFields { found: usize, expected: usize },
    #[error("a quote is not closed where the field ends; a quote within a field is written twice")]
    CsvOpenQuote,
    #[error("`{0}` is not a request method; write one, such as GET")]
    CsvBadMethod(String),
    #[error("`{text}` in column `{column}` is neither true nor false")]
    CsvBadFlag { column: &'static str, text: String },
    #[error("{0}; an entry has one `document`, or the `versions` of one, oldest first")]
    BindingOfNothing(&'static str),
    #[error(
        "version {version} of the same API as {newer} (version {newer_version}): read as an older version; if both are current, say `retired: false` in catalogue.yaml"
    )]
    OlderVersion { version: String, newer: String, newer_version: String },
    #[error("the document `{0}` is not in the folder, or was refused; its binding does nothing")]
    BindingWithoutDocument(String),
    #[error("`{0}` is not the start of any path of the document; nothing is stripped")]
    StripWithoutEffect(String),
}
