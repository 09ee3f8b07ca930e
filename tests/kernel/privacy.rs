//! What is secret in paths leaves nothing behind: no byte of the store, the log, the metrics, the events, or what commands
//! print has any of it.

use std::{fs, path::Path};

use sensor_tests::{
    is_root_or_skips,
    lab::{KeepAlive, Lab, Nginx, Sensor, SensorOptions},
    secrets::Secrets,
};

/// Some exist, some do not, some are refused.
const SERVER: &str = "server { listen 80; keepalive_requests 100000; default_type application/json;
    location / { return 404 '{}'; }
    location /v1/things { return 200 '{\"a\":1}'; }
    location /v1/search { return 401 '{}'; } }";

#[test]
fn card_numbers_ibans_addresses_tokens_and_phone_numbers_are_nowhere() {
    if !is_root_or_skips("card_numbers_ibans_addresses_tokens_and_phone_numbers_are_nowhere") {
        return;
    }
    let secrets = Secrets::new(1_000, 7);
    let lab = Lab::new().unwrap();
    let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
    let _nginx = Nginx::start(&lab, &server, 80, SERVER).unwrap();
    let (events, log) = (lab.folder().join("events.jsonl"), lab.folder().join("agent.log"));
    let sink = format!("file:{}?format=jsonl", events.display());
    let options = SensorOptions::on(&["eth0"])
        .with(&["--sink", &sink, "--exchange-events"])
        .logging_to(log.clone());
    let sensor = Sensor::start(&lab, &server, &options).unwrap();
    client
        .inside(|| {
            let mut stream = KeepAlive::connect("10.1.0.1:80".parse()?)?;
            secrets.paths().iter().try_for_each(|path| stream.get(path, 4_096).map(drop))
        })
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let inventory = sensor.inventory().unwrap();
    let seen = inventory["totals"]["exchanges"].as_u64().unwrap();
    assert!(seen >= 4_900, "{seen} of 5 000 exchanges");
    let shown = [
        inventory.to_string(),
        sensor.status().unwrap().to_string(),
        sensor.ask(&["inventory", "--all"]).map(|it| it.to_string()).unwrap_or_default(),
        server.sh("curl -s http://127.0.0.1:9464/metrics").unwrap(),
    ];
    for text in &shown {
        assert_eq!(secrets.found_in(text.as_bytes()), Vec::<String>::new());
    }
    let store = sensor.folder().to_owned();
    sensor.stop().unwrap();
    let mut bytes = 0;
    for file in files(&store).into_iter().chain([events, log]) {
        let contents = fs::read(&file).unwrap();
        bytes += contents.len();
        assert_eq!(secrets.found_in(&contents), Vec::<String>::new(), "{}", file.display());
    }
    assert!(bytes > 100_000, "{bytes} bytes were looked through");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            Ok(kind) if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}
