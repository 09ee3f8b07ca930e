//! What the templates of a service must be, on traffic made here.

use super::*;
use crate::http::Method;

/// Traffic of a service in which `/users/me` and `/users/search` are beside names, and the like.
fn traffic() -> Vec<(&'static str, String)> {
    let names = ["ada", "grace", "alan", "edsger", "barbara", "donald", "ken", "dennis", "niklaus"];
    let things = ["kettle", "lamp", "chair", "desk", "rug", "shelf", "vase", "clock", "mirror"];
    let mut requests = Vec::new();
    for number in 0..360_usize {
        let one = |texts: &[&str], step: usize| {
            format!("{}-{}", texts[number * step % 9], (number * step / 9) % 23)
        };
        let (name, thing) = (one(&names, 1), one(&things, 5));
        requests.push(("GET", format!("/v1/users/{name}")));
        requests.push(("GET", format!("/v1/users/{name}/orders")));
        requests.push(("PUT", format!("/v1/users/{name}")));
        requests.push(("GET", "/v1/users/me".to_owned()));
        requests.push(("POST", "/v1/users/search".to_owned()));
        requests.push(("GET", format!("/v1/repos/{name}/{thing}")));
        requests.push(("GET", format!("/v1/repos/{name}/{thing}/issues")));
        requests.push(("POST", format!("/v1/repos/{name}/{thing}/issues")));
        requests.push(("GET", format!("/v1/repos/{name}/{thing}/issues/{number}")));
        requests.push(("GET", format!("/v1/orders/{}", number + 1000)));
        requests.push(("GET", "/v1/orders/export".to_owned()));
        requests.push(("GET", format!("/v1/reports/{number}.json")));
        requests.push(("GET", "/v1/status".to_owned()));
        requests.push(("GET", "/v1/health".to_owned()));
    }
    requests
}

fn learned(requests: &[(&str, String)]) -> Learned {
    let mut learned = Learned::new();
    let mut segments = Segments::default();
    for (method, path) in requests {
        assert!(segments.read(path.as_bytes(), 64));
        let method = Method::parse(method).expect("a method");
        learned.insert(&segments, &method, usize::MAX);
    }
    learned.learn();
    learned
}

