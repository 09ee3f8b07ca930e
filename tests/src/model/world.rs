//! Policies and packets from a seed: nested prefixes, ports, percentages, times, monitors; half of the packets at borders of what the rules name.

use std::fmt::Write as _;

use super::{Action, Allowance, Kind, List, Packet, Prefix, Rule};
use crate::packets::Dice;

/// Ports that rules and packets use.
const PORTS: [u16; 9] = [53, 79, 80, 81, 443, 999, 1000, 2000, 2001];

/// Packets of one policy at most: those of the next begin with other numbers, so that none is a repeat of an earlier one's.
const PACKETS_MAX: u32 = 256;

/// A policy, and packets for it.
#[derive(Clone, Debug)]
pub struct World {
    /// Its rules.
    pub rules: Vec<Rule>,
    dice: Dice,
    seq: u32,
}

impl World {
    /// Makes a policy; `number` makes the ids of its rules differ from those of others.
    #[must_use]
    pub fn new(seed: u64, number: usize) -> Self {
        let mut dice = Dice::new(seed);
        let mut rules = Vec::new();
        for (list, most) in [(List::Allow, 3), (List::Block, 9), (List::Limits, 4)] {
            for _ in 0..dice.below(most) {
                let id = format!("p{number}r{}", rules.len());
                rules.push(rule(&mut dice, list, id));
            }
        }
        Self { rules, dice, seq: 1 + PACKETS_MAX * u32::try_from(number).unwrap_or(0) }
    }

    /// The policy file. `now_s` is the time of its compilation, seconds since 1970.
    #[must_use]
    pub fn yaml(&self, date: impl Fn(u64) -> String) -> String {
        let mut text = String::from("version: 1\n");
        for (list, name) in
            [(List::Allow, "allow"), (List::Block, "block"), (List::Limits, "limits")]
        {
            let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.list == list).collect();
            if rules.is_empty() {
                continue;
            }
            let _infallible = writeln!(text, "{name}:");
            for rule in rules {
                text.push_str(&written(rule, &date));
            }
        }
        text
    }

    /// The next packet; times do not go back when they are sorted by the caller.
    pub fn packet(&mut self) -> Packet {
        let dice = &mut self.dice;
        let four = !dice.one_in(3);
        let (mut src, mut dst) = (address(dice, four), address(dice, four));
        let mut time_ns = dice.below(100) * 1_000_000_000;
        let mut ports = (dice.pick(&PORTS), dice.pick(&PORTS));
        if dice.one_in(2) && !self.rules.is_empty() {
            let at = usize::try_from(dice.below(self.rules.len() as u64)).unwrap_or(0);
            if let Some(rule) = self.rules.get(at) {
                let prefixes: Vec<Prefix> =
                    rule.clients.iter().copied().filter(|prefix| prefix.four == four).collect();
                if !prefixes.is_empty() {
                    let own = border(dice, dice_pick(&prefixes, self.seq));
                    if dice.one_in(3) { dst = own } else { src = own }
                }
                if let Some((low, high)) = rule.ports.first() {
                    let edge =
                        dice.pick(&[*low, *high, low.saturating_sub(1), high.saturating_add(1)]);
                    if dice.one_in(3) { ports.0 = edge } else { ports.1 = edge }
                }
                let edges: Vec<u64> = rule.starts.into_iter().chain(rule.expires).collect();
                if let Some(edge) = edges.first() {
                    time_ns = edge * 1_000_000_000 + dice.pick(&[0, 1])
                        - u64::from(*edge > 0 && dice.one_in(2));
                }
            }
        }
        self.seq += 1;
        let dice = &mut self.dice;
        let kind = match dice.below(4) {
            0 => {
                // A connection of its own: what a tracker of streams makes of two is no matter of the policy.
                ports.0 = 20_000 + u16::try_from(self.seq % 40_000).unwrap_or(0);
                Kind::Requests(dice.pick(&[1, 1, 1, 2, 3]))
            }
            1 => Kind::Ack,
            _ => Kind::Syn,
        };
        Packet {
            four,
            src,
            dst,
            ports,
            protocol: dice.pick(&[6, 6, 17]),
            kind,
            ingress: !dice.one_in(3),
            time_ns,
            // Far apart, so that no segment is taken for a part of another connection of the same addresses.
            numbers: (self.seq << 12, self.seq),
        }
    }

    /// Packets, some of them connections from handshake to end.
    pub fn packets(&mut self, count: usize) -> Vec<Packet> {
        let mut packets = Vec::new();
        while packets.len() < count {
            if self.dice.one_in(8) {
                packets.extend(self.connection());
            } else {
                packets.push(self.packet());
            }
        }
        packets
    }

    /// A connection to one of the addresses that rules name, all at one time.
    fn connection(&mut self) -> Vec<Packet> {
        let mut up = Packet { protocol: 6, kind: Kind::Syn, ..self.packet() };
        up.ports.0 = 20_000 + u16::try_from(self.seq % 40_000).unwrap_or(0);
        let down = Packet {
            src: up.dst,
            dst: up.src,
            ports: (up.ports.1, up.ports.0),
            ingress: !up.ingress,
            ..up
        };
        let (client, server) = (self.seq << 12, (self.seq << 12) + 77);
        let (client_next, server_next) = (client + 1, server + 1);
        let wrong = if self.dice.one_in(4) { 5 } else { 0 };
        let mut packets = vec![
            Packet { numbers: (client, 0), ..up },
            Packet { kind: Kind::SynAck, numbers: (server, client_next), ..down },
            Packet { kind: Kind::Ack, numbers: (client_next, server_next + wrong), ..up },
        ];
        if self.dice.one_in(2) {
            packets.push(Packet { kind: Kind::Ack, numbers: (client_next, server_next), ..up });
        }
        if self.dice.one_in(6) {
            // It would like to pass for a server.
            packets.push(Packet { kind: Kind::SynAck, numbers: (client + 1, server_next), ..up });
        }
        packets.extend((0..self.dice.below(4)).map(|_| Packet {
            kind: Kind::Ack,
            numbers: (server_next, client_next),
            ..down
        }));
        match self.dice.below(3) {
            0 => packets.extend([
                Packet { kind: Kind::Fin, numbers: (client_next, server_next), ..up },
                Packet { kind: Kind::Fin, numbers: (server_next, client_next + 1), ..down },
                Packet { kind: Kind::Ack, numbers: (client_next + 1, server_next + 1), ..up },
            ]),
            1 => packets.push(Packet { kind: Kind::Rst, numbers: (server_next, 0), ..down }),
            _ => {}
        }
        packets
    }
}

