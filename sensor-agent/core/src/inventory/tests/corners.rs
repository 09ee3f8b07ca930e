//! Corner cases of the states that no other file has: redirects to https, instances that differ, sampling, absence of the
//! sensor, catalogues that change in the middle, clocks that jump.

use super::*;

fn state(bench: &mut Bench, path: &str, seconds: u64) -> Option<State> {
    let rows = bench.rows_at(seconds).into_iter();
    rows.filter(|row| row.path_template == path && row.method == "GET").map(|row| row.state).next()
}

#[test]
fn http_to_https_of_a_declared_path_is_nothing_new() {
    let mut bench = Bench::new(&[SHOP]);
    for _ in 0..20 {
        let location = Some("https://api.example.com/users");
        bench.call(&Call { location, ..get("/users", 301) });
    }
    let mut expected = silent(&["GET /users"], State::Pending);
    expected.push(("GET", "/users", State::Declared));
    expected.sort_by_key(|(method, path, _)| (*path, *method));
    bench.check(1, &expected);
}

#[test]
fn served_by_one_instance_and_404_by_another_is_served() {
    let mut bench = Bench::new(&[SHOP]);
    for _ in 0..20 {
        bench.call(&Call { server: "10.0.0.2:80", ..get("/users", 200) });
        bench.call(&Call { server: "10.0.0.3:80", ..get("/users", 404) });
    }
    assert_eq!(state(&mut bench, "/users", 1), Some(State::Declared));
}

#[test]
fn generic_redirects_of_a_declared_path_make_it_missing_and_a_redirect_of_its_own_does_not() {
    let mut bench = Bench::new(&[SHOP]);
    for path in ["/a", "/b", "/c"] {
        bench.call(&Call { location: Some("/login"), ..get(path, 302) });
    }
    bench.call(&Call { location: Some("/users/1"), ..get("/old", 302) });
    for _ in 0..10 {
        bench.call(&Call { location: Some("/login"), ..get("/users", 302) });
        bench.call(&Call { location: Some("/login"), ..get("/old", 302) });
    }
    assert_eq!(state(&mut bench, "/users", 1), Some(State::Missing));
    assert_eq!(state(&mut bench, "/old", 1), Some(State::ZombieDeprecated), "it was served once");
}

#[test]
fn generic_redirects_stay_generic_over_a_restart() {
    let mut bench = Bench::new(&[SHOP]);
    for path in ["/a", "/b", "/c"] {
        bench.call(&Call { location: Some("/login"), ..get(path, 302) });
    }
    for _ in 0..10 {
        bench.call(&Call { location: Some("/login"), ..get("/users", 302) });
    }
    let mut second = Bench::new(&[SHOP]);
    for record in &bench.inventory.take_changes(&Mask::default()).records {
        second.inventory.restore(record.table, &record.body).expect("restored");
    }
    second.inventory.set_catalogue(&second.catalogue);
    assert_eq!(state(&mut second, "/users", 1), Some(State::Missing));
}

#[test]
fn generic_redirects_of_one_pod_make_no_endpoint_where_another_answers_404() {
    let mut bench = Bench::new(&[]);
    for server in ["10.0.0.2:80", "10.0.0.3:80"] {
        for path in ["/users", "/orders", "/carts", "/items", "/plans", "/prices"] {
            bench.call(&Call { server, ..get(path, 200) });
        }
        for path in ["/a", "/b", "/c"] {
            bench.call(&Call { server, location: Some("/login"), ..get(path, 302) });
        }
    }
    bench.call(&Call { server: "10.0.0.2:80", ..get("/late", 404) });
    bench.call(&Call { server: "10.0.0.3:80", location: Some("/login"), ..get("/late", 302) });
    let rows = bench.rows_at(1);
    assert!(rows.iter().all(|row| row.path_template != "/late"), "{rows:?}");
    assert_eq!(rows.len(), 6, "one service");
}

#[test]
fn sampled_at_one_percent_nothing_is_dormant() {
    let mut bench = Bench::new(&[SHOP]);
    for second in 0..200 {
        bench.call(&Call { weight: 100, ..get("/users/1", 200) });
        bench.inventory.sampled(at(second));
        bench.inventory.alive(at(second));
    }
    let rows = bench.rows_at(200);
    assert!(rows.iter().all(|row| row.state != State::Dormant && row.state != State::Retired));
    let silent: Vec<_> = rows.iter().filter(|row| row.requests == 0).collect();
    assert!(silent.len() >= 5);
    assert!(silent.iter().all(|row| row.not_covered == Some(NotCovered::Sampled)), "{silent:#?}");
}

#[test]
fn away_for_more_than_a_hundredth_of_the_window_is_not_covered() {
    for (away, expected) in [(1, State::Dormant), (2, State::NotCovered)] {
        let mut bench = Bench::new(&[SHOP]);
        let mut inventory = Inventory::new(InventoryLimits::default(), [1, 2]);
        inventory.set_window(100 * S);
        inventory.attached(at(100 + away), Attached::Now);
        inventory.restore_spans(&[Span { from: at(0), to: at(100) }]);
        bench.inventory = inventory;
        bench.call(&get("/users/1", 200));
        assert_eq!(state(&mut bench, "/old", 190), Some(expected), "{away} s");
    }
}

#[test]
fn a_catalogue_that_changes_in_the_middle_changes_states_at_once_and_tells_them_once() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users/1", 200));
    bench.call(&get("/basket", 200));
    let told = |bench: &mut Bench| {
        let mut states = Vec::new();
        bench.inventory.set_catalogue(&bench.catalogue);
        bench.inventory.tell_changes(at(1), &Mask::default(), 100, |event| {
            states.push((event.row.path_template.clone(), event.row.state));
        });
        states.sort();
        states
    };
    let first =
        [("/basket".to_owned(), State::ShadowPath), ("/users/{id}".to_owned(), State::Declared)];
    assert_eq!(told(&mut bench), first);
    assert_eq!(told(&mut bench), []);
    bench.catalogue = catalogue(&[&SHOP.replace("/old:", "/basket:")]);
    bench.call(&get("/users/2", 200));
    assert_eq!(told(&mut bench), [("/basket".to_owned(), State::ZombieDeprecated)]);
    assert_eq!(told(&mut bench), [], "nothing twice");
}

#[test]
fn what_a_document_named_is_the_same_endpoint_once_no_document_names_it() {
    let mut bench = Bench::new(&[SHOP]);
    bench.calls(3, &get("/users/1", 200));
    bench.catalogue = catalogue(&[&SHOP.replace("/users/{id}", "/people/{id}")]);
    bench.calls(3, &get("/users/2", 200));
    let rows = bench.rows_at(1);
    let users: Vec<_> = rows.iter().filter(|row| row.path_template.contains("/users/{")).collect();
    assert_eq!(users.len(), 1, "{users:#?}");
    assert_eq!((users[0].requests, users[0].state), (6, State::ShadowPath));
}

#[test]
fn a_clock_that_jumps_changes_no_state() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users/1", 200));
    bench.call(&get("/old", 200));
    let before = bench.states_at(10);
    // Back by an hour and forth again, between two requests.
    for second in [0, 5] {
        let mut exchange = exchange(&get("/users/2", 200), at(second).0);
        exchange.time = UnixNs(at(second).0 - 3_600 * S);
        bench.inventory.alive(exchange.time);
        bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
    }
    assert_eq!(bench.states_at(10), before);
}
