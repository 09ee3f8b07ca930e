//! The switch of enforcement over a reboot, which takes what is pinned.

use std::fs;

use sensor_tests::{
    is_root_or_skips,
    lab::{Sensor, SensorOptions},
};

use super::{Host, kill};

#[test]
fn what_is_switched_off_stays_off_over_an_observing_run_and_a_reboot() {
    if !is_root_or_skips("what_is_switched_off_stays_off_over_an_observing_run") {
        return;
    }
    let host = Host::new();
    let switched_off = |sensor: &Sensor| {
        let status = sensor.status().unwrap();
        status["enforcement"]["switched_off"].as_bool().unwrap()
    };
    // Told the agent itself, by its socket.
    let sensor = host.sensor(&[]);
    let (done, text) = host.agent(&["enforcement", "off"]);
    assert!(done && switched_off(&sensor), "{text}");
    sensor.stop().unwrap();
    let observing = host.options(&[]).with(&["--mode", "observe"]);
    let arguments: Vec<_> = observing.arguments.iter().skip(2).cloned().collect();
    let observing = SensorOptions { arguments, ..observing };
    Sensor::start(&host.lab, &host.server, &observing).unwrap().stop().unwrap();
    // Nothing is pinned now, as after a reboot.
    let sensor = host.sensor(&[]);
    assert!(switched_off(&sensor), "it came back switched on");
    let (done, text) = host.agent(&["enforcement", "on"]);
    assert!(done && !switched_off(&sensor), "{text}");
    host.kill_and_unpin(sensor);
    let sensor = host.sensor(&[]);
    assert!(!switched_off(&sensor), "it was switched on");
    // Switched with no agent alive: what is pinned is newer than the store.
    let (done, text) = host.agent(&["enforcement", "off"]);
    assert!(done, "{text}");
    kill(sensor);
    let (done, text) = host.agent(&["enforcement", "on"]);
    assert!(done, "{text}");
    let sensor = host.sensor(&[]);
    assert!(!switched_off(&sensor), "the store overrules what is pinned");
    kill(sensor);
    host.detach();
}

#[test]
fn what_is_switched_with_no_agent_alive_holds_after_a_reboot() {
    if !is_root_or_skips("what_is_switched_with_no_agent_alive") {
        return;
    }
    let host = Host::new();
    let switched_off = |sensor: &Sensor| {
        let status = sensor.status().unwrap();
        status["enforcement"]["switched_off"].as_bool().unwrap()
    };
    let store = host.folder().join("store");
    let switch = |word: &str| {
        let (done, text) = host.agent(&["enforcement", word]);
        assert!(done, "{text}");
        text
    };
    for (word, off) in [("off", true), ("on", false)] {
        kill(host.sensor(&[]));
        switch(word);
        host.detach();
        let log = host.lab.folder().join(format!("{word}.log"));
        let options = host.options(&[]).logging_to(log.clone());
        let sensor = Sensor::start(&host.lab, &host.server, &options).unwrap();
        assert_eq!(switched_off(&sensor), off, "after `enforcement {word}` and a reboot");
        let said = fs::read_to_string(log).unwrap();
        assert_eq!(said.contains("enforcement is switched off"), off, "{said}");
        kill(sensor);
    }
    // With nothing pinned either: said for the sensor whose store it is.
    host.detach();
    let store = store.to_str().unwrap();
    let (done, text) = host.agent(&["enforcement", "off", "--store", store]);
    assert!(done && text.contains("the next start comes up so"), "{text}");
    let sensor = host.sensor(&[]);
    assert!(switched_off(&sensor));
    switch("on");
    assert!(!switched_off(&sensor));
    kill(sensor);
    host.detach();
}
