//! A list of endpoints as comma-separated values to operations.
//!
//! ```csv
//! method,host,path,owner,deprecated,sunset,internal
//! GET,api.example.com,/v1/orders/{id},Orders,,,
//! POST,api.example.com:8443,/v1/orders,Orders,true,2027-01-31,
//! ```
//! The header names the columns, in any order and case; `method` and `path` must be there. An empty host is as in an OpenAPI
//! document without `servers`. Comma, semicolon or tab, as the header has them; quoted fields as in RFC 4180, within a line;
//! empty lines and lines that start with `#` do not count. Each error names its line, and one refuses the file.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    declare::LifecycleInputs,
    document::{Document, Operation, ParsedDocument, ParsedOperation, Problems, clean},
    error::Problem,
    limits::{DOCUMENT_BYTES_MAX, LOCATE_BYTES_MAX, OPERATIONS_MAX},
    owner::{Owner, OwnerSource},
    read::as_text,
    servers::{self, Server, ServerError},
    sunset::parse_date,
    template::{self, Template, TemplateError},
};
use crate::{csv, http::Method, time::UnixNs};

/// Reads a list of endpoints.
pub(super) fn parse(name: &str, bytes: &[u8], problems: &mut Problems) -> Option<ParsedDocument> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        problems.refuse_at(0, Problem::TooLarge { bytes: bytes.len() });
        return None;
    }
    let text = match as_text(bytes) {
        Ok(text) => text,
        Err(problem) => {
            problems.refuse_at(0, problem);
            return None;
        }
    };
    let mut lines = csv::lines(text);
    let Some((line, header)) = lines.next() else {
        problems.refuse_at(0, Problem::CsvColumnMissing("method"));
        return None;
    };
    let mut columns = match Columns::read(header) {
        Ok(columns) => columns,
        Err(problem) => {
            problems.refuse_at(line, problem);
            return None;
        }
    };
    for unknown in std::mem::take(&mut columns.unknown) {
        problems.warn_at(line, Problem::CsvColumnUnknown(unknown));
    }
    let mut rows = Rows { columns, servers: BTreeMap::new(), operations: Vec::new() };
    for (line, text) in lines {
        if rows.operations.len() >= OPERATIONS_MAX {
            let operations = rows.operations.len() + 1;
            problems.refuse_at(line, Problem::TooManyOperations { operations });
            return None;
        }
        if let Err(problem) = rows.row(line, text, problems) {
            problems.refuse_at(line, problem);
        }
    }
    if problems.refused {
        return None;
    }
    let document = Document { operations: rows.operations.len(), ..Document::named(name) };
    Some(ParsedDocument { document, operations: rows.operations })
}

/// The line of an operation, for what is found when all documents are together; the last of several.
/// `None` for a file over [`LOCATE_BYTES_MAX`].
pub(super) fn line_of(bytes: &[u8], method: &str, path: &str) -> Option<u64> {
    if bytes.len() > LOCATE_BYTES_MAX {
        return None;
    }
    let mut lines = csv::lines(as_text(bytes).ok()?);
    let columns = Columns::read(lines.next()?.1).ok()?;
    let mut found = None;
    for (line, text) in lines {
        let fields = csv::split(text, columns.separator)?;
        let cell = |column: Option<usize>| column.and_then(|at| fields.get(at)).map(|it| it.trim());
        let is_path = |cell: &str| cell == path || cell == path.trim_start_matches('/');
        if cell(columns.method).is_some_and(|cell| cell.eq_ignore_ascii_case(method))
            && cell(columns.path).is_some_and(is_path)
        {
            found = Some(line);
        }
    }
    found
}

/// Where each column is.
#[derive(Debug, Default)]
struct Columns {
    separator: char,
    count: usize,
    method: Option<usize>,
    host: Option<usize>,
    path: Option<usize>,
    owner: Option<usize>,
    deprecated: Option<usize>,
    sunset: Option<usize>,
    internal: Option<usize>,
    unknown: Vec<String>,
}

impl Columns {
    fn read(header: &str) -> Result<Self, Problem> {
        let separator = csv::separator(header);
        let names = csv::split(header, separator).ok_or(Problem::CsvOpenQuote)?;
        let mut columns = Self { separator, ..Self::default() };
        for (at, name) in names.into_iter().enumerate() {
            columns.count = at + 1;
            let name = name.trim().to_ascii_lowercase();
            let slot = match name.as_str() {
                "method" => &mut columns.method,
                "host" => &mut columns.host,
                "path" => &mut columns.path,
                "owner" => &mut columns.owner,
                "deprecated" => &mut columns.deprecated,
                "sunset" => &mut columns.sunset,
                "internal" => &mut columns.internal,
                // What people write beside it.
                "note" | "by" | "since" | "description" => continue,
                _ => {
                    columns.unknown.push(clean(&name).into());
                    continue;
                }
            };
            if slot.replace(at).is_some() {
                return Err(Problem::DuplicateKey(name));
            }
        }
        for (column, name) in [(columns.method, "method"), (columns.path, "path")] {
            if column.is_none() {
                return Err(Problem::CsvColumnMissing(name));
            }
        }
        Ok(columns)
    }
}

