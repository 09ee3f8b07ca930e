//! The policy changed by commands on a running host: on trial, under a condition, by whom, and what the audit log says of it.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions, agent_binary as binary, wait},
};
use serde_json::Value;

const SERVER: &str = "server { listen 80; location / { return 200 '{\"ok\":true}'; } }";
const CUTS_OFF: &str =
    "version: 1\nblock:\n  - {id: cuts-off, clients: [10.1.0.2], action: drop, reason: CHG-1}\n";

/// A server with a sensor, and an operator who is its client.
struct Scene {
    lab: Lab,
    server: Namespace,
    client: Namespace,
    _nginx: Nginx,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client.sh("ip address add 10.1.0.66/24 dev eth0").unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        Self { lab, server, client, _nginx: nginx }
    }

    fn sensor(&self, more: &[&str]) -> Sensor {
        let options = SensorOptions::on(&["eth0"]).with(&["--mode", "enforce"]).with(more);
        Sensor::start(&self.lab, &self.server, &options).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.lab.folder().join(format!("sensor-{}", self.server.name()))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.lab.folder().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command of the agent against this sensor.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary().unwrap());
        command.args(arguments).arg("--socket").arg(self.folder().join("agent.sock"));
        command.arg("--store").arg(self.folder().join("store"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text} {}", said(&output));
        serde_json::from_str(&text).unwrap()
    }

    fn answers(&self, from: &str) -> bool {
        let get =
            format!("curl -sf -o /dev/null --max-time 1 --interface {from} http://10.1.0.1/x");
        self.client.sh(&get).is_ok()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_policy_that_cuts_the_operator_off_is_reverted_by_itself() {
    if !is_root_or_skips("a_policy_that_cuts_the_operator_off") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&[]);
    let file = scene.file("cuts-off.yaml", CUTS_OFF);
    assert!(scene.answers("10.1.0.2"));
    let done = scene.done(&["policy", "apply", &file, "--confirm", "4s", "--reason", "CHG-1"]);
    assert!(done["provisional"]["until_unix_ns"].as_u64() > Some(0), "{done:#}");
    assert!(!scene.answers("10.1.0.2"), "the policy is not in force");
    // A second change has to wait for the first one.
    let second = scene.run(&["policy", "apply", &file]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("provisional until"), "{}", said(&second));
    wait(8, "the operator is back", || scene.answers("10.1.0.2"));
    let late = scene.run(&["policy", "confirm"]);
    assert_eq!(late.status.code(), Some(1), "confirmed too late: {}", said(&late));
    let log = scene.done(&["audit", "list"]);
    let entries: Vec<_> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["action"].as_str().unwrap(), one["result"].as_str().unwrap()))
        .collect();
    let [trial, done, second, refused, ..] = entries[..] else { panic!("{entries:?}") };
    assert_eq!((trial, done.0), (("apply_provisional", "begun"), "apply_provisional"));
    assert_eq!((done.1, second), ("done", ("apply", "begun")));
    assert!(refused.0 == "apply" && refused.1.contains("provisional until"), "{refused:?}");
    wait(5, "the audit log has the revert", || {
        let log = scene.done(&["audit", "list"]);
        log.as_array().unwrap().iter().any(|one| one["action"] == "revert")
    });
    // Confirmed in time, it stays.
    scene.done(&["policy", "apply", &file, "--confirm", "5s"]);
    scene.done(&["policy", "confirm", "--reason", "looks right"]);
    std::thread::sleep(Duration::from_secs(6));
    assert!(!scene.answers("10.1.0.2"), "a confirmed policy ended");
    drop(sensor);
}

#[test]
fn a_policy_on_trial_is_reverted_by_the_kernel_when_the_agent_is_killed() {
    if !is_root_or_skips("a_policy_on_trial_is_reverted_by_the_kernel") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&[]);
    let file = scene.file("cuts-off.yaml", CUTS_OFF);
    scene.done(&["policy", "apply", &file, "--confirm", "4s"]);
    assert!(!scene.answers("10.1.0.2"));
    sensor.child.signal(Signal::SIGKILL).unwrap();
    wait(8, "the operator is back without an agent", || scene.answers("10.1.0.2"));
    drop(sensor);
    let _again = scene.sensor(&[]);
    assert!(scene.answers("10.1.0.2"), "the next agent brought the trial back");
    let log = scene.done(&["audit", "list"]);
    let lost = |one: &Value| {
        one["action"] == "revert"
            && one["reason"].as_str().is_some_and(|why| why.contains("ended before"))
    };
    assert!(log.as_array().unwrap().iter().any(lost), "{log:#}");
}

