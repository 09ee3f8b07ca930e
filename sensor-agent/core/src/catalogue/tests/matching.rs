//! Which template a path gets.

use super::*;
use DeclarationKind::{Current, MethodUnknown, NoCatalogue, OlderOnly, PathUnknown};

fn check(operations: &[&str], cases: &[(&str, DeclarationKind, &str)]) {
    let text = document(operations);
    let (catalogue, errors) = Catalogue::load(&[("a.yaml", &text)], None);
    assert!(errors.iter().all(|error| error.severity == Severity::Warning), "{errors:#?}");
    for (request, kind, template) in cases {
        assert_eq!(answer(&catalogue, &ANY, request), (*kind, (*template).to_owned()), "{request}");
    }
}

#[test]
fn a_literal_beats_a_partial_beats_a_parameter_beats_the_rest() {
    check(
        &[
            "GET /users/me",
            "GET /users/{id}",
            "GET /users/{name}.json",
            "GET /users/v{n}.json",
            "GET /users/{all+}",
        ],
        &[
            ("GET /users/me", Current, "/users/me"),
            ("GET /users/7", Current, "/users/{id}"),
            ("GET /users/a.json", Current, "/users/{name}.json"),
            ("GET /users/v1.json", Current, "/users/v{n}.json"),
            ("GET /users/.json", Current, "/users/{id}"),
            ("GET /users/a/b/c", Current, "/users/{all+}"),
            ("GET /users", PathUnknown, ""),
            ("GET /other", PathUnknown, ""),
        ],
    );
}

#[test]
fn a_look_up_turns_back_from_a_literal_that_leads_nowhere() {
    check(
        &["GET /a/b/c", "GET /a/{x}/d", "GET /{y}/b/e", "GET /{y}/{z}/{w}"],
        &[
            ("GET /a/b/c", Current, "/a/b/c"),
            ("GET /a/b/d", Current, "/a/{x}/d"),
            ("GET /a/b/e", Current, "/{y}/b/e"),
            ("GET /a/b/f", Current, "/{y}/{z}/{w}"),
            ("GET /a/b", PathUnknown, ""),
        ],
    );
}

#[test]
fn the_path_decides_before_the_method() {
    check(
        &["GET /users/me", "GET /users/{id}", "DELETE /users/{id}"],
        &[
            ("DELETE /users/me", MethodUnknown, "/users/me"),
            ("DELETE /users/7", Current, "/users/{id}"),
            ("PUT /users/7", MethodUnknown, "/users/{id}"),
            ("HEAD /users/7", Current, "/users/{id}"),
            ("PROPFIND /users/7", MethodUnknown, "/users/{id}"),
        ],
    );
}

#[test]
fn spellings_of_a_path_are_compared_as_documented() {
    check(
        &[
            "GET /users/{id}/files",
            "GET /caf%C3%A9",
            "GET /slash/",
            "GET /both",
            "GET /both/",
            "GET /",
        ],
        &[
            ("GET /users/7/files/", Current, "/users/{id}/files"),
            ("GET /users//7///files", Current, "/users/{id}/files"),
            ("GET /users/a%2Fb/files", Current, "/users/{id}/files"),
            ("GET /%75sers/7/files?x=/y#z", Current, "/users/{id}/files"),
            ("GET /users;v=2/7;w=3/files;x", Current, "/users/{id}/files"),
            ("GET /nope;v=2", PathUnknown, ""),
            ("GET /Users/7/files", PathUnknown, ""),
            ("GET /users/../files", PathUnknown, ""),
            ("GET /users/%2e%2E/files", PathUnknown, ""),
            ("GET /caf\u{e9}", Current, "/caf%C3%A9"),
            ("GET /caf%c3%a9", Current, "/caf%C3%A9"),
            ("GET /slash", Current, "/slash/"),
            ("GET /both", Current, "/both"),
            ("GET /both/", Current, "/both/"),
            ("GET /", Current, "/"),
            ("GET //", Current, "/"),
            ("OPTIONS *", PathUnknown, ""),
            ("GET http://x/both", PathUnknown, ""),
        ],
    );
}

#[test]
fn a_rest_takes_no_steps_in_the_hierarchy() {
    check(
        &["GET /files/{path+}"],
        &[
            ("GET /files/a/b.txt", Current, "/files/{path+}"),
            ("GET /files/a/../../etc/passwd", PathUnknown, ""),
            ("GET /files", PathUnknown, ""),
        ],
    );
}

#[test]
fn templates_that_differ_in_names_only_are_one() {
    let text = document(&["GET /users/{id}", "PUT /users/{name}", "GET /users/{name}"]);
    let (catalogue, errors) = Catalogue::load(&[("a.yaml", &text)], None);
    let problems: Vec<_> =
        errors.iter().map(|error| (error.line.is_some(), &error.problem)).collect();
    assert_eq!(
        problems,
        [
            (true, &Problem::Contradiction { method: "GET".into(), first: "/users/{id}".into() }),
            (true, &Problem::SameTemplate { first: "/users/{id}".into() }),
        ]
    );
    assert_eq!(answer(&catalogue, &ANY, "PUT /users/1"), (Current, "/users/{id}".into()));
}

