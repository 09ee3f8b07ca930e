//! One operation under several names of its parameters is one row: as its id, so its place.

use super::*;

/// Two documents that name one parameter differently, in scopes of their own.
fn two() -> Bench {
    let document = |server: &str, name: &str| {
        let of = |path: &str| {
            format!("  {path}: {{get: {{responses: {{'200': {{description: one}}}}}}}}\n")
        };
        let (one, keys) =
            (of(&format!("'/users/{{{name}}}'")), of(&format!("'/users/{{{name}}}/keys'")));
        format!(
            "openapi: 3.0.3\ninfo: {{title: {name}, version: '1'}}\nservers: [{{url: '{server}'}}]\npaths:\n{one}{keys}"
        )
    };
    let own = document("http://api.example.com", "user");
    let wide = document("http://{env}.example.com", "id");
    Bench::new(&[&own, &wide])
}

fn rows(bench: &mut Bench, seconds: u64) -> Vec<(String, u64)> {
    let rows = bench.rows_at(seconds);
    let ids: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "an id that two rows have: {rows:#?}");
    rows.into_iter().map(|row| (row.path_template, row.requests)).collect()
}

#[test]
fn two_documents_that_name_a_parameter_differently_give_one_row() {
    let mut bench = two();
    for user in 0..3 {
        bench.call(&get(&format!("/users/{user}"), 200));
    }
    let found = rows(&mut bench, 100);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], ("/users/{user}".to_owned(), 3));
    assert_eq!(found[1].1, 0, "the other operation was never called: {found:?}");
}
