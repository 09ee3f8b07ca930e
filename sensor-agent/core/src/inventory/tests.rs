//! The inventory from exchanges to rows: what makes an endpoint, what does not, and the corner cases of the states.

mod corners;
mod facets;
mod hostile;
mod learned;
mod leaving;
mod life;
mod order;
mod overlay;
mod pins;
mod placing;
mod removed;
mod services;
mod shapes;
mod versions;

use std::net::SocketAddr;

use super::*;
use crate::{
    catalogue::Catalogue,
    event::Mask,
    http::{AuthScheme, Exchange, Method, OwnerHint, RequestFacts, ResponseFacts},
    limits::InventoryLimits,
    state::{DeclarationKind, NotCovered, Role, State},
    time::UnixNs,
};

const S: u64 = 1_000_000_000;
const START: u64 = 1_767_225_600;

fn at(seconds: u64) -> UnixNs {
    UnixNs((START + seconds) * S)
}

/// A row of which only the id counts.
pub(super) fn blank_row(id: &str) -> EndpointRow {
    serde_json::from_value(serde_json::json!({
        "id": id, "service": "x.example", "listener": "10.0.0.1:80", "hosts": [], "method": "GET", "path_template": "/",
        "kind": "api", "state": "observed", "confidence": "normal", "reason": "", "declaration": "no-catalogue",
        "lifecycle": "supported", "activity": "served", "requests": 1, "requests_observed": 1, "status": {}, "clients": 1,
        "callers": [], "client_owners": [], "auth": [], "request_types": [], "response_types": [], "query_names": [],
        "accuracy": "exact",
    }))
    .expect("a row")
}

/// One inventory with what it needs.
struct Bench {
    inventory: Inventory,
    catalogue: Catalogue,
    clock: u64,
}

/// One request: what a test wants to vary.
#[derive(Clone)]
struct Call<'a> {
    method: &'a str,
    target: &'a str,
    host: &'a str,
    status: u16,
    client: u32,
    location: Option<&'a str>,
    preflight: bool,
    auth: AuthScheme,
    server: &'a str,
    weight: u32,
    content_type: &'a str,
}

fn get(target: &str, status: u16) -> Call<'_> {
    Call {
        method: "GET",
        target,
        host: "api.example.com",
        status,
        client: 1,
        location: None,
        preflight: false,
        auth: AuthScheme::None,
        server: "10.0.0.2:80",
        weight: 1,
        content_type: "application/json",
    }
}

impl Bench {
    fn new(documents: &[&str]) -> Self {
        Self::with_limits(documents, InventoryLimits::default())
    }

    fn with_limits(documents: &[&str], limits: InventoryLimits) -> Self {
        let mut inventory = Inventory::new(limits, [1, 2]);
        inventory.attached(at(0), Attached::Now);
        inventory.set_window(60 * S);
        Self { inventory, catalogue: catalogue(documents), clock: 0 }
    }

    fn call(&mut self, call: &Call<'_>) -> Observed {
        self.clock += 1;
        let exchange = exchange(call, at(0).0 + self.clock * 1_000);
        self.inventory.observe(&exchange, Role::Server, &self.catalogue)
    }

    fn calls(&mut self, count: usize, call: &Call<'_>) {
        for _ in 0..count {
            self.call(call);
        }
    }

    fn rows_at(&mut self, seconds: u64) -> Vec<EndpointRow> {
        self.inventory.alive(at(seconds));
        self.inventory.fold(&self.catalogue);
        self.inventory.rows(at(seconds), &self.catalogue, &Mask::default(), &RowFilter::default())
    }

    /// (method, template, state) of all rows.
    fn states_at(&mut self, seconds: u64) -> Vec<(String, String, State)> {
        self.rows_at(seconds)
            .into_iter()
            .map(|row| (row.method, row.path_template, row.state))
            .collect()
    }

    fn check(&mut self, seconds: u64, expected: &[(&str, &str, State)]) {
        let expected: Vec<_> =
            expected.iter().map(|(m, t, s)| ((*m).to_owned(), (*t).to_owned(), *s)).collect();
        assert_eq!(self.states_at(seconds), expected);
    }

    fn sum_is_whole(&self) {
        let totals = self.inventory.totals();
        let sum = totals.endpoints
            + totals.probing
            + totals.overflow
            + totals.preflight
            + totals.no_operation
            + totals.egress
            + totals.transit;
        assert_eq!(sum, totals.exchanges, "{totals:?}");
    }
}