fn dice_pick(prefixes: &[Prefix], seq: u32) -> Prefix {
    let at = usize::try_from(seq).unwrap_or(0) % prefixes.len().max(1);
    prefixes.get(at).copied().unwrap_or(Prefix { four: true, address: 0, len: 0 })
}

/// The first or last address of a prefix, or the one beside it.
fn border(dice: &mut Dice, prefix: Prefix) -> u128 {
    let most = if prefix.four { u128::from(u32::MAX) } else { u128::MAX };
    match dice.below(4) {
        0 => prefix.address,
        1 => prefix.last(),
        2 => prefix.address.saturating_sub(1),
        _ => prefix.last().saturating_add(1).min(most),
    }
}

/// An address out of a few networks that nest.
fn address(dice: &mut Dice, four: bool) -> u128 {
    if four {
        0x0a01_0000
            | u128::from(dice.below(4)) << 8
            | u128::from(dice.pick(&[0_u8, 1, 7, 8, 63, 64, 127, 128, 200, 255]))
    } else {
        0x2001_0db8_u128 << 96 | u128::from(dice.below(4)) << 64 | u128::from(dice.below(4))
    }
}

fn prefix(dice: &mut Dice) -> Prefix {
    let four = !dice.one_in(3);
    let len = if four {
        dice.pick(&[0, 8, 15, 16, 22, 23, 24, 24, 25, 26, 28, 31, 32, 32, 32])
    } else {
        dice.pick(&[0, 32, 47, 48, 62, 63, 64, 64, 65, 96, 126, 127, 128, 128])
    };
    let bits = if four { 32 } else { 128 };
    let mut address = address(dice, four);
    for bit in 0..bits - len {
        address &= !(1 << bit);
    }
    Prefix { four, address, len }
}

