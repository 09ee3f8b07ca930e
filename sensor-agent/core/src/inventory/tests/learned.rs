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

fn restarted(bench: &mut Bench) -> Bench {
    let mut again = Bench::new(&[]);
    for record in bench.inventory.take_changes(&Mask::default()).records {
        again.inventory.restore(record.table, &record.body).expect("its own record");
    }
    again.inventory.learn_restored();
    again
}

fn template_of(bench: &mut Bench, path: &str) -> String {
    bench.inventory.template_of(&exchange(&get(path, 200), at(40).0), &bench.catalogue)
}

#[test]
fn what_was_learned_outlives_a_restart() {
    let mut bench = Bench::new(&[]);
    let calls = |bench: &mut Bench, name: &str, number: usize| {
        bench.call(&get(&format!("/users/{name}"), 200));
        bench.call(&get(&format!("/users/{name}/orders"), 200));
        bench.call(&get(&format!("/repos/{name}/{name}-tools/issues"), 200));
        bench.call(&get("/users/me", 200));
        bench.call(&get(&format!("/orders/{number}"), 200));
        bench.call(&get("/orders/export", 200));
        bench.call(&get(&format!("/reports/{number}.json"), 200));
        bench.call(&get(&format!("/days/2026-11-{:02}", number % 30 + 1), 200));
        bench.call(&get("/status", 200));
    };
    for (number, name) in names().enumerate() {
        calls(&mut bench, &name, number + 100);
    }
    // What was stored before it was learned is stored anew.
    bench.inventory.take_changes(&Mask::default());
    let before = templates(&mut bench);
    told(&mut bench);
    let mut again = restarted(&mut bench);
    let restored = again.rows_at(50).into_iter().map(|row| (row.path_template, row.requests));
    assert_eq!(restored.collect::<Vec<_>>(), before, "as before");
    for (path, expected) in [
        ("/users/somebody", "/users/{user_id}"),
        ("/users/somebody/orders", "/users/{user_id}/orders"),
        ("/users/me", "/users/me"),
        ("/repos/a/b/issues", "/repos/{repo_id}/{repo_id_2}/issues"),
        ("/orders/17", "/orders/{order_id}"),
        ("/orders/export", "/orders/export"),
        ("/orders/import", "/orders/import"),
        ("/reports/17.json", "/reports/{report_id}.json"),
        ("/days/2027-01-01", "/days/{date}"),
    ] {
        assert_eq!(template_of(&mut again, path), expected, "{path}");
    }
    // What comes now is told by nobody as new, whenever templates are read anew.
    for (number, name) in ["zoe", "yann", "xenia"].into_iter().cycle().take(200).enumerate() {
        calls(&mut again, name, number + 1000);
        if number == 5 {
            again.inventory.learn_all();
        }
    }
    let after = templates(&mut again);
    let paths = |rows: &[(String, u64)]| rows.iter().map(|row| row.0.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&after), paths(&before));
    assert_eq!(told(&mut again), Vec::<String>::new());
    // And over one more.
    let mut third = restarted(&mut again);
    assert_eq!(template_of(&mut third, "/users/somebody"), "/users/{user_id}");
}

#[test]
fn a_literal_beside_a_known_parameter_is_found_after_a_restart() {
    let mut bench = Bench::new(&[]);
    for name in names() {
        bench.call(&get(&format!("/users/{name}"), 200));
        bench.call(&get(&format!("/users/{name}/orders"), 200));
        bench.call(&get("/status", 200));
    }
    templates(&mut bench);
    let mut again = restarted(&mut bench);
    assert_eq!(template_of(&mut again, "/users/export"), "/users/{user_id}");
    for name in names().skip(100) {
        again.call(&get(&format!("/users/{name}x"), 200));
        again.call(&get(&format!("/users/{name}x/orders"), 200));
        for _ in 0..4 {
            again.call(&get("/users/export", 200));
        }
    }
    let rows = templates(&mut again);
    let found: Vec<&str> = rows.iter().map(|row| &*row.0).collect();
    assert_eq!(found, ["/status", "/users/export", "/users/{user_id}", "/users/{user_id}/orders"]);
}

#[test]
fn a_service_that_comes_late_learns_too() {
    let mut bench = Bench::new(&[]);
    bench.inventory.limits.learned_nodes = 20_000;
    let call = |bench: &mut Bench, server: &str, path: &str| {
        bench.call(&Call { server, ..get(path, 200) });
    };
    for owner in names() {
        for repo in names() {
            call(&mut bench, "10.0.0.2:80", &format!("/repos/{owner}/{repo}"));
        }
    }
    for name in names() {
        call(&mut bench, "10.0.0.3:80", &format!("/users/{name}"));
        call(&mut bench, "10.0.0.3:80", &format!("/users/{name}/orders"));
    }
    let rows = templates(&mut bench);
    let found: Vec<&str> = rows.iter().map(|row| &*row.0).collect();
    assert_eq!(
        found,
        ["/repos/{repo_id}/{repo_id_2}", "/users/{user_id}", "/users/{user_id}/orders"]
    );
}
