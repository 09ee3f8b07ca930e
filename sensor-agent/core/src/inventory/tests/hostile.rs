//! Servers that answer what does not exist: a scan makes at most two rows, and hides none of the real operations.
//!
//! Each server is asked for 10 000 random paths and for 20 real operations, in three orders.

use super::*;
use crate::state::State;

/// An answer: status, media type, bytes of the body, location.
type Answer = (u16, &'static str, Option<u64>, Option<String>);

const HTML: &str = "text/html";
const JSON: &str = "application/json";

/// The operations: ten of them always answer the same few bytes.
const OPERATIONS: [(&str, &str); 20] = [
    ("GET", "/users"),
    ("POST", "/users"),
    ("GET", "/users/{}"),
    ("PUT", "/users/{}"),
    ("DELETE", "/users/{}"),
    ("GET", "/users/{}/orders"),
    ("GET", "/orders"),
    ("POST", "/orders"),
    ("GET", "/orders/{}"),
    ("POST", "/orders/{}/cancel"),
    ("GET", "/orders/export"),
    ("GET", "/products"),
    ("GET", "/products/{}"),
    ("GET", "/carts/{}"),
    ("POST", "/carts/{}/items"),
    ("DELETE", "/carts/{}/items/{}"),
    ("GET", "/status"),
    ("GET", "/search"),
    ("POST", "/login"),
    ("GET", "/v1/reports/{}"),
];

/// A small generator (xorshift): the same traffic in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn word(&mut self) -> String {
        let length = 3 + self.below(10);
        (0..length).map(|_| char::from(b'a' + u8::try_from(self.below(26)).unwrap_or(0))).collect()
    }

    /// What scanners ask for.
    fn path(&mut self) -> String {
        let (one, two) = (self.word(), self.word());
        match self.below(12) {
            0 => format!("/{one}/{two}/{}", self.word()),
            1 => format!("/{one}.php"),
            2 => format!("/{one}/{}", self.below(100_000)),
            3 => format!("/{:016x}{:016x}", self.below(u64::MAX), self.below(u64::MAX)),
            4 => format!("/.{one}"),
            5 => format!("/users/{one}/{two}"),
            6 => format!("/orders/{}/{one}", self.below(1_000)),
            7 => format!("/{}", self.below(1_000_000)),
            8 => format!("/{one}/{two}.jsp"),
            9 => format!("/{one}%2f..%2f{two}"),
            10 => format!("/{one}/{two}"),
            _ => format!("/{one}"),
        }
    }

    fn method(&mut self) -> &'static str {
        match self.below(20) {
            0 => "POST",
            1 => "HEAD",
            _ => "GET",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    ScanFirst,
    ScanLast,
    Mixed,
}

/// Requests of the operations, ten each, and of the scan.
fn traffic(when: When, nowhere: fn(&str, &mut Dice) -> Answer) -> Vec<Exchange> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut all: Vec<(u64, Exchange)> = Vec::new();
    let place = |dice: &mut Dice, scan: bool| match (when, scan) {
        (When::Mixed, _) => dice.below(1 << 32),
        (When::ScanFirst, true) | (When::ScanLast, false) => 0,
        _ => 1,
    };
    for _ in 0..10_000 {
        let (path, method) = (dice.path(), dice.method());
        let answer = nowhere(&path, &mut dice);
        all.push((place(&mut dice, true), made(method, &path, &answer)));
    }
    for (number, (method, template)) in (0_u64..).zip(OPERATIONS) {
        for _ in 0..10 {
            let mut parts = template.split("{}");
            let mut path = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                path.push_str(&dice.below(100_000).to_string());
                path.push_str(part);
            }
            let bytes = if number % 2 == 0 { 120 } else { 200 + dice.below(3_000) };
            let answer = (200, JSON, Some(bytes), None);
            all.push((place(&mut dice, false), made(method, &path, &answer)));
        }
    }
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, exchange)| exchange).collect()
}

fn made(method: &str, path: &str, answer: &Answer) -> Exchange {
    let (status, media, bytes, location) = answer;
    let call =
        Call { method, location: location.as_deref(), content_type: media, ..get(path, *status) };
    let mut exchange = exchange(&call, at(1).0);
    exchange.response.body_bytes = *bytes;
    exchange
}

