//! Documents that name no host, bound by what was asked.

use std::sync::Arc;

use super::*;
use crate::catalogue::{Asked, BindingReason, ServiceEvidence, limits::EVIDENCE_DOCUMENTS_MAX};
use DeclarationKind::{Current, PathUnknown, ServiceUnknown};

/// Requests `(count, "METHOD PATH")` of a service at a host.
fn asked(host: &str, requests: &[(u64, &str)]) -> ServiceEvidence {
    let asked = requests.iter().map(|(requests, request)| {
        let (method, path) = request.split_once(' ').unwrap();
        let method = Method::parse(method).unwrap();
        Asked { requests: *requests, method, path: path.to_owned() }
    });
    ServiceEvidence {
        name: host.into(),
        places: vec![(Some(host.into()), "10.0.0.5:80".parse().unwrap())],
        asked: asked.collect(),
    }
}

fn ask(catalogue: &Catalogue, host: &str, request: &str) -> DeclarationKind {
    let hosts = [host];
    let address = Some("10.0.0.5".parse().unwrap());
    answer(catalogue, &ServiceView { hosts: &hosts, address, port: 80 }, request).0
}

fn total(service: &ServiceEvidence) -> u64 {
    service.asked.iter().map(|it| it.requests).sum()
}

fn two() -> Catalogue {
    let shop = document(&["GET /orders/{id}", "POST /orders"]);
    let users = document(&["GET /users/{id}", "GET /health"]);
    load(&[("shop.yaml", &shop), ("users.yaml", &users)])
}

#[test]
fn a_document_goes_to_the_service_whose_requests_match_it() {
    let evidence = [
        asked("shop.example", &[(90, "GET /orders/7"), (10, "GET /other")]),
        asked("users.example", &[(50, "GET /users/7")]),
        asked("new.example", &[(3, "GET /x")]),
    ];
    let before = two();
    let after = before.placed_by(&evidence);
    assert_ne!(before.digest(), after.digest());
    for (host, request, first, then) in [
        ("shop.example", "GET /orders/1", Current, Current),
        ("shop.example", "GET /nope", PathUnknown, PathUnknown),
        ("shop.example", "GET /users/1", Current, PathUnknown),
        ("users.example", "GET /orders/1", Current, PathUnknown),
        // Too few requests, or none: as before.
        ("new.example", "GET /orders/1", Current, Current),
        ("other.example", "GET /users/1", Current, Current),
    ] {
        assert_eq!((ask(&before, host, request), ask(&after, host, request)), (first, then));
    }
    let [shop, users] = after.bindings() else { panic!() };
    assert_eq!(
        (shop.reason, &*shop.scopes),
        (BindingReason::Evidence, &["shop.example".into()][..])
    );
    assert_eq!(
        users.explained(),
        "requests match, of a document that names no host: users.example (100 % of 50 requests), \
         not shop.example (0 % of 100 requests)"
    );
    assert_eq!(before.bindings()[0].reason, BindingReason::NoServers);
}

#[test]
fn a_service_that_no_document_is_about_is_unknown() {
    let evidence = [
        asked("shop.example", &[(90, "GET /orders/7")]),
        asked("users.example", &[(90, "GET /users/7")]),
        asked("blog.example", &[(90, "GET /posts/7")]),
    ];
    let placed = two().placed_by(&evidence);
    assert_eq!(ask(&placed, "blog.example", "GET /posts/7"), ServiceUnknown);
    assert_eq!(ask(&placed, "shop.example", "GET /posts/7"), PathUnknown);
}

