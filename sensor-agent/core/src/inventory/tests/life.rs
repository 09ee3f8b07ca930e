//! Lifecycle by what responses announce (`Deprecation`, `Sunset`, `Link`), beside what documents say.
//!
//! Corner cases of the state table, and where each is tested: `Deprecation` in the future, `Sunset` at its time and on a shadow
//! path, announcements that differ from the document, here; 404 among 200, 405, HEAD, preflight, 301 to https, sunset of a document,
//! coverage, absence, sampling, catalogue reload in `tests.rs`; 308 to `/v2`, removed and added again, a removed literal under a wider
//! template in `removed.rs`; attachment in `watch.rs`; catch-all servers in `hostile.rs`.

use super::*;
use crate::state::Lifecycle;

/// Seconds after `START` as an HTTP-date of the first hours of 2026.
fn date(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("Thu, 01 Jan 2026 {hours:02}:{minutes:02}:{:02} GMT", seconds % 60)
}

fn unix(seconds: u64) -> String {
    format!("@{}", START + seconds)
}

struct Said<'a> {
    deprecation: Option<&'a str>,
    sunset: Option<&'a str>,
    link: Option<&'a str>,
}

const NOTHING: Said<'_> = Said { deprecation: None, sunset: None, link: None };

fn say(bench: &mut Bench, target: &str, said: &Said<'_>) {
    let fields: Vec<(&str, &str)> =
        [("deprecation", said.deprecation), ("sunset", said.sunset), ("link", said.link)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
    bench.clock += 1;
    let mut exchange = exchange(&get(target, 200), at(0).0 + bench.clock * 1_000);
    exchange.response = crate::http::written_response(&fields);
    bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
}

fn row(bench: &mut Bench, template: &str, seconds: u64) -> EndpointRow {
    let rows = bench.rows_at(seconds);
    rows.into_iter().find(|row| row.path_template == template).expect(template)
}

#[test]
fn a_deprecation_ahead_changes_nothing_and_is_shown() {
    let mut bench = Bench::new(&[SHOP]);
    say(&mut bench, "/users", &Said { deprecation: Some(&unix(30)), ..NOTHING });
    let before = row(&mut bench, "/users", 29);
    assert_eq!((before.state, before.deprecation_unix_ns), (State::Declared, Some(at(30))));
    let after = row(&mut bench, "/users", 30);
    assert_eq!((after.state, after.lifecycle), (State::ZombieDeprecated, Lifecycle::Deprecated));
}

#[test]
fn older_spellings_of_a_deprecation_are_read() {
    for text in ["true", "?1", &date(0), &unix(0)] {
        let mut bench = Bench::new(&[SHOP]);
        say(&mut bench, "/users", &Said { deprecation: Some(text), ..NOTHING });
        assert_eq!(row(&mut bench, "/users", 5).state, State::ZombieDeprecated, "{text}");
    }
    for text in ["false", "", "yes", "@x", &"9".repeat(64)] {
        let mut bench = Bench::new(&[SHOP]);
        say(&mut bench, "/users", &Said { deprecation: Some(text), ..NOTHING });
        assert_eq!(row(&mut bench, "/users", 5).state, State::Declared, "{text}");
    }
}

#[test]
fn a_sunset_one_second_before_and_at_its_time() {
    let mut bench = Bench::new(&[SHOP]);
    let said = Said { deprecation: Some(&unix(0)), sunset: Some(&date(40)), ..NOTHING };
    say(&mut bench, "/users", &said);
    assert_eq!(row(&mut bench, "/users", 39).state, State::Deprecated);
    assert_eq!(row(&mut bench, "/users", 40).state, State::ZombieSunset);
    assert_eq!(row(&mut bench, "/users", 40).sunset_unix_ns, Some(at(40)));
    assert_eq!(row(&mut bench, "/users", 200).state, State::Retired, "silent for the window");
}

#[test]
fn a_sunset_on_a_shadow_path_makes_it_a_zombie() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users", 200));
    say(&mut bench, "/shadow", &Said { sunset: Some(&date(10)), ..NOTHING });
    assert_eq!(row(&mut bench, "/shadow", 9).state, State::ShadowPath);
    let row = row(&mut bench, "/shadow", 10);
    assert_eq!(row.state, State::ZombieSunset);
    assert!(row.declaration.is_undeclared());
}

#[test]
fn a_deprecated_shadow_path_stays_one() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users", 200));
    say(&mut bench, "/shadow", &Said { deprecation: Some("true"), ..NOTHING });
    let row = row(&mut bench, "/shadow", 5);
    assert_eq!((row.state, row.lifecycle), (State::ShadowPath, Lifecycle::Deprecated));
}

