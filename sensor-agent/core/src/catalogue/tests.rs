//! The catalogue from bytes to answers, hostile documents included.

use super::{
    Catalogue, DeclarationKind, LookupLimit, Problem, ServiceView, Severity,
    limits::{BOUND_MAX, SEGMENTS_MAX},
};
use crate::http::Method;

mod bindings;
mod evidence;
mod formats;
mod hostile;
mod large;
mod matching;
mod speed;

/// Loads documents that must be without problems.
fn load(documents: &[(&str, &str)]) -> Catalogue {
    let (catalogue, errors) = Catalogue::load(documents, None);
    assert!(errors.is_empty(), "{errors:#?}");
    catalogue
}

/// A document with these lines under `paths`, each `METHOD PATH`.
fn document(operations: &[&str]) -> String {
    let mut paths: std::collections::BTreeMap<&str, Vec<String>> =
        std::collections::BTreeMap::new();
    for operation in operations {
        let (method, path) = operation.split_once(' ').unwrap();
        paths.entry(path).or_default().push(method.to_lowercase());
    }
    let mut text = String::from("openapi: 3.0.3\ninfo: {title: T, version: 1.0.0}\npaths:\n");
    for (path, methods) in paths {
        text.extend(["  '", path, "':\n"]);
        for method in methods {
            text.extend(["    ", &method, ": {responses: {200: {description: ok}}}\n"]);
        }
    }
    text
}

const ANY: ServiceView<'static> = ServiceView { hosts: &["any.example"], address: None, port: 80 };

fn answer(
    catalogue: &Catalogue,
    service: &ServiceView<'_>,
    request: &str,
) -> (DeclarationKind, String) {
    let (method, path) = request.split_once(' ').unwrap();
    let declaration = catalogue.declare(service, &Method::parse(method).unwrap(), path.as_bytes());
    (declaration.kind, declaration.template.unwrap_or_default().to_owned())
}