#[test]
fn rules_added_by_command_hit_at_once_survive_a_restart_and_end_with_their_time() {
    if !is_root_or_skips("rules_added_by_command") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&[]);
    let add = ["policy", "add", "block", "bad", "--client", "10.1.0.66", "--reason", "CHG-2"];
    let done = scene.done(&add);
    assert!(!scene.answers("10.1.0.66") && scene.answers("10.1.0.2"));
    let generation = done["generation"].as_u64().unwrap();
    // Somebody who looked before that change does not overwrite it.
    let stale = (generation - 1).to_string();
    let everybody = scene.run(&["policy", "add", "block", "everybody", "--client", "any"]);
    assert_eq!(everybody.status.code(), Some(1));
    assert!(said(&everybody).contains("--force"), "{}", said(&everybody));
    let refused = scene.run(&["policy", "remove", "bad", "--if-generation", &stale]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("is in force, not"), "{}", said(&refused));
    sensor.stop().unwrap();
    let sensor = scene.sensor(&[]);
    assert!(!scene.answers("10.1.0.66"), "the added rule did not survive a restart");
    let list = scene.done(&["policy", "list"]);
    assert_eq!(list["policy"]["generation"].as_u64(), Some(generation), "{list:#}");
    let rule = &list["rules"][0];
    assert!(rule["packets"].as_u64() > Some(0), "{list:#}");
    assert!(rule["from"].as_str().unwrap().starts_with("added by root"), "{rule:#}");
    let exported = scene.run(&["policy", "export"]);
    let file = scene.file("exported.yaml", &String::from_utf8_lossy(&exported.stdout));
    assert_eq!(scene.run(&["policy", "diff", &file]).status.code(), Some(0));
    scene.done(&["policy", "remove", "bad"]);
    assert!(scene.answers("10.1.0.66"));
    scene.done(&["policy", "add", "block", "short", "--client", "10.1.0.66", "--ttl", "3s"]);
    assert!(!scene.answers("10.1.0.66"));
    wait(6, "the rule's time is over", || scene.answers("10.1.0.66"));
    drop(sensor);
}

#[test]
fn who_may_not_change_anything_changes_nothing() {
    if !is_root_or_skips("who_may_not_change_anything") {
        return;
    }
    let scene = Scene::new();
    // `nogroup` may ask; nobody but root may change.
    let sensor = scene.sensor(&["--socket-group", "nogroup"]);
    for folder in [scene.lab.folder().to_owned(), scene.folder()] {
        nix::sys::stat::fchmodat(
            nix::fcntl::AT_FDCWD,
            &folder,
            nix::sys::stat::Mode::from_bits_truncate(0o755),
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .unwrap();
    }
    let agent = scene.lab.folder().join("agent");
    fs::copy(binary().unwrap(), &agent).unwrap();
    let as_nobody = |arguments: &str| {
        let socket = scene.folder().join("agent.sock");
        let line = format!(
            "setpriv --reuid nobody --regid nogroup --clear-groups {} {arguments} --socket {}",
            agent.display(),
            socket.display()
        );
        Command::new("sh").args(["-c", &line]).output().unwrap()
    };
    let asked = as_nobody("policy list");
    assert!(asked.status.success(), "{}", said(&asked));
    let refused = as_nobody("policy add block x --client 10.1.0.2");
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("permission denied"), "{}", said(&refused));
    assert!(scene.answers("10.1.0.2"));
    // It is in the audit log; asking once more is not.
    as_nobody("policy add block y --client 10.1.0.2");
    let log = scene.done(&["audit", "list"]);
    let denied: Vec<_> =
        log.as_array().unwrap().iter().filter(|one| one["action"] == "add").collect();
    assert_eq!(denied.len(), 1, "{log:#}");
    assert_eq!(denied[0]["result"], "permission denied");
    assert_eq!(denied[0]["who"]["name"], "nobody");
    drop(sensor);
}

