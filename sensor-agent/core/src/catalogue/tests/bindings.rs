//! Which documents a service is bound to.

use super::*;
use crate::catalogue::{BindingReason, OwnerSource};
use DeclarationKind::{Current, PathUnknown, ServiceUnknown};

fn with_servers(servers: &str, path: &str) -> String {
    format!("openapi: 3.0.3\nservers: {servers}\npaths:\n  {path}:\n    get: {{}}\n")
}

fn view<'a>(hosts: &'a [&'a str], port: u16) -> ServiceView<'a> {
    ServiceView { hosts, address: Some("10.0.0.5".parse().unwrap()), port }
}

fn ask(catalogue: &Catalogue, host: &str, port: u16, request: &str) -> (DeclarationKind, String) {
    answer(catalogue, &view(&[host], port), request)
}

#[test]
fn a_host_in_servers_binds_with_its_prefix() {
    let text = with_servers("[{url: 'https://api.example.com/v1/'}]", "/users");
    let catalogue = load(&[("a.yaml", &text)]);
    let users = (Current, "/v1/users".to_owned());
    assert_eq!(ask(&catalogue, "API.example.com:443", 8080, "GET /v1/users"), users);
    assert_eq!(ask(&catalogue, "api.example.com", 8080, "GET /users").0, PathUnknown);
    assert_eq!(ask(&catalogue, "api.example.com", 8080, "GET /v1users").0, PathUnknown);
    assert_eq!(ask(&catalogue, "other.example.com", 8080, "GET /v1/users").0, ServiceUnknown);
    assert_eq!(answer(&catalogue, &view(&[], 80), "GET /v1/users").0, ServiceUnknown);
    assert_eq!(catalogue.bindings()[0].scopes, ["api.example.com/v1"]);
    assert_eq!(catalogue.bindings()[0].reason, BindingReason::Servers);
}

#[test]
fn tenants_fit_and_enums_are_expanded() {
    let tenants = "[{url: 'https://{tenant}.example.com/{v}', variables: {tenant: {default: acme}, v: {default: v1, enum: [v1, v2]}}}]";
    let catalogue = load(&[("a.yaml", &with_servers(tenants, "/users"))]);
    for (host, request, kind) in [
        ("acme.example.com", "GET /v1/users", Current),
        ("globex.example.com", "GET /v2/users", Current),
        ("globex.example.com", "GET /v3/users", PathUnknown),
        ("example.com", "GET /v1/users", ServiceUnknown),
    ] {
        assert_eq!(ask(&catalogue, host, 80, request).0, kind, "{host} {request}");
    }
}

#[test]
fn a_document_without_hosts_is_for_every_host() {
    for servers in ["[]", "[{url: /}]", "[{url: ''}]"] {
        let catalogue = load(&[("a.yaml", &with_servers(servers, "/users"))]);
        assert_eq!(ask(&catalogue, "x", 1, "GET /users").0, Current, "{servers}");
        assert_eq!(answer(&catalogue, &view(&[], 1), "GET /users").0, Current, "{servers}");
        assert_eq!(catalogue.bindings()[0].reason, BindingReason::NoServers);
        assert_eq!(catalogue.bindings()[0].scopes, ["every host"]);
    }
    let relative = load(&[("a.yaml", &with_servers("[{url: ./api}]", "/users"))]);
    assert_eq!(ask(&relative, "x", 1, "GET /api/users"), (Current, "/api/users".to_owned()));
}

#[test]
fn servers_of_a_path_and_an_operation_replace_those_above() {
    let text = "openapi: 3.0.3
servers: [{url: 'https://a.example/v1'}]
paths:
  /x:
    servers: [{url: 'https://b.example/v2'}]
    get: {}
    post: {servers: [{url: /v3}]}
  /y:
    get: {}
";
    let catalogue = load(&[("a.yaml", text)]);
    for (host, request, kind) in [
        ("a.example", "GET /v1/y", Current),
        ("a.example", "GET /v1/x", PathUnknown),
        ("b.example", "GET /v2/x", Current),
        ("a.example", "POST /v3/x", Current),
        ("c.example", "POST /v3/x", Current),
    ] {
        assert_eq!(ask(&catalogue, host, 80, request).0, kind, "{host} {request}");
    }
}

#[test]
fn a_port_tells_documents_of_one_host_apart() {
    let one = with_servers("[{url: 'http://localhost:3001'}]", "/one");
    let two = with_servers("[{url: 'http://localhost:3002'}]", "/two");
    let catalogue = load(&[("1.yaml", &one), ("2.yaml", &two)]);
    assert_eq!(ask(&catalogue, "localhost:3001", 3001, "GET /one").0, Current);
    assert_eq!(ask(&catalogue, "localhost:3001", 3001, "GET /two").0, PathUnknown);
    // Behind a forwarded port none fits: the name decides.
    assert_eq!(ask(&catalogue, "localhost:80", 80, "GET /two").0, Current);
    // Only loopback servers: for hosts nobody names, too.
    assert_eq!(ask(&catalogue, "api.example.com", 80, "GET /two").0, Current);
    assert_eq!(catalogue.bindings()[0].reason, BindingReason::LoopbackServersOnly);
}

#[test]
fn loopback_servers_step_back_behind_named_hosts() {
    let dev = with_servers("[{url: 'http://localhost:3001'}]", "/dev");
    let prod = with_servers("[{url: 'https://api.example.com'}]", "/prod");
    let catalogue = load(&[("1.yaml", &dev), ("2.yaml", &prod)]);
    assert_eq!(ask(&catalogue, "api.example.com", 80, "GET /dev").0, PathUnknown);
    assert_eq!(ask(&catalogue, "x.example.com", 80, "GET /dev").0, Current);
}

#[test]
fn an_address_in_servers_binds_by_name_and_by_listener() {
    let catalogue = load(&[("a.yaml", &with_servers("[{url: 'http://10.0.0.5:8080'}]", "/a"))]);
    assert_eq!(ask(&catalogue, "10.0.0.5:8080", 8080, "GET /a").0, Current);
    assert_eq!(answer(&catalogue, &view(&[], 8080), "GET /a").0, Current);
    let other =
        ServiceView { hosts: &["x"], address: Some("10.0.0.6".parse().unwrap()), port: 8080 };
    assert_eq!(answer(&catalogue, &other, "GET /a").0, ServiceUnknown);
}

fn bound(documents: &[(&str, &str)], binding: &str) -> (Catalogue, Vec<String>) {
    let (catalogue, errors) =
        Catalogue::load(documents, Some(("catalogue.yaml", binding.as_bytes())));
    (catalogue, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn a_binding_file_stands_above_servers() {
    let text = with_servers("[{url: 'https://api.example.com/api/v1'}]", "/users");
    let binding = "documents:
  - document: a.yaml
    hosts: ['*.internal', orders]
    ports: [8080]
    addresses: [10.0.0.0/8]
    prefix: {strip: /api, add: /gw}
";
    let (catalogue, errors) = bound(&[("a.yaml", &text)], binding);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        ask(&catalogue, "x.internal", 8080, "GET /gw/v1/users"),
        (Current, "/gw/v1/users".into())
    );
    assert_eq!(ask(&catalogue, "orders", 8080, "GET /gw/v1/users").0, Current);
    assert_eq!(ask(&catalogue, "orders", 8081, "GET /gw/v1/users").0, ServiceUnknown);
    assert_eq!(ask(&catalogue, "api.example.com", 8080, "GET /gw/v1/users").0, ServiceUnknown);
    assert_eq!(ask(&catalogue, "orders", 8080, "GET /api/v1/users").0, PathUnknown);
    assert_eq!(catalogue.bindings()[0].reason, BindingReason::BindingFile);
    assert!(
        catalogue.bindings()[0]
            .scopes
            .contains(&"*.internal on 10.0.0.0/8 at port 8080/gw/v1".to_owned())
    );
}

#[test]
fn a_binding_that_does_nothing_is_said() {
    let text = with_servers("[]", "/users");
    let (catalogue, errors) = bound(
        &[("a.yaml", &text)],
        "documents:\n  - document: a.yaml\n    prefix: {strip: /nope}\n  - document: b.yaml\n",
    );
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("catalogue.yaml:2: `/nope`"), "{errors:?}");
    assert!(errors[1].starts_with("catalogue.yaml:4: the document `b.yaml`"), "{errors:?}");
    assert_eq!(ask(&catalogue, "x", 1, "GET /users").0, Current);
}

#[test]
fn a_retired_document_is_older_only() {
    let text = with_servers("[]", "/users");
    let (catalogue, _) =
        bound(&[("a.yaml", &text)], "documents:\n  - document: a.yaml\n    retired: true\n");
    assert_eq!(ask(&catalogue, "x", 1, "GET /users").0, DeclarationKind::OlderOnly);
}

/// A document of this version with these paths.
fn versioned(version: &str, servers: &str, paths: &[&str]) -> String {
    let paths: Vec<String> =
        paths.iter().map(|path| format!("  {path}: {{get: {{}}}}\n")).collect();
    let paths = paths.concat();
    format!(
        "openapi: 3.0.3\ninfo: {{title: Shop, version: {version}}}\nservers: {servers}\npaths:\n{paths}"
    )
}

#[test]
fn an_explicit_order_of_versions_makes_all_but_the_last_older() {
    let (v1, v2, v3) = (
        versioned("1", "[]", &["/a", "/one"]),
        versioned("1", "[]", &["/a", "/one", "/two"]),
        versioned("1", "[]", &["/a"]),
    );
    let binding = "documents:\n  - versions: [x.yaml, w.yaml, y.yaml]\n    hosts: [shop.example]\n";
    let documents = [("x.yaml", &*v1), ("w.yaml", &*v2), ("y.yaml", &*v3)];
    let (catalogue, errors) = bound(&documents, binding);
    assert!(errors.is_empty(), "{errors:?}");
    for (request, kind, by) in [
        ("GET /a", Current, "y.yaml"),
        // Declared last by the one before the current.
        ("GET /one", DeclarationKind::OlderOnly, "w.yaml"),
        ("GET /two", DeclarationKind::OlderOnly, "w.yaml"),
    ] {
        let path = request.strip_prefix("GET ").unwrap();
        let found = catalogue.declare(&view(&["shop.example"], 80), &Method::Get, path.as_bytes());
        assert_eq!((found.kind, &*found.document.unwrap().name), (kind, by), "{request}");
    }
}

#[test]
fn a_higher_info_version_of_the_same_document_makes_the_other_older_and_says_so() {
    let old = versioned("1.9.0", "[{url: 'https://a.example/x'}]", &["/a", "/b", "/old"]);
    let new = versioned("1.10.0", "[{url: 'https://a.example/x'}]", &["/a", "/b"]);
    let documents = [("1.yaml", &*old), ("2.yaml", &*new)];
    let (catalogue, errors) = Catalogue::load(&documents, None);
    assert_eq!(ask(&catalogue, "a.example", 80, "GET /x/old").0, DeclarationKind::OlderOnly);
    assert_eq!(ask(&catalogue, "a.example", 80, "GET /x/a").0, Current);
    let [error] = &*errors else { panic!("{errors:?}") };
    let text = error.to_string();
    assert!(
        text.starts_with("1.yaml:2 at /info/version: version 1.9.0 of the same API as 2.yaml"),
        "{text}"
    );
    // Told otherwise.
    let binding = "documents: [{document: 1.yaml, retired: false}]";
    let (catalogue, errors) = bound(&documents, binding);
    assert_eq!(ask(&catalogue, "a.example", 80, "GET /x/old").0, Current);
    assert!(errors.iter().all(|error| !error.contains("of the same API")), "{errors:?}");
}

#[test]
fn apis_of_one_title_that_share_too_little_are_two() {
    let servers = "[{url: 'https://a.example'}]";
    let one = versioned("1", servers, &["/v1/a", "/v1/b", "/v1/c", "/v1/d", "/health"]);
    let two = versioned("2", servers, &["/v2/a", "/v2/b", "/health"]);
    // Of two that have nothing in common but what every service has.
    let (red, blue) = (["/health", "/metrics", "/red"], ["/health", "/metrics", "/blue"]);
    let (red, blue) = (versioned("1", "[]", &red), versioned("2", "[]", &blue));
    let (colours, errors) = Catalogue::load(&[("red.yaml", &*red), ("blue.yaml", &*blue)], None);
    assert_eq!(ask(&colours, "a.example", 80, "GET /red").0, Current, "{errors:?}");
    let elsewhere = versioned("3", "[{url: 'https://a.example/v3'}]", &["/v1/a", "/v1/b"]);
    let documents = [("1.yaml", &*one), ("2.yaml", &*two), ("3.yaml", &*elsewhere)];
    let (catalogue, _) = Catalogue::load(&documents, None);
    for request in ["GET /v1/a", "GET /v2/a", "GET /health", "GET /v3/v1/a"] {
        assert_eq!(ask(&catalogue, "a.example", 80, request).0, Current, "{request}");
    }
    let (nested, _) = Catalogue::load(&[("x/retired/1.yaml", &*one)], None);
    assert_eq!(ask(&nested, "a.example", 80, "GET /v1/a").0, DeclarationKind::OlderOnly);
}

#[test]
fn the_binding_file_names_the_owner_where_the_document_names_but_a_contact() {
    let text = "openapi: 3.0.3
info: {contact: {name: Support}}
paths:
  /a: {get: {}, post: {x-owner: Orders}}
";
    let binding = "documents:\n  - document: a.yaml\n    owner: Platform\n";
    let of = |catalogue: &Catalogue, request: &str| {
        let (method, path) = request.split_once(' ').unwrap();
        let method = Method::parse(method).unwrap();
        let found = catalogue.declare(&ANY, &method, path.as_bytes()).operation.unwrap();
        (found.owner().unwrap().to_owned(), found.owner_source().unwrap())
    };
    let (bound, errors) = bound(&[("a.yaml", text)], binding);
    assert!(errors.is_empty(), "{errors:?}");
    let alone = load(&[("a.yaml", text)]);
    assert_eq!(of(&alone, "GET /a"), ("Support".into(), OwnerSource::Contact));
    assert_eq!(of(&bound, "GET /a"), ("Platform".into(), OwnerSource::BindingFile));
    for catalogue in [&alone, &bound] {
        assert_eq!(of(catalogue, "POST /a"), ("Orders".into(), OwnerSource::Document));
    }
}

#[test]
fn swagger_2_documents_bind_by_host_and_base_path() {
    let text = "swagger: '2.0'\nhost: api.example.com\nbasePath: /v1\npaths:\n  /a: {get: {}}\n";
    let catalogue = load(&[("a.yaml", text)]);
    assert_eq!(ask(&catalogue, "api.example.com", 80, "GET /v1/a").0, Current);
}

#[test]
fn the_example_in_the_repository_is_valid() {
    let text = include_str!("../../../../../deploy/catalogue.example.yaml");
    let current = with_servers("[{url: 'https://orders.example.com/api/v2'}]", "/orders");
    let old = with_servers("[{url: 'https://orders.example.com'}]", "/export");
    let stock = with_servers("[]", "/stock");
    let (catalogue, errors) = bound(
        &[
            ("orders.yaml", &current),
            ("orders-v1.yaml", &old),
            ("stock-2023.yaml", &stock),
            ("stock-2024.yaml", &stock),
            ("stock.yaml", &stock),
        ],
        text,
    );
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(ask(&catalogue, "a.b.shop.example", 8080, "GET /internal/v2/orders").0, Current);
    assert_eq!(
        ask(&catalogue, "orders.example.com", 8080, "GET /export").0,
        DeclarationKind::OlderOnly
    );
}