fn shape(template: &str) -> String {
    let mut out = String::new();
    let mut name = false;
    for c in template.chars() {
        name &= c != '}';
        if !name {
            out.push(c);
        }
        name |= c == '{';
    }
    out
}

fn is_default(row: &EndpointRow) -> bool {
    matches!(row.kind, Kind::Api | Kind::Operational | Kind::Overflow)
}

fn check(what: &str, nowhere: fn(&str, &mut Dice) -> Answer) {
    for (order, when) in
        [("scan first", When::ScanFirst), ("scan last", When::ScanLast), ("mixed", When::Mixed)]
    {
        let mut bench = Bench::new(&[]);
        for exchange in traffic(when, nowhere) {
            bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
        }
        bench.inventory.learn_all();
        let rows = bench.rows_at(50);
        let found = |method: &str, template: &str| {
            rows.iter().any(|row| row.method == method && shape(&row.path_template) == template)
        };
        let missed: Vec<_> = OPERATIONS.iter().filter(|(m, t)| !found(m, t)).collect();
        let extra: Vec<_> = rows
            .iter()
            .filter(|row| {
                !OPERATIONS.iter().any(|(m, t)| row.method == *m && shape(&row.path_template) == *t)
            })
            .map(|row| {
                format!(
                    "{} {} {:?} {:?} {}",
                    row.method, row.path_template, row.kind, row.status, row.counts_split_off
                )
            })
            .collect();
        let some = extra.get(..extra.len().min(12)).unwrap_or_default();
        assert!(missed.is_empty(), "{what}, {order}: not found {missed:?}; {some:?}");
        assert!(extra.len() <= 2, "{what}, {order}: {} more rows, such as {some:?}", extra.len());
        let shown = rows.iter().filter(|row| is_default(row)).count();
        assert_eq!(shown, OPERATIONS.len(), "{what}, {order}: in the default view, {some:?}");
        bench.sum_is_whole();
    }
}

#[test]
fn a_server_that_answers_404_to_everything_unknown() {
    check("404", |_, _| (404, HTML, Some(153), None));
}

#[test]
fn a_server_that_redirects_everything_unknown_to_https() {
    check("301", |path, _| (301, HTML, Some(178), Some(format!("https://api.example.com{path}"))));
}

#[test]
fn a_server_that_redirects_everything_unknown_to_its_login() {
    check("302", |_, _| (302, HTML, Some(0), Some("/login".into())));
}

#[test]
fn a_server_that_redirects_everything_unknown_to_a_place_that_has_the_path() {
    check("302 with the path", |path, _| (302, HTML, None, Some(format!("/en{path}"))));
}

#[test]
fn a_server_that_answers_everything_unknown_with_its_index() {
    check("index.html", |_, _| (200, HTML, Some(1_532), None));
}

#[test]
fn a_server_that_answers_401_to_everything_unknown() {
    check("401", |_, _| (401, JSON, Some(41), None));
}

#[test]
fn a_server_that_answers_401_to_nearly_everything_unknown() {
    check("401 and some 404", |_, dice| match dice.below(10) {
        0 => (404, HTML, Some(153), None),
        _ => (401, JSON, Some(41), None),
    });
}

#[test]
fn a_server_with_one_error_page_under_many_statuses() {
    check("mixed", |path, dice| {
        let status = [200, 404, 403, 500, 200, 404, 503, 400];
        let status = status.get(usize::try_from(dice.below(8)).unwrap_or(0)).copied();
        (status.unwrap_or(404), HTML, Some(2_000 + path.len() as u64), None)
    });
}

#[test]
fn a_server_that_seldom_says_200_to_what_does_not_exist() {
    check("5 % 200", |path, dice| match dice.below(20) {
        0 => (200, HTML, Some(310 + path.len() as u64), None),
        _ => (404, HTML, Some(153), None),
    });
}

