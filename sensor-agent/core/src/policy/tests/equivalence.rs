//! The compiled form, walked as the kernel walks it, decides as the linear scan over the rules as written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{prelude::*, strategy::ValueTree};
use sensor_ebpf::{
    abi::{
        counter::Counter,
        policy::{Action, LOOKUPS_MAX, PolicyEntry, Rule as KernelRule},
        sample::Hook,
    },
    packet::Link,
    tables::List,
    testing::Host,
    verdict::Decision,
};

use super::*;

/// A walk over the compiled tables with the steps of the kernel's program; tries are asked by a linear search.
struct Walk<'c> {
    compiled: &'c Compiled,
    packet: Packet<'c>,
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

fn covers(addr: u128, len: u32, other: u128) -> bool {
    len == 0 || (addr ^ other) >> (128 - len) == 0
}

impl Walk<'_> {
    fn entries(&self, list: u8, v4: bool) -> Vec<(u128, u32, u32)> {
        let tables = &self.compiled.tables;
        let four = match list {
            0 => &tables.allow4,
            1 => &tables.block4,
            _ => &tables.limit4,
        };
        let six = match list {
            0 => &tables.allow6,
            1 => &tables.block6,
            _ => &tables.limit6,
        };
        if v4 {
            four.iter()
                .map(|(key, e)| {
                    (u128::from(u32::from_be_bytes(key.addr)) << 96, key.prefix_len, e.rule)
                })
                .collect()
        } else {
            six.iter()
                .map(|(key, e)| (u128::from_be_bytes(key.addr), key.prefix_len, e.rule))
                .collect()
        }
    }

    fn lookup(entries: &[(u128, u32, u32)], address: u128, at_most: u32) -> Option<(u32, u32)> {
        let fits =
            entries.iter().filter(|(addr, len, _)| *len <= at_most && covers(*addr, *len, address));
        fits.max_by_key(|(_, len, _)| *len).map(|(_, len, rule)| (*len, *rule))
    }

    fn applies(&self, rule: &KernelRule, port: Option<u16>) -> bool {
        let any = rule.port_min == 0 && rule.port_max == u16::MAX;
        let direction = match self.packet.direction {
            Direction::Ingress => 1,
            _ => 2,
        };
        (any || port.is_some_and(|port| (rule.port_min..=rule.port_max).contains(&port)))
            && (rule.protocol == 0 || rule.protocol == self.packet.protocol.number())
            && (rule.direction == 0 || rule.direction == direction)
            && (rule.ifindex == 0
                || self
                    .packet
                    .interface
                    .is_some_and(|name| facts().interfaces[name] == rule.ifindex))
            && (rule.expires_ns == 0 || facts().boot.0 < rule.expires_ns)
    }

    /// The rule of the policy that is found in a list for one end, within the kernel's steps.
    fn resolve(&self, list: u8, source: bool) -> Option<usize> {
        let (address, port) = self.end(source);
        let entries = self.entries(list, address.is_ipv4());
        let (value, max) = bits(address);
        let (mut len, mut pending) = Self::lookup(&entries, value, max)?;
        for _ in 0..LOOKUPS_MAX {
            if pending == 0 {
                if len == 0 {
                    return None;
                }
                (len, pending) = Self::lookup(&entries, value, len - 1)?;
                continue;
            }
            let number = pending;
            let rule = self.compiled.tables.rules[number as usize];
            pending = rule.next;
            let monitor = list == 1 && rule.action == Action::Monitor as u8;
            if self.applies(&rule, port) && !monitor {
                return self.compiled.owners[number as usize].map(|owner| owner as usize);
            }
        }
        None
    }

    fn charged(&self) -> Vec<usize> {
        let (address, port) = self.end(true);
        let entries = self.entries(2, address.is_ipv4());
        let (value, max) = bits(address);
        let Some((mut len, mut pending)) = Self::lookup(&entries, value, max) else {
            return Vec::new();
        };
        let mut charged = Vec::new();
        for _ in 0..LOOKUPS_MAX {
            if pending == 0 {
                if len == 0 {
                    break;
                }
                let Some(next) = Self::lookup(&entries, value, len - 1) else { break };
                (len, pending) = next;
                continue;
            }
            let limit = self.compiled.tables.limits[pending as usize];
            pending = limit.next;
            let rule = self.compiled.tables.rules[limit.rule as usize];
            if self.applies(&rule, port) {
                len = 0;
                charged.push(self.compiled.owners[limit.rule as usize].unwrap() as usize);
            }
        }
        charged.dedup();
        charged
    }

    fn end(&self, source: bool) -> (IpAddr, Option<u16>) {
        let ports = self.packet.ports;
        if source {
            (self.packet.src, ports.map(|p| p.1))
        } else {
            (self.packet.dst, ports.map(|p| p.0))
        }
    }

    fn in_failsafe(&self) -> bool {
        let packet = &self.packet;
        let mapped = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => u128::from(v6),
        };
        self.compiled.tables.failsafe.iter().any(|entry| {
            let port_of = |peer_is_src: bool| {
                let (src, dst) = packet.ports?;
                Some(if (entry.side == 2) == peer_is_src { src } else { dst })
            };
            let port_fits = |port: Option<u16>| {
                (entry.port_min == 0 && entry.port_max == u16::MAX)
                    || port.is_some_and(|port| (entry.port_min..=entry.port_max).contains(&port))
            };
            let inside = |address| {
                covers(u128::from_be_bytes(entry.addr), entry.prefix_len.into(), mapped(address))
            };
            (entry.protocol == 0 || entry.protocol == packet.protocol.number())
                && ((inside(packet.src) && port_fits(port_of(true)))
                    || (inside(packet.dst) && port_fits(port_of(false))))
        })
    }

    /// What the kernel decides: (kind, rule, second rule or limits).
    fn decide(&self) -> Decided {
        for source in [true, false] {
            let Some(rule) = self.resolve(1, source) else { continue };
            if self.in_failsafe() {
                return Decided::Failsafe { rule, name: "".into() };
            }
            return match self.resolve(0, true).or_else(|| self.resolve(0, false)) {
                Some(by) => Decided::Allowed { rule, by },
                None => Decided::Blocked { rule },
            };
        }
        Decided::Pass { limits: self.charged() }
    }
}

