//! Documents with 50 000 operations in each format, paths that contradict each other, documents that claim one host.

use std::fmt::Write as _;

use prost::Message as _;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};

use super::*;
use DeclarationKind::{Current, MethodUnknown, PathUnknown};

const OPERATIONS: usize = 50_000;

/// Paths of the usual shapes, each with a literal beside its parameter.
fn path(number: usize) -> String {
    let (a, b, c) = (number % 40, number / 40 % 50, number / 2_000);
    match number % 4 {
        0 => format!("/v1/area{a}/kind{b}/{{id}}/part{c}"),
        1 => format!("/v1/area{a}/kind{b}/export{c}"),
        2 => format!("/v1/area{a}/kind{b}/{{name}}.part{c}"),
        _ => format!("/v2/{{area}}/kind{b}/{{id}}:do{a}x{c}"),
    }
}

/// A request that only this template fits.
fn request(number: usize) -> String {
    path(number).replace("{id}", "4711").replace("{name}", "report").replace("{area}", "north")
}

fn check(name: &str, text: &[u8]) {
    let (catalogue, errors) = Catalogue::load(&[(name, text)], None);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(catalogue.operations().len(), OPERATIONS);
    for number in 0..OPERATIONS {
        let found = catalogue.declare(&ANY, &Method::Get, request(number).as_bytes());
        let expected = (Current, Some(&*path(number)));
        assert_eq!((found.kind, found.template, found.limit), (expected.0, expected.1, None));
    }
}

#[test]
fn each_of_fifty_thousand_operations_gets_its_own_template() {
    let mut yaml = String::from("openapi: 3.1.0\npaths:\n");
    let mut json = String::from("{\"openapi\": \"3.0.3\", \"paths\": {");
    let mut list = String::from("method,path\n");
    for number in 0..OPERATIONS {
        let path = path(number);
        let comma = if number == 0 { "" } else { "," };
        writeln!(yaml, "  '{path}': {{get: {{responses: {{200: {{description: ok}}}}}}}}").unwrap();
        write!(json, "{comma}\"{path}\": {{\"get\": {{}}}}").unwrap();
        writeln!(list, "GET,{path}").unwrap();
    }
    json.push_str("}}");
    check("a.yaml", yaml.as_bytes());
    check("a.json", json.as_bytes());
    check("a.csv", list.as_bytes());
}

#[test]
fn fifty_thousand_methods_of_services_are_declared() {
    let service = |number: usize| ServiceDescriptorProto {
        name: Some(format!("Service{number}")),
        method: (0..50)
            .map(|it| MethodDescriptorProto { name: Some(format!("Do{it}")), ..Default::default() })
            .collect(),
        options: None,
    };
    let file = FileDescriptorProto {
        package: Some("acme.v1".into()),
        service: (0..OPERATIONS / 50).map(service).collect(),
        ..Default::default()
    };
    let bytes = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    let (catalogue, errors) = Catalogue::load(&[("a.binpb", bytes)], None);
    assert!(errors.is_empty() && catalogue.operations().len() == OPERATIONS, "{errors:?}");
    assert_eq!(answer(&catalogue, &ANY, "POST /acme.v1.Service999/Do49").0, Current);
    assert_eq!(answer(&catalogue, &ANY, "POST /acme.v1.Service999/Do50").0, PathUnknown);
}

#[test]
fn one_document_too_many_operations_does_not_hide_the_others() {
    let max = crate::catalogue::limits::OPERATIONS_MAX;
    let mut list = String::from("method,path\n");
    for number in 0..=max {
        writeln!(list, "GET,/p{number}").unwrap();
    }
    let good = document(&["GET /good"]);
    let documents = [("a.csv", list.as_str()), ("good.yaml", good.as_str())];
    let (catalogue, errors) = Catalogue::load(&documents, None);
    assert_eq!(answer(&catalogue, &ANY, "GET /good").0, Current);
    assert_eq!(answer(&catalogue, &ANY, "GET /p1").0, PathUnknown);
    assert!(errors[0].to_string().contains("over the limit of 500000 operations"), "{errors:?}");
}