#[test]
fn without_a_best_service_a_document_stays_for_every_host() {
    for evidence in [
        vec![asked("a.example", &[(19, "GET /orders/7")]), asked("b.example", &[(90, "GET /x")])],
        vec![
            asked("a.example", &[(19, "GET /orders/7"), (81, "GET /y")]),
            asked("b.example", &[(90, "GET /x")]),
        ],
        vec![],
    ] {
        let before = two();
        let after = before.placed_by(&evidence);
        assert_eq!(after.digest(), before.digest());
        let [shop, users] = after.bindings() else { panic!() };
        assert_eq!(
            (shop.reason, users.reason),
            (BindingReason::NoServers, BindingReason::NoServers)
        );
        let open = shop.evidence.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = evidence.first().map(|it| match total(it) {
            19 => "open for a.example (100 % of 19 requests)",
            _ => "open for a.example (19 % of 100 requests)",
        });
        assert_eq!(open, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn the_same_api_at_several_services_keeps_its_document_and_small_changes_change_nothing() {
    let at = |b: u64| {
        [
            asked("a.example", &[(100, "GET /orders/7")]),
            asked("b.example", &[(b, "GET /orders/7"), (100 - b, "GET /x")]),
        ]
    };
    let about = |catalogue: &Catalogue| ask(catalogue, "b.example", "GET /orders/7") == Current;
    let placed = two().placed_by(&at(60));
    assert!(about(&placed));
    // Once about it, half of that share will do; once not, it needs half of the best.
    let lower = placed.placed_by(&at(30));
    assert!(about(&lower) && !about(&two().placed_by(&at(30))));
    let gone = lower.placed_by(&at(20));
    assert!(!about(&gone) && !about(&gone.placed_by(&at(40))) && about(&gone.placed_by(&at(50))));
    // Documents that are read again stay where they were.
    assert!(about(&two().following(&placed).placed_by(&at(30))));
    // In whatever order the services come.
    let mut turned = at(60);
    turned.reverse();
    assert_eq!(two().placed_by(&turned).bindings(), placed.bindings());
}

#[test]
fn a_host_in_the_document_or_the_binding_file_is_not_asked_about() {
    let servers =
        "openapi: 3.0.3\nservers: [{url: 'https://a.example'}]\npaths:\n  /a: {get: {}}\n";
    assert!(!load(&[("a.yaml", servers)]).asks_evidence());
    let bare = document(&["GET /a"]);
    let binding: &[u8] = b"documents: [{document: a.yaml, ports: [80]}]";
    let (bound, _) = Catalogue::load(&[("a.yaml", &*bare)], Some(("catalogue.yaml", binding)));
    assert!(!bound.asks_evidence() && load(&[("a.yaml", &bare)]).asks_evidence());
    let loopback =
        "openapi: 3.0.3\nservers: [{url: 'http://localhost:3000'}]\npaths:\n  /a: {get: {}}\n";
    let evidence = [asked("a.example", &[(90, "GET /a")]), asked("b.example", &[(90, "GET /b")])];
    let placed = load(&[("a.yaml", loopback)]).placed_by(&evidence);
    assert_eq!(ask(&placed, "a.example", "GET /a"), Current);
    assert_eq!(ask(&placed, "b.example", "GET /a"), ServiceUnknown);
}

#[test]
fn listeners_without_a_host_name_are_told_apart_by_address() {
    let of = |address: &str, path: &str| ServiceEvidence {
        name: address.into(),
        places: vec![(None, address.parse().unwrap())],
        asked: vec![Asked { requests: 50, method: Method::Get, path: path.into() }],
    };
    let evidence = [of("10.0.0.1:80", "/orders/7"), of("10.0.0.2:80", "/x")];
    let placed = two().placed_by(&evidence);
    for (address, kind) in [("10.0.0.1", Current), ("10.0.0.2", PathUnknown), ("10.0.0.3", Current)]
    {
        let view = ServiceView { hosts: &[], address: Some(address.parse().unwrap()), port: 80 };
        assert_eq!(answer(&placed, &view, "GET /orders/7").0, kind, "{address}");
    }
}

#[test]
fn more_documents_than_evidence_is_asked_for_are_for_every_host() {
    let documents: Vec<(String, String)> = (0..EVIDENCE_DOCUMENTS_MAX + 9)
        .map(|n| (format!("{n:03}.yaml"), document(&[&*format!("GET /d{n}")])))
        .collect();
    let (catalogue, _) = Catalogue::load(&documents, None);
    for n in [0, EVIDENCE_DOCUMENTS_MAX, EVIDENCE_DOCUMENTS_MAX + 8] {
        assert_eq!(ask(&catalogue, "x", &format!("GET /d{n}")), Current, "{n}");
    }
    let evidence: Vec<ServiceEvidence> =
        (0..900).map(|n| asked(&format!("h{n}"), &[(50, &*format!("GET /d{}", n % 50))])).collect();
    let placed = catalogue.placed_by(&evidence);
    assert_eq!(ask(&placed, "h40", "GET /d0"), PathUnknown);
    assert_eq!(ask(&placed, "h40", "GET /d40"), Current);
    let names: Vec<Arc<str>> =
        placed.bindings()[0].evidence.iter().map(|row| Arc::clone(&row.service)).collect();
    assert!(names.len() <= 16, "{names:?}");
}