/// A small world, so that prefixes nest and packets hit them.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        4 => (0..2_u8, 0..3_u8, 0..8_u8).prop_map(|(b, c, d)| IpAddr::V4(Ipv4Addr::new(10, b, c, d))),
        1 => Just("10.9.9.9".parse().unwrap()),
        2 => (0..2_u16, 0..4_u16).prop_map(|(g, h)| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, g, 0, 0, 0, 0, h))),
    ]
}

fn client() -> impl Strategy<Value = String> {
    let lens4 = prop::sample::select(vec![0_u8, 8, 15, 16, 23, 24, 29, 30, 31, 32]);
    let lens6 = prop::sample::select(vec![0_u8, 32, 47, 48, 64, 126, 127, 128]);
    (address(), lens4, lens6).prop_map(|(address, len4, len6)| {
        let net = ipnet::IpNet::new(address, if address.is_ipv4() { len4 } else { len6 }).unwrap();
        net.trunc().to_string()
    })
}

fn conditions() -> impl Strategy<Value = String> {
    let ports = prop_oneof![4 => Just(""), 1 => Just(", ports: [80]"), 1 => Just(", ports: [80, 1000-2000]")];
    let protocol =
        prop_oneof![4 => Just(""), 1 => Just(", protocol: tcp"), 1 => Just(", protocol: udp")];
    let direction = prop_oneof![4 => Just(""), 1 => Just(", direction: ingress")];
    let interface =
        prop_oneof![6 => Just(""), 1 => Just(", interface: eth0"), 1 => Just(", interface: eth9")];
    let expiry =
        prop_oneof![6 => Just(""), 1 => Just(", ttl: 1h"), 1 => Just(", expires: 2020-01-01")];
    (ports, protocol, direction, interface, expiry)
        .prop_map(|(a, b, c, d, e)| format!("{a}{b}{c}{d}{e}"))
}