#[test]
fn references_in_circles_through_files_are_refused_and_those_of_schemas_are_not_followed() {
    let circle = "openapi: 3.1.0\npaths:\n  /a: {$ref: 'b.yaml#/paths/~1b'}\n";
    let other = "openapi: 3.1.0\npaths:\n  /b: {$ref: 'a.yaml#/paths/~1a'}\n";
    let itself = "openapi: 3.1.0\npaths: {$ref: '#/paths'}\n";
    let schemas = "openapi: 3.1.0\npaths:\n  /c: {get: {responses: {200: {content: {x: {schema: {$ref: '#/components/schemas/N'}}}}}}}\n\
        components: {schemas: {N: {properties: {n: {$ref: '#/components/schemas/N'}}}}}\n";
    let documents =
        [("a.yaml", circle), ("b.yaml", other), ("c.yaml", schemas), ("d.yaml", itself)];
    let (catalogue, errors) = Catalogue::load(&documents, None);
    let refused: Vec<&str> = errors.iter().map(|error| &*error.document).collect();
    assert_eq!(refused, ["a.yaml", "b.yaml", "d.yaml"], "{errors:#?}");
    assert!(errors.iter().all(|error| matches!(error.problem, Problem::RefCycle(_))), "{errors:?}");
    assert_eq!(answer(&catalogue, &ANY, "GET /c").0, Current);
}

#[test]
fn paths_that_contradict_each_other_have_one_outcome_and_are_told() {
    let text = document(&[
        "GET /a/{x}/c",
        "GET /a/{y}/c",
        "GET /a/b/{z}",
        "GET /{w}/b/c",
        "POST /a/b/c",
        "GET /{w}/b/c/",
    ]);
    let (catalogue, errors) = Catalogue::load(&[("a.yaml", &*text)], None);
    assert_eq!(errors.len(), 1, "{errors:?}");
    for (request, kind, template) in [
        // The most literal from the left: not the method.
        ("GET /a/b/c", MethodUnknown, "/a/b/c"),
        ("GET /a/b/d", Current, "/a/b/{z}"),
        ("GET /a/q/c", Current, "/a/{x}/c"),
        ("GET /q/b/c", Current, "/{w}/b/c"),
        ("GET /q/b/c/", Current, "/{w}/b/c/"),
    ] {
        assert_eq!(answer(&catalogue, &ANY, request), (kind, template.to_owned()), "{request}");
    }
}

#[test]
fn documents_that_claim_one_host_are_both_asked_and_told() {
    let at = |paths: &[&str]| {
        document(paths).replace("paths:", "servers: [{url: 'https://a.example'}]\npaths:")
    };
    let one = at(&["GET /shared/{id}", "GET /one", "GET /x/{a}"]);
    let two = at(&["GET /shared/{key}", "GET /two", "GET /x/y"]);
    let host = ServiceView { hosts: &["a.example"], address: None, port: 443 };
    for documents in [[("1.yaml", &*one), ("2.yaml", &*two)], [("2.yaml", &two), ("1.yaml", &one)]]
    {
        let (catalogue, errors) = Catalogue::load(&documents, None);
        for (request, template) in [
            ("GET /one", "/one"),
            ("GET /two", "/two"),
            // The most literal; of two that are the same, the first document by name.
            ("GET /x/y", "/x/y"),
            ("GET /shared/7", "/shared/{id}"),
        ] {
            assert_eq!(answer(&catalogue, &host, request), (Current, template.to_owned()));
        }
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].starts_with("2.yaml:6 at /paths/~1shared~1{key}/get: GET is declared")
                && errors[0].contains("`1.yaml`"),
            "{errors:?}"
        );
        let beside: Vec<&[Box<str>]> =
            catalogue.bindings().iter().map(|row| &*row.beside).collect();
        assert_eq!(beside, [&["2.yaml".into()][..], &["1.yaml".into()]]);
    }
}
