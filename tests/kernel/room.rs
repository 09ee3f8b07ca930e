//! A list that there is no memory for is refused with the figure, the one before stays, nobody is killed; and it is tried again by itself.

use std::{fs, path::PathBuf, thread::sleep, time::Duration};

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Sensor, SensorOptions, agent_binary, wait},
};
use serde_json::Value;

const POLICY: &str = "block:\n  - {id: listed, lists: [{file: list.txt}], reason: CHG-1}\n";
const PREFIXES: u32 = 600_000;

/// A memory cgroup of the test's own, of version 2 or 1 as the host has it; removed on drop.
struct Cgroup {
    folder: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl Cgroup {
    fn new() -> Option<Self> {
        let name = format!("sensor-room-{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup", "memory.max", "memory.current"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ];
        kinds.into_iter().find_map(|(root, limit, usage)| {
            let folder = PathBuf::from(root).join(&name);
            fs::create_dir(&folder).ok()?;
            let cgroup = Self { folder, limit, usage };
            cgroup.folder.join(limit).exists().then_some(cgroup)
        })
    }

    fn enter(&self, pid: u32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn usage(&self) -> u64 {
        fs::read_to_string(self.folder.join(self.usage)).unwrap().trim().parse().unwrap()
    }

    fn allow(&self, bytes: u64) {
        fs::write(self.folder.join(self.limit), bytes.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_list_without_room_is_refused_with_the_figure_and_comes_when_there_is_room() {
    if !is_root_or_skips("a_list_without_room_is_refused") {
        return;
    }
    let Some(cgroup) = Cgroup::new() else {
        eprintln!("SKIPPED: no memory cgroup can be made here");
        return;
    };
    let lab = Lab::new().unwrap();
    let (host, peer) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&host, "eth0", "10.1.0.1/24"), (&peer, "eth0", "10.1.0.2/24")).unwrap();
    let file = |name: &str, text: &str| {
        let path = lab.folder().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    file("list.txt", "192.0.2.1\n");
    let policy = file("policy.yaml", POLICY);
    let options = SensorOptions::on(&["eth0"]);
    let more = ["--mode", "enforce", "--policy", policy.to_str().unwrap()];
    let mut sensor = Sensor::spawn(&lab, &host, &options.with(&more)).unwrap();
    let folder = lab.folder().join(format!("sensor-{}", host.name()));
    let list = || {
        let mut command = host.command(agent_binary().unwrap());
        command.args(["policy", "list", "--json", "--socket"]).arg(folder.join("agent.sock"));
        let output = command.output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()
    };
    let clients = || list()["rules"][0]["clients"].as_u64();
    wait(60, "the first list", || clients() == Some(1));
    // From here on what it takes is charged to the cgroup.
    cgroup.enter(sensor.child.id());
    // Too little to read it.
    cgroup.allow(cgroup.usage() + (24 << 20));
    let line = |number: u32| format!("2001:db8:{:x}:{:x}::/64", number >> 16, number & 0xffff);
    let long = (0..PREFIXES).map(line).collect::<Vec<_>>().join("\n");
    file("list.txt", &long);
    let refused_with =
        |words: &str| list()["policy"]["error"].as_str().is_some_and(|error| error.contains(words));
    wait(60, "the list is not read", || refused_with("of memory to read, and the cgroup's limit"));
    assert_eq!(clients(), Some(1), "the list before does not stay");
    // Enough to read it, and too little to build it; nothing of the files changes from here on.
    cgroup.allow(cgroup.usage() + (56 << 20));
    wait(60, "the list is read and refused", || refused_with("to build it"));
    let refused = list();
    let error = refused["policy"]["error"].as_str().unwrap();
    eprintln!("with {} KiB in use: {error}", cgroup.usage() / 1024);
    assert!(error.contains("KiB") && error.contains("the cgroup's limit leaves"), "{error}");
    assert_eq!(refused["policy"]["installed"], 1, "{refused:#}");
    assert_eq!(refused["policy"]["wanted"], PREFIXES, "{refused:#}");
    assert_eq!(clients(), Some(1), "the list before does not stay");
    assert!(sensor.child.is_running().unwrap());
    // Only now there is room.
    cgroup.allow(2 << 30);
    wait(60, "the list comes by itself", || clients() == Some(PREFIXES.into()));
    let status = list();
    assert_eq!(status["policy"]["installed"], status["policy"]["wanted"], "{status:#}");
    assert!(status["policy"]["error"].is_null() && sensor.child.is_running().unwrap());
    sensor.stop().unwrap();
}
