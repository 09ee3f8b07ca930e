//! The policy's commands on a running host: what a file would hit, what is refused at the start and at a reload, where lists come from.

use std::{fs, path::PathBuf, process::Output};

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions, agent_binary, wait},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; location / { return 200 '{\"ok\":true}'; default_type application/json; } }";
const POLICY: &str = "\
version: 1
block:
  - {id: listed, lists: [{file: list.txt, on_error: skip}], reason: CHG0000001}
";
const LIST: &str = "# scanners\n10.1.0.66\n10.1.0.66\nnot-an-address\n";

struct Host {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    _nginx: Nginx,
}

impl Host {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client.sh("ip address add 10.1.0.66/24 dev eth0").unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        let host = Self { lab, server, client, _nginx: nginx };
        host.file("policy.yaml", POLICY);
        host.file("list.txt", LIST);
        host
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.folder().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn options(&self) -> SensorOptions {
        let policy = self.lab.folder().join("policy.yaml");
        SensorOptions::on(&["eth0"]).with(&[
            "--mode",
            "enforce",
            "--require-reason",
            "^CHG[0-9]{7}",
            "--policy",
            policy.to_str().unwrap(),
        ])
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let folder = self.lab.folder().join(format!("sensor-{}", self.server.name()));
        // Where the agent is: its addresses are the host's own.
        let mut command = self.server.command(agent_binary().unwrap());
        command.args(arguments).arg("--socket").arg(folder.join("agent.sock"));
        command.arg("--store").arg(folder.join("store")).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], words: &[&str]) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        for word in words {
            assert!(said(&output).contains(word), "{word}: {}", said(&output));
        }
    }

    fn answers(&self, from: &str) -> bool {
        let get =
            format!("curl -sf -o /dev/null --max-time 1 --interface {from} http://10.1.0.1/a");
        self.client.sh(&get).is_ok()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn lists_tell_where_they_come_from_and_a_file_which_known_clients_it_would_hit() {
    if !is_root_or_skips("lists_tell_where_they_come_from") {
        return;
    }
    let host = Host::new();
    let sensor = Sensor::start(&host.lab, &host.server, &host.options()).unwrap();
    assert!((0..5).all(|_| host.answers("10.1.0.2")) && !host.answers("10.1.0.66"));
    for view in [host.done(&["policy", "list"]), host.done(&["status"])] {
        let list = &view["lists"][0];
        assert!(list["file"].as_str().unwrap().ends_with("/list.txt"), "{list:#}");
        assert_eq!(list["rules"], serde_json::json!(["listed"]), "{list:#}");
        let counts =
            ["lines", "entries", "merged", "skipped"].map(|key| list[key].as_u64().unwrap());
        assert_eq!(counts, [4, 1, 1, 1], "{list:#}");
        assert!(list["read_unix_ns"].as_u64() >= list["changed_unix_ns"].as_u64(), "{list:#}");
        assert!(list["packets"].as_u64() > Some(0) && list["last_unix_ns"].as_u64() > Some(0));
        assert!(list["first_skipped"].as_str().unwrap().starts_with("line 4: "), "{list:#}");
    }
    let file = host.file(
        "wide.yaml",
        "block:\n  - {id: wide, clients: [10.1.0.2/31], ports: [80], reason: CHG0000002}\n  - {id: other-port, clients: [10.1.0.2], ports: [81], reason: CHG0000002}\n",
    );
    let file = file.to_str().unwrap().to_owned();
    wait(40, "the inventory knows the client", || {
        let told = host.done(&["policy", "check", &file, "--against-inventory"]);
        let known = &told["known_clients"];
        assert_eq!(told["valid"], true, "{told:#}");
        let rules = known["rules"].as_array().unwrap();
        rules.len() == 1
            && rules[0]["rule"] == "wide"
            && rules[0]["dropped"] == 1
            && rules[0]["clients"] == serde_json::json!(["10.1.0.2"])
    });
    // The same file, written relative: nothing that differs.
    let relative = host.lab.folder().join("policy.yaml");
    assert_eq!(host.run(&["policy", "diff", relative.to_str().unwrap()]).status.code(), Some(0));
    drop(sensor);
}

#[test]
fn hazards_and_missing_reasons_are_refused_at_the_start_at_a_reload_and_by_command() {
    if !is_root_or_skips("hazards_and_missing_reasons_are_refused") {
        return;
    }
    let host = Host::new();
    let mut sensor = Sensor::start(&host.lab, &host.server, &host.options()).unwrap();
    assert!(!host.answers("10.1.0.66"));
    let refused = |host: &Host| {
        let list = host.done(&["policy", "list"]);
        list["policy"]["error"].as_str().unwrap_or_default().to_owned()
    };
    // At a reload: a rule without a reason, a rule that hits everybody, and a list that now does. What was in force stays.
    let everybody = "block:\n  - {id: everybody, clients: [any], reason: CHG0000002}\n";
    for (name, text, words) in [
        (
            "policy.yaml",
            "block:\n  - {id: mute, clients: [192.0.2.1]}\n",
            "rule `mute`: no reason; write one that matches `^CHG[0-9]{7}`",
        ),
        ("policy.yaml", everybody, "policy.yaml:2: rule `everybody` drops every client"),
        (
            "list.txt",
            "10.1.0.66\n10.1.0.0/24\n",
            "rule `listed` drops an address of this host (10.1.0.1)",
        ),
    ] {
        if name == "list.txt" {
            host.file("policy.yaml", POLICY);
            wait(40, "the first file is in force again", || refused(&host).is_empty());
        }
        host.file(name, text);
        wait(40, words, || refused(&host).contains(words));
        assert!(host.answers("10.1.0.2") && !host.answers("10.1.0.66"), "{words}");
    }
    host.file("list.txt", LIST);
    wait(40, "the list is right again", || refused(&host).is_empty());
    // By command.
    host.refused(&["policy", "add", "block", "x", "--client", "192.0.2.9"], &["rule `x`", "CHG"]);
    let file = host.file("everybody.yaml", everybody);
    let file = file.to_str().unwrap();
    host.refused(&["policy", "apply", file], &["rule `everybody`", "--force"]);
    host.refused(&["policy", "check", file], &["everybody.yaml:2", "force: true"]);
    let forced = ["policy", "add", "block", "own", "--client", "10.1.0.0/30", "--port", "81"];
    host.done(&[&forced[..], &["--reason", "CHG0000003"]].concat());
    host.refused(
        &["policy", "add", "block", "host", "--client", "10.1.0.1", "--reason", "CHG0000004"],
        &["an address of this host"],
    );
    // At a start: refused with its reason where nothing was in force, and not asked again where it is what was in force.
    drop(sensor);
    sensor = Sensor::start(&host.lab, &host.server, &host.options()).unwrap();
    assert!(!host.answers("10.1.0.66"));
    drop(sensor);
    fs::remove_dir_all(host.lab.folder().join(format!("sensor-{}", host.server.name()))).unwrap();
    host.file("policy.yaml", everybody);
    let sensor = Sensor::spawn(&host.lab, &host.server, &host.options()).unwrap();
    wait(40, "the agent answers", || host.run(&["policy", "list"]).status.success());
    wait(40, "the file is refused", || {
        refused(&host).contains("rule `everybody` drops every client")
    });
    assert!(host.answers("10.1.0.2"));
    let status = host.run(&["status"]);
    assert_eq!(status.status.code(), Some(1), "an agent without its policy is not ready");
    drop(sensor);
}
