//! What a service is: several names and addresses of one API, several APIs at one address, and names that anyone can make up.

use std::collections::BTreeSet;

use super::*;
use crate::time::MonoNs;

pub(super) const API: [&str; 20] = [
    "/orders",
    "/orders/7",
    "/users",
    "/users/1",
    "/carts",
    "/carts/3",
    "/items",
    "/items/9",
    "/prices",
    "/stock",
    "/coupons",
    "/refunds",
    "/invoices",
    "/invoices/4",
    "/labels",
    "/tours",
    "/drivers",
    "/trucks",
    "/zones",
    "/rates",
];
pub(super) const OTHER: [&str; 5] = ["/songs", "/albums", "/artists", "/playlists", "/charts"];
const NAMES: [&str; 6] = [
    "shop.example.com",
    "www.shop.example.com",
    "api.example.com",
    "shop.internal",
    "shop.default.svc",
    "shop",
];

fn services(bench: &mut Bench) -> BTreeSet<String> {
    bench.rows_at(1).into_iter().map(|row| row.service).collect()
}

pub(super) fn shop() -> String {
    let paths: String = API
        .iter()
        .map(|path| path.trim_end_matches(|c: char| c.is_ascii_digit()))
        .map(|path| match path.strip_suffix('/') {
            Some(parent) => format!("  {parent}/{{id}}: {{get: {{responses: {{}}}}}}\n"),
            None => format!("  {path}: {{get: {{responses: {{}}}}}}\n"),
        })
        .collect();
    format!(
        "openapi: 3.0.3\ninfo: {{title: Shop, version: '1'}}\nservers: [{{url: 'http://api.example.com'}}]\npaths:\n{paths}"
    )
}

/// The API under six names in six spellings, at fifty pods that are probed by address; in an order of its own for each seed.
pub(super) fn fleet(documents: &[&str], seed: u64) -> Bench {
    let mut bench = Bench::new(documents);
    let mut calls: Vec<(String, String, &str)> = Vec::new();
    for pod in 0..50_usize {
        let server = format!("10.244.0.{}:8080", pod + 1);
        for (at, path) in API.iter().enumerate() {
            let name = NAMES[(at * 7 + pod) % NAMES.len()];
            let host = match (at + pod) % 6 {
                0 => name.to_uppercase(),
                1 => format!("{name}:8080"),
                2 => format!("{name}."),
                3 => format!("{name}.:8080"),
                4 => format!(" {name} "),
                _ => name.to_owned(),
            };
            // Every fifth pod is only asked by its address.
            let host = if pod % 5 == 0 { server.clone() } else { host };
            calls.push((server.clone(), host, path));
        }
        calls.push((server.clone(), server.clone(), "/healthz"));
        calls.push((server.clone(), String::new(), "/readyz"));
    }
    // Pods that only probes ask.
    for pod in 60..63 {
        let server = format!("10.244.0.{pod}:8080");
        calls.push((server.clone(), server, "/healthz"));
    }
    calls.sort_by_key(|call| {
        crate::keyed_hash::siphash24([seed, 1], format!("{call:?}").as_bytes())
    });
    for (server, host, target) in &calls {
        bench.call(&Call { host, server, ..get(target, 200) });
    }
    bench
}

#[test]
fn six_names_and_fifty_pods_with_probes_are_one_service_and_no_shadow_host() {
    let document = shop();
    for documents in [&[][..], &[&*document][..]] {
        let mut first = None;
        for seed in 0..3 {
            let mut bench = fleet(documents, seed);
            let rows = bench.rows_at(1);
            assert_eq!(services(&mut bench).len(), 1, "{:?}", services(&mut bench));
            assert_eq!(rows.len(), API.len() + 2, "{rows:#?}");
            assert!(rows.iter().all(|row| row.state != State::ShadowHost));
            assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), 50 * 22 + 3);
            let mut names = NAMES.map(str::to_owned).to_vec();
            names.sort();
            assert!(rows.iter().all(|row| row.hosts == names), "{:?}", rows[0].hosts);
            if !documents.is_empty() {
                let declared = rows.iter().filter(|row| row.state == State::Declared).count();
                assert_eq!((declared, &*rows[0].service), (API.len(), "api.example.com:8080"));
            }
            let shown: Vec<_> = rows
                .iter()
                .map(|row| {
                    (row.id.clone(), row.service.clone(), row.path_template.clone(), row.state)
                })
                .collect();
            assert_eq!(*first.get_or_insert_with(|| shown.clone()), shown, "seed {seed}");
            bench.sum_is_whole();
        }
    }
}

#[test]
fn ten_thousand_forged_hosts_make_no_service() {
    for documents in [&[][..], &[SHOP][..]] {
        // To a server that answers any name the same, to one that refuses unknown names, and before and after real traffic.
        for (status, early) in [(200, true), (200, false), (404, true), (404, false)] {
            let mut bench = Bench::new(documents);
            let real = |bench: &mut Bench| {
                for path in ["/users", "/users/1", "/old", "/plan", "/health"] {
                    bench.calls(4, &get(path, 200));
                }
            };
            if !early {
                real(&mut bench);
            }
            for host in 0..10_000 {
                let path = ["/users", "/users/1", "/old", "/plan", "/elsewhere"][host % 5];
                bench.call(&Call { host: &format!("h{host}.evil"), ..get(path, status) });
            }
            real(&mut bench);
            let rows = bench.rows_at(1);
            assert!(
                rows.iter().all(|row| row.service == "api.example.com"),
                "{:?}",
                services(&mut bench)
            );
            assert!(
                rows.iter()
                    .all(|row| row.state != State::ShadowHost && row.hosts == ["api.example.com"])
            );
            assert!(bench.inventory.services.len() <= 1 + 256);
            assert!(bench.inventory.len() <= InventoryLimits::default().candidates + 2_000);
            bench.sum_is_whole();
        }
    }
}

