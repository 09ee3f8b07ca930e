//! Templates of operators: before what was learned, behind documents, at once also for what was counted.

use std::sync::Arc;

use super::*;

fn pins(text: &str) -> Arc<Pins> {
    Arc::new(Pins::read("t.yaml", text.as_bytes()).unwrap())
}

/// Templates and requests of all rows.
fn rows(bench: &mut Bench) -> Vec<(String, u64)> {
    bench.rows_at(1).into_iter().map(|row| (row.path_template, row.requests)).collect()
}

fn expected(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
    rows.iter().map(|(template, count)| ((*template).to_owned(), *count)).collect()
}

#[test]
fn a_pin_joins_what_was_counted_apart_and_holds_for_new_paths() {
    let mut bench = Bench::new(&[]);
    for target in ["/people/ann", "/people/bob", "/people/me", "/other"] {
        bench.calls(2, &get(target, 200));
    }
    assert_eq!(rows(&mut bench).len(), 4);
    bench.inventory.set_pins(pins(
        "version: 1\ntemplates:\n  - hosts: ['*.example.com']\n    pin: ['/people/{login}', /people/me]\n  - hosts: [other]\n    pin: ['/{any}']\n",
    ));
    assert_eq!(
        rows(&mut bench),
        expected(&[("/other", 2), ("/people/me", 2), ("/people/{login}", 4)])
    );
    bench.call(&get("/people/zoe", 200));
    assert_eq!(rows(&mut bench)[2].1, 5);
    bench.inventory.set_pins(Arc::default());
    assert_eq!(rows(&mut bench)[2].1, 5, "what was joined stays");
    bench.sum_is_whole();
}

#[test]
fn a_literal_is_one_whether_it_is_encoded_or_not() {
    for literal in ["/été/{day}", "/%C3%A9t%c3%a9/{day}"] {
        let pin = format!("version: 1\ntemplates:\n  - pin: ['{literal}']\n");
        let mut bench = Bench::new(&[]);
        bench.call(&get("/%C3%A9t%C3%A9/monday", 200));
        assert_eq!(rows(&mut bench), expected(&[("/%C3%A9t%C3%A9/monday", 1)]));
        bench.inventory.set_pins(pins(&pin));
        assert_eq!(rows(&mut bench), expected(&[("/%C3%A9t%C3%A9/{day}", 1)]), "what was counted");
        bench.call(&get("/%c3%a9t%C3%A9/friday", 200));
        assert_eq!(rows(&mut bench), expected(&[("/%C3%A9t%C3%A9/{day}", 2)]), "{literal}");
    }
}

#[test]
fn a_split_keeps_a_literal_that_would_be_a_value() {
    let mut bench = Bench::new(&[]);
    for number in 0..200 {
        bench.call(&get(&format!("/shops/shop-{number}x/items"), 200));
    }
    bench.inventory.learn_all();
    assert_eq!(rows(&mut bench), expected(&[("/shops/{shop_id}/items", 200)]));
    bench
        .inventory
        .set_pins(pins("version: 1\ntemplates:\n  - split: [/shops/shop-7x]\n    rename: ['/shops/{name}/items']\n"));
    assert_eq!(rows(&mut bench), expected(&[("/shops/{name}/items", 200)]));
    bench.calls(3, &get("/shops/shop-7x/items", 200));
    bench.call(&get("/shops/shop-8x/items", 200));
    let found = bench.rows_at(1);
    let split = found.iter().find(|row| row.path_template == "/shops/{name}/items").unwrap();
    assert_eq!((split.requests, split.counts_split_off), (201, true));
    let own = found.iter().find(|row| row.path_template == "/shops/shop-7x/items").unwrap();
    assert_eq!(own.requests, 3);
    let template = |bench: &mut Bench, path| {
        let exchange = exchange(&get(path, 200), at(0).0);
        bench.inventory.template_of(&exchange, &bench.catalogue)
    };
    assert_eq!(template(&mut bench, "/shops/shop-7x/items"), "/shops/shop-7x/items");
    assert_eq!(template(&mut bench, "/shops/shop-9x/items"), "/shops/{name}/items");
}

#[test]
fn a_document_wins_over_a_pin() {
    let document = "openapi: 3.0.3\ninfo: {title: x, version: '1'}\nservers: [{url: http://api.example.com}]\n\
                    paths:\n  /users/{id}:\n    get: {responses: {'200': {description: one}}}\n";
    let mut bench = Bench::new(&[document]);
    bench
        .inventory
        .set_pins(pins("version: 1\ntemplates:\n  - pin: ['/users/{pinned}', '/x/{pinned}']\n"));
    bench.call(&get("/users/ann", 200));
    bench.call(&get("/x/ann", 200));
    assert_eq!(rows(&mut bench), expected(&[("/users/{id}", 1), ("/x/{pinned}", 1)]));
}

#[test]
fn ids_survive_a_rename() {
    let mut bench = Bench::new(&[]);
    bench.call(&get("/users/17", 200));
    let id = bench.rows_at(1)[0].id.clone();
    bench.inventory.set_pins(pins("version: 1\ntemplates:\n  - rename: ['/users/{number}']\n"));
    let row = bench.rows_at(1).remove(0);
    assert_eq!((row.path_template.as_str(), row.id), ("/users/{number}", id));
}
