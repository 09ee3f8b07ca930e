//! A policy in force to the sockets of local servers whose client a `reset` rule names and that only wait.
//!
//! A packet of either end is answered by the kernel; a connection without packets is ended here. Servers in other
//! namespaces are not reached: their next packet is.

use std::net::SocketAddr;

use sensor_core::policy::{
    self, Decided, Direction, HostFacts, Packet, Policy, Protocol, Rule, RuleAction,
};

use crate::kernel::Kernel;

/// Ends what the policy names; says how many.
pub(super) fn end(policy: &Policy, facts: &HostFacts, kernel: &Kernel) {
    if !policy.rules.iter().any(resets) {
        return;
    }
    let ended = kernel.end_sockets(|local, remote| is_reset(policy, facts, local, remote));
    if ended.ended > 0 || ended.refused > 0 {
        tracing::info!(
            ended = ended.ended,
            refused = ended.refused,
            "connections of clients that a reset rule names were ended"
        );
    }
}

/// A rule that certainly means every one of its clients, from now on.
fn resets(rule: &Rule) -> bool {
    rule.action == RuleAction::Reset && rule.percent == 100 && rule.starts.is_none()
}

/// Whether a packet of this connection, either way, would be answered by a reset.
fn is_reset(policy: &Policy, facts: &HostFacts, local: SocketAddr, remote: SocketAddr) -> bool {
    let ways = [(remote, local, Direction::Ingress), (local, remote, Direction::Egress)];
    ways.into_iter().any(|(src, dst, direction)| {
        let packet = Packet {
            src: src.ip(),
            dst: dst.ip(),
            ports: Some((src.port(), dst.port())),
            protocol: Protocol::Tcp,
            direction,
            interface: None,
        };
        match policy::explain(policy, facts, &packet) {
            Decided::Blocked { rule } => policy.rules.get(rule).is_some_and(resets),
            _ => false,
        }
    })
}
