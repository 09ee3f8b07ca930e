//! One OpenAPI document (2.0, 3.0, 3.1) to its operations, each with its servers, owner and lifecycle.
//!
//! Strict where a mistake would make false shadows (any wrong type refuses the document), lenient where it would
//! not (`info` may be missing, a version may be a number). Reads path items and operations through `$ref`.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::{
    declare::LifecycleInputs,
    error::{Problem, Severity},
    owner::{Owner, OwnerSource},
    pointer::Pointer,
    refs::{DocumentSet, Resolved},
    servers::{self, Server, ServerError},
    sunset::parse_date,
};
use crate::http::Method;

/// A document that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Name as given to the loader.
    pub name: Box<str>,
    /// `info.title`.
    pub title: Option<Box<str>>,
    /// `info.version`.
    pub version: Option<Box<str>>,
    /// `info.contact`: name, else e-mail, else URL.
    pub contact: Option<Box<str>>,
    /// An older document: its operations are `older-only` unless a current one declares them too.
    pub retired: bool,
    /// How many operations it declares.
    pub operations: usize,
}

impl Document {
    /// A document of which no more is known.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            title: None,
            version: None,
            contact: None,
            retired: false,
            operations: 0,
        }
    }
}

/// A declared operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Index of its document in [`super::Catalogue::documents`].
    pub document: u32,
    /// Method.
    pub method: Method,
    /// Path as the document has it, without the server's prefix.
    pub path: Box<str>,
    /// `operationId`.
    pub operation_id: Option<Box<str>>,
    /// Who stands behind it.
    pub(super) owner: Option<Owner>,
    /// `x-internal`.
    pub(super) internal: bool,
    /// `deprecated` and `x-sunset`.
    pub lifecycle: LifecycleInputs,
}

/// An operation with the servers that hold for it.
#[derive(Debug)]
pub(super) struct ParsedOperation {
    pub(super) operation: Operation,
    pub(super) servers: Rc<[Server]>,
}

/// A document as read, before it is bound to services.
#[derive(Debug)]
pub(super) struct ParsedDocument {
    pub(super) document: Document,
    pub(super) operations: Vec<ParsedOperation>,
}

/// Where a problem is: a JSON pointer, or a line of a text that has no pointers (zero: the whole of it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Pointer(String),
    Line(u64),
}

/// Problems of one document; nothing is used of a document with a refusal.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) list: Vec<(Spot, Severity, Problem)>,
    pub(super) refused: bool,
}

impl Problems {
    pub(super) fn refuse(&mut self, at: &Pointer<'_>, problem: Problem) {
        self.refused = true;
        self.push(|| Spot::Pointer(at.render()), Severity::Refused, problem);
    }

    pub(super) fn warn(&mut self, at: &Pointer<'_>, problem: Problem) {
        self.push(|| Spot::Pointer(at.render()), Severity::Warning, problem);
    }

    pub(super) fn refuse_at(&mut self, line: u64, problem: Problem) {
        self.refused = true;
        self.push(|| Spot::Line(line), Severity::Refused, problem);
    }

    pub(super) fn warn_at(&mut self, line: u64, problem: Problem) {
        self.push(|| Spot::Line(line), Severity::Warning, problem);
    }

    fn push(&mut self, spot: impl FnOnce() -> Spot, severity: Severity, problem: Problem) {
        if self.list.len() < super::limits::PROBLEMS_MAX {
            self.list.push((spot(), severity, problem));
        } else if severity == Severity::Refused
            && self.list.iter().all(|(_, other, _)| *other == Severity::Warning)
        {
            // A refusal is always told, whatever warnings came before it.
            self.list.pop();
            self.list.push((spot(), severity, problem));
        }
    }
}

/// Whether a tree claims to be an API document (fragments that others refer to do not).
pub(super) fn is_api_document(root: &Value) -> bool {
    root.get("openapi").is_some() || root.get("swagger").is_some()
}

/// Methods of a path item; `query` is of OpenAPI 3.2.
const METHODS: &[&str] =
    &["delete", "get", "head", "options", "patch", "post", "put", "query", "trace"];

