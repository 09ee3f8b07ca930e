//! The agent's death and its leaving harm nothing and leave nothing.

use nix::sys::signal::Signal;
use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions, agent_binary},
};

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
        let nginx = Nginx::start(
            &lab,
            &server,
            80,
            "server { listen 80; location / { return 200 '{}'; } }",
        )
        .unwrap();
        server
            .sh("tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress prio 7 protocol all u32 match u32 0 0 flowid 1:1")
            .unwrap();
        Self { lab, server, client, _nginx: nginx }
    }

    fn detach_all(&self) {
        let output = self
            .server
            .command(agent_binary().unwrap())
            .args(["detach", "--all"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn filters(&self) -> String {
        self.server.sh("tc filter show dev eth0 ingress; tc filter show dev eth0 egress").unwrap()
    }

    fn traffic_flows(&self) {
        self.client
            .sh("for i in 1 2 3 4 5; do curl -sf --max-time 2 -o /dev/null http://10.1.0.1/a; done")
            .unwrap();
    }
}

#[test]
fn a_killed_agent_harms_neither_traffic_nor_the_filters_of_others() {
    if !is_root_or_skips("a_killed_agent_harms_neither") {
        return;
    }
    let host = Host::new();
    let mut sensor = Sensor::start(&host.lab, &host.server, &SensorOptions::on(&["eth0"])).unwrap();
    host.traffic_flows();
    sensor.child.signal(Signal::SIGKILL).unwrap();
    sensor.child.wait(5).unwrap();
    host.traffic_flows();
    assert!(host.filters().contains("u32"), "a filter of others is gone: {}", host.filters());
    host.detach_all();
    host.traffic_flows();
    let left = host.filters();
    assert!(left.contains("u32") && !left.contains("sensor_"), "{left}");
}

#[test]
fn stopping_and_detach_all_leave_nothing_of_ours() {
    if !is_root_or_skips("stopping_and_detach_all_leave_nothing") {
        return;
    }
    for hook in ["tcx", "clsact"] {
        let host = Host::new();
        let options = SensorOptions::on(&["eth0"]).with(&["--tc-attach", hook]);
        let sensor = Sensor::start(&host.lab, &host.server, &options).unwrap();
        let status = sensor.status().unwrap();
        assert_eq!(status["interfaces"][0]["hook"], hook, "{status:#}");
        assert_eq!(host.filters().contains("sensor_"), hook == "clsact", "{}", host.filters());
        host.traffic_flows();
        sensor.stop().unwrap();
        host.detach_all();
        let left = host.filters();
        assert!(left.contains("u32") && !left.contains("sensor_"), "{hook}: {left}");
        assert!(
            left.contains("clsact")
                || host.server.sh("tc qdisc show dev eth0").unwrap().contains("clsact")
        );
        host.traffic_flows();
    }
}

#[test]
fn a_filter_left_by_clsact_is_adopted_at_the_next_start() {
    if !is_root_or_skips("a_filter_left_by_clsact_is_adopted") {
        return;
    }
    let host = Host::new();
    let options = SensorOptions::on(&["eth0"]).with(&["--tc-attach", "clsact"]);
    for _ in 0..2 {
        let mut sensor = Sensor::start(&host.lab, &host.server, &options).unwrap();
        host.traffic_flows();
        sensor.child.signal(Signal::SIGKILL).unwrap();
        sensor.child.wait(5).unwrap();
        host.traffic_flows();
        let ingress = host.server.sh("tc filter show dev eth0 ingress").unwrap();
        let ours = ingress.lines().filter(|line| line.contains(" sensor_tc_ingress_eth ")).count();
        assert_eq!(ours, 1, "{ingress}");
    }
    host.detach_all();
    assert!(!host.filters().contains("sensor_"), "{}", host.filters());
}
