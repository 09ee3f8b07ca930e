//! What rows say beside counts: who reaches an endpoint, and whose it is.

use std::net::IpAddr;

use super::*;
use crate::http::FetchedFor;

fn call_from(bench: &mut Bench, client: &str, call: &Call<'_>) {
    bench.clock += 1;
    let mut exchange = exchange(call, at(0).0 + bench.clock * 1_000);
    exchange.client = (client.parse::<IpAddr>().expect("an address"), 40_000).into();
    bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
}

fn row(bench: &mut Bench, template: &str) -> EndpointRow {
    let rows = bench.rows_at(1);
    rows.into_iter().find(|row| row.path_template == template).expect(template)
}

fn classes(row: &EndpointRow) -> Vec<(&'static str, u64)> {
    let exposure = row.exposure.as_ref().expect("an exposure");
    exposure.requests.iter().map(|(class, count)| (class.as_str(), *count)).collect()
}

#[test]
fn callers_are_counted_by_class_and_the_widest_is_told_with_its_last_request() {
    let mut bench = Bench::new(&[]);
    call_from(&mut bench, "192.168.1.5", &Call { weight: 4, ..get("/a", 200) });
    call_from(&mut bench, "192.168.1.6", &get("/a", 200));
    assert_eq!(classes(&row(&mut bench, "/a")), [("private", 5)]);
    call_from(&mut bench, "203.0.113.9", &get("/a", 200));
    let widest_at = UnixNs(at(0).0 + bench.clock * 1_000);
    call_from(&mut bench, "192.168.1.6", &get("/a", 200));
    call_from(&mut bench, "127.0.0.1", &get("/a", 200));
    let seen = row(&mut bench, "/a");
    assert_eq!(classes(&seen), [("loopback", 1), ("private", 6), ("public", 1)]);
    let exposure = seen.exposure.expect("an exposure");
    assert_eq!(exposure.widest, Exposure::Public);
    assert_eq!(exposure.widest_last_seen_unix_ns, widest_at);
    assert_eq!(exposure.requests.values().sum::<u64>(), seen.requests);
}

#[test]
fn a_caller_without_an_address_has_no_class() {
    let mut bench = Bench::new(&[]);
    call_from(&mut bench, "0.0.0.0", &get("/a", 200));
    assert_eq!(row(&mut bench, "/a").exposure, None);
    call_from(&mut bench, "203.0.113.9", &get("/a", 200));
    assert_eq!(classes(&row(&mut bench, "/a")), [("public", 1)]);
}

#[test]
fn exposure_is_stored_and_added_up_when_services_become_one() {
    let mut bench = Bench::new(&[]);
    for (client, server) in [("203.0.113.9", "10.0.0.2:80"), ("192.168.1.5", "10.0.0.3:80")] {
        for path in ["/a", "/b", "/c", "/d"] {
            call_from(&mut bench, client, &Call { server, ..get(path, 200) });
        }
    }
    assert_eq!(classes(&row(&mut bench, "/a")), [("private", 1), ("public", 1)]);
    call_from(&mut bench, "127.0.0.1", &get("/b", 200));
    let before = row(&mut bench, "/b");
    let mut again = Bench::new(&[]);
    for record in bench.inventory.take_changes(&Mask::default()).records {
        again.inventory.restore(record.table, &record.body).expect("its own record");
    }
    assert_eq!(row(&mut again, "/b").exposure, before.exposure);
    call_from(&mut again, "192.168.1.5", &get("/a", 200));
    assert_eq!(classes(&row(&mut again, "/a")), [("private", 2), ("public", 1)]);
}

#[test]
fn an_owner_is_the_documents_then_the_configurations() {
    const OWNED: &str = "
openapi: 3.0.3
info: {title: Shop, version: '1', contact: {name: Shop team}}
servers: [{url: 'http://api.example.com'}]
paths:
  /users: {get: {responses: {}}}
  /orders: {get: {x-owner: Orders, responses: {}}}
";
    let mut bench = Bench::new(&[OWNED]);
    let globs = OwnerGlobs::new([("*.example.com", "Web"), ("10.0.0.9", "Nine")]).expect("globs");
    bench.inventory.set_owner_globs(globs);
    bench.call(&get("/users", 200));
    bench.call(&get("/other", 200));
    bench.call(&Call { host: "", server: "10.0.0.9:80", ..get("/nine", 200) });
    bench.call(&Call { host: "shop.example.org", server: "10.0.0.8:80", ..get("/none", 200) });
    let owner = |bench: &mut Bench, template: &str| {
        let row = row(bench, template);
        row.declared_owner.zip(row.declared_owner_source)
    };
    let some = |name: &str, source| Some((name.to_owned(), source));
    assert_eq!(owner(&mut bench, "/users"), some("Shop team", OwnerSource::Contact));
    assert_eq!(owner(&mut bench, "/orders"), some("Orders", OwnerSource::Document));
    assert_eq!(owner(&mut bench, "/other"), some("Web", OwnerSource::Configuration));
    assert_eq!(owner(&mut bench, "/nine"), some("Nine", OwnerSource::Configuration));
    assert_eq!(owner(&mut bench, "/none"), None);
}