/// Reads document number `index` of the set.
pub(super) fn parse<'d>(
    set: &DocumentSet<'d>,
    index: usize,
    name: &str,
    root: &'d Value,
    problems: &mut Problems,
) -> Option<ParsedDocument> {
    let mut parser = Parser { set, index, problems };
    let map = parser.map(root, &Pointer::Root, "a map with `openapi` and `paths`")?;
    parser.check_specification(map);
    let document = parser.info(name, map);
    let servers = parser.document_servers(map);
    let inherited = Inherited {
        servers,
        owner: parser
            .owner(map.get("x-owner"), &Pointer::Key(&Pointer::Root, "x-owner"))
            .or_else(|| map.get("info").and_then(|info| owner_text(info.get("x-owner")?)))
            .map(|name| Owner::new(name, OwnerSource::Document))
            .or_else(|| {
                let contact = document.contact.clone()?;
                Some(Owner::new(contact, OwnerSource::Contact))
            }),
        sunset: map.get("x-sunset"),
        deprecated: false,
        internal: is_true(map.get("x-internal")),
    };
    let operations = parser.paths(map, &inherited);
    if problems.refused {
        return None;
    }
    let document = Document { operations: operations.len(), ..document };
    Some(ParsedDocument { document, operations })
}

/// What an operation takes from its path and document unless it says otherwise.
#[derive(Clone)]
struct Inherited<'d> {
    servers: Rc<[Server]>,
    owner: Option<Owner>,
    sunset: Option<&'d Value>,
    deprecated: bool,
    internal: bool,
}

struct Parser<'p, 'd> {
    set: &'p DocumentSet<'d>,
    index: usize,
    problems: &'p mut Problems,
}