#[test]
fn the_document_wins_and_the_difference_is_told() {
    let mut bench = Bench::new(&[SHOP]);
    say(&mut bench, "/plan", &Said { sunset: Some(&date(10)), ..NOTHING });
    let row = row(&mut bench, "/plan", 20);
    assert_eq!(row.state, State::Deprecated);
    assert!(row.drift.is_some_and(|text| text.contains("another sunset")));
}

#[test]
fn a_sunset_before_its_deprecation_is_ignored_and_told() {
    let mut bench = Bench::new(&[SHOP]);
    let said = Said { deprecation: Some(&unix(20)), sunset: Some(&date(10)), ..NOTHING };
    say(&mut bench, "/users", &said);
    let row = row(&mut bench, "/users", 15);
    assert_eq!((row.state, row.sunset_unix_ns), (State::Declared, None));
    assert!(row.drift.is_some_and(|text| text.contains("ignored")));
}

#[test]
fn an_announcement_is_withdrawn_by_ten_successes_without_it() {
    let mut bench = Bench::new(&[SHOP]);
    say(&mut bench, "/users", &Said { deprecation: Some("true"), ..NOTHING });
    bench.calls(9, &get("/users", 200));
    assert_eq!(row(&mut bench, "/users", 5).state, State::ZombieDeprecated);
    bench.calls(1, &get("/users", 200));
    assert_eq!(row(&mut bench, "/users", 5).state, State::Declared);
}

#[test]
fn a_link_names_the_next_version_without_values() {
    let mut bench = Bench::new(&[SHOP]);
    let link = "<https://api.example.com/v2/users/4711?token=hunter2>; rel=\"successor-version\"";
    say(&mut bench, "/users", &Said { link: Some(link), ..NOTHING });
    let row = row(&mut bench, "/users", 5);
    assert_eq!(row.state, State::Declared, "a link deprecates nothing");
    let successor = row.successor.expect("a successor");
    assert!(successor.starts_with("/v2/users/{"), "{successor}");
}

#[test]
fn pages_about_a_life_are_shown_without_values_and_change_nothing() {
    let mut bench = Bench::new(&[SHOP]);
    let link = "<https://me@docs.example/users/4711/end?token=hunter2>; rel=deprecation, </sunset>; rel=sunset";
    say(&mut bench, "/users", &Said { link: Some(link), ..NOTHING });
    let row = row(&mut bench, "/users", 5);
    assert_eq!((row.state, row.deprecation_unix_ns), (State::Declared, None));
    let page = row.deprecation_page.expect("a page");
    assert!(page.starts_with("https://docs.example/users/{") && page.ends_with("/end"), "{page}");
    assert_eq!((row.sunset_page.as_deref(), row.successor), (Some("/sunset"), None));
}

#[test]
fn links_alone_take_no_date_back() {
    let mut bench = Bench::new(&[SHOP]);
    say(&mut bench, "/users", &Said { sunset: Some(&date(10)), ..NOTHING });
    let link = |page: &str| format!("<https://docs.example/{page}>; rel=sunset");
    for _ in 0..9 {
        say(&mut bench, "/users", &Said { link: Some(&link("end")), ..NOTHING });
    }
    let now = row(&mut bench, "/users", 20);
    assert_eq!(now.state, State::ZombieSunset);
    assert_eq!(now.sunset_page.as_deref(), Some("https://docs.example/end"));
    // As a response without any announcement would.
    say(&mut bench, "/users", &Said { link: Some(&link("over")), ..NOTHING });
    let now = row(&mut bench, "/users", 20);
    assert_eq!((now.state, now.sunset_unix_ns), (State::Declared, None));
    assert_eq!(now.sunset_page.as_deref(), Some("https://docs.example/over"));
}

#[test]
fn announcements_outlive_a_restart() {
    let mut bench = Bench::new(&[SHOP]);
    let link = "<https://docs.example/end>; rel=sunset";
    let said = Said { sunset: Some(&date(10)), link: Some(link), ..NOTHING };
    say(&mut bench, "/users", &said);
    let changes = bench.inventory.take_changes(&Mask::default());
    let mut again = Bench::new(&[SHOP]);
    for record in changes.records {
        again.inventory.restore(record.table, &record.body).expect("a record");
    }
    again.inventory.set_catalogue(&again.catalogue);
    let row = row(&mut again, "/users", 10);
    assert_eq!(row.state, State::ZombieSunset);
    assert_eq!(row.sunset_page.as_deref(), Some("https://docs.example/end"));
}
