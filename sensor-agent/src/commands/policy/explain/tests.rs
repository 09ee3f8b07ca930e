//! Files are explained; clients are read from the command line.

use crate::{
    config::{Config, Raw},
    explain::{ExplainQuery, ExplainView, ExplainedVerdict, Transport},
};

use super::{Client, file::of_file, text::text};

#[test]
fn clients_are_written_with_or_without_a_port() {
    let check = |text: &str, address: &str, port| {
        assert_eq!(text.parse(), Ok(Client(address.parse().unwrap(), port)));
    };
    check("203.0.113.7", "203.0.113.7", None);
    check("203.0.113.7:443", "203.0.113.7", Some(443));
    check("2001:db8::7", "2001:db8::7", None);
    check("[2001:db8::7]", "2001:db8::7", None);
    check("[2001:db8::7]:443", "2001:db8::7", Some(443));
    for bad in ["", "x", "203.0.113.7:", "203.0.113.7:99999", "203.0.113.0/24"] {
        assert!(bad.parse::<Client>().is_err(), "{bad}");
    }
}

fn explained(text: &str, client: &str) -> ExplainView {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, text).unwrap();
    let Client(address, port) = client.parse().unwrap();
    let query = ExplainQuery {
        address,
        port,
        client_port: None,
        to: None,
        protocol: Transport::Tcp,
        interface: None,
    };
    let config = Config::resolve(Raw::default()).unwrap();
    of_file(&file, &query, &config).unwrap()
}

#[test]
fn a_file_is_explained_with_every_rule_that_was_asked() {
    let policy = "\
version: 1
allow:
  - {id: partner, clients: [203.0.113.0/28], ports: [8080]}
block:
  - {id: https-only, clients: [203.0.113.0/24], ports: [443], action: reset}
  - {id: watched, clients: [203.0.113.0/24], action: monitor}
  - {id: wide, clients: [203.0.112.0/20]}
limits:
  - {id: slow, clients: [198.51.100.0/24], packets: {rate: 100, burst: 200}}
";
    let reset = explained(policy, "203.0.113.7:443");
    let packet = &reset.packets[0];
    assert_eq!(
        (packet.verdict, packet.rule.as_deref()),
        (ExplainedVerdict::Reset, Some("https-only"))
    );
    let drop = explained(policy, "203.0.113.7");
    let packet = &drop.packets[0];
    assert_eq!((packet.verdict, packet.rule.as_deref()), (ExplainedVerdict::Drop, Some("wide")));
    let rules = packet.steps.iter().filter(|step| step.list != "failsafe");
    let asked: Vec<_> = rules.map(|step| (&*step.rule, &*step.answer)).collect();
    assert_eq!(
        asked,
        [
            ("https-only", "does not apply: only for port 443"),
            ("watched", "applies and only counts"),
            ("wide", "applies: drop"),
            ("partner", "does not apply: only for port 8080"),
        ]
    );
    let kept = explained(policy, "203.0.113.7:8080");
    assert_eq!(kept.packets[0].verdict, ExplainedVerdict::Allow);
    assert_eq!(kept.packets[1].verdict, ExplainedVerdict::Allow, "{kept:?}");
    let limited = explained(policy, "198.51.100.9");
    assert_eq!(limited.packets[0].verdict, ExplainedVerdict::Limit);
    assert_eq!(
        limited.packets[1].verdict,
        ExplainedVerdict::Pass,
        "only what comes from it is charged"
    );
    assert!(
        limited.packets[0].steps[0].answer.contains("100 packets/s, 200 at once"),
        "{limited:?}"
    );
    let shown = text(&drop);
    assert!(shown.contains("WOULD BE DROPPED: block rule `wide` lists 203.0.112.0/20"), "{shown}");
}
