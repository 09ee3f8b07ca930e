//! The owner of each end, by its cgroup: right where it is local, empty where it is not.

use std::{fs, path::PathBuf};

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Nginx, Sensor, SensorOptions},
};

use crate::counts::total_requests;

/// A cgroup of the test's own, removed on drop.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = mounts
            .lines()
            .find(|line| line.contains(" - cgroup2 "))
            .and_then(|line| line.split(' ').nth(4))
            .expect("cgroup v2 is mounted");
        let path =
            PathBuf::from(root).join(format!("sensor-test-{name}-{}.service", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A command line prefix that enters it.
    fn prefix(&self) -> String {
        format!("sh -c 'echo $$ > {}/cgroup.procs; exec \"$@\"' --", self.0.display())
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn local_ends_have_their_owner_and_remote_ends_have_none() {
    if !is_root_or_skips("local_ends_have_their_owner") {
        return;
    }
    let lab = Lab::new().unwrap();
    let (server, remote) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&server, "eth0", "10.1.0.1/24"), (&remote, "eth0", "10.1.0.2/24")).unwrap();
    let (web, shell) = (Cgroup::new("web"), Cgroup::new("shell"));
    let nginx = Nginx::start_by(
        &lab,
        &server,
        80,
        "server { listen 80; location / { return 200 '{}'; } }",
        &web.prefix(),
    )
    .unwrap();
    let output = lab.folder().join("exchanges.jsonl");
    let sensor = Sensor::start(
        &lab,
        &server,
        &SensorOptions::on(&["eth0", "lo"]).with(&[
            "--exchange-events",
            "--sink",
            &format!("file:{}?format=jsonl", output.display()),
        ]),
    )
    .unwrap();
    let many = "seq 1000 | sed 's#.*#url=\"http://10.1.0.1/local\"#' | curl -sf -o /dev/null -K -";
    server.sh(&format!("{} sh -c '{}'", shell.prefix(), many.replace('\'', "'\\''"))).unwrap();
    remote.sh(&many.replace("/local", "/remote")).unwrap();
    assert_eq!(total_requests(&sensor), 2000, "{:#}", sensor.status().unwrap());
    sensor.stop().unwrap();
    drop(nginx);

    let events = fs::read_to_string(&output).unwrap();
    let exchanges: Vec<serde_json::Value> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|event| event.get("exchange").cloned())
        .collect();
    assert_eq!(exchanges.len(), 2000);
    for exchange in exchanges {
        let local = exchange["path_template"] == "/local";
        assert_eq!(exchange["server"]["owner"], web.name(), "{exchange:#}");
        let expected = if local { shell.name() } else { String::new() };
        assert_eq!(
            exchange["client"]["owner"].as_str().unwrap_or_default(),
            expected,
            "{exchange:#}"
        );
    }
}
