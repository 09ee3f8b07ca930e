//! Whom a verdict of the agent may not touch: failsafe and allow rules, asked as the kernel would ask them.
//!
//! The kernel asks them for each packet; a socket that is ended by name meets no packet. A small image answers: the failsafe entries and the allow
//! rules of the policy in force, and one rule that blocks everyone. What that rule would not drop is spared.

use sensor_core::{
    finding::FlowVerdict,
    policy::{
        HostFacts, Lists, Policy,
        image::{Decided, Numbers, Sighting, Verdicts, View, explain},
    },
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::{image::Line, policy::RuleDirection};

const PROTO_TCP: u8 = 6;
/// Blocks everyone.
const EVERYONE: &[u8] =
    b"block: [{id: everyone, clients: [any], action: reset, include_shared: true}]";

/// Failsafe and allow rules of a policy.
#[derive(Debug, Default)]
pub struct Spared {
    lines: Vec<Line>,
}

impl Spared {
    /// Takes them from a policy. Where that fails everyone is spared: his next packet is asked by the kernel.
    pub(super) fn new(policy: &Policy, facts: &HostFacts, lists: &Lists) -> Self {
        let Ok(mut all) = sensor_core::policy::parse("everyone", EVERYONE, UnixNs(0)) else {
            return Self::default();
        };
        let allow = policy.rules.iter().filter(|rule| rule.what.list() == "allow");
        all.rules.splice(0..0, allow.cloned());
        all.failsafe = policy.failsafe.clone();
        let compiled = all.compile(facts, lists, &mut Numbers::default());
        Self { lines: compiled.map(|compiled| compiled.image.lines).unwrap_or_default() }
    }

    /// Whether a flow is kept, whatever was decided about it.
    #[must_use]
    pub fn spares(&self, verdict: &FlowVerdict, now: MonoNs) -> bool {
        let Some(view) = View::new(self.lines.as_slice()) else { return true };
        let dropped = |server: std::net::SocketAddr| {
            let ways = [
                (verdict.client, server, RuleDirection::Ingress),
                (server, verdict.client, RuleDirection::Egress),
            ];
            ways.into_iter().all(|(src, dst, direction)| {
                let packet = Sighting {
                    src: src.ip().to_canonical(),
                    dst: dst.ip().to_canonical(),
                    ports: Some((src.port(), dst.port())),
                    protocol: PROTO_TCP,
                    direction,
                    ifindex: None,
                    now_ns: now.0,
                    shared: (false, false),
                    verdicts: Verdicts::default(),
                };
                matches!(explain(&view, &packet).decided, Decided::Blocked { .. })
            })
        };
        !(dropped(verdict.server) && dropped(verdict.local_server))
    }
}

#[cfg(test)]
mod tests {
    use sensor_core::finding::{Consequence, Sentence, Subject};

    use super::*;

    #[test]
    fn failsafe_and_allow_rules_keep_their_flows_and_nobody_else_does() {
        let text = b"allow:\n  - {id: a, clients: [192.0.2.0/24], ports: [80]}\nblock:\n  - {id: b, clients: [192.0.2.7]}\nfailsafe:\n  also:\n    - {name: backup, networks: [10.9.0.0/24], ports: [873], side: ours}\n";
        let policy = sensor_core::policy::parse("p.yaml", text, UnixNs(0)).expect("a policy");
        let spared = Spared::new(&policy, &HostFacts::default(), &Lists::default());
        let check = |client: &str, server: &str, expected| {
            let server = server.parse().expect("a server");
            let sentence =
                Sentence { subject: Subject::Flow, consequence: Consequence::End, for_ns: 1 };
            let verdict = FlowVerdict {
                sentence,
                client: client.parse().expect("a client"),
                server,
                local_server: server,
                rule: "r".into(),
            };
            assert_eq!(spared.spares(&verdict, MonoNs(5)), expected, "{client} > {server}");
            assert!(
                Spared::default().spares(&verdict, MonoNs(5)),
                "without a policy nothing is known"
            );
        };
        check("192.0.2.7:4000", "10.0.0.1:80", true);
        check("192.0.2.7:4000", "10.0.0.1:81", false);
        check("[::ffff:192.0.2.7]:4000", "[::ffff:10.0.0.1]:80", true);
        check("198.51.100.1:4000", "10.0.0.1:80", false);
        check("10.9.0.5:4000", "10.0.0.1:873", true);
        check("10.9.0.5:4000", "10.0.0.1:80", false);
        check("[2001:db8::1]:4000", "[2001:db8::2]:80", false);
    }
}
