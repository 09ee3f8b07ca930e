//! A node that forwards: each exchange counts once, with the true client, whatever the packets pass.

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, RedirectPeer, Sensor, SensorOptions},
};

use crate::counts::{assert_no_loss, total_requests};

const SERVER: &str = "server { listen 80; location / { return 200 '{\"ok\":true}'; } }";
const REQUESTS: usize = 10_000;
const CLIENT: &str = "192.0.2.2";

/// client -- node -- server, the node routing between an uplink and the server's veth.
struct Node {
    lab: Lab,
    client: Namespace,
    router: Namespace,
    _server: Namespace,
    nginx: Nginx,
}

impl Node {
    fn routed() -> Self {
        let lab = Lab::new().unwrap();
        let [client, node, server] = ["c", "n", "s"].map(|name| lab.namespace(name).unwrap());
        lab.veth((&node, "uplink", "192.0.2.1/24"), (&client, "eth0", "192.0.2.2/24")).unwrap();
        lab.veth((&node, "pod0", "10.2.0.1/24"), (&server, "eth0", "10.2.0.2/24")).unwrap();
        node.sh("sysctl -qw net.ipv4.ip_forward=1; ip route add default via 192.0.2.2 dev uplink")
            .unwrap();
        client.sh("ip route add default via 192.0.2.1").unwrap();
        server.sh("ip route add default via 10.2.0.1").unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        Self { lab, client, router: node, _server: server, nginx }
    }

    /// client and server on one bridge of the node.
    fn bridged() -> Self {
        let lab = Lab::new().unwrap();
        let [client, node, server] = ["c", "n", "s"].map(|name| lab.namespace(name).unwrap());
        node.sh("ip link add br0 type bridge; ip link set br0 up").unwrap();
        lab.veth((&node, "uplink", ""), (&client, "eth0", "192.0.2.2/24")).unwrap();
        lab.veth((&node, "pod0", ""), (&server, "eth0", "192.0.2.3/24")).unwrap();
        node.sh("ip link set uplink master br0; ip link set pod0 master br0").unwrap();
        let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
        Self { lab, client, router: node, _server: server, nginx }
    }

    fn sensor(&self) -> Sensor {
        Sensor::start(&self.lab, &self.router, &SensorOptions::default()).unwrap()
    }

    /// Loads `address` and requires one exchange each, from the true client.
    fn check(&self, address: &str, connections: u32) {
        let sensor = self.sensor();
        self.load_and_check(&sensor, address, connections);
        sensor.stop().unwrap();
    }

    fn load_and_check(&self, sensor: &Sensor, address: &str, connections: u32) {
        let before = self.nginx.requests().unwrap();
        self.client
            .sh(&format!("h2load --h1 -n {REQUESTS} -c {connections} http://{address}/orders/1"))
            .unwrap();
        assert_eq!(self.nginx.requests().unwrap() - before, REQUESTS);
        assert_eq!(total_requests(sensor), REQUESTS as u64, "{:#}", sensor.status().unwrap());
        assert_no_loss(sensor);
        let inventory = sensor.ask(&["inventory"]).unwrap();
        let rows = inventory["endpoints"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{inventory:#}");
        assert_eq!(rows[0]["callers"], serde_json::json!([CLIENT]), "{inventory:#}");
    }
}

#[test]
fn destination_nat_and_masquerade_give_one_exchange_each_with_the_true_client() {
    if !is_root_or_skips("destination_nat_and_masquerade") {
        return;
    }
    let node = Node::routed();
    node.router
        .sh("nft -f - <<'EOF'\n\
             table ip lab {\n\
               chain pre { type nat hook prerouting priority dstnat; tcp dport 8080 dnat to 10.2.0.2:80; }\n\
               chain post { type nat hook postrouting priority srcnat; oifname \"pod0\" masquerade; }\n\
             }\nEOF")
        .unwrap();
    node.check("192.0.2.1:8080", 20);
    // The server saw the node, the sensor saw the client.
    assert!(node.nginx.log_lines().unwrap().iter().all(|line| line.ends_with("10.2.0.1")));
}

#[test]
fn short_connections_through_nat_are_as_exact_as_long_ones() {
    if !is_root_or_skips("short_connections_through_nat") {
        return;
    }
    let node = Node::routed();
    node.router
        .sh("nft -f - <<'EOF'\n\
             table ip lab {\n\
               chain pre { type nat hook prerouting priority dstnat; tcp dport 8080 dnat to 10.2.0.2:80; }\n\
               chain post { type nat hook postrouting priority srcnat; oifname \"pod0\" masquerade; }\n\
             }\nEOF")
        .unwrap();
    let sensor = node.sensor();
    for _ in 0..200 {
        node.client.sh("curl -sf -o /dev/null http://192.0.2.1:8080/orders/1").unwrap();
    }
    assert_eq!(total_requests(&sensor), 200, "{:#}", sensor.status().unwrap());
}

#[test]
fn plain_routing_counts_once() {
    if is_root_or_skips("plain_routing_counts_once") {
        Node::routed().check("10.2.0.2", 20);
    }
}

#[test]
fn a_bridge_counts_once() {
    if is_root_or_skips("a_bridge_counts_once") {
        Node::bridged().check("192.0.2.3", 20);
    }
}

#[test]
fn a_program_that_ends_the_chain_behind_ours_hides_nothing() {
    if !is_root_or_skips("a_program_that_ends_the_chain") {
        return;
    }
    let node = Node::routed();
    // A filter of somebody else that classifies everything there and then.
    node.router
        .sh("for i in uplink pod0; do tc qdisc add dev $i clsact; for d in ingress egress; do \
             tc filter add dev $i $d prio 1 protocol all u32 match u32 0 0 flowid 1:1; done; done")
        .unwrap();
    let filters = || {
        node.router
            .sh("for i in uplink pod0; do tc filter show dev $i ingress; tc filter show dev $i egress; done")
            .unwrap()
    };
    let before = filters();
    node.check("10.2.0.2", 20);
    assert_eq!(filters(), before, "a filter that is not ours was touched");
}

#[test]
fn packets_carried_by_redirect_peer_are_counted_once_too() {
    if !is_root_or_skips("packets_carried_by_redirect_peer") {
        return;
    }
    // Client and server on one subnet with no bridge: the programs are the only path.
    let lab = Lab::new().unwrap();
    let [client, middle, server] = ["c", "n", "s"].map(|name| lab.namespace(name).unwrap());
    lab.veth((&middle, "uplink", ""), (&client, "eth0", "192.0.2.2/24")).unwrap();
    lab.veth((&middle, "pod0", ""), (&server, "eth0", "192.0.2.3/24")).unwrap();
    let _carriers = [("uplink", "pod0"), ("pod0", "uplink")]
        .map(|(from, to)| RedirectPeer::attach(&middle, from, to).unwrap());
    let nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
    Node { lab, client, router: middle, _server: server, nginx }.check("192.0.2.3", 20);
}
