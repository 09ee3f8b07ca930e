//! Documents that name no host, bound by what services were asked; what of each document is used.

use std::collections::BTreeSet;

use super::{
    services::{API, OTHER, fleet, shop},
    *,
};
use crate::inventory::DocumentRow;

impl Bench {
    fn place(&mut self) {
        self.inventory.fold(&self.catalogue);
        if let Some(placed) = self.inventory.place_documents(&self.catalogue) {
            self.catalogue = placed;
            self.inventory.set_catalogue(&self.catalogue);
        }
    }

    fn documents(&self, seconds: u64) -> Vec<DocumentRow> {
        self.inventory.catalogue_coverage(at(seconds), &self.catalogue).documents
    }

    /// State by service and template, of what was called.
    fn states_by_service(&mut self) -> Vec<String> {
        let rows = self.rows_at(1).into_iter().filter(|row| row.requests > 0);
        rows.map(|row| format!("{} {} {}", row.service, row.path_template, row.state)).collect()
    }
}

fn bare(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("servers")).collect();
    lines.join("\n")
}

fn document(paths: &[&str]) -> String {
    let paths: Vec<String> =
        paths.iter().map(|path| format!("  {path}: {{get: {{responses: {{}}}}}}\n")).collect();
    format!("openapi: 3.0.3\ninfo: {{title: T, version: '1'}}\npaths:\n{}", paths.concat())
}

#[test]
fn an_api_under_six_names_and_fifty_addresses_keeps_its_document_without_a_host() {
    let (shop, other) = (bare(&shop()), document(&OTHER));
    for seed in 0..3 {
        let mut bench = fleet(&[&shop, &other], seed);
        bench.place();
        let rows = bench.rows_at(1);
        let declared = rows.iter().filter(|row| row.state == State::Declared).count();
        assert_eq!(declared, API.len(), "{rows:#?}");
        assert!(rows.iter().all(|row| row.state != State::ShadowHost));
        let names: BTreeSet<&str> = rows.iter().map(|row| &*row.service).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let [shop, other] = &*bench.documents(1) else { panic!() };
        assert_eq!((shop.used, shop.declared, shop.shadow), (20, 20, 2), "{shop:#?}");
        assert_eq!((&*shop.binding, &*other.binding), ("evidence", "no-servers"));
    }
}

/// Two APIs and a site behind one proxy, and the proxy's own address.
fn behind_a_proxy(documents: &[&str]) -> Bench {
    let mut bench = Bench::new(documents);
    for _ in 0..10 {
        for path in &API[..6] {
            bench.call(&Call { host: "shop.example", ..get(path, 200) });
        }
        for path in OTHER {
            bench.call(&Call { host: "music.example", ..get(path, 200) });
        }
        for path in ["/posts/1", "/authors", "/comments", "/likes"] {
            bench.call(&Call { host: "blog.example", ..get(path, 200) });
        }
        bench.call(&Call { host: "10.0.0.2", ..get("/healthz", 200) });
    }
    bench
}

#[test]
fn two_apis_behind_one_proxy_get_the_document_of_each() {
    let (shop, music) = (bare(&shop()), document(&OTHER));
    let mut bench = behind_a_proxy(&[&shop, &music]);
    bench.place();
    let states = bench.states_by_service();
    for (service, state) in [
        ("shop.example", "declared"),
        ("music.example", "declared"),
        ("blog.example", "shadow-host"),
    ] {
        let own: Vec<&String> = states.iter().filter(|it| it.starts_with(service)).collect();
        assert!(!own.is_empty(), "{states:#?}");
        let others = own.iter().filter(|it| !it.ends_with(state) && !it.contains("/healthz"));
        assert_eq!(others.count(), 0, "{states:#?}");
    }
    let [shop, music] = &*bench.documents(1) else { panic!() };
    assert_eq!(
        (&*shop.bound_to, &*music.bound_to),
        (&["shop.example".into()][..], &["music.example".into()][..])
    );
    assert_eq!((music.used, music.unused, music.percent), (5, 0, Some(100.0)));
    assert_eq!((shop.used, shop.unused, shop.percent), (6, 14, Some(30.0)));
    let coverage = bench.inventory.catalogue_coverage(at(1), &bench.catalogue);
    assert_eq!(coverage.undocumented_total, 1, "{coverage:#?}");
    assert_eq!(coverage.undocumented[0].service, "blog.example");
}

#[test]
fn a_document_for_every_host_does_not_make_two_services_one() {
    let everything = document(&[&API[..], &OTHER[..]].concat());
    let named =
        document(&["/other"]).replace("paths:", "servers: [{url: 'http://shop.example'}]\npaths:");
    let mut bench = behind_a_proxy(&[&everything, &named]);
    let services: BTreeSet<String> = bench.rows_at(1).into_iter().map(|row| row.service).collect();
    assert!(
        services.contains("music.example") && services.contains("shop.example"),
        "{services:?}"
    );
}

#[test]
fn what_is_used_missing_zombie_and_shadow_is_counted_at_its_document() {
    let text = "openapi: 3.0.3
info: {title: T, version: '2'}
servers: [{url: 'http://api.example.com'}]
paths:
  /a: {get: {}}
  /b/{id}: {get: {}, delete: {}}
  /gone: {get: {}}
  /silent: {get: {}}
  /late: {get: {deprecated: true}}
";
    let old = text.replace("/silent:", "/export:").replace("'2'", "'1'");
    let documents =
        [("api.yaml".to_owned(), text.to_owned()), ("retired/api.yaml".to_owned(), old)];
    let (catalogue, _) = Catalogue::load(&documents, None);
    let mut bench = Bench::new(&[]);
    bench.catalogue = catalogue;
    for n in 0..12 {
        bench.call(&get("/a", 200));
        bench.call(&get(&format!("/b/{n}"), 200));
        bench.call(&get("/gone", 404));
        bench.call(&get("/late", 200));
        bench.call(&get("/export", 200));
        bench.call(&get("/secret", 200));
        bench.call(&Call { method: "PATCH", ..get("/a", 200) });
    }
    bench.inventory.alive(at(50));
    let rows = bench.documents(50);
    let [api, old] = &*rows else { panic!("{rows:#?}") };
    assert_eq!((api.declared, api.used, api.unused, api.missing), (6, 4, 2, 1), "{api:#?}");
    assert_eq!((api.silent_proven, api.shadow, api.zombie), (0, 2, 1), "{api:#?}");
    assert_eq!((api.percent, &*api.binding), (Some(66.6), "servers"));
    assert_eq!((old.retired, old.used, old.zombie, old.shadow), (true, 1, 1, 0), "{old:#?}");
    let kinds = bench.rows_at(50).into_iter().map(|row| row.declaration);
    assert!(kinds.into_iter().any(|kind| kind == DeclarationKind::OlderOnly));
}
