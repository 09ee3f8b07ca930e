//! A policy as a document again: what is in force, in the format of the policy file, with times instead of time spans.
//!
//! Reading it gives the same policy back (name, lines and digest aside). Texts are written as JSON strings, which YAML reads as they are.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::{
    failsafe::{Builtin, Failsafe, FailsafeRule, Side},
    model::{
        Conditions, Direction, LimitKey, LimitTerms, ListFormat, OnError, Policy, Protocol, Rate,
        Rule, RuleAction, What,
    },
};
use crate::time::UnixNs;

/// Writes a policy as YAML. `time` writes a point in time as RFC 3339.
#[must_use]
pub fn export(policy: &Policy, time: &dyn Fn(UnixNs) -> String) -> String {
    let mut out = String::from("version: 1\n");
    if let Some(pattern) = &policy.require_reason {
        line(&mut out, 0, "require_reason", &quoted(pattern));
    }
    failsafe(&mut out, &policy.failsafe);
    for (key, list) in [("allow", "allow"), ("block", "block"), ("limits", "limit")] {
        let mut rules = policy.rules.iter().filter(|rule| rule.what.list() == list).peekable();
        if rules.peek().is_some() {
            line(&mut out, 0, key, "");
        }
        for rule in rules {
            self::rule(&mut out, rule, time);
        }
    }
    out
}

fn rule(out: &mut String, rule: &Rule, time: &dyn Fn(UnixNs) -> String) {
    let about = &rule.about;
    // Writing to a string cannot fail.
    let _done = writeln!(out, "  - id: {}", quoted(&about.id));
    let texts = [("name", &about.name), ("reason", &about.reason), ("origin", &about.origin)];
    for (key, text) in texts.into_iter().chain([("owner", &about.owner)]) {
        if let Some(text) = text {
            line(out, 4, key, &quoted(text));
        }
    }
    if !rule.clients.is_empty() {
        line(out, 4, "clients", "");
        for net in &rule.clients {
            let _done = writeln!(out, "      - {}", quoted(&prefix(net)));
        }
    }
    if !rule.lists.is_empty() {
        line(out, 4, "lists", "");
        for list in &rule.lists {
            let format = match list.format {
                ListFormat::Plain => "plain",
                ListFormat::Csv => "csv",
            };
            let on_error = match list.on_error {
                OnError::Refuse => "refuse",
                OnError::Skip => "skip",
            };
            let file = quoted(&list.path);
            let _done =
                writeln!(out, "      - {{file: {file}, format: {format}, on_error: {on_error}}}");
        }
    }
    conditions(out, &rule.when);
    if let What::Limit(terms) = &rule.what {
        limit(out, terms);
    }
    if rule.what != What::Allow {
        let action = match rule.action {
            RuleAction::Drop => "drop",
            RuleAction::Reset => "reset",
            RuleAction::Monitor => "monitor",
        };
        line(out, 4, "action", action);
    }
    if rule.percent != 100 {
        line(out, 4, "percent", &rule.percent.to_string());
    }
    if let Some(share) = rule.max_share {
        line(out, 4, "max_share", &share.to_string());
    }
    // An allow rule always does.
    if rule.include_shared && rule.what != What::Allow {
        line(out, 4, "include_shared", "true");
    }
    if rule.force {
        line(out, 4, "force", "true");
    }
    for (key, at) in [("starts", rule.starts), ("expires", rule.expires)] {
        if let Some(at) = at {
            line(out, 4, key, &quoted(&time(at)));
        }
    }
}

fn conditions(out: &mut String, when: &Conditions) {
    if !when.ports.is_empty() {
        line(out, 4, "ports", &ports(&when.ports));
    }
    if let Some(protocol) = when.protocol {
        line(out, 4, "protocol", protocol_name(protocol));
    }
    match when.direction {
        Direction::Both => {}
        Direction::Ingress => line(out, 4, "direction", "ingress"),
        Direction::Egress => line(out, 4, "direction", "egress"),
    }
    if let Some(interface) = &when.interface {
        line(out, 4, "interface", &quoted(interface));
    }
}

fn limit(out: &mut String, terms: &LimitTerms) {
    let rates = [
        ("packets", &terms.packets),
        ("bytes", &terms.bytes),
        ("new_connections", &terms.new_connections),
        ("requests", &terms.requests),
    ];
    for (key, rate) in rates {
        if let Some(Rate { count, period_ns, burst }) = rate {
            let seconds = period_ns / 1_000_000_000;
            line(out, 4, key, &format!("{{rate: {count}, per: {seconds}s, burst: {burst}}}"));
        }
    }
    if let Some(connections) = terms.connections {
        line(out, 4, "connections", &connections.to_string());
    }
    match terms.key {
        LimitKey::Address => {}
        LimitKey::Forwarded => line(out, 4, "key", "forwarded"),
        LimitKey::Credential => line(out, 4, "key", "credential"),
    }
    if terms.shared {
        line(out, 4, "shared", "true");
    } else {
        let prefixes = format!("{{ipv4: {}, ipv6: {}}}", terms.prefix_v4, terms.prefix_v6);
        line(out, 4, "client_prefix", &prefixes);
    }
}