fn template(learned: &Learned, path: &str) -> String {
    let (mut segments, mut out) = (Segments::default(), Vec::new());
    assert!(segments.read(path.as_bytes(), 64));
    learned.templates().write(&segments, 512, &mut out);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn literals_stay_beside_parameters() {
    let learned = learned(&traffic());
    for (path, expected) in [
        ("/v1/users/grace-1", "/v1/users/{user_id}"),
        ("/v1/users/nobody-yet", "/v1/users/{user_id}"),
        ("/v1/users/me", "/v1/users/me"),
        ("/v1/users/search", "/v1/users/search"),
        ("/v1/users/ken-2/orders", "/v1/users/{user_id}/orders"),
        ("/v1/repos/ken-2/lamp-3/issues", "/v1/repos/{repo_id}/{repo_id_2}/issues"),
        ("/v1/repos/a/b/issues/7", "/v1/repos/{repo_id}/{repo_id_2}/issues/{issue_id}"),
        ("/v1/orders/17", "/v1/orders/{order_id}"),
        ("/v1/orders/export", "/v1/orders/export"),
        ("/v1/reports/17.json", "/v1/reports/{report_id}.json"),
        ("/v1/status", "/v1/status"),
        ("/v1/nothing/17", "/v1/nothing/{nothing_id}"),
        ("/v1/users/ada-1/a@example.com", "/v1/users/{user_id}/{email}"),
    ] {
        assert_eq!(template(&learned, path), expected, "{path}");
    }
}

#[test]
fn order_and_halves_change_nothing() {
    let requests = traffic();
    let whole = learned(&requests);
    let mut other = requests.clone();
    other.reverse();
    assert!(learned(&other).templates().is_same_tree(whole.templates()));
    other.sort();
    assert!(learned(&other).templates().is_same_tree(whole.templates()));
    let (one, two) = other.split_at(other.len() / 3);
    let mut merged = learned(one);
    merged.merge(&learned(two));
    merged.learn();
    assert!(merged.templates().is_same_tree(whole.templates()));
}

#[test]
fn order_and_halves_change_nothing_beyond_the_bound() {
    let mut requests = traffic();
    for number in 0_u32..3_000 {
        let name = number.wrapping_mul(2_654_435_761);
        let text: String =
            (0..6).map(|at| char::from(b'a' + (name >> (at * 4) & 15) as u8)).collect();
        requests.push(("GET", format!("/v1/users/{text}")));
        requests.push(("GET", format!("/{text}/x")));
    }
    let whole = learned(&requests);
    assert!(whole.nodes() < 20_000);
    assert_eq!(
        whole.counted(),
        requests.len() as u64,
        "what is not told apart is counted all the same"
    );
    assert!((6_000..7_000).contains(&whole.rest()), "{}", whole.rest());
    // 3 000 names at each of two places, less the few hundred that are kept: known to one part in sixteen, once or twice.
    let names = whole.rest_names();
    assert!((4_700..6_600).contains(&names), "{names}");
    let mut other = requests.clone();
    other.reverse();
    assert!(learned(&other).templates().is_same_tree(whole.templates()));
    assert_eq!((learned(&other).rest(), learned(&other).rest_names()), (whole.rest(), names));
    let (one, two) = requests.split_at(7_000);
    let mut merged = learned(one);
    merged.merge(&learned(two));
    merged.learn();
    assert_eq!((merged.rest(), merged.counted()), (whole.rest(), whole.counted()));
    assert_eq!(merged.rest_names(), names);
    assert!(merged.templates().is_same_tree(whole.templates()));
    assert_eq!(template(&whole, "/v1/users/me"), "/v1/users/me");
    assert_eq!(template(&whole, "/v1/users/whoever"), "/v1/users/{user_id}");
}

#[test]
fn order_and_halves_change_nothing_beyond_the_bound_of_the_whole() {
    // Owners and their things: 90 000 pairs with two ways on from each are more than there is room for.
    let mut requests = traffic();
    let name = |number: usize| {
        let mixed = (number as u64 + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..6).map(|at| char::from(b'a' + (mixed >> (8 + at * 4) & 15) as u8)).collect::<String>()
    };
    for number in 0..90_000 {
        let (owner, thing) = (name(number / 300), name(1_000 + number % 300));
        requests.push(("GET", format!("/v1/repos/{owner}/{thing}/issues")));
        requests.push(("GET", format!("/v1/repos/{owner}/{thing}")));
    }
    let whole = learned(&requests);
    assert!(whole.nodes() <= super::trie::NODES_MAX && whole.refused() == 0, "{}", whole.nodes());
    assert_eq!(whole.counted(), requests.len() as u64);
    let (one, two) = requests.split_at(100_000);
    let mut merged = learned(one);
    merged.merge(&learned(two));
    merged.learn();
    assert!(merged.templates().is_same_tree(whole.templates()));
    requests.reverse();
    let reversed = learned(&requests);
    assert!(reversed.nodes() <= super::trie::NODES_MAX && reversed.refused() == 0);
    assert!(reversed.templates().is_same_tree(whole.templates()));
    assert_eq!(template(&whole, "/v1/repos/a/b/issues"), "/v1/repos/{repo_id}/{repo_id_2}/issues");
    assert_eq!(template(&whole, "/v1/users/me"), "/v1/users/me");
}

#[test]
fn a_million_first_segments_stay_within_the_bound() {
    let mut learned = Learned::new();
    let mut segments = Segments::default();
    for number in 0_u64..1_000_000 {
        segments.read(format!("/w{}/x", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes(), 64);
        learned.insert(&segments, &Method::Get, usize::MAX);
    }
    assert!(learned.nodes() <= 2_000, "{}", learned.nodes());
}

#[test]
fn a_template_is_renewed() {
    let learned = learned(&traffic());
    let mut out = Vec::new();
    for (old, new) in [
        ("/v1/users/grace-1", Some("/v1/users/{user_id}")),
        ("/v1/users/{integer}", Some("/v1/users/{user_id}")),
        ("/v1/users/me", Some("/v1/users/me")),
        ("/v1/reports/{integer}.json", Some("/v1/reports/{report_id}.json")),
        ("/v1/elsewhere", None),
        ("/v1/{id}", None),
    ] {
        let found = learned
            .templates()
            .renew(old, &|_| Vec::new(), &mut out)
            .then(|| String::from_utf8_lossy(&out));
        assert_eq!(found.as_deref(), new, "{old}");
    }
}

#[test]
fn only_the_first_date_of_a_path_is_a_version() {
    // Were each of the eight one, there would be 20^8 ways through the trie.
    let path = |day: usize| -> String {
        let parts: Vec<String> =
            (0..8).map(|part| format!("/part{part}/2024-01-{day:02}")).collect();
        parts.concat()
    };
    let requests: Vec<(&str, String)> = (0..500).map(|at| ("GET", path(1 + at % 20))).collect();
    let learned = learned(&requests);
    let template = template(&learned, &path(7));
    assert!(template.starts_with("/part0/2024-01-07/part1/{"), "{template}");
    assert_eq!(template.matches('{').count(), 7, "{template}");
}
