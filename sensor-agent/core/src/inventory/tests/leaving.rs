//! What is on its way out: days left, remaining callers, trend, and what shows that it is off. The window is 60 s here.

use super::*;

fn call_at(bench: &mut Bench, second: u64, way: Way, call: &Call<'_>) {
    let exchange = exchange(call, at(second).0);
    let origin = Origin { way, ..Origin::of(&exchange) };
    bench.inventory.observe_of(&exchange, origin, Role::Server, &bench.catalogue);
}

fn row(bench: &mut Bench, template: &str, second: u64) -> EndpointRow {
    let rows = bench.rows_at(second);
    rows.into_iter().find(|row| row.path_template == template).expect(template)
}

fn restarted(bench: &mut Bench) -> Bench {
    let mut again = Bench::new(&[]);
    again.catalogue = std::mem::take(&mut bench.catalogue);
    again.inventory.restore_spans(&bench.inventory.spans());
    for record in bench.inventory.take_changes(&Mask::default()).records {
        again.inventory.restore(record.table, &record.body).expect("its own record");
    }
    again.inventory.learn_restored();
    again.inventory.set_catalogue(&again.catalogue);
    again
}

#[test]
fn what_is_supported_has_no_clock() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users", 200));
    let row = row(&mut bench, "/users", 1);
    assert_eq!((row.sunset_days_left, row.remaining_callers), (None, None));
    assert!(row.trend.is_none() && row.decommission.is_none());
}

#[test]
fn a_sunset_ahead_counts_down_with_its_callers() {
    let mut bench = Bench::new(&[SHOP]);
    for client in 1..=3 {
        call_at(&mut bench, 0, Way::Unknown, &Call { client, ..get("/plan", 200) });
    }
    call_at(&mut bench, 70, Way::Unknown, &Call { client: 9, ..get("/plan", 200) });
    let now = row(&mut bench, "/plan", 71);
    assert_eq!((now.state, now.sunset_days_left), (State::Deprecated, Some(365)));
    assert_eq!((now.clients, now.remaining_callers), (4, Some(1)));
    let trend = now.trend.expect("a trend");
    assert_eq!((trend.window, trend.before, trend.both_watched), (1, 3, false));
    let mut again = restarted(&mut bench);
    let later = row(&mut again, "/plan", 71);
    assert_eq!((later.remaining_callers, later.trend.map(|it| it.before)), (Some(1), Some(3)));
    let trend = row(&mut bench, "/plan", 129).trend.expect("a trend");
    assert_eq!((trend.window, trend.before, trend.both_watched), (1, 0, true));
}

#[test]
fn who_came_past_the_proxies_is_not_pushed_out_by_later_callers() {
    let mut bench = Bench::new(&[SHOP]);
    for client in 1..=40 {
        call_at(&mut bench, 30, Way::Proxied, &Call { client, ..get("/past", 200) });
    }
    // Read later than it came.
    call_at(&mut bench, 20, Way::Past, &Call { client: 99, ..get("/past", 200) });
    let proof = row(&mut bench, "/past", 31).decommission.expect("a proof");
    assert_eq!(proof.bypass_callers, Some(vec!["0.0.0.99".to_owned()]));
}

#[test]
fn more_callers_than_are_kept_by_name_are_estimated_and_leave_with_the_window() {
    let mut bench = Bench::new(&[SHOP]);
    for client in 0..400 {
        call_at(&mut bench, 1, Way::Unknown, &Call { client: client + 1, ..get("/old", 200) });
    }
    let remaining = row(&mut bench, "/old", 2).remaining_callers.expect("a number");
    assert!((340..=460).contains(&remaining), "{remaining}");
    call_at(&mut bench, 110, Way::Unknown, &Call { client: 7, ..get("/old", 200) });
    assert_eq!(row(&mut bench, "/old", 111).remaining_callers, Some(1));
    assert_eq!(row(&mut bench, "/old", 200).remaining_callers, Some(0));
}

#[test]
fn a_retired_endpoint_has_the_proof_that_it_is_off() {
    let mut bench = Bench::new(&[SHOP]);
    for (second, server, status) in [
        (1, "10.0.0.2:80", 200),
        (5, "10.0.0.2:80", 410),
        (6, "10.0.0.3:80", 404),
        (7, "10.0.0.4:80", 200),
    ] {
        let call = Call { server, ..get("/past", status) };
        let way = if second == 6 { Way::Past } else { Way::Proxied };
        call_at(&mut bench, second, way, &call);
    }
    let now = row(&mut bench, "/past", 8);
    assert_eq!(now.state, State::ZombieSunset);
    let proof = now.decommission.expect("a proof");
    assert_eq!(proof.calls, 4);
    assert_eq!(proof.instances_gone, ["10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(
        (&*proof.instances_serving, proof.instances_unasked),
        (&["10.0.0.4:80".to_owned()][..], 0)
    );
    assert_eq!(proof.bypass_callers, Some(vec!["0.0.0.1".to_owned()]));
    let later = row(&mut bench, "/past", 100);
    assert_eq!(later.state, State::Retired);
    let proof = later.decommission.expect("a proof");
    assert_eq!((proof.calls, later.remaining_callers), (0, Some(0)));
    assert_eq!(proof.bypass_callers, Some(Vec::new()));
    assert!(later.sunset_days_left.is_some_and(|days| days < 0));
}

#[test]
fn what_was_removed_and_never_asked_has_a_proof_too() {
    let old = SHOP
        .replace("'1'", "'0.9'")
        .replace("/users: {get", "/gone: {get: {responses: {}}}\n  /users: {get");
    let mut bench = Bench::new(&[]);
    bench.catalogue = load(&[("retired/shop.yaml".into(), &old), ("shop.yaml".into(), SHOP)]);
    bench.call(&get("/users", 200));
    let row = row(&mut bench, "/gone", 100);
    let proof = row.decommission.expect("a proof");
    assert_eq!(
        (row.declaration, proof.calls, proof.instances_unasked),
        (crate::state::DeclarationKind::OlderOnly, 0, 1)
    );
    assert_eq!(proof.bypass_callers, None);
}