fn catalogue(documents: &[&str]) -> Catalogue {
    let named: Vec<(String, &str)> =
        documents.iter().enumerate().map(|(at, text)| (format!("{at}.yaml"), *text)).collect();
    load(&named)
}

fn load(named: &[(String, &str)]) -> Catalogue {
    let (catalogue, errors) = Catalogue::load(named, None);
    assert!(errors.iter().all(|error| !format!("{error:?}").contains("Error")), "{errors:?}");
    catalogue
}

fn exchange(call: &Call<'_>, time: u64) -> Exchange {
    Exchange {
        time: UnixNs(time),
        client: SocketAddr::from((call.client.to_be_bytes(), 40_000)),
        server: call.server.parse().expect("an address"),
        method: Method::parse(call.method).expect("a method"),
        host: (!call.host.is_empty()).then(|| call.host.as_bytes().into()),
        target: call.target.as_bytes().into(),
        status: (call.status > 0).then_some(call.status),
        latency_ns: Some(1_000_000),
        request: RequestFacts { auth: call.auth, preflight: call.preflight, ..Default::default() },
        response: ResponseFacts {
            content_type: Some(call.content_type.into()),
            location: call.location.map(Into::into),
            ..Default::default()
        },
        weight: call.weight,
        client_hint: OwnerHint::default(),
        server_hint: OwnerHint::default(),
    }
}

const SHOP: &str = "
openapi: 3.0.3
info: {title: Shop, version: '1'}
servers: [{url: 'http://api.example.com'}]
paths:
  /users/{id}: {get: {responses: {}}}
  /users: {get: {responses: {}}, post: {responses: {}}}
  /old: {get: {deprecated: true, responses: {}}}
  /plan: {get: {deprecated: true, x-sunset: '2027-01-01', responses: {}}}
  /past: {get: {deprecated: true, x-sunset: '2025-12-31', responses: {}}}
";

/// The declared operations of `SHOP` that nobody called.
fn silent(seen: &[&str], state: State) -> Vec<(&'static str, &'static str, State)> {
    let all = [
        ("GET", "/old", state),
        ("GET", "/past", State::NotCovered),
        ("GET", "/plan", state),
        ("GET", "/users", state),
        ("POST", "/users", state),
        ("GET", "/users/{id}", state),
    ];
    all.into_iter()
        .filter(|(method, path, _)| !seen.contains(&&*format!("{method} {path}")))
        .collect()
}

#[test]
fn without_a_catalogue_a_success_makes_an_endpoint() {
    let mut bench = Bench::new(&[]);
    bench.call(&get("/users/1?page=2&token=hunter2", 200));
    bench.call(&get("/users/2", 404));
    bench.call(&Call { client: 2, ..get("/users/3", 500) });
    let rows = bench.rows_at(1);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((&*row.path_template, row.state), ("/users/{user_id}", State::Observed));
    assert_eq!((row.requests, row.clients, &*row.service), (3, 2, "api.example.com"));
    assert_eq!(
        row.status.iter().map(|(k, v)| (&**k, *v)).collect::<Vec<_>>(),
        [("2xx", 1), ("4xx", 1), ("5xx", 1)]
    );
    assert_eq!(row.query_names, ["page", "token"]);
    assert!(!serde_json::to_string(&rows).expect("json").contains("hunter2"));
    bench.sum_is_whole();
}

#[test]
fn a_scan_makes_no_endpoint_and_evidence_before_the_proof_counts() {
    let mut bench = Bench::new(&[]);
    for path in 0..10_000 {
        bench.call(&get(&format!("/scan-{path}x"), 404));
    }
    bench.check(1, &[]);
    assert_eq!(bench.inventory.totals().probing, 10_000);
    assert!(bench.inventory.len() <= InventoryLimits::default().candidates);
    bench.call(&get("/late", 404));
    bench.call(&get("/late", 500));
    bench.call(&get("/late", 200));
    assert_eq!(bench.rows_at(1)[0].requests, 3, "what was counted before the proof");
    bench.sum_is_whole();
}

#[test]
fn refusals_prove_existence_only_on_a_listener_that_discriminates() {
    let mut bench = Bench::new(&[]);
    bench.call(&get("/admin", 401));
    bench.check(1, &[]);
    for path in ["/a", "/b", "/c"] {
        bench.call(&get(path, 404));
    }
    bench.check(1, &[("GET", "/admin", State::Observed)]);
    let mut all_401 = Bench::new(&[]);
    for path in 0..100 {
        all_401.call(&get(&format!("/p{path}x"), 401));
    }
    all_401.check(1, &[]);
}

