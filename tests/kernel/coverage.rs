//! What is served, what is called, and what could be read: exact, per listener.

use std::time::Duration;

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Namespace, Nginx, Sensor, SensorOptions},
};
use serde_json::Value;

use crate::counts::total_requests;

fn pair(lab: &Lab) -> (Namespace, Namespace) {
    let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
    (server, client)
}

fn listener(coverage: &Value, port: u16) -> &Value {
    let wanted = format!(":{port}");
    coverage["coverage"]
        .as_array()
        .and_then(|rows| {
            rows.iter()
                .find(|row| row["listener"].as_str().is_some_and(|name| name.ends_with(&wanted)))
        })
        .unwrap_or_else(|| panic!("no listener on {port}: {coverage:#}"))
}

#[test]
fn served_endpoints_and_called_names_are_told_apart() {
    if !is_root_or_skips("served_endpoints_and_called_names") {
        return;
    }
    let lab = Lab::new().unwrap();
    let (host, outside) = pair(&lab);
    let answer = "location / { return 200 '{}'; }";
    let _api = Nginx::start(&lab, &host, 80, &format!("server {{ listen 80; {answer} }}")).unwrap();
    let _web =
        Nginx::start(&lab, &outside, 80, &format!("server {{ listen 80; {answer} }}")).unwrap();
    // The document declares what is served, so that nothing is shadow.
    let catalogue = lab.folder().join("catalogue");
    std::fs::create_dir(&catalogue).unwrap();
    let operation = "get:\n      responses: {'200': {description: ok}}";
    let path = |n| format!("  /served{n}/{{id}}:\n    {operation}\n");
    let paths = (0..10).map(path).collect::<Vec<_>>().concat();
    std::fs::write(
        catalogue.join("api.yaml"),
        format!("openapi: 3.0.3\ninfo: {{title: lab, version: '1'}}\npaths:\n{paths}"),
    )
    .unwrap();
    let sensor = Sensor::start(
        &lab,
        &host,
        &SensorOptions::on(&["eth0"]).with(&["--catalogue", catalogue.to_str().unwrap()]),
    )
    .unwrap();
    for n in 0..10 {
        outside.sh(&format!("curl -sf -o /dev/null http://10.1.0.1/served{n}/[1-20]")).unwrap();
    }
    for n in 0..20 {
        host.sh(&format!(
            "curl -sf -o /dev/null --resolve name{n}.example:80:10.1.0.2 http://name{n}.example/v1/[1-5]"
        ))
        .unwrap();
    }
    assert_eq!(total_requests(&sensor), 200, "{:#}", sensor.inventory().unwrap());
    let inventory = sensor.inventory().unwrap();
    let endpoints = inventory["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 10, "{inventory:#}");
    assert!(endpoints.iter().all(|row| row["state"] == "declared"), "{inventory:#}");
    let egress = inventory["egress"].as_array().unwrap();
    assert_eq!(egress.len(), 20, "{inventory:#}");
    assert!(egress.iter().all(|row| row["requests"] == 5), "{inventory:#}");
}

#[test]
fn connections_of_four_protocols_are_classified_exactly() {
    if !is_root_or_skips("connections_of_four_protocols") {
        return;
    }
    let lab = Lab::new().unwrap();
    let (server, client) = pair(&lab);
    let folder = lab.folder().display();
    server
        .sh(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 \
             -subj /CN=lab.test -keyout {folder}/key.pem -out {folder}/cert.pem 2>/dev/null"
        ))
        .unwrap();
    let _nginx = Nginx::start(
        &lab,
        &server,
        80,
        &format!(
            "server {{ listen 80; return 200 '{{}}'; }}\n\
             server {{ listen 443 ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; return 200 '{{}}'; }}"
        ),
    )
    .unwrap();
    let _h2c = server.spawn(&format!("nghttpd --no-tls -d {folder} 8080 >/dev/null 2>&1")).unwrap();
    let _redis = server
        .spawn("redis-server --port 6379 --save '' --bind 10.1.0.1 --protected-mode no >/dev/null")
        .unwrap();
    server.wait_for_port(8080).unwrap();
    server.wait_for_port(6379).unwrap();
    let sensor = Sensor::start(&lab, &server, &SensorOptions::on(&["eth0"])).unwrap();
    client
        .sh("h2load --h1 -n 500 -c 500 http://10.1.0.1/a >/dev/null; \
             h2load --h1 -n 500 -c 500 https://10.1.0.1/a >/dev/null; \
             h2load -n 500 -c 500 http://10.1.0.1:8080/ >/dev/null; \
             redis-benchmark -h 10.1.0.1 -c 500 -n 500 -t ping_inline -k 0 >/dev/null 2>&1 || true")
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let coverage = sensor.ask(&["coverage"]).unwrap();
    for (port, protocol) in [(80, "http"), (443, "tls"), (8080, "h2c")] {
        let row = listener(&coverage, port);
        assert_eq!(row["opened"], 500, "{row:#}");
        assert_eq!(row[protocol], 500, "{row:#}");
    }
    // redis-benchmark opens connections that it never uses: redis itself says how many there were,
    // the one that asks included.
    let stats = server.sh("redis-cli -h 10.1.0.1 info stats").unwrap();
    let received: u64 = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"))
        .map(|text| text.trim().parse().unwrap())
        .unwrap();
    let redis = listener(&coverage, 6379);
    let count = |name: &str| redis[name].as_u64().unwrap();
    assert_eq!(count("opened"), received - 1, "{redis:#}");
    assert_eq!(count("opened"), count("other") + count("silent"), "{redis:#}");
    assert!(count("other") >= 500, "{redis:#}");
    assert_eq!(redis["http"], 0);
}
