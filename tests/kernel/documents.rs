//! API documents of a running sensor: changed while requests come in, and bound by what is asked.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Nginx, Sensor, SensorOptions},
};
use serde_json::Value;

const ANSWER: &str = "default_type application/json; location / { return 200 '{\"a\":1}'; }";

fn write(folder: &Path, path: &str) {
    let text = format!(
        "openapi: 3.0.3\ninfo: {{title: T, version: '1'}}\npaths:\n  {path}: {{get: {{}}}}\n"
    );
    // As an editor does: the new one takes the place of the old.
    fs::write(folder.join(".new"), text).unwrap();
    fs::rename(folder.join(".new"), folder.join("api.yaml")).unwrap();
}

fn state(inventory: &Value, template: &str) -> Option<String> {
    let rows = inventory["endpoints"].as_array()?;
    let row = rows.iter().find(|row| row["path_template"] == template)?;
    row["state"].as_str().map(ToOwned::to_owned)
}

fn wait(sensor: &Sensor, what: &str, holds: impl Fn(&Value) -> bool) -> Duration {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if holds(&sensor.inventory().unwrap()) {
            return start.elapsed();
        }
        sleep(Duration::from_millis(100));
    }
    panic!("{what}: not within 10 s: {:#}", sensor.inventory().unwrap());
}

#[test]
fn a_document_changes_while_requests_come_in_and_none_is_lost() {
    if !is_root_or_skips("a_document_changes_while_requests_come_in") {
        return;
    }
    let lab = Lab::new().unwrap();
    let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
    let _nginx =
        Nginx::start(&lab, &server, 80, &format!("server {{ listen 80; {ANSWER} }}")).unwrap();
    let folder = lab.folder().join("documents");
    fs::create_dir_all(&folder).unwrap();
    write(&folder, "/users");
    let options = SensorOptions::on(&["eth0"]).with(&["--catalogue", folder.to_str().unwrap()]);
    let sensor = Sensor::start(&lab, &server, &options).unwrap();
    let mut traffic = client
        .spawn(
            "sh -c 'for n in $(seq 1 60); do \
             curl -sf http://10.1.0.1/users http://10.1.0.1/orders >/dev/null; sleep 0.1; done'",
        )
        .unwrap();
    wait(&sensor, "the first document", |inventory| {
        state(inventory, "/users").as_deref() == Some("declared")
            && state(inventory, "/orders").as_deref() == Some("shadow-path")
    });

    write(&folder, "/orders");
    let took = wait(&sensor, "the second document", |inventory| {
        state(inventory, "/users").as_deref() == Some("shadow-path")
            && state(inventory, "/orders").as_deref() == Some("declared")
    });
    println!("the second document was in force after {took:?}");
    // A bad one changes nothing.
    fs::write(folder.join("api.yaml"), "openapi: 3.0.3\npaths: 7\n").unwrap();
    assert!(traffic.wait(30).unwrap().success());
    sleep(Duration::from_secs(2));
    let inventory = sensor.inventory().unwrap();
    assert_eq!(state(&inventory, "/orders").as_deref(), Some("declared"), "{inventory:#}");
    let requests = |template: &str| {
        let rows = inventory["endpoints"].as_array().unwrap();
        rows.iter().find(|row| row["path_template"] == template).unwrap()["requests"].clone()
    };
    assert_eq!((requests("/users"), requests("/orders")), (60.into(), 60.into()));
    let errors = &sensor.status().unwrap()["catalogue"]["errors"];
    assert!(
        errors[0].as_str().is_some_and(|error| error.contains("api.yaml:2 at /paths")),
        "{errors}"
    );

    // It names no host: bound by what was asked, and the agent says so.
    let coverage = sensor.ask(&["catalogue", "coverage"]).unwrap();
    let row = &coverage["documents"][0];
    assert_eq!((&row["declared"], &row["used"], &row["shadow"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(row["binding"], "evidence", "{coverage:#}");
    sensor.stop().unwrap();
}