#[test]
fn generic_redirects_prove_nothing() {
    let mut bench = Bench::new(&[]);
    for path in ["/a", "/b", "/c", "/d"] {
        bench.call(&Call { location: Some("/login"), ..get(path, 302) });
        bench.call(&Call {
            location: Some(&format!("https://api.example.com{path}")),
            ..get(path, 301)
        });
    }
    bench.check(1, &[]);
    bench.call(&Call { location: Some("/home"), ..get("/start", 302) });
    bench.check(1, &[("GET", "/start", State::Observed)]);
}

#[test]
fn preflight_connect_and_asterisk_make_no_endpoint() {
    let mut bench = Bench::new(&[]);
    bench.call(&Call { method: "OPTIONS", preflight: true, ..get("/users", 204) });
    bench.call(&Call { method: "CONNECT", ..get("db.example:5432", 200) });
    bench.call(&Call { method: "OPTIONS", ..get("*", 200) });
    bench.check(1, &[]);
    bench.sum_is_whole();
}

#[test]
fn spellings_of_a_host_are_one_service() {
    let mut bench = Bench::new(&[]);
    for host in ["api.example.com", "API.example.com", "api.example.com:80", "api.example.com."] {
        bench.call(&Call { host, ..get("/a", 200) });
    }
    for host in ["10.0.0.2", "10.0.0.2:80", "", "localhost"] {
        bench.call(&Call { host, ..get("/a", 200) });
    }
    let rows = bench.rows_at(1);
    let services: Vec<(&str, u64)> = rows.iter().map(|row| (&*row.service, row.requests)).collect();
    assert_eq!(services, [("api.example.com", 8)], "by address too");
}

#[test]
fn forged_hosts_make_one_service_at_most() {
    let mut bench = Bench::new(&[]);
    for host in 0..1_000 {
        bench.call(&Call { host: &format!("h{host}.evil"), ..get("/a", 404) });
    }
    assert_eq!(bench.inventory.services.len(), 1, "nothing proved them");
    for host in 0..1_000 {
        bench.call(&Call { host: &format!("h{host}.evil"), ..get("/a", 200) });
    }
    assert!(bench.inventory.services.len() <= 257);
    assert!(bench.inventory.losses().hosts_full > 0, "names that made room are counted");
    let rows = bench.rows_at(1);
    // Beside them those that were refused under names that were proven later.
    assert!(rows.len() == 1 && rows[0].requests >= 1_000, "one service, whatever it is called");
    bench.sum_is_whole();
}

#[test]
fn shadow_states_and_declared_ones() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users/17", 404));
    bench.call(&get("/users/18", 200));
    bench.call(&Call { method: "HEAD", ..get("/users", 200) });
    bench.call(&Call { method: "DELETE", ..get("/users/17", 204) });
    bench.call(&Call { method: "PUT", ..get("/users/17", 405) });
    bench.call(&get("/internal/debug", 200));
    bench.call(&get("/x", 404));
    bench.call(&Call { host: "other.example.com", ..get("/x", 200) });
    bench.calls(1, &get("/old", 200));
    bench.calls(1, &get("/plan", 200));
    bench.calls(1, &get("/past", 401));
    let mut expected =
        silent(&["GET /users/{id}", "GET /old", "GET /plan", "GET /past"], State::Pending);
    expected.extend([
        ("GET", "/internal/debug", State::ShadowPath),
        ("GET", "/old", State::ZombieDeprecated),
        ("GET", "/past", State::ZombieSunset),
        ("GET", "/plan", State::Deprecated),
        ("HEAD", "/users", State::Declared),
        ("DELETE", "/users/{id}", State::ShadowMethod),
        ("GET", "/users/{id}", State::Declared),
        ("GET", "/x", State::ShadowHost),
    ]);
    expected.sort_by_key(|(method, path, _)| (*path, *method));
    bench.check(1, &expected);
    bench.sum_is_whole();
}

#[test]
fn never_called_is_pending_then_dormant_and_only_where_covered() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users/1", 200));
    let state_of = |bench: &mut Bench, seconds| {
        let row = bench
            .rows_at(seconds)
            .into_iter()
            .find(|row| row.path_template == "/old")
            .expect("a row");
        (row.state, row.not_covered)
    };
    assert_eq!(state_of(&mut bench, 30), (State::Pending, None));
    assert_eq!(state_of(&mut bench, 61), (State::Dormant, None));
    bench.inventory.heads_lost(at(62));
    assert_eq!(state_of(&mut bench, 62), (State::NotCovered, Some(NotCovered::Loss)));
    assert_eq!(state_of(&mut bench, 123), (State::Dormant, None), "the loss has left the window");
    bench.inventory.sampled(at(124));
    assert_eq!(state_of(&mut bench, 124), (State::NotCovered, Some(NotCovered::Sampled)));
    bench.inventory.listener_totals(
        "10.0.0.2:80".parse().expect("an address"),
        ListenerTotals { opened: 10, http: 5, tls: 5, ..Default::default() },
    );
    assert_eq!(state_of(&mut bench, 190), (State::NotCovered, Some(NotCovered::Encrypted)));
}

