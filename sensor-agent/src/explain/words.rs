//! Kernel rules, limits and failsafe entries in words. Pure.

use std::collections::BTreeMap;

use sensor_core::{
    policy::image::{self, Skipped},
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::{
    dynamic::{DropReason, Verdict},
    image::{Action, BYTES_SHIFT, Failsafe, Limit, LimitKind, Rule},
    policy::{FailsafeSide, LIMIT_FRACTION_BITS, RuleDirection},
};
use sensor_proto::json::rfc3339;

/// The two clocks at the moment of the question.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// `CLOCK_BOOTTIME`.
    pub boot: MonoNs,
    /// Wall clock.
    pub unix: UnixNs,
}

impl Clocks {
    /// A kernel time as people read it, to the second.
    pub(super) fn show(self, at_ns: u64) -> String {
        let unix = if at_ns >= self.boot.0 {
            self.unix.0.saturating_add(at_ns - self.boot.0)
        } else {
            self.unix.0.saturating_sub(self.boot.0 - at_ns)
        };
        rfc3339(unix / 1_000_000_000 * 1_000_000_000)
    }
}

/// Why a rule does not apply.
pub(super) fn skipped(
    why: Skipped,
    rule: &Rule,
    interfaces: &BTreeMap<String, u32>,
    clocks: Clocks,
) -> String {
    let text = match why {
        Skipped::Port => format!("only for port {}", ports(rule.port_min, rule.port_max)),
        Skipped::Protocol => format!("only for {}", protocol(rule.protocol)),
        Skipped::Direction if rule.direction == RuleDirection::Ingress as u8 => {
            "only at ingress".into()
        }
        Skipped::Direction => "only at egress".into(),
        Skipped::Interface => {
            let name = interfaces.iter().find(|(_, index)| **index == rule.ifindex);
            let name = name.map_or_else(|| format!("#{}", rule.ifindex), |(name, _)| name.clone());
            format!("only on interface {name}")
        }
        Skipped::Percent => {
            let share = f64::from(rule.share) / f64::from(u32::MAX) * 100.0;
            format!("this client is not among its {share:.0} %")
        }
        Skipped::NotYet => format!("begins {}", clocks.show(rule.starts_ns)),
        Skipped::Expired => format!("ended {}", clocks.show(rule.expires_ns)),
        Skipped::Shared => "many clients share this address (include_shared is not set)".into(),
        Skipped::ByAgent => "counted by the agent, not by the kernel".into(),
    };
    format!("does not apply: {text}")
}

/// What a limit allows: `100 packets/s, 200 at once`.
pub(super) fn limit(limit: &Limit) -> String {
    let kind = image::kind_of_limit(limit.kind);
    if limit.kind == LimitKind::Concurrent as u8 {
        return format!("at most {} {kind} at a time", limit.tolerance);
    }
    let shift = if limit.kind == LimitKind::Bytes as u8 { BYTES_SHIFT } else { 0 };
    let one_second = u128::from(1_000_000_000_u64) << (LIMIT_FRACTION_BITS + shift);
    let increment = u128::from(limit.increment.max(1));
    let rate = (one_second + increment / 2) / increment;
    let burst = ((u128::from(limit.tolerance) << shift) + increment / 2) / increment;
    // Slower than one a second is told by its period.
    if rate == 0 || one_second / increment * increment != one_second && rate < 10 {
        let seconds = (increment + one_second / 2) / one_second;
        if seconds > 1 {
            return format!("1 {kind} in {seconds} s, {burst} at once");
        }
    }
    format!("{rate} {kind}/s, {burst} at once")
}

/// What an action does to a packet.
pub(super) fn action(action: u8) -> &'static str {
    if action == Action::Reset as u8 {
        "reset"
    } else if action == Action::Monitor as u8 {
        "monitor"
    } else {
        "drop"
    }
}

/// A failsafe entry: `10.0.0.0/8, our tcp port 22`.
pub(super) fn failsafe(kept: &Failsafe) -> String {
    let net = image::network(kept).map_or_else(String::new, |net| net.to_string());
    if kept.port_min == 0 && kept.port_max == u16::MAX {
        return net;
    }
    let whose = if kept.side == FailsafeSide::Ours as u8 { "our" } else { "its" };
    let protocol = match kept.protocol {
        0 => String::new(),
        number => format!("{} ", protocol(number)),
    };
    format!("{net}, {whose} {protocol}port {}", ports(kept.port_min, kept.port_max))
}

/// Whose verdict it is.
pub(super) fn verdict(reason: DropReason, verdict: &Verdict, clocks: Clocks) -> String {
    let whom = if reason == DropReason::Flow { "connection" } else { "client" };
    format!("the agent's verdict on this {whom} until {}", clocks.show(verdict.until_ns))
}

fn ports(min: u16, max: u16) -> String {
    if min == max { min.to_string() } else { format!("{min}-{max}") }
}

fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        other => format!("protocol {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: LimitKind, increment: u64, tolerance: u64, expected: &str) {
        let terms = Limit { kind: kind as u8, increment, tolerance, ..Limit::default() };
        assert_eq!(limit(&terms), expected);
    }

    #[test]
    fn a_limit_is_told_as_it_was_written() {
        const SECOND: u64 = 64_000_000_000;
        check(LimitKind::Packets, SECOND / 100, SECOND * 2, "100 packets/s, 200 at once");
        check(LimitKind::Packets, SECOND * 60, SECOND * 180, "1 packets in 60 s, 3 at once");
        check(LimitKind::Bytes, SECOND * 64 / 10_000, SECOND, "10000 bytes/s, 10000 at once");
        check(LimitKind::Concurrent, 0, 20, "at most 20 connections at a time");
    }
}