#[test]
fn a_tampered_audit_log_is_found() {
    if !is_root_or_skips("a_tampered_audit_log") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&[]);
    for number in 0..3 {
        let id = format!("rule-{number}");
        scene.done(&["policy", "add", "block", &id, "--client", "192.0.2.1", "--reason", &id]);
    }
    let found = scene.done(&["audit", "verify"]);
    assert_eq!(found["against"], "agent", "{found:#}");
    let head = found["found"]["head"].as_str().unwrap().to_owned();
    let path = scene.folder().join("store/audit/audit.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("rule-1", "rule-9")).unwrap();
    let changed = scene.run(&["audit", "verify"]);
    assert_eq!(changed.status.code(), Some(1));
    assert!(said(&changed).contains("was changed"), "{}", said(&changed));
    // The last line cut off: nothing inside is wrong, but the head is gone.
    let cut = text.trim_end().rfind('\n').unwrap() + 1;
    fs::write(&path, &text[..cut]).unwrap();
    let cut = scene.run(&["audit", "verify", "--head", &head]);
    assert_eq!(cut.status.code(), Some(1));
    assert!(said(&cut).contains("not in the log"), "{}", said(&cut));
    drop(sensor);
}

/// A small file system of its own, for what it is like when there is no room.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"]).arg(&folder);
        assert!(mount.status().unwrap().success());
        Self(folder)
    }

    /// Takes all the room; what is given is in the way until it is removed.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("in-the-way");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

fn switch_off(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"{\"do\":\"enforcement\",\"on\":false,\"terms\":{}}\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn without_room_for_the_audit_log_only_the_ways_back_are_open() {
    if !is_root_or_skips("without_room_for_the_audit_log") {
        return;
    }
    let scene = Scene::new();
    let disk = SmallDisk::mount(scene.folder().join("store/audit"));
    let sensor = scene.sensor(&[]);
    let file = scene.file("cuts-off.yaml", CUTS_OFF);
    scene.done(&["policy", "apply", &file, "--confirm", "60s"]);
    assert!(!scene.answers("10.1.0.2"));
    let in_the_way = disk.fill();
    // What is left of the last page still takes an entry or two.
    let add = ["policy", "add", "block", "bad", "--client", "10.1.0.66"];
    let refused =
        (0..20).any(|_| said(&scene.run(&add)).contains("audit log cannot be written, so nothing"));
    assert!(refused, "changes go on without a log");
    let reverted = scene.run(&["policy", "revert"]);
    assert!(reverted.status.success(), "{}", said(&reverted));
    let told = String::from_utf8_lossy(&reverted.stdout);
    // An entry that is shorter than the refused one may still find room: then the log has it.
    let noted = || {
        let log = scene.done(&["audit", "list"]);
        log.as_array().unwrap().iter().any(|one| one["action"] == "revert")
    };
    assert!(told.contains("the audit log does not say so") || noted(), "{told}");
    assert!(scene.answers("10.1.0.2"), "the way back is closed");
    let answer = switch_off(&scene.folder().join("agent.sock"));
    assert!(answer.starts_with("{\"ok\":"), "{answer}");
    // Not one change was made that the log does not announce.
    assert!(!scene.run(&add).status.success());
    let list = scene.done(&["policy", "list"]);
    assert_eq!(list["rules"].as_array().map(Vec::len), Some(0), "{list:#}");
    fs::remove_file(in_the_way).unwrap();
    scene.done(&add);
    assert!(scene.answers("10.1.0.66"), "it is switched off");
    assert_eq!(scene.done(&["audit", "verify"])["holds"], true);
    drop(sensor);
}

#[test]
fn the_switch_and_the_status_wait_for_no_list() {
    if !is_root_or_skips("the_switch_and_the_status_wait_for_no_list") {
        return;
    }
    let scene = Scene::new();
    let sensor = scene.sensor(&[]);
    let mut list = String::new();
    for number in 0..600_000_u32 {
        list += &std::net::Ipv4Addr::from(0x0b00_0000 + number * 5).to_string();
        list.push('\n');
    }
    scene.file("long.txt", &list);
    let long = scene.file(
        "long.yaml",
        "version: 1\nblock:\n  - {id: long, lists: [{file: long.txt}], reason: CHG-1}\n",
    );
    let socket = scene.folder().join("agent.sock");
    let mut apply = scene.command(&["policy", "apply", &long]).spawn().unwrap();
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while apply.try_wait().unwrap().is_none() {
        let start = Instant::now();
        assert!(switch_off(&socket).starts_with("{\"ok\":"));
        sensor.status().unwrap();
        slowest = slowest.max(start.elapsed());
        rounds += 1;
    }
    assert!(apply.wait().unwrap().success());
    eprintln!("switched and asked {rounds} times while the list came, at most {slowest:?}");
    // Each round is a command of its own, and the machine is busy: a list takes seconds.
    assert!(rounds >= 3 && slowest < Duration::from_secs(1), "{rounds} rounds, {slowest:?}");
    drop(sensor);
}