fn failsafe(out: &mut String, failsafe: &Failsafe) {
    let keeps = |builtin| if failsafe.builtin.contains(&builtin) { "true" } else { "false" };
    line(out, 0, "failsafe", "");
    line(out, 2, "ssh", "");
    line(out, 4, "ports", &ports(&failsafe.ssh_ports));
    line(out, 4, "management", &prefixes(&failsafe.ssh_management));
    line(out, 4, "established", keeps(Builtin::SshEstablished));
    for (key, builtin) in [
        ("dns", Builtin::Dns),
        ("dhcp", Builtin::Dhcp),
        ("loopback", Builtin::Loopback),
        ("kubernetes", Builtin::Kubernetes),
        ("upstream", Builtin::Upstream),
    ] {
        line(out, 2, key, keeps(builtin));
    }
    if !failsafe.also.is_empty() {
        line(out, 2, "also", "");
    }
    for FailsafeRule { name, networks, ports: ranges, protocol, side } in &failsafe.also {
        let _done = writeln!(out, "    - name: {}", quoted(name));
        line(out, 6, "networks", &prefixes(networks));
        line(out, 6, "ports", &ports(ranges));
        line(out, 6, "protocol", protocol.map_or("any", protocol_name));
        line(out, 6, "side", if *side == Side::Ours { "ours" } else { "peer" });
    }
}

fn line(out: &mut String, indent: usize, key: &str, value: &str) {
    let _done =
        writeln!(out, "{:indent$}{key}:{}{value}", "", if value.is_empty() { "" } else { " " });
}

const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn ports(ranges: &[(u16, u16)]) -> String {
    let range = |(low, high): &(u16, u16)| {
        if low == high { low.to_string() } else { quoted(&format!("{low}-{high}")) }
    };
    format!("[{}]", ranges.iter().map(range).collect::<Vec<_>>().join(", "))
}

fn prefixes(nets: &[IpNet]) -> String {
    let nets = nets.iter().map(|net| quoted(&prefix(net)));
    format!("[{}]", nets.collect::<Vec<_>>().join(", "))
}

fn prefix(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                let _done = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{diff, parse};

    /// Days are enough for the test: the shell has the real one.
    fn time(at: UnixNs) -> String {
        let seconds = at.0 / 1_000_000_000;
        assert_eq!(seconds % 86_400, 0, "the test writes whole days of 1970");
        format!("1970-01-{:02}T00:00:00Z", seconds / 86_400 + 1)
    }

    fn check(text: &str) {
        let day = 86_400_000_000_000;
        let policy = parse("p.yaml", text.as_bytes(), UnixNs(day)).unwrap();
        let exported = export(&policy, &time);
        let again = parse("p.yaml", exported.as_bytes(), UnixNs(7 * day))
            .unwrap_or_else(|errors| panic!("{errors}\n{exported}"));
        assert_eq!(diff(&policy, &again), [], "{exported}");
        assert_eq!(export(&again, &time), exported);
    }

    #[test]
    fn a_policy_written_out_is_the_same_policy() {
        check("version: 1\n");
        check(
            r#"
owner: "net \"team\" \\ ü"
require_reason: "^(CHG-[0-9]+|a: .*)"
failsafe:
  ssh: {ports: [22, 2222-2230], management: [192.0.2.0/24], established: false}
  dns: false
  also:
    - {name: backup, networks: [10.9.0.0/24, "2001:db8::/32"], ports: [873], protocol: tcp, side: peer}
allow:
  - {reason: CHG-1, id: office, clients: [203.0.113.0/24, "2001:db8:10::/48"], starts: "1970-01-03T00:00:00Z"}
block:
  - {id: a, clients: [any], ports: [1-442, 444-65535, 80], protocol: tcp, direction: ingress, interface: eth0, action: reset, percent: 7, force: true, ttl: 3d, reason: "a: [b] # c", origin: x, name: "- y"}
  - {reason: CHG-1, id: b, lists: [{file: drop.txt, on_error: skip}, {file: "with blank.csv", format: csv}], action: monitor, include_shared: true, max_share: 30}
limits:
  - {reason: CHG-1, id: l1, packets: {rate: 1000, burst: 2000}, bytes: {rate: 10MB}, new_connections: {rate: 20, per: 1m}, connections: 100, client_prefix: {ipv4: 24, ipv6: 56}}
  - {reason: CHG-1, id: l2, clients: [192.0.2.1], requests: {rate: 5}, key: credential, action: monitor}
  - {reason: CHG-1, id: l3, requests: {rate: 5}, shared: true, ports: [8080]}
"#,
        );
    }
}