fn rules(
    prefix: &'static str,
    max: usize,
    tail: impl Strategy<Value = &'static str> + Clone,
) -> impl Strategy<Value = String> {
    prop::collection::vec((prop::collection::vec(client(), 1..5), conditions(), tail), 0..max)
        .prop_map(move |rules| {
            let lines = rules.iter().enumerate().map(|(number, (clients, conditions, tail))| {
                format!(
                    "  - {{id: {prefix}{number}, clients: ['{}']{conditions}{tail}}}\n",
                    clients.join("', '")
                )
            });
            lines.collect::<String>()
        })
}

fn policies() -> impl Strategy<Value = String> {
    let action = prop_oneof![3 => Just(""), 1 => Just(", action: monitor")];
    let limited = Just(", packets: {rate: 5}");
    (rules("a", 3, Just("")), rules("b", 7, action), rules("l", 4, limited)).prop_map(
        |(allow, block, limits)| {
            let list = |name: &str, rules: &str| {
                if rules.is_empty() { String::new() } else { format!("{name}:\n{rules}") }
            };
            // Limits take one range of ports each.
            let limits = limits.replace(", ports: [80, 1000-2000]", ", ports: [1000-2000]");
            // A limit's direction may be ingress only, which is generated.
            format!(
                "version: 1\n{}{}{}",
                list("allow", &allow),
                list("block", &block),
                list("limits", &limits)
            )
        },
    )
}

fn packets() -> impl Strategy<Value = Packet<'static>> {
    let port =
        prop::sample::select(vec![22_u16, 53, 79, 80, 81, 999, 1000, 1500, 2000, 2001, 40_000]);
    let ports = prop::option::weighted(0.9, (port.clone(), port));
    let sides =
        (address(), address()).prop_filter("one family", |(a, b)| a.is_ipv4() == b.is_ipv4());
    (sides, ports, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |((src, dst), ports, tcp, ingress, eth0)| Packet {
            src,
            dst,
            ports,
            protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
            direction: if ingress { Direction::Ingress } else { Direction::Egress },
            interface: Some(if eth0 { "eth0" } else { "eth1" }),
        },
    )
}

/// A host in enforce mode with the compiled tables, before one packet.
fn host(compiled: &Compiled, packet: &Packet<'_>) -> Host {
    let tables = &compiled.tables;
    let mut host = Host::default();
    host.enforce = true;
    host.now_ns = facts().boot.0;
    host.hook = if packet.direction == Direction::Ingress { Hook::Ingress } else { Hook::Egress };
    host.ifindex = facts().interfaces[packet.interface.unwrap()];
    host.rules.clone_from(&tables.rules);
    host.limits.clone_from(&tables.limits);
    host.failsafe.clone_from(&tables.failsafe);
    let mapped = |addr: [u8; 4]| Ipv4Addr::from(addr).to_ipv6_mapped().octets();
    let mut list = |list, addr, len: u32, entry: &PolicyEntry| {
        host.list(list, addr, u8::try_from(len).unwrap(), entry.rule);
    };
    for (kind, four, six) in [
        (List::Allow, &tables.allow4, &tables.allow6),
        (List::Block, &tables.block4, &tables.block6),
        (List::Limit, &tables.limit4, &tables.limit6),
    ] {
        // The test's host keeps both families in one list; the kernel has a trie for each.
        for (key, entry) in four.iter().filter(|_| packet.src.is_ipv4()) {
            list(kind, mapped(key.addr), key.prefix_len + 96, entry);
        }
        for (key, entry) in six.iter().filter(|_| packet.src.is_ipv6()) {
            list(kind, key.addr, key.prefix_len, entry);
        }
    }
    host
}

