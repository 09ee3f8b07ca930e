//! `replay` as a user runs it: the real binary, what it prints, what it answers to wrong options, and its exit codes.

use std::process::Output;

use crate::support::agent;

/// One service that a document declares in part, another one, a scan, and a call late in the day.
const REQUESTS: &str = r#"
{"method":"GET","host":"shop.example","path":"/v1/orders/17","status":200,"time":"2026-06-01T10:00:00Z","client":"192.0.2.1:1","server":"10.0.0.1:80","content_type":"application/json"}
{"method":"GET","host":"shop.example","path":"/v1/orders/18","status":200,"time":"2026-06-01T10:00:01Z","client":"192.0.2.2:1","server":"10.0.0.1:80","content_type":"application/json"}
{"method":"GET","host":"shop.example","path":"/v1/secret","status":200,"time":"2026-06-01T10:00:02Z","client":"192.0.2.2:1","server":"10.0.0.1:80","content_type":"application/json"}
{"method":"GET","host":"shop.example","path":"/about","status":200,"time":"2026-06-01T10:00:03Z","client":"192.0.2.2:1","server":"10.0.0.1:80","content_type":"text/html"}
{"method":"GET","host":"stock.example","path":"/items/31","status":200,"time":"2026-06-01T20:00:00Z","client":"192.0.2.3:1","server":"10.0.0.2:8080","content_type":"application/json"}
"#;

/// Runs `replay - ARGUMENTS` on [`REQUESTS`].
fn replay(arguments: &[&str]) -> Output {
    agent(&[&["replay", "-"], arguments].concat(), REQUESTS.trim_start())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Method, service and path of the rows that `--emit inventory` gives.
fn rows(arguments: &[&str]) -> Vec<String> {
    let output = replay(&[&["--emit", "inventory"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| row[key].as_str().unwrap().to_owned();
        format!("{} {}{}", word("method"), word("service"), word("path_template"))
    };
    text(&output).lines().map(row).collect()
}

#[test]
fn filters_choose_and_order_endpoints() {
    let secret = "GET shop.example/v1/secret";
    let order = "GET shop.example/v1/orders/{order_id}";
    let about = "GET shop.example/about";
    let item = "GET stock.example:8080/items/{item_id}";
    let check = |arguments: &[&str], expected: &[&str]| {
        assert_eq!(rows(arguments), expected, "{arguments:?}");
    };
    check(&[], &[about, order, secret, item]);
    check(&["--service", "stock.*"], &[item]);
    check(&["--service", "10.0.0.1:*"], &[about, order, secret]);
    check(&["--kind", "page"], &[about]);
    check(&["--kind", "api", "--sort", "requests"], &[order, secret, item]);
    check(&["--sort", "last-seen"], &[item, about, secret, order]);
    check(&["--sort", "path", "--kind", "api"], &[item, order, secret]);
    check(&["--since", "1h"], &[item]);
    check(&["--since", "2026-06-01T10:00:02Z"], &[about, secret, item]);
    check(&["--since", "1h", "--now", "2026-06-02T00:00:00Z"], &[]);
    check(&["--state", "shadow"], &[]);
}

#[test]
fn a_table_with_a_filter_has_the_chosen_endpoints_only() {
    let output = replay(&["--kind", "page,asset"]);
    assert_eq!(
        text(&output),
        "RISK  STATE     SERVICE       METHOD  PATH    REQUESTS  STATUS  P50  AUTH  LAST SEEN             FROM\n\
         55    observed  shop.example  GET     /about  1         2xx:1        none  2026-06-01 10:00:03Z  public\n"
    );
}

#[test]
fn wrong_values_are_answered_with_the_right_ones_and_exit_code_2() {
    let check = |arguments: &[&str], words: &[&str]| {
        let output = replay(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    };
    check(&["--state", "shadows"], &["shadow-path", "zombie-sunset", "dormant"]);
    check(&["--kind", "html"], &["api, page, asset, operational"]);
    check(&["--exposure", "internet"], &["loopback, host, cluster, private, partner, public"]);
    check(&["--sort", "name"], &["risk, state, requests, last-seen, path"]);
    check(&["--since", "lately"], &["24h", "2026-06-30T12:00:00Z"]);
    check(&["--state", "shadow", "--emit", "exchanges"], &["--emit inventory"]);
}

#[test]
fn records_are_accounted_for_and_wrong_ones_are_named() {
    let lines = r#"{"method":"GET","host":"shop.example","path":"noslash","status":200}"#;
    let output = agent(&["replay", "-"], lines);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let named = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(named.contains("record 1 was left out: `path` does not begin with `/`"), "{named}");
    assert!(text(&output).contains("records: 1 = 1 left out"), "{output:?}");

    // Wrong lines among right ones: the first ten are named, the others counted. Without a time, that of the line before holds.
    let wrong = "{\"method\"\n".repeat(12);
    let undated = r#"{"method":"PUT","host":"stock.example","path":"/items/31","status":200}"#;
    let output = agent(&["replay", "-"], &format!("{}{wrong}{undated}\n", REQUESTS.trim_start()));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let named = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(named.matches("was left out: ").count(), 10, "{named}");
    assert!(named.contains("2 more records were left out"), "{named}");
    let shown = text(&output);
    assert!(shown.contains("records: 18 = 6 requests, 12 left out"), "{shown}");
    let put = shown.lines().find(|line| line.contains("PUT"));
    assert!(put.is_some_and(|line| line.contains("2026-06-01 20:00:00Z")), "{shown}");
}

#[test]
fn a_wrong_flag_is_wrong_whatever_is_printed() {
    for arguments in [
        &["--emit", "exchanges", "--catalogue", "/nonexistent"][..],
        &["--window", "0s"],
        &["--local", "here"],
    ] {
        assert_eq!(replay(arguments).status.code(), Some(2), "{arguments:?}");
    }
    // Nothing is read from standard input then.
    assert_eq!(agent(&["replay", "/"], "").status.code(), Some(2));
}

#[test]
fn templates_of_operators_hold_and_a_wrong_file_is_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("templates.yaml");
    let replayed = |text: &str| {
        std::fs::write(&file, text).unwrap();
        replay(&["--emit", "templates", "--templates", file.to_str().unwrap()])
    };
    let output = replayed(
        "version: 1\ntemplates:\n  - hosts: ['shop.*']\n    pin: ['/v1/orders/{order}', '/{page}']\n    split: [/v1/orders/18]\n  \
         - hosts: [other.example]\n    pin: ['/items/{sku}']\n",
    );
    let templates: Vec<String> = text(&output)
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["template"].to_string()
        })
        .collect();
    let expected = [
        "\"/v1/orders/{order}\"",
        "\"/v1/orders/18\"",
        "\"/v1/secret\"",
        "\"/{page}\"",
        "\"/items/{item_id}\"",
    ];
    assert_eq!(templates, expected);
    let output = replayed("version: 1\ntemplates:\n  - pin:\n      - /a\n      - b\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("templates.yaml:5: `b` does not begin with /"), "{said}");
}