struct Rows {
    columns: Columns,
    /// By what the column says.
    servers: BTreeMap<String, Rc<[Server]>>,
    operations: Vec<ParsedOperation>,
}

impl Rows {
    fn row(&mut self, line: u64, text: &str, problems: &mut Problems) -> Result<(), Problem> {
        let fields = csv::split(text, self.columns.separator).ok_or(Problem::CsvOpenQuote)?;
        if fields.len() > self.columns.count {
            let (found, expected) = (fields.len(), self.columns.count);
            return Err(Problem::CsvTooManyFields { found, expected });
        }
        let cell = |column: Option<usize>| {
            column.and_then(|at| fields.get(at)).map_or("", |field| field.trim())
        };
        let method = cell(self.columns.method);
        let method = Method::parse(&method.to_ascii_uppercase())
            .filter(|found| *found != Method::Connect && is_token(method))
            .ok_or_else(|| Problem::CsvBadMethod(clean(method).into()))?;
        let path = checked_path(line, cell(self.columns.path), problems)?;
        let (owner, sunset) = (clean(cell(self.columns.owner)), cell(self.columns.sunset));
        let sunset = (!sunset.is_empty()).then(|| date(line, sunset, problems)).flatten();
        let deprecated = flag("deprecated", cell(self.columns.deprecated))?;
        let internal = flag("internal", cell(self.columns.internal))?;
        let host = cell(self.columns.host);
        let servers = match self.servers.get(host) {
            Some(servers) => Rc::clone(servers),
            None => Rc::clone(self.servers.entry(host.to_owned()).or_insert(server(host)?)),
        };
        self.operations.push(ParsedOperation {
            operation: Operation {
                document: 0,
                method,
                path,
                operation_id: None,
                owner: (!owner.is_empty()).then(|| Owner::new(owner, OwnerSource::Document)),
                internal,
                lifecycle: LifecycleInputs { deprecated, sunset },
            },
            servers,
        });
        Ok(())
    }
}

fn checked_path(line: u64, text: &str, problems: &mut Problems) -> Result<Box<str>, Problem> {
    let path: Box<str> = if text.starts_with('/') {
        text.into()
    } else {
        problems.warn_at(line, Problem::PathWithoutSlash(clean(text).into()));
        format!("/{text}").into()
    };
    if template::cut_query(&path).len() != path.len() {
        problems.warn_at(line, Problem::PathWithQuery);
    }
    if path.chars().any(char::is_control) {
        let why = "control characters must be percent-encoded";
        return Err(Problem::BadTemplate(path.escape_debug().collect(), why));
    }
    match Template::parse(&path) {
        Ok(_) => Ok(path),
        Err(TemplateError::TooManySegments) => Err(Problem::TooManySegments),
        Err(TemplateError::Bad(why)) => Err(Problem::BadTemplate(path.to_string(), why)),
        Err(TemplateError::NoSlash) => Err(Problem::PathWithoutSlash(path.to_string())),
    }
}

fn date(line: u64, text: &str, problems: &mut Problems) -> Option<UnixNs> {
    let date = parse_date(text);
    if date.is_none() {
        problems.warn_at(line, Problem::BadSunset(clean(text).into()));
    }
    date
}

fn flag(column: &'static str, text: &str) -> Result<bool, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" | "x" => Ok(true),
        "" | "false" | "no" | "0" | "-" => Ok(false),
        _ => Err(Problem::CsvBadFlag { column, text: clean(text).into() }),
    }
}

/// `api.example.com`, `*.example.com`, with or without scheme and port; nothing for any host.
fn server(host: &str) -> Result<Rc<[Server]>, Problem> {
    if host.is_empty() {
        return Ok([Server::root()].into());
    }
    let bad = |why| Problem::BadServer(clean(host).into(), why);
    let url = if host.contains("://") { host.to_owned() } else { format!("//{host}") };
    let servers = servers::parse(&url, None).map_err(|error| match error {
        ServerError::TooMany => Problem::TooManyServers,
        ServerError::Bad(why) => bad(why),
    })?;
    if servers.iter().any(|server| !server.prefix.is_empty()) {
        return Err(bad("a path belongs into the column `path`"));
    }
    Ok(servers.into())
}

fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
}