#[test]
fn a_site_of_two_thousand_files_shows_its_operations() {
    let mut bench = Bench::new(&[]);
    let mut dice = Dice(7);
    let mut all = traffic(When::ScanFirst, |_, _| (404, HTML, Some(153), None));
    all.retain(|exchange| exchange.status == Some(200));
    for _ in 0..2_000 {
        let (one, two, bytes) = (dice.word(), dice.word(), 300 + dice.below(90_000));
        let (path, media) = match dice.below(8) {
            0 => (format!("/{one}-{two}.html"), HTML),
            1 => (format!("/css/{one}.css"), "text/css"),
            2 => (format!("/js/{one}.{two}.js"), "application/javascript"),
            3 => (format!("/img/{one}/{two}.png"), "image/png"),
            4 => (format!("/{one}/{two}"), HTML),
            5 => (format!("/fonts/{one}.woff2"), "font/woff2"),
            6 => (format!("/{one}.svg"), "image/svg+xml"),
            _ => (format!("/files/{one}.pdf"), "application/pdf"),
        };
        all.push(made("GET", &path, &(200, media, Some(bytes), None)));
    }
    for step in 0..all.len() {
        let other = usize::try_from(dice.below(step as u64 + 1)).unwrap_or(0);
        all.swap(step, other);
    }
    for exchange in &all {
        bench.inventory.observe(exchange, Role::Server, &bench.catalogue);
    }
    bench.inventory.learn_all();
    let rows = bench.rows_at(50);
    let shown: Vec<String> = rows
        .iter()
        .filter(|row| is_default(row))
        .map(|row| format!("{} {}", row.method, shape(&row.path_template)))
        .collect();
    let mut expected: Vec<String> = OPERATIONS.iter().map(|(m, t)| format!("{m} {t}")).collect();
    expected.sort();
    let mut sorted = shown;
    sorted.sort();
    assert_eq!(sorted, expected);
    let assets = rows.iter().filter(|row| row.kind == Kind::Asset).count();
    assert!(assets < 400, "files of one folder and kind are one row: {assets}");
}

#[test]
fn twenty_ids_of_one_operation_are_no_catch_all() {
    let mut bench = Bench::new(&[]);
    for id in 0..500 {
        for first in ["a", "b", "c", "d", "e", "f"] {
            let path = format!("/{first}s/{id}");
            let exchange = made("GET", &path, &(200, JSON, Some(500), None));
            bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
        }
    }
    let templates: Vec<String> =
        bench.rows_at(50).into_iter().map(|row| shape(&row.path_template)).collect();
    assert_eq!(templates, ["/as/{}", "/bs/{}", "/cs/{}", "/ds/{}", "/es/{}", "/fs/{}"]);
}

#[test]
fn what_a_document_declares_is_no_catch_all() {
    let mut bench = Bench::new(&[SHOP]);
    for number in 0..200 {
        let path = format!("/p{number}x/y");
        let exchange = made("GET", &path, &(200, HTML, Some(900), None));
        bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
    }
    let exchange = made("GET", "/users/1", &(200, HTML, Some(900), None));
    bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
    let rows: Vec<_> = bench
        .rows_at(1)
        .into_iter()
        .filter(|row| row.requests > 0)
        .map(|row| (row.path_template, row.state, row.kind, row.requests))
        .collect();
    assert_eq!(
        rows,
        [
            ("/users/{id}".into(), State::Declared, Kind::Api, 1),
            ("/{*}".into(), State::ShadowPath, Kind::Page, 200)
        ]
    );
}

#[test]
fn operations_that_answer_alike_are_told_from_a_scan_by_being_called_again() {
    let mut bench = Bench::new(&[]);
    let words = ["list", "show", "make", "drop", "find"];
    for first in 'a'..='z' {
        for second in words {
            let path = format!("/{first}orders/{second}");
            for _ in 0..6 {
                let exchange = made("GET", &path, &(200, JSON, Some(500), None));
                bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
            }
        }
    }
    let rows = bench.rows_at(50);
    assert!(rows.iter().all(|row| row.path_template != "/{*}"), "{rows:?}");
    assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), 26 * 5 * 6);
}

#[test]
fn a_polled_path_hides_no_server_that_answers_anything() {
    let mut bench = Bench::new(&[]);
    let anything: Answer = (200, JSON, Some(500), None);
    let mut dice = Dice(7);
    let call = |bench: &mut Bench, path: &str| {
        bench.inventory.observe(&made("GET", path, &anything), Role::Server, &bench.catalogue);
    };
    for _ in 0..5_000 {
        call(&mut bench, "/health");
    }
    for _ in 0..2_000 {
        let path = dice.path();
        call(&mut bench, &path);
    }
    let rows = bench.rows_at(50);
    let found: Vec<&str> = rows.iter().map(|row| &*row.path_template).collect();
    assert!(found.len() <= 2, "{} rows: {:?}", found.len(), &found[..found.len().min(10)]);
}