#[test]
fn a_posture_is_read_from_successes_only() {
    let mut bench = Bench::new(&[]);
    let with = |auth, call| Call { auth, ..call };
    bench.call(&with(AuthScheme::Bearer, get("/closed", 200)));
    bench.call(&get("/closed", 401));
    bench.call(&get("/open", 200));
    bench.call(&get("/mixed", 200));
    bench.call(&with(AuthScheme::Basic, get("/mixed", 200)));
    bench.call(&with(AuthScheme::ClientCertificate, get("/mutual", 200)));
    for (template, posture, auth) in [
        ("/closed", AuthPosture::Credentials, &["none", "bearer"][..]),
        ("/open", AuthPosture::Open, &["none"]),
        ("/mixed", AuthPosture::Mixed, &["none", "basic"]),
        ("/mutual", AuthPosture::Credentials, &["client_certificate"]),
    ] {
        let row = row(&mut bench, template);
        assert_eq!((row.auth_posture, row.auth.join(" ")), (Some(posture), auth.join(" ")));
    }
}

#[test]
fn a_risk_is_the_sum_of_its_parts() {
    let mut bench = Bench::new(&[SHOP]);
    call_from(&mut bench, "203.0.113.9", &get("/past", 200));
    call_from(&mut bench, "192.168.1.5", &Call { auth: AuthScheme::Jwt, ..get("/users", 200) });
    let risk = |row: EndpointRow| {
        let risk = row.risk.expect("a risk");
        let sum: u32 = risk.parts.iter().map(|part| u32::from(part.points)).sum();
        assert_eq!(u32::from(risk.score), sum);
        risk.parts.into_iter().map(|part| (part.part, part.points)).collect::<Vec<_>>()
    };
    let past = row(&mut bench, "/past");
    assert_eq!(
        risk(past),
        [(RiskFactor::State, 30), (RiskFactor::Exposure, 25), (RiskFactor::Authentication, 20)]
    );
    assert_eq!(
        risk(row(&mut bench, "/users")),
        [(RiskFactor::Exposure, 10), (RiskFactor::Authentication, 1)]
    );
}

#[test]
fn an_endpoint_stays_small() {
    let bytes = size_of::<super::super::endpoint::Endpoint>();
    assert!(bytes <= ENDPOINT_BYTES_MAX, "{bytes}");
}

/// Of one endpoint without what it has on the heap.
const ENDPOINT_BYTES_MAX: usize = 504;

#[test]
fn where_the_media_type_does_not_tell_the_browser_does() {
    use FetchedFor::{Page, Part, Script, Unknown};
    let mut bench = Bench::new(&[]);
    let mut fetch = |path: &str, media: Option<&str>, fetched_for| {
        bench.clock += 1;
        let mut exchange = exchange(&get(path, 200), at(0).0 + bench.clock * 1_000);
        exchange.response.content_type = media.map(Into::into);
        exchange.request.fetched_for = fetched_for;
        bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
    };
    fetch("/avatar/raw", Some("application/octet-stream"), Part);
    fetch("/report/raw", Some("application/octet-stream"), Script);
    fetch("/dump/raw", Some("application/octet-stream"), Unknown);
    fetch("/welcome/now", None, Page);
    fetch("/orders/open", Some("application/json"), Page);
    fetch("/logo/now", Some("image/png"), Script);
    // Whoever writes what a browser would hides nothing of what others call too.
    fetch("/admin/purge", None, Part);
    fetch("/admin/purge", None, Unknown);
    let kinds: Vec<_> =
        bench.rows_at(1).into_iter().map(|row| (row.path_template, row.kind)).collect();
    let kind = |path: &str| kinds.iter().find(|(template, _)| template == path).map(|row| row.1);
    assert_eq!(kind("/avatar/raw"), Some(Kind::Asset));
    assert_eq!(kind("/report/raw"), Some(Kind::Api));
    assert_eq!(kind("/dump/raw"), Some(Kind::Api));
    assert_eq!(kind("/welcome/now"), Some(Kind::Page));
    assert_eq!(kind("/orders/open"), Some(Kind::Api), "data that somebody looks at in a browser");
    assert_eq!(kind("/logo/now"), Some(Kind::Asset));
    assert_eq!(kind("/admin/purge"), Some(Kind::Api));
}

#[test]
fn endpoints_without_an_owner_are_counted_whatever_is_asked_for() {
    let mut bench = Bench::new(&[]);
    for path in ["/a", "/b"] {
        bench.call(&get(path, 200));
    }
    let filter = RowFilter { kinds: vec![Kind::Page], ..RowFilter::default() };
    let view =
        |bench: &Bench| bench.inventory.view(at(1), &bench.catalogue, &Mask::default(), &filter);
    assert_eq!((view(&bench).totals.unowned, view(&bench).endpoints.len()), (2, 0));
    bench.inventory.set_owner_globs(OwnerGlobs::new([("*", "Platform")]).expect("a glob"));
    assert_eq!(view(&bench).totals.unowned, 0);
}

#[test]
fn a_summary_counts_endpoints_by_state_and_by_the_widest_class() {
    let mut bench = Bench::new(&[SHOP]);
    call_from(&mut bench, "203.0.113.9", &get("/users", 200));
    call_from(&mut bench, "192.168.1.5", &get("/other", 200));
    call_from(&mut bench, "192.168.1.5", &get("/nothing", 404));
    bench.inventory.tell_changes(at(1), &Mask::default(), usize::MAX, |_| ());
    let summary = bench.inventory.summary();
    let states: Vec<_> = summary.states().collect();
    assert_eq!(states, [(State::Declared, 1), (State::ShadowPath, 1)]);
    let exposures: Vec<_> = summary.exposures().collect();
    assert_eq!(exposures, [(Exposure::Private, 1), (Exposure::Public, 1)]);
    assert_eq!(summary.unowned, 2);
}
