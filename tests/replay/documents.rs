//! `catalogue check` and what `replay` says of documents, with the real binary.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::agent;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const SHOP: &str = "openapi: 3.0.3
info: {title: Shop, version: 2.0.0, contact: {name: Shop team}}
paths:
  /orders: {get: {}, post: {}}
  /orders/{id}: {get: {}}
  /invoices: {get: {deprecated: true}}
";

/// `package acme; service Stock { rpc Get.. }`, as protoc writes it.
const STOCK: &[u8] =
    b"\x0a\x23\x0a\x0bstock.proto\x12\x04acme2\x0e\x0a\x05Stock\x12\x05\x0a\x03Get";

/// JSON lines: `count` requests of each `METHOD HOST PATH`, answered 200 with JSON.
fn requests(asked: &[(usize, &str)]) -> String {
    let mut lines = String::new();
    for (count, request) in asked {
        let mut words = request.split(' ');
        let mut word = || words.next().unwrap();
        let (method, host, path) = (word(), word(), word());
        for number in 0..*count {
            let path = path.replace("{n}", &number.to_string());
            // Each host has an address of its own.
            let server = 1 + host.bytes().map(usize::from).sum::<usize>() % 250;
            let (minute, second) = (number / 60 % 60, number % 60);
            lines.extend([format!(
                r#"{{"method":"{method}","host":"{host}","path":"{path}","status":200,"time":"2026-06-01T10:{minute:02}:{second:02}Z","client":"192.0.2.1:1","server":"10.0.0.{server}:80","content_type":"application/json"}}"#
            ), "\n".into()]);
        }
    }
    lines
}

#[test]
fn check_names_every_problem_of_every_document_and_the_good_ones_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "shop.yaml", SHOP);
    write(folder.path(), "bad.yaml", "openapi: 3.0.0\npaths:\n  /a:\n    get: 7\n");
    write(folder.path(), "broken.json", "{\"openapi\": \"3.0.0\",\n\"paths\": {]}");
    write(folder.path(), "list.csv", "method,host,path\nGET,a.example,/x\nGE T,a.example,/y\n");
    write(
        folder.path(),
        "catalogue.yaml",
        "documents:\n  - document: gone.yaml\n    hosts: [a.example]\n",
    );
    let path = folder.path().to_str().unwrap();
    let output = agent(&["catalogue", "check", path], "");
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(text(&output.stdout));

    let output = agent(&["catalogue", "check", path, "--json"], "");
    assert_eq!(output.status.code(), Some(1));
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&view["schema"], &view["valid"]),
        (&"sensor.catalogue-check/v1".into(), &false.into())
    );
    assert_eq!(view["problems"].as_array().unwrap().len(), 4, "{view:#}");
    let bad = &view["problems"][1];
    assert_eq!(
        (&bad["document"], &bad["line"], &bad["pointer"]),
        (&"bad.yaml".into(), &4.into(), &"/paths/~1a/get".into())
    );
}

#[test]
fn check_ends_with_0_for_good_documents_and_2_where_there_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "shop.yaml", SHOP);
    let path = folder.path().to_str().unwrap();
    assert_eq!(agent(&["catalogue", "check", path, "--strict"], "").status.code(), Some(0));
    write(folder.path(), "list.csv", "method,path,team\nGET,/x,y\n");
    assert_eq!(agent(&["catalogue", "check", path], "").status.code(), Some(0));
    assert_eq!(agent(&["catalogue", "check", path, "--strict"], "").status.code(), Some(1));
    assert_eq!(agent(&["catalogue", "check", "/nowhere/at/all"], "").status.code(), Some(2));
    assert_eq!(agent(&["catalogue", "check"], "").status.code(), Some(2));
    let empty = tempfile::tempdir().unwrap();
    let output = agent(&["catalogue", "check", empty.path().to_str().unwrap()], "");
    assert!(text(&output.stdout).contains("not valid: documents used: 0"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    for verb in ["check", "coverage"] {
        let schema = agent(&["catalogue", verb, "--schema"], "");
        let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
        assert!(schema["properties"]["documents"].is_object(), "{schema:#}");
    }
}

#[test]
fn documents_without_a_host_go_where_the_requests_are_and_coverage_says_so() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "shop.yaml", SHOP);
    write(folder.path(), "stock.binpb", STOCK);
    write(
        folder.path(),
        "users.csv",
        "method,host,path,owner\nGET,users.example,/users/{id},Accounts\n",
    );
    let asked = requests(&[
        (30, "GET shop.example /orders/{n}"),
        (10, "GET shop.example /invoices"),
        (3, "GET shop.example /secret"),
        (40, "POST stock.example /acme.Stock/Get"),
        (25, "GET users.example /users/{n}"),
        (25, "GET blog.example /posts/{n}"),
    ]);
    let path = folder.path().to_str().unwrap();
    let coverage = agent(&["replay", "-", "--catalogue", path, "--emit", "coverage"], &asked);
    assert!(coverage.status.success(), "{}", text(&coverage.stderr));
    let rows: Vec<Value> =
        text(&coverage.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    insta::assert_json_snapshot!(rows);
    assert!(
        text(&coverage.stderr)
            .contains("catalogue: shop.yaml declares shop.example (requests match"),
        "{}",
        text(&coverage.stderr)
    );

    let rows = agent(&["replay", "-", "--catalogue", path, "--emit", "inventory"], &asked);
    let states: Vec<String> = text(&rows.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| !row["last_seen_unix_ns"].is_null())
        .map(|row| format!("{} {} {}", row["state"], row["service"], row["path_template"]))
        .collect();
    insta::assert_snapshot!(states.join("\n").replace('"', ""));
}

#[test]
fn an_operation_of_an_older_version_only_is_a_zombie_and_a_binding_file_orders_versions() {
    let folder = tempfile::tempdir().unwrap();
    let old = SHOP.replace("2.0.0", "1.0.0").replace("/invoices", "/export");
    write(folder.path(), "a.yaml", old);
    write(folder.path(), "b.yaml", SHOP);
    write(
        folder.path(),
        "catalogue.yaml",
        "documents:\n  - versions: [a.yaml, b.yaml]\n    hosts: [shop.example]\n",
    );
    let asked = requests(&[(5, "GET shop.example /orders/{n}"), (5, "GET shop.example /export")]);
    let path = folder.path().to_str().unwrap();
    let rows = agent(&["replay", "-", "--catalogue", path, "--emit", "inventory"], &asked);
    let state = |template: &str| {
        let line = text(&rows.stdout);
        let row = line.lines().find(|line| line.contains(template)).map(ToOwned::to_owned);
        let row: Value = serde_json::from_str(&row.unwrap()).unwrap();
        row["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (state("/export"), state("/orders/{id}")),
        ("zombie-removed".into(), "declared".into())
    );
    let coverage = agent(&["replay", "-", "--catalogue", path, "--emit", "coverage"], &asked);
    let old: Value = serde_json::from_str(text(&coverage.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&old["document"], &old["retired"], &old["zombie"]),
        (&"a.yaml".into(), &true.into(), &1.into())
    );
}

#[test]
fn a_table_of_templates_and_no_agent_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let socket = folder.path().join("agent.sock");
    let output = agent(
        &[
            "catalogue",
            "coverage",
            "--store",
            store.to_str().unwrap(),
            "--socket",
            socket.to_str().unwrap(),
        ],
        "",
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no agent is running"), "{}", text(&output.stderr));
}