/// An IP packet as a raw IP device has it; checksums are left empty.
fn bytes_of(packet: &Packet<'_>, src_port: u16, dst_port: u16) -> Vec<u8> {
    let mut transport = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    match packet.protocol {
        Protocol::Tcp => {
            transport.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Protocol::Udp => transport.extend([0, 8, 0, 0]),
    }
    let len = u16::try_from(transport.len()).unwrap();
    let protocol = packet.protocol.number();
    let mut bytes = match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [high, low] = (len + 20).to_be_bytes();
            let head = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            [&head[..], &src.octets(), &dst.octets()].concat()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let [high, low] = len.to_be_bytes();
            let head = [0x60, 0, 0, 0, high, low, protocol, 64];
            [&head[..], &src.octets(), &dst.octets()].concat()
        }
        _ => unreachable!("both ends are of one family"),
    };
    bytes.extend(transport);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_tables_decide_as_the_rules_as_written(text in policies(), packets in prop::collection::vec(packets(), 40)) {
        let policy = policy(&text);
        // Nesting beyond the kernel's steps is refused, never decided wrongly.
        let Ok(compiled) = policy.compile(&facts()) else { return Ok(()) };
        for packet in packets {
            let walk = Walk { compiled: &compiled, packet };
            let expected = match explain(&policy, &facts(), &packet) {
                Decided::Failsafe { rule, .. } => Decided::Failsafe { rule, name: "".into() },
                other => other,
            };
            prop_assert_eq!(walk.decide(), expected, "{:?}\n{}", packet, text);
        }
    }

    #[test]
    fn the_verdict_of_the_kernel_s_code_is_that_of_the_rules_as_written(
        text in policies(), packets in prop::collection::vec(packets(), 30),
    ) {
        let policy = policy(&text);
        let Ok(compiled) = policy.compile(&facts()) else { return Ok(()) };
        for packet in packets {
            let Some((src, dst)) = packet.ports else { continue };
            let host = host(&compiled, &packet);
            let decision = host.see(Link::RawIp, &bytes_of(&packet, src, dst));
            let hit = |rule: usize, dropped: bool| {
                host.hits.borrow().iter().any(|(number, hits)| {
                    compiled.owners[*number as usize] == Some(u32::try_from(rule).unwrap())
                        && if dropped { hits.packets == 1 } else { hits.would_packets == 1 }
                })
            };
            let agrees = match explain(&policy, &facts(), &packet) {
                Decided::Blocked { rule } => decision == Decision::Blocked && hit(rule, true),
                Decided::Allowed { by, .. } => {
                    decision == Decision::Pass && host.counter(Counter::Allowed) == 1 && hit(by, false)
                }
                Decided::Failsafe { .. } => decision == Decision::Pass && host.counter(Counter::Failsafe) == 1,
                Decided::Pass { .. } => {
                    decision == Decision::Pass && host.counter(Counter::Allowed) + host.counter(Counter::Failsafe) == 0
                }
            };
            prop_assert!(agrees, "{decision:?} {:?} {:?}\n{text}", explain(&policy, &facts(), &packet), packet);
        }
    }

    #[test]
    fn no_rule_is_lost(text in policies()) {
        let policy = policy(&text);
        let Ok(compiled) = policy.compile(&facts()) else { return Ok(()) };
        for (number, rule) in policy.rules.iter().enumerate() {
            let in_force = compiled.states[number] == RuleState::Active;
            let expected = rule.expires.is_none_or(|at| at > NOW) && rule.when.interface.as_deref() != Some("eth9");
            prop_assert_eq!(in_force, expected);
        }
        let entries = |v4: usize, v6: usize| v4 + v6;
        let tables = &compiled.tables;
        prop_assert!(tables.rules.len() == compiled.owners.len());
        prop_assert!(entries(tables.block4.len(), tables.block6.len()) <= 2 * 7 * 5);
    }
}

#[test]
fn the_generated_world_is_worth_testing() {
    // Of generated packets a good part is blocked, allowed and limited, and few policies are refused.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts = [0_u32; 5];
    for _ in 0..200 {
        let text = policies().new_tree(&mut runner).unwrap().current();
        let policy = policy(&text);
        if policy.compile(&facts()).is_err() {
            counts[4] += 1;
        }
        for _ in 0..20 {
            let packet = packets().new_tree(&mut runner).unwrap().current();
            match explain(&policy, &facts(), &packet) {
                Decided::Pass { limits } if limits.is_empty() => counts[0] += 1,
                Decided::Pass { .. } => counts[1] += 1,
                Decided::Allowed { .. } => counts[2] += 1,
                Decided::Blocked { .. } | Decided::Failsafe { .. } => counts[3] += 1,
            }
        }
    }
    assert!(counts.iter().take(4).all(|count| *count > 200), "{counts:?}");
    assert!(counts[4] < 60, "{counts:?}");
}