#[test]
fn an_older_document_counts_only_where_no_current_one_declares() {
    let old = document(&["GET /users/export", "GET /users/{id}", "GET /old"]);
    let new = document(&["GET /users/{id}", "DELETE /users/{id}"]);
    let catalogue = load(&[("retired/v1.yaml", &old), ("v2.yaml", &new)]);
    for (request, expected) in [
        ("GET /users/7", (Current, "/users/{id}")),
        ("GET /users/export", (OlderOnly, "/users/export")),
        ("DELETE /users/export", (Current, "/users/{id}")),
        ("GET /old", (OlderOnly, "/old")),
        ("POST /old", (PathUnknown, "")),
    ] {
        assert_eq!(
            answer(&catalogue, &ANY, request),
            (expected.0, expected.1.to_owned()),
            "{request}"
        );
    }
}

#[test]
fn lifecycle_and_owner_come_from_the_nearest_that_says_so() {
    let text = "openapi: 3.1.0
info: {title: T, version: 2, contact: {name: Platform, email: p@x.example}}
x-sunset: 2027-01-01
paths:
  /a:
    x-owner: {team: Orders}
    get: {deprecated: true, x-sunset: '2026-06-30T00:00:00Z', operationId: getA}
    post: {x-owner: Billing, x-internal: true}
  /b:
    deprecated: true
    get: {}
";
    let catalogue = load(&[("a.yaml", text)]);
    let of = |request: &str| {
        let (method, path) = request.split_once(' ').unwrap();
        let found = catalogue.declare(&ANY, &Method::parse(method).unwrap(), path.as_bytes());
        let operation = found.operation.unwrap();
        let sunset = found.lifecycle.sunset.map(|at| at.0 / 1_000_000_000);
        (
            operation.owner().unwrap().to_owned(),
            found.lifecycle.deprecated,
            sunset,
            operation.internal(),
        )
    };
    assert_eq!(of("GET /a"), ("Orders".into(), true, Some(1_782_777_600), false));
    assert_eq!(of("POST /a"), ("Billing".into(), false, Some(1_798_761_600), true));
    assert_eq!(of("GET /b"), ("Platform".into(), true, Some(1_798_761_600), false));
    assert_eq!(catalogue.documents()[0].version.as_deref(), Some("2"));
}

#[test]
fn a_sunset_that_is_no_date_is_a_warning() {
    let text = "openapi: 3.0.0\npaths:\n  /a:\n    get: {x-sunset: soon}\n";
    let (catalogue, errors) = Catalogue::load(&[("a.yaml", text)], None);
    assert_eq!(answer(&catalogue, &ANY, "GET /a").0, Current);
    let [error] = &*errors else { panic!("{errors:?}") };
    assert_eq!((error.severity, error.line), (Severity::Warning, Some(4)));
    assert_eq!(error.pointer, "/paths/~1a/get/x-sunset");
}

#[test]
fn references_join_path_items_and_files() {
    let api = "openapi: 3.0.3
paths:
  /users: {$ref: 'paths/users.yaml'}
  /orders: {$ref: './paths/orders.json#/x~1orders'}
  /local: {$ref: '#/components/pathItems/Local', summary: here, put: {}}
components:
  pathItems:
    Local: {get: {operationId: local}}
  schemas:
    Node: {properties: {next: {$ref: '#/components/schemas/Node'}}}
";
    let users = "get: {$ref: '../ops.yaml#/list'}\npost: {}\n";
    let orders = r#"{"x/orders": {"get": {"deprecated": true}}}"#;
    let ops = "list: {operationId: listUsers}\n";
    let catalogue = load(&[
        ("api.yaml", api),
        ("paths/users.yaml", users),
        ("paths/orders.json", orders),
        ("ops.yaml", ops),
    ]);
    for request in ["GET /users", "POST /users", "GET /orders", "GET /local", "PUT /local"] {
        assert_eq!(answer(&catalogue, &ANY, request).0, Current, "{request}");
    }
    let listed = catalogue.declare(&ANY, &Method::Get, b"/users").operation.unwrap();
    assert_eq!(listed.operation_id.as_deref(), Some("listUsers"));
    assert_eq!(catalogue.documents().len(), 1);
}

#[test]
fn every_operation_of_a_service_can_be_listed() {
    let catalogue = load(&[("a.yaml", &document(&["GET /a", "POST /a", "GET /b/{id}"]))]);
    let all: Vec<_> = catalogue
        .operations_of(&ANY)
        .iter()
        .map(|o| format!("{} {}", o.operation.method.as_str(), o.template))
        .collect();
    assert_eq!(all, ["GET /a", "POST /a", "GET /b/{id}"]);
}

#[test]
fn without_documents_there_is_no_catalogue() {
    assert_eq!(answer(&Catalogue::default(), &ANY, "GET /a"), (NoCatalogue, String::new()));
}

#[test]
fn the_order_of_documents_and_spelling_of_formats_do_not_matter() {
    let yaml = document(&["GET /a/{x}", "GET /b"])
        .replace("paths:", "servers: [{url: 'http://any.example'}]\npaths:");
    let json = r#"{"openapi":"3.1.0","servers":[{"url":"http://any.example"}],"paths":{"/a/{y}":{"get":{},"put":{}},"/c":{"get":{}}}}"#;
    let one = Catalogue::load(&[("1.yaml", &*yaml), ("2.json", json)], None);
    let two = Catalogue::load(&[("2.json", json), ("1.yaml", &*yaml)], None);
    assert_eq!(one.1, two.1);
    assert_eq!(one.0.digest(), two.0.digest());
    for request in ["GET /a/1", "PUT /a/1", "GET /b", "GET /c"] {
        assert_eq!(answer(&one.0, &ANY, request), answer(&two.0, &ANY, request), "{request}");
    }
    assert_eq!(answer(&one.0, &ANY, "PUT /a/1").1, "/a/{x}");
}
