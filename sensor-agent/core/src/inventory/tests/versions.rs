//! Versions side by side: shares of calls and callers, and what a higher version takes the place of.

use super::*;

fn superseded(rows: &[EndpointRow], template: &str) -> Option<(String, u64)> {
    let row = rows.iter().find(|row| row.path_template == template).expect(template);
    row.superseded.as_ref().map(|it| (it.by.clone(), it.requests))
}

#[test]
fn shares_of_calls_and_callers_are_told_by_version() {
    let mut bench = Bench::new(&[]);
    for (version, client, calls) in [("v1", 1, 2), ("v1", 2, 1), ("v2", 2, 1), ("v10", 3, 4)] {
        for _ in 0..calls {
            bench.call(&Call { client, ..get(&format!("/api/{version}/users"), 200) });
        }
    }
    bench.call(&get("/api/v1/old", 200));
    let view =
        bench.inventory.view(at(1), &bench.catalogue, &Mask::default(), &RowFilter::default());
    let [family] = &*view.versions else { panic!("{:?}", view.versions) };
    assert_eq!((&*family.service, &*family.family), ("api.example.com", "/api/{version}"));
    let shares: Vec<_> = family
        .versions
        .iter()
        .map(|it| (&*it.version, it.endpoints, it.requests, it.clients))
        .collect();
    assert_eq!(shares, [("v10", 1, 4, 1), ("v2", 1, 1, 1), ("v1", 2, 4, 2)]);
    let first = &family.versions[0];
    assert!((first.share - 0.4444).abs() < 1e-9 && (first.clients_share - 0.3333).abs() < 1e-9);
    // Calls leave with the window.
    let view =
        bench.inventory.view(at(90), &bench.catalogue, &Mask::default(), &RowFilter::default());
    assert_eq!(view.versions[0].versions.iter().map(|it| it.requests).sum::<u64>(), 0);
}

#[test]
fn a_higher_version_that_succeeds_supersedes_the_same_method_and_template_only() {
    let mut bench = Bench::new(&[]);
    bench.call(&get("/v1/users/1", 200));
    bench.call(&get("/v3/users/7", 404));
    bench.call(&Call { method: "POST", ..get("/v1/users", 200) });
    bench.call(&get("/v2/users", 200));
    bench.call(&get("/v2beta1/users/7", 200));
    bench.call(&Call { host: "other.example", server: "10.0.0.9:80", ..get("/v9/users/1", 200) });
    assert_eq!(superseded(&bench.rows_at(1), "/v1/users/{user_id}"), Some(("v2beta1".into(), 1)));
    bench.call(&get("/v2/users/7", 200));
    bench.call(&get("/v2/users/8", 200));
    let rows = bench.rows_at(1);
    assert_eq!(superseded(&rows, "/v1/users/{user_id}"), Some(("v2".into(), 2)));
    assert_eq!(superseded(&rows, "/v2beta1/users/{user_id}"), Some(("v2".into(), 2)));
    assert_eq!(superseded(&rows, "/v1/users"), None);
    assert_eq!(superseded(&rows, "/v2/users/{user_id}"), None);
    let row = rows.iter().find(|row| row.path_template == "/v1/users/{user_id}").expect("a row");
    let version = row.version.as_ref().expect("a version");
    assert_eq!((&*version.version, &*version.family), ("v1", "/{version}/users/{user_id}"));
    assert_eq!(row.state, State::Observed, "an attribute, never a state");
}