impl<'d> Parser<'_, 'd> {
    fn map(
        &mut self,
        value: &'d Value,
        at: &Pointer<'_>,
        expected: &'static str,
    ) -> Option<&'d Map<String, Value>> {
        let map = value.as_object();
        if map.is_none() {
            self.problems.refuse(at, Problem::WrongType { expected, found: kind(value) });
        }
        map
    }

    fn text(&mut self, value: Option<&'d Value>, at: &Pointer<'_>) -> Option<Box<str>> {
        match value? {
            Value::String(text) => Some(clean(text)),
            Value::Number(number) => Some(number.to_string().into()),
            Value::Null => None,
            other => {
                self.problems
                    .refuse(at, Problem::WrongType { expected: "text", found: kind(other) });
                None
            }
        }
    }

    fn check_specification(&mut self, map: &'d Map<String, Value>) {
        let key = if map.contains_key("openapi") { "openapi" } else { "swagger" };
        let at = Pointer::Key(&Pointer::Root, key);
        let Some(version) = self.text(map.get(key), &at) else { return };
        let mut numbers = version.split(['.', '-']);
        match (key, numbers.next(), numbers.next()) {
            ("openapi", Some("3"), Some("0" | "1")) | ("swagger", Some("2"), Some("0") | None) => {}
            ("openapi", Some("3"), Some(_)) => {
                self.problems.warn(&at, Problem::NewerSpecification(version.into()));
            }
            _ => self.problems.refuse(&at, Problem::UnknownSpecification(version.into())),
        }
    }

    fn info(&mut self, name: &str, map: &'d Map<String, Value>) -> Document {
        let at = Pointer::Key(&Pointer::Root, "info");
        let mut document = Document::named(name);
        let Some(info) = map.get("info").filter(|info| !info.is_null()) else { return document };
        let Some(info) = self.map(info, &at, "a map with `title` and `version`") else {
            return document;
        };
        document.title = self.text(info.get("title"), &Pointer::Key(&at, "title"));
        document.version = self.text(info.get("version"), &Pointer::Key(&at, "version"));
        document.contact = info.get("contact").and_then(owner_text);
        document
    }

    fn document_servers(&mut self, map: &'d Map<String, Value>) -> Rc<[Server]> {
        if map.contains_key("swagger") {
            return self.swagger_servers(map);
        }
        let at = Pointer::Key(&Pointer::Root, "servers");
        self.servers(map.get("servers"), &at).unwrap_or_else(|| [Server::root()].into())
    }

    /// `host` and `basePath` of OpenAPI 2.0.
    fn swagger_servers(&mut self, map: &'d Map<String, Value>) -> Rc<[Server]> {
        let host = self.text(map.get("host"), &Pointer::Key(&Pointer::Root, "host"));
        let base = self
            .text(map.get("basePath"), &Pointer::Key(&Pointer::Root, "basePath"))
            .unwrap_or_default();
        let base = base.trim_start_matches('/');
        let url = host.map_or_else(|| format!("/{base}"), |host| format!("//{host}/{base}"));
        self.server(&url, None, &Pointer::Key(&Pointer::Root, "host")).into()
    }

    /// Reads `servers`; `None` where there are none.
    fn servers(&mut self, value: Option<&'d Value>, at: &Pointer<'_>) -> Option<Rc<[Server]>> {
        let list = match value? {
            Value::Null => return None,
            Value::Array(list) => list,
            other => {
                self.problems.refuse(
                    at,
                    Problem::WrongType { expected: "a list of servers", found: kind(other) },
                );
                return None;
            }
        };
        let mut servers = Vec::new();
        for (number, entry) in list.iter().enumerate() {
            let at = Pointer::Index(at, number);
            let Some(entry) = self.map(entry, &at, "a map with `url`") else { continue };
            let url_at = Pointer::Key(&at, "url");
            let variables = entry.get("variables").filter(|variables| !variables.is_null());
            if let Some(variables) = variables {
                self.map(variables, &Pointer::Key(&at, "variables"), "a map of server variables");
            }
            match entry.get("url") {
                Some(Value::String(url)) => servers.extend(self.server(url, variables, &url_at)),
                other => {
                    let found = other.map_or("nothing", kind);
                    self.problems.refuse(&url_at, Problem::WrongType { expected: "a URL", found });
                }
            }
            if servers.len() > super::limits::SERVERS_MAX {
                self.problems.refuse(&at, Problem::TooManyServers);
                return None;
            }
        }
        servers.sort();
        servers.dedup();
        (!servers.is_empty()).then(|| servers.into())
    }

    fn server(&mut self, url: &str, variables: Option<&Value>, at: &Pointer<'_>) -> Vec<Server> {
        let problem = match servers::parse(url, variables) {
            Ok(servers) => match servers.iter().find_map(|server| bad_prefix(&server.prefix)) {
                None => return servers,
                Some(why) => Problem::BadServer(clean(url).into(), why),
            },
            Err(ServerError::TooMany) => Problem::TooManyServers,
            Err(ServerError::Bad(why)) => Problem::BadServer(clean(url).into(), why),
        };
        self.problems.refuse(at, problem);
        Vec::new()
    }

    fn paths(
        &mut self,
        map: &'d Map<String, Value>,
        inherited: &Inherited<'d>,
    ) -> Vec<ParsedOperation> {
        let at = Pointer::Key(&Pointer::Root, "paths");
        let Some(paths) = map.get("paths") else {
            // OpenAPI 3.1 allows a document of webhooks or components only.
            self.problems.warn(&at, Problem::NoPaths);
            return Vec::new();
        };
        let Some((base, paths)) =
            self.resolve(self.index, paths, &at).and_then(|resolved| resolved.last())
        else {
            return Vec::new();
        };
        let Some(paths) = self.map(paths, &at, "a map of paths") else { return Vec::new() };
        let mut operations = Vec::new();
        for (path, item) in paths {
            if path.starts_with("x-") || path == "$ref" {
                continue;
            }
            self.path_item(base, path, item, &Pointer::Key(&at, path), inherited, &mut operations);
        }
        operations
    }

    fn path_item(
        &mut self,
        base: usize,
        path: &str,
        item: &'d Value,
        at: &Pointer<'_>,
        inherited: &Inherited<'d>,
        operations: &mut Vec<ParsedOperation>,
    ) {
        let path = self.checked_path(path, at);
        if self.map(item, at, "a map of operations (`get`, `post`, ...)").is_none() {
            return;
        }
        let Some(item) = self.resolve(base, item, at) else { return };
        if item.last().is_none_or(|(_, value)| {
            self.map(value, at, "a map of operations (`get`, `post`, ...)").is_none()
        }) {
            return;
        }
        let inherited = self.inherit(&item, at, inherited);
        for method in METHODS {
            let Some((base, value)) = item.get(method) else { continue };
            let at = Pointer::Key(at, method);
            if let Some(operation) = self.operation(base, method, &path, value, &at, &inherited) {
                operations.push(operation);
            }
        }
    }

    fn checked_path(&mut self, path: &str, at: &Pointer<'_>) -> Box<str> {
        if super::template::cut_query(path).len() != path.len() {
            self.problems.warn(at, Problem::PathWithQuery);
        }
        if path.starts_with('/') {
            return path.into();
        }
        self.problems.warn(at, Problem::PathWithoutSlash(clean(path).into()));
        format!("/{path}").into()
    }

    fn operation(
        &mut self,
        base: usize,
        method: &str,
        path: &str,
        value: &'d Value,
        at: &Pointer<'_>,
        inherited: &Inherited<'d>,
    ) -> Option<ParsedOperation> {
        self.map(value, at, "an operation (a map)")?;
        let operation = self.resolve(base, value, at)?;
        let (_, last) = operation.last()?;
        self.map(last, at, "an operation (a map)")?;
        let own = self.inherit(&operation, at, inherited);
        let id_at = Pointer::Key(at, "operationId");
        let operation_id = self.text(operation.get("operationId").map(|(_, value)| value), &id_at);
        let sunset = own.sunset.and_then(|value| self.sunset(value, &Pointer::Key(at, "x-sunset")));
        Some(ParsedOperation {
            operation: Operation {
                document: 0,
                method: Method::parse(&method.to_ascii_uppercase())?,
                path: path.into(),
                operation_id,
                owner: own.owner,
                internal: own.internal,
                lifecycle: LifecycleInputs { deprecated: own.deprecated, sunset },
            },
            servers: own.servers,
        })
    }

    /// What a path item or operation says itself, over what it inherits.
    fn inherit(
        &mut self,
        value: &Resolved<'d>,
        at: &Pointer<'_>,
        from: &Inherited<'d>,
    ) -> Inherited<'d> {
        let field = |key: &str| value.get(key).map(|(_, field)| field);
        let deprecated = match field("deprecated") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                let at = Pointer::Key(at, "deprecated");
                self.problems.refuse(
                    &at,
                    Problem::WrongType { expected: "true or false", found: kind(other) },
                );
                false
            }
        };
        Inherited {
            servers: self
                .servers(field("servers"), &Pointer::Key(at, "servers"))
                .unwrap_or_else(|| from.servers.clone()),
            owner: self
                .owner(field("x-owner"), &Pointer::Key(at, "x-owner"))
                .map(|name| Owner::new(name, OwnerSource::Document))
                .or_else(|| from.owner.clone()),
            sunset: field("x-sunset").or(from.sunset),
            deprecated: deprecated || from.deprecated,
            internal: is_true(field("x-internal")) || from.internal,
        }
    }

    fn owner(&mut self, value: Option<&'d Value>, at: &Pointer<'_>) -> Option<Box<str>> {
        let value = value.filter(|value| !value.is_null())?;
        let owner = owner_text(value);
        if owner.is_none() {
            self.problems.warn(
                at,
                Problem::WrongType {
                    expected: "a name, or a map with `name` or `email`",
                    found: kind(value),
                },
            );
        }
        owner
    }

    fn sunset(&mut self, value: &'d Value, at: &Pointer<'_>) -> Option<crate::time::UnixNs> {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => clean(text),
            other => other.to_string().chars().take(64).collect::<String>().into(),
        };
        let date = parse_date(&text);
        if date.is_none() {
            self.problems.warn(at, Problem::BadSunset(text.into()));
        }
        date
    }

    fn resolve(&mut self, base: usize, value: &'d Value, at: &Pointer<'_>) -> Option<Resolved<'d>> {
        match self.set.resolve(base, value) {
            Ok(resolved) => Some(resolved),
            Err(problem) => {
                self.problems.refuse(&Pointer::Key(at, "$ref"), problem);
                None
            }
        }
    }
}

fn bad_prefix(prefix: &str) -> Option<&'static str> {
    use super::template::{Segment, Template, TemplateError};
    match Template::parse(&format!("{prefix}/")) {
        Ok(template) if template.segments.contains(&Segment::Rest) => {
            Some("a prefix cannot hold a `*`")
        }
        Ok(_) => None,
        Err(TemplateError::Bad(why)) => Some(why),
        Err(TemplateError::TooManySegments) => Some("the path has too many segments"),
        Err(TemplateError::NoSlash) => Some("the path is not one"),
    }
}

fn owner_text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(clean(text)),
        Value::Object(map) => ["name", "team", "email", "url"]
            .iter()
            .find_map(|key| map.get(*key).and_then(Value::as_str))
            .map(clean),
        _ => None,
    }
}

fn is_true(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

/// Text from a document as it may be shown: no control characters, at most 256 characters.
pub(super) fn clean(text: &str) -> Box<str> {
    text.trim().chars().filter(|c| !c.is_control()).take(256).collect::<String>().into()
}

/// A value's type in the words of the file.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
