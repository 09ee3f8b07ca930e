//! SIGHUP reads policy and catalogue again, also where looking at them every second would see no change.

use std::{fs, path::Path, thread::sleep, time::Duration};

use nix::sys::signal::Signal;
use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Sensor, SensorOptions},
};
use serde_json::Value;

const POLICY: &str = "version: 1\nblock:\n  - {id: rule-one, clients: [10.1.0.66/32], reason: A}\n";
const DOCUMENT: &str =
    "openapi: 3.0.3\ninfo: {title: T, version: 1.0.0}\npaths:\n  /a: {get: {}}\n";

/// Writes what has the same length into the same file and puts its time back: size, inode and time say nothing.
fn replace_unseen(path: &Path, text: &str) {
    let before = fs::metadata(path).unwrap();
    assert_eq!(usize::try_from(before.len()).unwrap(), text.len());
    fs::write(path, text).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

fn has_rule(status: &Value, id: &str) -> bool {
    status["rules"].as_array().is_some_and(|rules| rules.iter().any(|rule| rule["id"] == id))
}

fn wait_for(sensor: &Sensor, what: &str, holds: impl Fn(&Value) -> bool) {
    for _ in 0..40 {
        if holds(&sensor.status().unwrap()) {
            return;
        }
        sleep(Duration::from_millis(250));
    }
    panic!("{what}: not within 10 s: {:#}", sensor.status().unwrap());
}

#[test]
fn sighup_reads_policy_and_catalogue_again() {
    if !is_root_or_skips("sighup_reads_policy_and_catalogue_again") {
        return;
    }
    let lab = Lab::new().unwrap();
    let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
    let (policy, folder) = (lab.folder().join("policy.yaml"), lab.folder().join("documents"));
    fs::create_dir_all(&folder).unwrap();
    let document = folder.join("api.yaml");
    fs::write(&policy, POLICY).unwrap();
    fs::write(&document, DOCUMENT).unwrap();
    let options = SensorOptions::on(&["eth0"]).with(&[
        "--policy",
        policy.to_str().unwrap(),
        "--catalogue",
        folder.to_str().unwrap(),
    ]);
    let mut sensor = Sensor::start(&lab, &server, &options).unwrap();
    wait_for(&sensor, "the first files", |status| {
        has_rule(status, "rule-one") && status["catalogue"]["operations"] == 1
    });

    replace_unseen(&policy, &POLICY.replace("rule-one", "rule-two"));
    replace_unseen(
        &document,
        &DOCUMENT.replace("version: 1.0.0}", "version: '1'}  ").replace("/a:", "/b:"),
    );
    sleep(Duration::from_secs(3));
    assert!(
        has_rule(&sensor.status().unwrap(), "rule-one"),
        "seen without a signal: the test proves nothing"
    );
    let loaded = sensor.status().unwrap()["catalogue"]["loaded_unix_ns"].as_u64().unwrap();
    sensor.child.signal(Signal::SIGHUP).unwrap();
    wait_for(&sensor, "after SIGHUP", |status| {
        has_rule(status, "rule-two")
            && !has_rule(status, "rule-one")
            && status["catalogue"]["loaded_unix_ns"].as_u64() > Some(loaded)
    });

    replace_unseen(&policy, &POLICY.replace("10.1.0.66/32", "10.1.0.666/3"));
    sensor.child.signal(Signal::SIGHUP).unwrap();
    wait_for(&sensor, "a bad file after SIGHUP", |status| {
        !status["policy"]["error"].is_null() && has_rule(status, "rule-two")
    });
    assert!(sensor.child.is_running().unwrap());
    sensor.stop().unwrap();
}