#[test]
fn window_longer_than_the_run_says_pending_and_silence_after_it_dormant() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users/1", 200));
    let called = |rows: Vec<EndpointRow>| {
        rows.into_iter().find(|row| row.path_template == "/users/{id}").map(|row| row.state)
    };
    assert_eq!(called(bench.rows_at(10)), Some(State::Declared));
    assert_eq!(called(bench.rows_at(100)), Some(State::Dormant));
    bench.inventory.set_window(u64::MAX);
    assert_eq!(called(bench.rows_at(100)), Some(State::Declared));
}

#[test]
fn declared_but_answered_404_ten_times_is_missing() {
    let mut bench = Bench::new(&[SHOP]);
    bench.calls(9, &get("/users", 404));
    let state = |bench: &mut Bench, path: &str| {
        bench
            .rows_at(1)
            .into_iter()
            .find(|row| row.path_template == path && row.method == "GET")
            .map(|row| row.state)
    };
    assert_eq!(state(&mut bench, "/users"), Some(State::Declared));
    bench.call(&get("/users", 404));
    assert_eq!(state(&mut bench, "/users"), Some(State::Missing));
    bench.calls(20, &get("/users/1", 404));
    assert_eq!(
        state(&mut bench, "/users/{id}"),
        Some(State::Declared),
        "one value says nothing of the others"
    );
    for id in 2..6 {
        bench.call(&get(&format!("/users/{id}"), 404));
    }
    assert_eq!(state(&mut bench, "/users/{id}"), Some(State::Missing));
    for path in 0..10 {
        let target = format!("/plan?{path}");
        bench.call(&Call { location: Some("https://api.example.com/plan"), ..get(&target, 301) });
    }
    assert_eq!(
        state(&mut bench, "/plan"),
        Some(State::Deprecated),
        "moved to https is not missing"
    );
}

#[test]
fn sunset_one_second_before_and_at_its_time() {
    let mut bench = Bench::new(&[&SHOP.replace("2027-01-01", "2026-01-01T00:01:40Z")]);
    bench.call(&get("/plan", 200));
    bench.inventory.set_window(1_000 * S);
    let state = |bench: &mut Bench, seconds| {
        bench
            .rows_at(seconds)
            .into_iter()
            .find(|row| row.path_template == "/plan")
            .map(|row| row.state)
    };
    assert_eq!(state(&mut bench, 99), Some(State::Deprecated));
    assert_eq!(state(&mut bench, 100), Some(State::ZombieSunset));
}

#[test]
fn catalogue_reload_renames_and_keeps_history() {
    let mut bench = Bench::new(&[]);
    bench.calls(3, &get("/users/17", 200));
    let before = bench.rows_at(1);
    assert_eq!(before[0].path_template, "/users/{user_id}");
    let mut told = Vec::new();
    bench.inventory.take_discovered(at(1), &Mask::default(), usize::MAX, |event| told.push(event));
    let key = bench.inventory.take_changes(&Mask::default()).records[0].key.clone();
    bench.catalogue = catalogue(&[SHOP]);
    bench.inventory.set_catalogue(&bench.catalogue);
    bench.call(&get("/users/18", 200));
    let row =
        bench.rows_at(1).into_iter().find(|row| row.path_template == "/users/{id}").expect("a row");
    assert_eq!((row.state, row.requests), (State::Declared, 4));
    bench.inventory.tell_changes(at(1), &Mask::default(), usize::MAX, |event| told.push(event));
    bench.inventory.tell_changes(at(1), &Mask::default(), usize::MAX, |event| told.push(event));
    assert_eq!(told.len(), 2, "discovered once, changed once: {told:?}");
    assert_eq!(bench.inventory.take_changes(&Mask::default()).removed, [key]);
    bench.sum_is_whole();
}

