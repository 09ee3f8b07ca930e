//! Defaults, bounds, and what wins over what.

use super::*;
use crate::config::units::{Bytes, Span};

fn problem(raw: Raw) -> String {
    Config::resolve(raw).map_err(|error| error.to_string()).expect_err("must be refused")
}

#[test]
fn nothing_needs_to_be_set() {
    let config = Config::resolve(Raw::default()).expect("defaults are valid");
    assert_eq!((config.mode, config.hook), (Mode::Observe, Hook::Tc));
    assert_eq!(config.interfaces.include, ["*"]);
    assert_eq!(config.ring_bytes, 8 << 20);
    assert!(config.sinks.is_empty());
    assert_eq!(config.metrics, MetricsListen::At(([127, 0, 0, 1], 9464).into()));
}

#[test]
fn flags_win_over_the_file() {
    let file = Raw { flows_max: Some(100), socket_group: Some("ops".into()), ..Raw::default() };
    let flags = Raw { flows_max: Some(200), ..Raw::default() };
    let both = file.overlaid_by(flags);
    assert_eq!((both.flows_max, both.socket_group.as_deref()), (Some(200), Some("ops")));
}

#[test]
fn values_out_of_bounds_say_the_bounds() {
    let ring = |bytes| problem(Raw { ring_bytes: Some(Bytes(bytes)), ..Raw::default() });
    assert!(ring(10_000_000).contains("write 8388608 or 16777216"), "{}", ring(10_000_000));
    assert!(ring(1 << 40).contains("from 4096 to 1073741824"));
    assert!(problem(Raw { flows_max: Some(1), ..Raw::default() }).contains("SENSOR_FLOWS_MAX"));
    let poll = Some(Span(Duration::from_secs(90)));
    assert!(problem(Raw { poll_interval: poll, ..Raw::default() }).contains("from 1 to 1000"));
    assert!(
        problem(Raw { metrics_listen: Some("9464".into()), ..Raw::default() })
            .contains("such as 127.0.0.1:9464")
    );
    assert!(
        problem(Raw { interfaces: Some(vec!["a/b".into()]), ..Raw::default() }).contains("a/b")
    );
    assert!(
        problem(Raw { sinks: Some(vec!["kafka:x".into()]), ..Raw::default() }).contains("kafka")
    );
}

#[test]
fn a_socket_cannot_enforce() {
    let raw = Raw { hook: Some(Hook::Socket), mode: Some(Mode::Enforce), ..Raw::default() };
    assert!(problem(raw).contains("hook: tc"));
}

#[test]
fn a_namespace_is_a_name_or_a_path() {
    assert_eq!(netns_path("blue".into()), Path::new("/run/netns/blue"));
    assert_eq!(netns_path("/proc/1/ns/net".into()), Path::new("/proc/1/ns/net"));
}
