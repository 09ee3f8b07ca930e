//! The decision: failsafe beats allow beats block beats limits; within a list the longest prefix first, then the order in the file.

use super::{Action, List, Packet, Prefix, Rule};

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It goes on.
    Pass,
    /// A rule wants to drop it, and it keeps the host manageable.
    Failsafe,
    /// A rule wants to drop it, and this one allows it.
    Allowed(String),
    /// This block rule drops it (with a reset).
    Blocked(String, bool),
    /// This limit drops it (with a reset).
    Limited(String, bool),
}

/// The rules, and what was charged to each limit so far.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// As written.
    pub rules: Vec<Rule>,
    /// Peers that are never dropped.
    pub protected: Vec<Prefix>,
    /// A resolver: its port 53 is never dropped.
    pub resolver: Option<Prefix>,
    /// Rule, kind (0 packets, 1 connections), client, things so far.
    charged: Vec<(String, u8, Prefix, u64)>,
}

/// The end of a packet that a rule lists.
#[derive(Clone, Copy)]
struct End {
    address: u128,
    service_port: u16,
}

impl Model {
    /// A model of rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>, protected: Vec<Prefix>, resolver: Prefix) -> Self {
        Self { rules, protected, resolver: Some(resolver), charged: Vec::new() }
    }

    /// Decides, and charges the limits.
    pub fn decide(&mut self, packet: &Packet, ifindex: u32) -> Decided {
        let from = End { address: packet.src, service_port: packet.ports.1 };
        let to = End { address: packet.dst, service_port: packet.ports.0 };
        let block = [from, to].into_iter().find_map(|end| {
            let rules = self.asked(List::Block, packet, end, ifindex);
            rules.into_iter().find(|rule| rule.action != Action::Monitor)
        });
        let wanted = match block {
            Some(rule) => Some(Decided::Blocked(rule.id.clone(), resets(rule, packet))),
            None => self.charge(packet, from, ifindex),
        };
        let Some(wanted) = wanted else { return Decided::Pass };
        if self.is_failsafe(packet) {
            return Decided::Failsafe;
        }
        let allow = [from, to]
            .into_iter()
            .find_map(|end| self.asked(List::Allow, packet, end, ifindex).into_iter().next());
        allow.map_or(wanted, |rule| Decided::Allowed(rule.id.clone()))
    }

    /// Rules of a list that apply, in the order in which they are asked.
    fn asked(&self, list: List, packet: &Packet, end: End, ifindex: u32) -> Vec<&Rule> {
        let mut asked = Vec::new();
        for len in (0..=128).rev() {
            asked.extend(self.at_length(list, packet, end, ifindex, len));
        }
        asked
    }

    fn at_length(
        &self,
        list: List,
        packet: &Packet,
        end: End,
        ifindex: u32,
        len: u8,
    ) -> Vec<&Rule> {
        let lists = |rule: &&Rule| {
            rule.list == list
                && rule
                    .clients
                    .iter()
                    .any(|prefix| prefix.len == len && prefix.covers(packet.four, end.address))
        };
        let rules = self.rules.iter().filter(lists);
        rules.filter(|rule| applies(rule, packet, end, ifindex)).collect()
    }

    /// Charges the limits of the sender; the longest prefix with a limit that applies and does not only monitor is the last one.
    fn charge(&mut self, packet: &Packet, from: End, ifindex: u32) -> Option<Decided> {
        for len in (0..=128).rev() {
            let here: Vec<Rule> = self
                .at_length(List::Limits, packet, from, ifindex, len)
                .into_iter()
                .cloned()
                .collect();
            for rule in &here {
                let is_syn = packet.protocol == 6 && packet.syn;
                let things = [(0, rule.allowance.0), (1, rule.allowance.1.filter(|_| is_syn))];
                for (kind, most) in things {
                    let Some(most) = most else { continue };
                    if !self.fits(rule, kind, most, packet) && rule.action != Action::Monitor {
                        return Some(Decided::Limited(rule.id.clone(), resets(rule, packet)));
                    }
                }
            }
            if here.iter().any(|rule| rule.action != Action::Monitor) {
                return None;
            }
        }
        None
    }

    /// Whether one thing more fits into the client's allowance; it is charged then. (A thing is earned back in hours, a test is minutes.)
    fn fits(&mut self, rule: &Rule, kind: u8, most: u64, packet: &Packet) -> bool {
        let len = match (rule.shared, packet.four) {
            (true, _) => 0,
            (false, true) => 32,
            (false, false) => 64,
        };
        let client = Prefix { four: packet.four, address: packet.src, len };
        let known = self.charged.iter_mut().find(|(id, own, prefix, _)| {
            *id == rule.id
                && *own == kind
                && prefix.len == len
                && prefix.covers(packet.four, packet.src)
        });
        match known {
            Some((.., count)) if *count >= most => false,
            Some((.., count)) => {
                *count += 1;
                true
            }
            None => {
                self.charged.push((rule.id.clone(), kind, client, 1));
                true
            }
        }
    }

    fn is_failsafe(&self, packet: &Packet) -> bool {
        let ends = [(packet.src, packet.ports.0), (packet.dst, packet.ports.1)];
        ends.into_iter().any(|(peer, port)| {
            self.protected.iter().any(|prefix| prefix.covers(packet.four, peer))
                || port == 53
                    && self.resolver.is_some_and(|prefix| prefix.covers(packet.four, peer))
        })
    }
}

fn resets(rule: &Rule, packet: &Packet) -> bool {
    rule.action == Action::Reset && packet.protocol == 6
}

fn applies(rule: &Rule, packet: &Packet, end: End, ifindex: u32) -> bool {
    let port = rule.ports.is_empty()
        || rule
            .ports
            .iter()
            .any(|(low, high)| *low <= end.service_port && end.service_port <= *high);
    let time = packet.time_ns;
    let second = 1_000_000_000;
    port && rule.protocol.is_none_or(|protocol| protocol == packet.protocol)
        && rule.ingress.is_none_or(|ingress| ingress == packet.ingress)
        && rule.interface.is_none_or(|interface| interface == ifindex)
        && rule.starts.is_none_or(|at| time >= at * second)
        && rule.expires.is_none_or(|at| time < at * second)
        && in_percent(rule, packet.four, end.address)
}

/// As documented: the FNV-1a hash of the id and the address (IPv6: its /64) through two rounds of a mixer; the upper 32 bits of it lie below
/// the percentage of 2^32.
fn in_percent(rule: &Rule, four: bool, address: u128) -> bool {
    if rule.percent >= 100 {
        return true;
    }
    let mut salt = 0xcbf2_9ce4_8422_2325_u64;
    for byte in rule.id.bytes() {
        salt = (salt ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let mixed = |word: u64| {
        let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        word ^ (word >> 32)
    };
    let word = |value: u128| u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0);
    let (high, low) = if four { (0, word(address)) } else { (word(address >> 64), 0) };
    let hash = mixed(mixed(high ^ salt) ^ low) >> 32;
    hash < u64::from(rule.percent) * (1 << 32) / 100
}
