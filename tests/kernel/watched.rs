//! Lists that are refused, mended, or changed while another policy is on trial: each is read when it changed, and only then.

use std::{fs, process::Output, thread::sleep, time::Duration};

use nix::sys::signal::Signal;
use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Sensor, SensorOptions, agent_binary, wait},
};
use serde_json::Value;

const LISTED: &str = "block:\n  - {id: listed, lists: [{file: list.txt}], reason: CHG-1}\n";

struct Scene {
    lab: Lab,
    host: Namespace,
    _peer: Namespace,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (host, peer) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&host, "eth0", "10.1.0.1/24"), (&peer, "eth0", "10.1.0.2/24")).unwrap();
        let scene = Self { lab, host, _peer: peer };
        scene.file("policy.yaml", LISTED);
        scene.file("list.txt", "192.0.2.1\n");
        scene
    }

    fn sensor(&self) -> Sensor {
        let policy = self.lab.folder().join("policy.yaml");
        let options = SensorOptions::on(&["eth0"]);
        let more = ["--mode", "enforce", "--policy", policy.to_str().unwrap()];
        // Not asked whether it is ready: nobody sends it a packet.
        let sensor = Sensor::spawn(&self.lab, &self.host, &options.with(&more)).unwrap();
        wait(20, "the first policy", || {
            self.run(&["policy", "list"]).status.success() && self.clients("listed").is_some()
        });
        sensor
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.lab.folder().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let folder = self.lab.folder().join(format!("sensor-{}", self.host.name()));
        let mut command = self.host.command(agent_binary().unwrap());
        command.args(arguments).arg("--socket").arg(folder.join("agent.sock"));
        command.arg("--store").arg(folder.join("store")).arg("--json").output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn policy(&self) -> Value {
        self.done(&["policy", "list"])
    }

    fn error(&self) -> String {
        self.policy()["policy"]["error"].as_str().unwrap_or_default().to_owned()
    }

    fn clients(&self, id: &str) -> Option<u64> {
        let list = self.policy();
        let rule = list["rules"].as_array()?.iter().find(|rule| rule["id"] == id)?;
        rule["clients"].as_u64()
    }

    /// Entries of the audit log that this action has.
    fn noted(&self, action: &str) -> usize {
        let log = self.done(&["audit", "list"]);
        log.as_array().unwrap().iter().filter(|one| one["action"] == action).count()
    }
}

#[test]
fn a_refused_list_is_told_once_and_read_again_when_it_is_mended() {
    if !is_root_or_skips("a_refused_list_is_told_once") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor();
    for (list, word) in [("192.0.2.1\nx\n", "list.txt:2"), ("10.1.0.0/24\n", "an address of this")]
    {
        let before = scene.noted("file");
        scene.file("list.txt", list);
        wait(20, word, || scene.error().contains(word));
        sleep(Duration::from_secs(4));
        assert_eq!(scene.noted("file"), before + 1, "{word}: read again though nothing changed");
        scene.file("list.txt", "192.0.2.1\n192.0.2.2\n");
        wait(20, "the list is mended", || scene.error().is_empty());
        assert_eq!(scene.clients("listed"), Some(2));
        scene.file("list.txt", "192.0.2.1\n");
        wait(20, "the list is the first again", || scene.clients("listed") == Some(1));
    }
    // A list that no policy in force named so far.
    scene.file("policy.yaml", &LISTED.replace("list.txt", "new.txt"));
    wait(20, "there is no such list", || scene.error().contains("new.txt"));
    // What a command adds meanwhile does not make it forgotten, and what it is refused does not change what is watched.
    scene.done(&["policy", "add", "block", "one", "--client", "192.0.2.9"]);
    let bad = scene.file("bad.yaml", "block:\n  - {id: bad, lists: [{file: nowhere.txt}]}\n");
    assert_eq!(scene.run(&["policy", "apply", &bad]).status.code(), Some(1));
    scene.file("new.txt", "192.0.2.1\n192.0.2.2\n192.0.2.3\n");
    wait(20, "the list is there", || scene.clients("listed") == Some(3));
    assert!(sensor.status().unwrap()["policy"]["error"].is_null());
}

#[test]
fn a_list_that_cannot_be_read_is_in_no_other_change_s_way() {
    if !is_root_or_skips("a_list_that_cannot_be_read_is_in_no_other") {
        return;
    }
    let scene = Scene::new();
    let _sensor = scene.sensor();
    scene.done(&["policy", "add", "block", "one", "--client", "192.0.2.9"]);
    scene.done(&["policy", "add", "block", "short", "--client", "192.0.2.8", "--ttl", "3s"]);
    scene.file("list.txt", "x\n");
    wait(20, "the list is refused", || scene.error().contains("list.txt:1"));
    wait(20, "a rule's time is over", || scene.clients("short").is_none());
    scene.done(&["policy", "remove", "one"]);
    assert_eq!((scene.clients("one"), scene.clients("listed")), (None, Some(1)));
}

#[test]
fn what_changes_during_a_trial_waits_for_its_end() {
    if !is_root_or_skips("what_changes_during_a_trial_waits") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor();
    let trial = scene.file("trial.yaml", "block:\n  - {id: trial, clients: [192.0.2.7]}\n");
    scene.done(&["policy", "apply", &trial, "--confirm", "60s"]);
    scene.file("list.txt", "192.0.2.1\n192.0.2.2\n");
    let file = LISTED.replace("listed", "other").replace("list.txt", "other.txt");
    scene.file("policy.yaml", &file);
    sensor.child.signal(Signal::SIGHUP).unwrap();
    sleep(Duration::from_secs(3));
    assert_eq!((scene.clients("trial"), scene.clients("listed")), (Some(1), None));
    assert!(!scene.policy()["policy"]["provisional"].is_null(), "{:#}", scene.policy());
    scene.file("policy.yaml", LISTED);
    scene.done(&["policy", "revert"]);
    wait(20, "the list that changed meanwhile", || scene.clients("listed") == Some(2));
    // It goes on being looked at.
    scene.file("list.txt", "192.0.2.1\n");
    wait(20, "the list changes once more", || scene.clients("listed") == Some(1));
}
