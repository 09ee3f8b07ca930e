//! The decision: failsafe beats allow beats block beats limits; within a list the longest prefix first, then the order in the file.

use super::{Action, List, Packet, Prefix, Rule, allowance::Ledger};

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
    /// What is left of the allowances.
    ledger: Ledger,
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
        Self { rules, protected, resolver: Some(resolver), ledger: Ledger::default() }
    }

    /// Decides, and charges the limits.
    pub fn decide(&mut self, packet: &Packet, ifindex: u32) -> Decided {
        self.ledger.connections.ends(packet);
        let decided = self.judge(packet, ifindex);
        match decided {
            Decided::Blocked(_, true) | Decided::Limited(_, true) => {
                self.ledger.connections.reset(packet);
            }
            Decided::Blocked(..) | Decided::Limited(..) => {}
            _ => self.ledger.connections.passed(packet),
        }
        decided
    }

    fn judge(&mut self, packet: &Packet, ifindex: u32) -> Decided {
        let from = End { address: packet.src, service_port: packet.ports.1 };
        let to = End { address: packet.dst, service_port: packet.ports.0 };
        let block = [from, to].into_iter().find_map(|end| {
            let rules = self.asked(List::Block, packet, end, ifindex);
            rules.into_iter().find(|rule| rule.action != Action::Monitor)
        });
        let wanted = match block {
            Some(rule) => Some(Decided::Blocked(rule.id.clone(), resets(rule, packet))),
            None => return self.limited(packet, (from, to), ifindex),
        };
        wanted.map_or(Decided::Pass, |wanted| self.unless_kept(wanted, packet, (from, to), ifindex))
    }

    /// What wants to drop the packet, unless it keeps the host manageable or somebody allows it.
    fn unless_kept(
        &self,
        wanted: Decided,
        packet: &Packet,
        (from, to): (End, End),
        ifindex: u32,
    ) -> Decided {
        if self.is_failsafe(packet) {
            return Decided::Failsafe;
        }
        let allow = [from, to]
            .into_iter()
            .find_map(|end| self.asked(List::Allow, packet, end, ifindex).into_iter().next());
        allow.map_or(wanted, |rule| Decided::Allowed(rule.id.clone()))
    }

    /// Whether no rule could drop the packet: limits do not charge it then.
    fn is_kept(&self, packet: &Packet, (from, to): (End, End), ifindex: u32) -> bool {
        let allowed =
            [from, to].iter().any(|end| !self.asked(List::Allow, packet, *end, ifindex).is_empty());
        allowed || self.is_failsafe(packet)
    }

    /// What the limits say: first of the packet itself, then of the requests in it.
    fn limited(&mut self, packet: &Packet, ends: (End, End), ifindex: u32) -> Decided {
        self.ledger.note_answer(packet);
        let rules = self.limits_asked(packet, ends.0, ifindex);
        if !rules.is_empty() && self.ledger.is_from_server(packet) {
            return Decided::Pass;
        }
        if !rules.is_empty() && self.is_kept(packet, ends, ifindex) {
            return Decided::Pass;
        }
        if let Some(rule) = self.charge(&rules, packet) {
            return Decided::Limited(rule.id.clone(), resets(rule, packet));
        }
        if packet.requests() == 0 {
            return Decided::Pass;
        }
        let refused = rules.iter().find(|rule| {
            rule.action != Action::Monitor && !self.ledger.has_room_for_a_request(rule, packet)
        });
        let decided = refused
            .map_or(Decided::Pass, |rule| Decided::Limited(rule.id.clone(), resets(rule, packet)));
        if !matches!(decided, Decided::Limited(..)) {
            for rule in &rules {
                self.ledger.charge_requests(rule, packet);
            }
        }
        decided
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

    /// The limits of the sender: of the longest prefix with one that applies and does not only monitor, and of longer ones.
    fn limits_asked(&self, packet: &Packet, from: End, ifindex: u32) -> Vec<Rule> {
        let mut asked = Vec::new();
        for len in (0..=128).rev() {
            let here = self.at_length(List::Limits, packet, from, ifindex, len);
            let last = here.iter().any(|rule| rule.action != Action::Monitor);
            asked.extend(here.into_iter().cloned());
            if last {
                break;
            }
        }
        asked
    }

    /// Charges everything but requests; gives the rule that the packet exceeds.
    fn charge<'r>(&mut self, rules: &'r [Rule], packet: &Packet) -> Option<&'r Rule> {
        let exceeded = rules.iter().find(|rule| self.ledger.exceeds(rule, packet));
        self.ledger.connections.settle(packet, exceeded.is_some());
        exceeded
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
