//! Operations that were removed or have a sunset: zombies, gone, retired.

use super::*;

fn with_retired() -> Bench {
    let old = "
openapi: 3.0.3
info: {title: Shop, version: '0'}
servers: [{url: 'http://api.example.com'}]
paths:
  /users/export: {get: {responses: {}}}
  /v1/carts: {get: {responses: {}}}
  /v1/quiet: {get: {responses: {}}}
  /users: {get: {responses: {}}}
";
    let mut bench = Bench::new(&[]);
    bench.catalogue = load(&[("shop.yaml".into(), SHOP), ("retired/shop.yaml".into(), old)]);
    bench
}

#[test]
fn removed_operations_are_zombies_gone_or_retired() {
    let mut bench = with_retired();
    bench.call(&get("/users", 200));
    bench.call(&get("/users/17", 200));
    bench.call(&get("/users/export", 200));
    bench.call(&Call { location: Some("/v2/carts"), ..get("/v1/carts", 308) });
    let state = |bench: &mut Bench, path: &str, seconds| {
        bench
            .rows_at(seconds)
            .into_iter()
            .find(|row| row.path_template == path && row.method == "GET")
            .map(|row| row.state)
    };
    assert_eq!(
        state(&mut bench, "/users/export", 1),
        Some(State::ZombieRemoved),
        "a literal under a wider template"
    );
    assert_eq!(state(&mut bench, "/v1/carts", 1), Some(State::Gone), "moved to /v2");
    assert_eq!(
        state(&mut bench, "/users", 1),
        Some(State::Declared),
        "current in one, older in another"
    );
    assert_eq!(
        state(&mut bench, "/v1/quiet", 1),
        Some(State::NotCovered),
        "not watched for the window yet"
    );
    assert_eq!(state(&mut bench, "/v1/quiet", 61), Some(State::Retired));
    bench.catalogue = load(&[("shop.yaml".into(), &SHOP.replace("/old:", "/users/export:"))]);
    bench.inventory.set_catalogue(&bench.catalogue);
    assert_eq!(
        state(&mut bench, "/users/export", 1),
        Some(State::ZombieDeprecated),
        "added again, its history kept"
    );
}

#[test]
fn gateway_errors_alone_say_that_a_removed_operation_is_gone() {
    for (status, expected) in [(503, State::Gone), (500, State::ZombieRemoved), (0, State::Gone)] {
        let mut bench = with_retired();
        bench.call(&get("/users", 200));
        bench.call(&get("/v1/carts", status));
        let row = bench
            .rows_at(1)
            .into_iter()
            .find(|row| row.path_template == "/v1/carts")
            .expect("a row");
        assert_eq!(row.state, expected, "{status}");
    }
}

#[test]
fn removed_and_refused_is_a_zombie_only_where_refusals_mean_something() {
    let mut bench = with_retired();
    bench.call(&get("/users", 200));
    bench.call(&get("/v1/carts", 401));
    let row = |bench: &mut Bench| {
        bench.rows_at(1).into_iter().find(|row| row.path_template == "/v1/carts").expect("a row")
    };
    assert_eq!(row(&mut bench).state, State::Gone);
    for path in ["/a", "/b", "/c"] {
        bench.call(&get(path, 404));
    }
    let row = row(&mut bench);
    assert_eq!((row.state, row.confidence), (State::ZombieRemoved, crate::state::Confidence::Low));
}

#[test]
fn sunset_of_an_undeclared_path_does_not_come_from_a_document() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users", 200));
    bench.call(&get("/shadow", 200));
    let row =
        bench.rows_at(1).into_iter().find(|row| row.path_template == "/shadow").expect("a row");
    assert_eq!((row.state, row.lifecycle), (State::ShadowPath, crate::state::Lifecycle::Supported));
}
