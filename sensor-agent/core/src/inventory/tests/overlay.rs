//! What operators say of endpoints, at the next evaluation and at its end.

use super::*;

const USERS: &str = "\
openapi: 3.0.3
info: {title: Users, version: '1'}
servers: [{url: http://api.example.com}]
paths:
  /users/{id}:
    get: {responses: {'200': {description: one}}}
";

fn said(path_template: &str) -> Said {
    Said {
        service: "api.example.com".into(),
        method: "GET".into(),
        path_template: path_template.into(),
        owner: "team-a".into(),
        text: "known".into(),
        by: "root".into(),
        since: at(0),
        until: None,
    }
}

/// State of a template, if it has a row.
fn state(bench: &mut Bench, seconds: u64, template: &str) -> Option<State> {
    bench
        .rows_at(seconds)
        .into_iter()
        .find(|row| row.path_template == template)
        .map(|row| row.state)
}

#[test]
fn an_accepted_endpoint_is_declared_and_declares_nothing_else() {
    let mut bench = Bench::new(&[USERS]);
    for target in ["/debug/17", "/debug/all", "/other"] {
        bench.calls(3, &get(target, 200));
    }
    assert_eq!(state(&mut bench, 1, "/debug/{debug_id}"), Some(State::ShadowPath));
    let mut overlay = Overlay::default();
    // The names of parameters do not count.
    overlay.say(Word::Accepted, said("/debug/{id}")).unwrap();
    bench.inventory.set_overlay(overlay);
    let rows = bench.rows_at(1);
    let row = rows.iter().find(|row| row.path_template == "/debug/{debug_id}").unwrap();
    assert_eq!((row.state, row.declaration), (State::Declared, DeclarationKind::Current));
    assert_eq!(row.declared_owner.as_deref(), Some("team-a"));
    assert_eq!(row.accepted.as_ref().map(|said| &*said.note), Some("known"));
    assert_eq!(state(&mut bench, 1, "/debug/all"), Some(State::ShadowPath));
    assert_eq!(state(&mut bench, 1, "/other"), Some(State::ShadowPath));
    bench.inventory.set_overlay(Overlay::default());
    assert_eq!(state(&mut bench, 1, "/debug/{debug_id}"), Some(State::ShadowPath));
}

#[test]
fn an_accepted_endpoint_stays_when_it_is_silent_for_long() {
    let mut bench = Bench::new(&[]);
    bench.call(&get("/a", 200));
    bench.call(&get("/b", 200));
    let mut overlay = Overlay::default();
    overlay.say(Word::Accepted, said("/a")).unwrap();
    bench.inventory.set_overlay(overlay);
    let late = 91 * 86_400;
    bench.inventory.alive(at(late));
    bench.inventory.tell_changes(at(late), &Mask::default(), usize::MAX, |_| ());
    assert_eq!(state(&mut bench, late, "/a"), Some(State::Dormant));
    assert_eq!(state(&mut bench, late, "/b"), None, "past its retention");
}

#[test]
fn an_ignored_endpoint_is_ignored_until_its_time_and_told_as_that() {
    let mut bench = Bench::new(&[]);
    bench.call(&get("/a", 200));
    let mut told = Vec::new();
    let mut tell = |bench: &mut Bench, seconds| {
        let mut now = Vec::new();
        bench.inventory.tell_changes(at(seconds), &Mask::default(), usize::MAX, |event| {
            now.push(event.row.state);
        });
        told.extend(now);
    };
    tell(&mut bench, 1);
    let mut overlay = Overlay::default();
    overlay.say(Word::Ignored, Said { until: Some(at(10)), ..said("/a") }).unwrap();
    bench.inventory.set_overlay(overlay.clone());
    tell(&mut bench, 2);
    let row = bench.rows_at(9).remove(0);
    assert_eq!(row.state, State::Ignored);
    assert_eq!(row.ignored.and_then(|said| said.expires_unix_ns), Some(at(10)));
    let row = bench.rows_at(10).remove(0);
    assert_eq!((row.state, row.ignored), (State::Observed, None));
    tell(&mut bench, 10);
    assert_eq!(told, [State::Observed, State::Ignored, State::Observed]);
    assert_eq!((overlay.sweep(at(9)), overlay.sweep(at(10))), (0, 1));
    assert!(overlay.is_empty());
}

#[test]
fn what_a_document_retired_is_not_taken_back_by_acceptance() {
    let mut bench = Bench::new(&[USERS]);
    bench.call(&get("/users/17", 200));
    let mut overlay = Overlay::default();
    overlay.say(Word::Accepted, said("/users/{id}")).unwrap();
    bench.inventory.set_overlay(overlay);
    assert_eq!(state(&mut bench, 1, "/users/{id}"), Some(State::Declared));
}

#[test]
fn the_overlay_has_a_bound() {
    let mut overlay = Overlay::default();
    for number in 0..crate::limits::OVERLAY_ENTRIES_MAX {
        overlay.say(Word::Ignored, said(&format!("/{number}"))).unwrap();
    }
    assert_eq!(overlay.say(Word::Ignored, said("/one-more")), Err(OverlayFull));
    assert_eq!(overlay.say(Word::Ignored, said("/1")), Ok(()), "said again");
    assert_eq!(overlay.all(Word::Ignored).len(), crate::limits::OVERLAY_ENTRIES_MAX);
    assert!(overlay.take_back(Word::Ignored, "api.example.com", "GET", "/1").is_some());
    assert_eq!(overlay.take_back(Word::Ignored, "api.example.com", "GET", "/1"), None);
}

#[test]
fn what_was_said_is_found_by_its_name() {
    let mut overlay = Overlay::default();
    overlay.say(Word::Ignored, said("/debug/{id}")).unwrap();
    let check = |word, name: &str, expected: bool| {
        assert_eq!(overlay.named(word, name).is_some(), expected, "{name}");
    };
    check(Word::Ignored, "GET api.example.com/debug/{debug_id}", true);
    check(Word::Ignored, "get  api.example.com/debug/{id}", true);
    check(Word::Accepted, "GET api.example.com/debug/{id}", false);
    check(Word::Ignored, "POST api.example.com/debug/{id}", false);
    check(Word::Ignored, "GET example.com/debug/{id}", false);
    check(Word::Ignored, "GET api.example.com/debug", false);
    check(Word::Ignored, "4f3c", false);
}
