//! Learned templates in the inventory: rows become one, fall apart, keep their identity and their counts.

use super::*;

fn templates(bench: &mut Bench) -> Vec<(String, u64)> {
    bench.inventory.learn_all();
    bench.rows_at(50).into_iter().map(|row| (row.path_template, row.requests)).collect()
}

fn row(bench: &mut Bench, template: &str) -> EndpointRow {
    let rows = bench.rows_at(50);
    rows.into_iter().find(|row| row.path_template == template).expect(template)
}

fn names() -> impl Iterator<Item = String> {
    (0_u32..150).map(|number| {
        let mixed = number.wrapping_mul(2_654_435_761);
        (0..7)
            .map(|at| char::from(b"bdfgklmnprstvzaeiou"[(mixed >> (at * 3)) as usize % 19]))
            .collect()
    })
}

fn told(bench: &mut Bench) -> Vec<String> {
    let mut told = Vec::new();
    bench.inventory.take_discovered(at(50), &Mask::default(), usize::MAX, |event| {
        told.push(event.row.path_template);
    });
    told
}

#[test]
fn names_become_one_row_and_literals_stay() {
    let mut bench = Bench::new(&[]);
    for name in names() {
        bench.call(&get(&format!("/users/{name}"), 200));
        bench.call(&get(&format!("/users/{name}/orders"), 200));
        bench.call(&get("/users/me", 200));
        bench.call(&get("/status", 200));
    }
    let expected = [
        ("/status", 150),
        ("/users/me", 150),
        ("/users/{user_id}", 150),
        ("/users/{user_id}/orders", 150),
    ];
    assert_eq!(templates(&mut bench), expected.map(|(text, count)| (text.to_owned(), count)));
    bench.sum_is_whole();
}

#[test]
fn requests_without_answers_teach_too() {
    let mut bench = Bench::new(&[]);
    let call = |target: &str| {
        let mut exchange = exchange(&get(target, 200), at(1).0);
        exchange.status = None;
        exchange
    };
    for name in names() {
        for target in [format!("/users/{name}"), format!("/users/{name}/orders"), "/status".into()]
        {
            bench.inventory.observe(&call(&target), Role::Server, &bench.catalogue);
        }
    }
    bench.inventory.learn_all();
    let template = bench.inventory.template_of(&call("/users/somebody"), &bench.catalogue);
    assert_eq!(template, "/users/{user_id}");
}

#[test]
fn a_scan_teaches_nothing() {
    let mut bench = Bench::new(&[]);
    for name in names() {
        bench.call(&get("/users", 200));
        bench.call(&get("/status", 200));
        bench.call(&get(&format!("/{name}"), 404));
    }
    let expected = [("/status", 150), ("/users", 150)];
    assert_eq!(templates(&mut bench), expected.map(|(text, count)| (text.to_owned(), count)));
    let exchange = exchange(&get("/whatever", 404), at(1).0);
    bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
    assert_eq!(bench.inventory.template_of(&exchange, &bench.catalogue), NOWHERE);
}

#[test]
fn a_literal_that_shows_late_is_split_off_and_not_told_as_new() {
    let mut bench = Bench::new(&[]);
    for name in names() {
        bench.call(&get(&format!("/users/{name}"), 200));
        bench.call(&get(&format!("/users/{name}/orders"), 200));
    }
    bench.call(&get("/users/overview", 200));
    let before = templates(&mut bench);
    let expected = [("/users/{user_id}", 151), ("/users/{user_id}/orders", 150)];
    assert_eq!(before, expected.map(|(text, count)| (text.to_owned(), count)));
    let _told = told(&mut bench);
    let id = row(&mut bench, "/users/{user_id}").id;
    for _ in 0..3_000 {
        bench.call(&get("/users/overview", 200));
        bench.call(&Call { method: "POST", ..get("/users/overview", 200) });
        bench.call(&get("/users/overview/totals", 200));
    }
    let after = templates(&mut bench);
    assert!(after.iter().any(|(text, _)| text == "/users/overview"), "{after:?}");
    let told = told(&mut bench);
    assert!(!told.iter().any(|text| text.starts_with("/users/overview")), "{told:?}");
    let parent = row(&mut bench, "/users/{user_id}");
    assert_eq!(parent.id, id);
    assert!(parent.counts_split_off && parent.requests >= 151);
    assert!(!row(&mut bench, "/users/overview").counts_split_off);
    bench.sum_is_whole();
}

#[test]
fn what_a_document_declares_is_not_renamed() {
    let mut bench = Bench::new(&[SHOP]);
    for name in names() {
        bench.call(&get(&format!("/users/{name}"), 200));
        bench.call(&get(&format!("/things/{name}"), 200));
    }
    let texts: Vec<String> = templates(&mut bench).into_iter().map(|(text, _)| text).collect();
    assert!(texts.contains(&"/users/{id}".to_owned()), "{texts:?}");
    assert!(texts.contains(&"/things/{thing_id}".to_owned()), "{texts:?}");
}