#[test]
fn records_survive_a_restart_and_only_what_changed_is_written() {
    let mut bench = Bench::new(&[]);
    for client in 0..40 {
        bench.call(&Call { client, auth: AuthScheme::Jwt, ..get("/users/17?page=1", 200) });
    }
    bench.call(&get("/gone", 404));
    let changes = bench.inventory.take_changes(&Mask::default());
    assert_eq!(changes.records.len(), 1, "candidates are not stored");
    assert_eq!(bench.inventory.take_changes(&Mask::default()), Changes::default());
    let before = bench.rows_at(1);

    let mut second = Bench::new(&[]);
    for record in &changes.records {
        second.inventory.restore(record.table, &record.body).expect("restored");
    }
    assert_eq!(second.rows_at(1), before);
    second.call(&Call { client: 1, ..get("/users/18", 200) });
    assert_eq!(second.rows_at(1)[0].requests, 41);
    for cut in 0..changes.records[0].body.len() {
        let mut third = Bench::new(&[]);
        assert!(
            third
                .inventory
                .restore(RecordTable::Endpoints, &changes.records[0].body[..cut])
                .is_err()
        );
    }
}

#[test]
fn egress_has_one_row_a_host_and_method_and_no_endpoint() {
    let mut bench = Bench::new(&[SHOP]);
    for host in 0..20 {
        for _ in 0..3 {
            let host = format!("api-{host}.partner.example:443");
            let call = Call { host: &host, server: "203.0.113.9:443", ..get("/v1/x", 200) };
            bench.inventory.observe(&exchange(&call, at(1).0), Role::Client, &bench.catalogue);
        }
    }
    let rows = bench.inventory.egress_rows(&Mask::default());
    assert_eq!(rows.len(), 20);
    assert!(
        rows.iter()
            .all(|row| row.requests == 3 && !row.host.contains(':') && row.callers == ["0.0.0.1"])
    );
    bench.check(1, &[]);
    bench.sum_is_whole();
}

#[test]
fn sampled_exchanges_are_weighted_and_say_so() {
    let mut bench = Bench::new(&[]);
    bench.call(&Call { weight: 100, ..get("/a", 200) });
    bench.call(&Call { weight: 100, ..get("/a", 200) });
    let row = &bench.rows_at(1)[0];
    assert_eq!((row.requests, row.requests_observed, row.accuracy), (200, 2, Accuracy::Sampled));
}

#[test]
fn endpoints_beyond_the_bound_are_counted_in_one_row() {
    let limits = InventoryLimits {
        endpoints: 100,
        endpoints_undeclared: 60,
        endpoints_per_service: 50,
        // Or they would be one row.
        learned_nodes: 0,
        ..Default::default()
    };
    let mut bench = Bench::with_limits(&[], limits);
    for path in 0..1_000 {
        bench.call(&get(&format!("/word{path}x"), 200));
    }
    bench.calls(5, &get("/word3x", 200));
    let rows = bench.rows_at(1);
    assert_eq!(rows.len(), 51);
    let overflow = rows.iter().find(|row| row.kind == Kind::Overflow).expect("an overflow row");
    assert_eq!(overflow.requests, 950);
    assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), 1_005);
    bench.sum_is_whole();
}

#[test]
fn undeclared_endpoints_leave_after_retention() {
    let mut bench = Bench::new(&[]);
    bench.call(&get("/a", 200));
    let day = 24 * 3600;
    bench.inventory.tell_changes(at(89 * day), &Mask::default(), usize::MAX, |_| {});
    assert_eq!(bench.rows_at(89 * day).len(), 1);
    bench.inventory.tell_changes(at(91 * day), &Mask::default(), usize::MAX, |_| {});
    assert_eq!(bench.rows_at(91 * day).len(), 0);
    assert_eq!(bench.inventory.take_changes(&Mask::default()).removed.len(), 1);
}

/// The shop, and operations that only its older version had.
#[test]
fn the_same_operation_on_two_listeners_is_not_dormant_on_the_other() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users", 200));
    bench.call(&Call { server: "10.0.0.3:80", ..get("/users/1", 200) });
    let dormant = bench.rows_at(100);
    let of = |path: &str| {
        dormant.iter().filter(|row| row.path_template == path && row.method == "GET").count()
    };
    assert_eq!((of("/users"), of("/users/{id}"), of("/old")), (1, 1, 1));
}

/// The published schema; `UPDATE_SCHEMA=1 cargo test -p sensor-core published_schema` writes it anew.
#[test]
fn published_schema_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/inventory.schema.json");
    let schema = InventoryView::json_schema() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &schema).expect("written");
    }
    assert_eq!(std::fs::read_to_string(path).expect("deploy/inventory.schema.json"), schema);
}