fn rule(dice: &mut Dice, list: List, id: String) -> Rule {
    let clients = (0..=dice.below(5)).map(|_| prefix(dice)).collect();
    let ports = match dice.below(6) {
        0 => vec![(80, 80)],
        1 if list != List::Limits => vec![(80, 80), (1000, 2000)],
        1 => vec![(1000, 2000)],
        _ => Vec::new(),
    };
    let protocol = dice.pick(&[None, None, None, Some(6), Some(17)]);
    let actions = [Action::Drop, Action::Drop, Action::Reset, Action::Monitor];
    let action = match dice.pick(&actions) {
        Action::Reset if protocol == Some(17) => Action::Drop,
        action => action,
    };
    // A limit needs something to count.
    let limit = list == List::Limits;
    let (mut starts, mut expires) = (None, None);
    match dice.below(8) {
        0 => starts = Some(10 + dice.below(30)),
        1 => expires = Some(1 + dice.below(60)),
        2 => (starts, expires) = (Some(10), Some(40)),
        _ => {}
    }
    Rule {
        id,
        list,
        clients,
        ports,
        protocol,
        ingress: if limit {
            dice.pick(&[None, None, Some(true)])
        } else {
            dice.pick(&[None, None, None, Some(true), Some(false)])
        },
        interface: dice.pick(&[None, None, None, None, Some(1), Some(2)]),
        percent: dice.pick(&[100, 100, 100, 100, 50, 10, 0]),
        action: if list == List::Allow { Action::Drop } else { action },
        starts,
        expires,
        allowance: if limit { allowance(dice, protocol) } else { Allowance::default() },
        shared: limit && dice.one_in(4),
    }
}

fn allowance(dice: &mut Dice, protocol: Option<u8>) -> Allowance {
    let tcp = protocol != Some(17);
    let mut allowance = Allowance {
        packets: dice.one_in(3).then(|| 1 + dice.below(3)),
        bytes: dice.one_in(4).then(|| 20 + dice.below(400)),
        new_connections: (tcp && dice.one_in(3)).then(|| 1 + dice.below(2)),
        requests: (tcp && dice.one_in(3)).then(|| 1 + dice.below(3)),
        connections: (tcp && dice.one_in(2)).then(|| 1 + dice.below(2)),
    };
    if allowance == Allowance::default() {
        // A limit needs something to count.
        allowance.packets = Some(1 + dice.below(3));
    }
    allowance
}

fn written(rule: &Rule, date: &impl Fn(u64) -> String) -> String {
    let mut text = format!("  - id: {}\n", rule.id);
    let mut add = |line: String| {
        text.push_str("    ");
        text.push_str(&line);
        text.push('\n');
    };
    let clients: Vec<String> = rule.clients.iter().map(|prefix| format!("'{prefix}'")).collect();
    add(format!("clients: [{}]", clients.join(", ")));
    if !rule.ports.is_empty() {
        let ports: Vec<String> = rule
            .ports
            .iter()
            .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") })
            .collect();
        add(format!("ports: [{}]", ports.join(", ")));
    }
    if let Some(protocol) = rule.protocol {
        add(format!("protocol: {}", if protocol == 6 { "tcp" } else { "udp" }));
    }
    if let Some(ingress) = rule.ingress {
        add(format!("direction: {}", if ingress { "ingress" } else { "egress" }));
    }
    if let Some(interface) = rule.interface {
        add(format!("interface: if{interface}"));
    }
    if rule.percent != 100 {
        add(format!("percent: {}", rule.percent));
    }
    if rule.list != List::Allow {
        let action = match rule.action {
            Action::Drop => "drop",
            Action::Reset => "reset",
            Action::Monitor => "monitor",
        };
        add(format!("action: {action}"));
    }
    for (name, at) in [("starts", rule.starts), ("expires", rule.expires)] {
        if let Some(at) = at {
            add(format!("{name}: '{}'", date(at)));
        }
    }
    let allowance = &rule.allowance;
    let rates = [
        ("packets", allowance.packets),
        ("new_connections", allowance.new_connections),
        ("requests", allowance.requests),
    ];
    for (name, most) in rates {
        if let Some(most) = most {
            add(format!("{name}: {{rate: {most}, per: 24h, burst: {most}}}"));
        }
    }
    if let Some(most) = allowance.connections {
        add(format!("connections: {most}"));
    }
    if let Some(most) = allowance.bytes {
        add(format!("bytes: {{rate: 1000, burst: {most}}}"));
    }
    if rule.shared {
        add("shared: true".to_owned());
    }
    text
}