#[test]
fn virtual_hosts_are_services_of_their_own_and_each_keeps_its_aliases() {
    let mut bench = Bench::new(&[]);
    for (name, paths) in
        [("a.example", &API[..]), ("www.a.example", &API[..]), ("b.example", &OTHER[..])]
    {
        for path in paths {
            bench.call(&Call { host: name, ..get(path, 200) });
        }
        bench.call(&Call { host: name, ..get("/health", 200) });
        // What is the other's is not there.
        let absent = if name == "b.example" { &API[..5] } else { &OTHER[..] };
        for path in absent {
            bench.call(&Call { host: name, ..get(path, 404) });
        }
    }
    bench.call(&Call { host: "10.0.0.2", ..get("/health", 200) });
    let rows = bench.rows_at(1);
    let of = |name: &str| rows.iter().filter(|row| row.service == name).count();
    assert_eq!((of("a.example"), of("b.example"), of("10.0.0.2:80")), (21, 6, 1), "{rows:#?}");
    assert_eq!(rows.len(), 28);
    let hosts = &rows.iter().find(|row| row.service == "a.example").expect("a row").hosts;
    assert_eq!(*hosts, ["a.example", "www.a.example"]);
}

#[test]
fn one_operation_that_the_listener_answers_404_proves_another_host() {
    let mut bench = Bench::new(&[SHOP]);
    bench.call(&get("/users", 200));
    bench.call(&get("/admin", 404));
    bench.call(&Call { host: "old.example.com", ..get("/admin", 200) });
    let rows = bench.rows_at(1);
    let admin = rows.iter().find(|row| row.path_template == "/admin").expect("a row");
    assert_eq!((&*admin.service, admin.state), ("old.example.com", State::ShadowHost));
}

#[test]
fn documents_tell_names_apart_and_join_them() {
    let other = SHOP.replace("api.example.com", "billing.example.com").replace("Shop", "Billing");
    let other = other.replace("/users", "/bills");
    let mut bench = Bench::new(&[SHOP, &other]);
    for host in ["api.example.com", "billing.example.com"] {
        bench.call(&Call { host, ..get("/health", 200) });
    }
    bench.call(&Call { host: "10.0.0.2", ..get("/ready", 200) });
    assert_eq!(services(&mut bench).len(), 3, "requests by address belong to neither");
    let both = SHOP.replace("servers: [", "servers: [{url: 'http://billing.example.com'}, ");
    bench.catalogue = catalogue(&[&both]);
    bench.inventory.set_catalogue(&bench.catalogue);
    assert_eq!(services(&mut bench), BTreeSet::from(["api.example.com".to_owned()]));
}

#[test]
fn an_owner_at_several_addresses_is_one_service() {
    let mut bench = Bench::new(&[]);
    bench.inventory.owners_mut().set(7, Some("nginx.service"), MonoNs(u64::MAX));
    for server in ["10.0.0.2:80", "127.0.0.1:80", "[::1]:80", "10.0.0.2:81"] {
        let mut exchange = exchange(&Call { server, host: "", ..get("/a", 200) }, at(1).0);
        exchange.server_hint.cgroup_id = 7;
        bench.inventory.observe(&exchange, Role::Server, &bench.catalogue);
    }
    let rows = bench.rows_at(2);
    let shown: Vec<_> = rows.iter().map(|row| (&*row.service, row.requests)).collect();
    assert_eq!(
        shown,
        [("10.0.0.2:81", 1), ("10.0.0.2:80", 3)][..].iter().rev().copied().collect::<Vec<_>>()
    );
}

#[test]
fn a_service_keeps_its_identity_over_a_restart_and_when_pods_come_and_go() {
    let mut bench = fleet(&[], 1);
    let before = bench.rows_at(1);
    let mut store = std::collections::BTreeMap::new();
    let changes = bench.inventory.take_changes(&Mask::default());
    for key in changes.removed {
        store.remove(&key);
    }
    for record in changes.records {
        assert!(store.insert(record.key.clone(), record).is_none(), "two records of one key");
    }
    let mut second = Bench::new(&[]);
    for record in store.values() {
        second.inventory.restore(record.table, &record.body).expect("restored");
    }
    // Another pod, with a lower address.
    for path in API {
        second.call(&Call { server: "10.1.0.1:8080", host: NAMES[0], ..get(path, 200) });
    }
    let ids = |rows: Vec<EndpointRow>| rows.into_iter().map(|row| row.id).collect::<BTreeSet<_>>();
    assert_eq!(ids(second.rows_at(2)), ids(before));
}

#[test]
fn silence_proves_something_only_where_every_listener_of_the_service_is_readable() {
    let mut bench = Bench::new(&[SHOP]);
    for server in ["10.0.0.2:80", "10.0.0.3:80"] {
        bench.call(&Call { server, ..get("/users", 200) });
    }
    let state = |bench: &mut Bench| {
        let rows = bench.rows_at(100).into_iter();
        rows.filter(|row| row.path_template == "/old").map(|row| row.state).collect::<Vec<_>>()
    };
    assert_eq!(state(&mut bench), [State::Dormant]);
    let tls = ListenerTotals { opened: 10, http: 5, tls: 5, ..Default::default() };
    bench.inventory.listener_totals("10.0.0.3:80".parse().expect("an address"), tls);
    assert_eq!(state(&mut bench), [State::NotCovered]);
}
