//! Commands of the inventory on a running sensor: an endpoint is shown, accepted and ignored, by who may, in the audit log, over a restart.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions, agent_binary, wait},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; default_type application/json; \
    location /users/ { return 200 '{\"user\":1}'; } location /debug/ { return 200 '{\"debug\":true,\"more\":2}'; } \
    location / { return 404 '{}'; } }";
const USERS: &str = "\
openapi: 3.0.3
info: {title: Users, version: '1'}
servers: [{url: http://shop.example}]
paths:
  /users/{id}:
    get: {responses: {'200': {description: one}}}
";

struct Host {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    _nginx: [Nginx; 2],
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        let nginx = [&server, &client].map(|space| Nginx::start(&lab, space, 80, SERVER).unwrap());
        fs::write(lab.folder().join("templates.yaml"), "version: 1\n").unwrap();
        fs::create_dir(lab.folder().join("catalogue")).unwrap();
        fs::write(lab.folder().join("catalogue/users.yaml"), USERS).unwrap();
        Self { lab, server, client, _nginx: nginx }
    }

    fn sensor(&self) -> Sensor {
        let catalogue = self.lab.folder().join("catalogue");
        let templates = self.lab.folder().join("templates.yaml");
        let options = SensorOptions::on(&["eth0"]).with(&[
            "--catalogue",
            catalogue.to_str().unwrap(),
            "--templates",
            templates.to_str().unwrap(),
        ]);
        Sensor::start(&self.lab, &self.server, &options).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.lab.folder().join(format!("sensor-{}", self.server.name()))
    }

    fn call(&self, path: &str) {
        let get = format!("curl -s -o /dev/null -H 'Host: shop.example' http://10.1.0.1{path}");
        self.client.sh(&get).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = std::process::Command::new(agent_binary().unwrap());
        command.args(arguments).arg("--socket").arg(self.folder().join("agent.sock"));
        command.arg("--store").arg(self.folder().join("store")).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    }

    /// Waits until an endpoint has a state.
    fn wait(&self, endpoint: &str, state: &str) -> Value {
        self.wait_for(endpoint, |row| row["state"] == state)
    }

    /// Waits until the row of an endpoint is as it should be.
    fn wait_for(&self, endpoint: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut shown = Value::Null;
        wait(20, endpoint, || {
            let output = self.run(&["inventory", "show", endpoint, "--json"]);
            shown = serde_json::from_slice(&output.stdout).unwrap_or_default();
            holds(&shown["endpoint"])
        });
        shown
    }
}

#[test]
fn hosts_that_are_called_are_listed_and_templates_follow_their_file() {
    if !is_root_or_skips("hosts_that_are_called_are_listed") {
        return;
    }
    let host = Host::new();
    let sensor = host.sensor();
    for path in ["/debug/vars", "/debug/heap"] {
        host.call(path);
    }
    for _ in 0..3 {
        let get = "curl -s -o /dev/null -H 'Host: Pay.Partner.Example' http://10.1.0.2/users/1";
        host.server.sh(get).unwrap();
    }
    host.wait("GET shop.example/debug/vars", "shadow-path");
    let mut egress = Value::Null;
    wait(20, "the host that is called", || {
        egress = host.json(&["egress"]);
        egress["hosts"][0]["requests"] == 3
    });
    assert_eq!(egress["hosts"][0]["host"], "pay.partner.example", "{egress:#}");
    assert_eq!(egress["hosts"][0]["methods"]["GET"], 3, "{egress:#}");
    assert_eq!(host.json(&["egress", "--host", "*.partner.*"])["hosts"], egress["hosts"]);
    assert_eq!(host.run(&["egress", "--host", "other"]).status.code(), Some(1));
    assert_eq!(host.run(&["egress", "--caller", "nobody"]).status.code(), Some(1));

    let file = host.lab.folder().join("templates.yaml");
    let pin = |name: &str| format!("version: 1\ntemplates:\n  - pin: ['/debug/{{{name}}}']\n");
    fs::write(&file, pin("what")).unwrap();
    let pinned = host.wait_for("GET shop.example/debug/{what}", |row| {
        row["path_template"] == "/debug/{what}" && row["requests"] == 2
    });
    // A wrong file changes nothing; the next one keeps the id.
    fs::write(&file, "version: 1\ntemplates:\n  - pin: [debug]\n").unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    host.call("/debug/more");
    fs::write(&file, pin("which")).unwrap();
    let renamed = host.wait_for("GET shop.example/debug/{which}", |row| {
        row["path_template"] == "/debug/{which}" && row["requests"] == 3
    });
    assert_eq!(pinned["endpoint"]["id"], renamed["endpoint"]["id"]);
    let refused = host.json(&["status"])["ledger"]["agent"]["templates_refused"].as_u64();
    assert_eq!(refused, Some(1));
    sensor.stop().unwrap();
}

fn wall_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn what_operators_say_of_endpoints_holds_at_once_and_over_a_restart() {
    if !is_root_or_skips("what_operators_say_of_endpoints") {
        return;
    }
    let host = Host::new();
    let sensor = host.sensor();
    for path in ["/users/1", "/users/2", "/debug/vars", "/debug/heap", "/debug/17"] {
        host.call(path);
    }
    let vars = host.wait("GET shop.example/debug/vars", "shadow-path");
    let id = vars["endpoint"]["id"].as_str().unwrap().to_owned();
    host.wait("GET shop.example/debug/heap", "shadow-path");
    host.wait("GET shop.example/debug/17", "shadow-path");

    let accept = ["inventory", "accept", &id, "--owner", "team-x", "--note", "see #12, \"soon\""];
    let told = host.json(&accept);
    let line = "+ accepted GET shop.example/debug/vars, owner team-x: see #12, \"soon\"";
    assert_eq!(told["diff"][0], line, "{told:#}");
    let shown = host.wait(&id, "declared");
    assert_eq!(shown["endpoint"]["declared_owner"], "team-x", "{shown:#}");
    assert!(shown["endpoint"]["accepted"]["by"].as_str().unwrap().contains("uid 0"), "{shown:#}");
    host.wait("GET shop.example/debug/heap", "shadow-path");

    let ignore = ["inventory", "ignore", "GET shop.example/debug/17", "--reason", "load test"];
    host.json(&[&ignore[..], &["--expires", "30d"]].concat());
    host.wait("GET shop.example/debug/17", "ignored");
    host.refused(
        &[&ignore[..], &["--expires", "2020-01-01T00:00:00Z"]].concat(),
        1,
        &["is over already"],
    );
    // What cannot be said.
    host.refused(
        &["inventory", "accept", "GET shop.example/users/1", "--owner", "x"],
        1,
        &["declared by a document already"],
    );
    host.refused(&["inventory", "accept", &id], 2, &["--owner"]);
    host.refused(
        &["inventory", "accept", "GET shop.example/nothing", "--owner", "x"],
        1,
        &["no such endpoint"],
    );
    host.refused(
        &["inventory", "ignore", "GET shop.example/debug/heap", "--undo"],
        1,
        &["is not ignored", "these are: GET shop.example/debug/{debug_id}"],
    );
    let listed = host.json(&["inventory", "--state", "ignored"]);
    assert_eq!(listed["endpoints"].as_array().unwrap().len(), 1, "{listed:#}");

    // What they were before is remembered.
    let states = |shown: &Value| {
        let changes = shown["history"].as_array().unwrap().clone();
        changes.iter().map(|it| it["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let shown = host.json(&["inventory", "show", &id]);
    assert_eq!(states(&shown), ["shadow-path", "declared"], "{shown:#}");
    let diff = host.run(&["inventory", "diff", "--since", "1h", "--json"]);
    assert_eq!(diff.status.code(), Some(1));
    let diff: Value = serde_json::from_slice(&diff.stdout).unwrap();
    assert_eq!(diff["new"].as_array().unwrap().len(), 4, "{diff:#}");

    // Over a restart, and without an agent.
    sensor.stop().unwrap();
    host.wait(&id, "declared");
    host.refused(
        &["inventory", "accept", &id, "--undo"],
        2,
        &["no agent is running", "sensor-agent run"],
    );
    let sensor = host.sensor();
    host.wait(&id, "declared");
    host.wait("GET shop.example/debug/17", "ignored");
    let shown = host.json(&["inventory", "show", &id]);
    assert_eq!(states(&shown), ["shadow-path", "declared"], "{shown:#}");
    let since = shown["time_unix_ns"].as_u64().unwrap() / 1_000_000_000;
    // By hand.
    let file = host.folder().join("store/overlay/ignored.csv");
    let text = fs::read_to_string(&file).unwrap();
    let lines =
        "GET,shop.example,/debug/heap,by hand,,me,\nGET,shop.example,/gone/{id},by hand,,me,\n";
    fs::write(&file, text + lines).unwrap();
    host.wait("GET shop.example/debug/heap", "ignored");
    // Taken back.
    host.json(&["inventory", "accept", &id, "--undo"]);
    host.wait(&id, "shadow-path");
    let gone = host.json(&["inventory", "ignore", "GET shop.example/gone/{gone_id}", "--undo"]);
    assert_eq!(gone["diff"][0], "- ignored GET shop.example/gone/{id}: by hand", "{gone:#}");
    host.json(&["inventory", "ignore", "GET shop.example/debug/17", "--undo"]);
    host.wait("GET shop.example/debug/17", "shadow-path");

    let since = format!("{}s", wall_seconds() - since);
    let diff = host.run(&["inventory", "diff", "--since", &since, "--json"]);
    let diff: Value = serde_json::from_slice(&diff.stdout).unwrap();
    let changed = |path: &str| {
        let changed = diff["changed"].as_array().unwrap();
        let found = changed.iter().find(|it| it["path_template"] == path).cloned();
        found.map(|it| (it["from"].to_string(), it["state"].to_string()))
    };
    let expected = |from: &str, to: &str| Some((format!("\"{from}\""), format!("\"{to}\"")));
    assert_eq!(changed("/debug/vars"), expected("declared", "shadow-path"), "{diff:#}");
    assert_eq!(changed("/debug/heap"), expected("shadow-path", "ignored"), "{diff:#}");

    let audit = host.json(&["audit", "list"]);
    let text = audit.to_string();
    for word in ["inventory_accept", "inventory_ignore", "inventory_undo", "load test", "team-x"] {
        assert!(text.contains(word), "{word}: {audit:#}");
    }
    sensor.stop().unwrap();
}
