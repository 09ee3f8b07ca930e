//! What is left of each client's allowance: a bucket of time that fills up again, in the plain form of a token bucket.
//!
//! As documented: a client whose address may be forged shares the bucket of its /24 or /48. By UDP it has one of its own once the server has
//! answered, and whatever it sends from the completion of a TCP handshake on; it begins with what its network's had left. Once that of a UDP client was
//! empty, everything from its address is charged to it. What a server sends is charged to nobody.

use super::{
    Action, Packet, Prefix, Rule,
    connections::{Connections, from, to},
};

const SECOND: u128 = 1_000_000_000;
const DAY: u128 = 86_400 * SECOND;
/// A conversation by UDP is over after so long a silence of the server.
const CONVERSATION_NS: u64 = 180_000_000_000;

/// What a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Packets,
    Bytes,
    NewConnections,
    Requests,
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Everyone,
    Network(Prefix),
    Answered(Prefix),
    Client(Prefix),
}

#[derive(Clone, Debug)]
struct Bucket {
    rule: String,
    thing: Thing,
    whose: Whose,
    /// Time that is left in it, below zero after something larger than what was left.
    left: i128,
    at: u64,
    /// It was too empty for something.
    over: bool,
}

/// A client that asked a server by UDP.
#[derive(Clone, Copy, Debug)]
struct Conversation {
    client: (bool, u128, u16),
    server: (bool, u128, u16),
    at: u64,
    answered: bool,
}

/// All buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    buckets: Vec<Bucket>,
    conversations: Vec<Conversation>,
    /// Addresses that completed a handshake.
    proven: Vec<(bool, u128)>,
    pub(super) connections: Connections,
}

impl Ledger {
    /// Charges packets, bytes and new connections of a rule; true when one of them exceeds it (the ones behind it are not charged then,
    /// unless the rule only monitors).
    pub(super) fn exceeds(&mut self, rule: &Rule, packet: &Packet) -> bool {
        let syn = packet.protocol == 6 && packet.kind == super::Kind::Syn;
        let things = [
            (Thing::Packets, rule.allowance.packets, 1),
            (Thing::Bytes, rule.allowance.bytes, packet.bytes()),
            (Thing::NewConnections, rule.allowance.new_connections.filter(|_| syn), 1),
        ];
        for (thing, most, count) in things {
            if most.is_some() && !self.take(rule, thing, packet, count, count) {
                if rule.action == Action::Monitor {
                    continue;
                }
                return true;
            }
        }
        self.connections.exceeds(rule, packet) && rule.action != Action::Monitor
    }

    /// Whether a rule has no limit of requests, or room for one.
    pub(super) fn has_room_for_a_request(&mut self, rule: &Rule, packet: &Packet) -> bool {
        rule.allowance.requests.is_none() || self.take(rule, Thing::Requests, packet, 1, 0)
    }

    /// Takes all requests of a packet where there is room for one (a rule that only monitors: for all).
    pub(super) fn charge_requests(&mut self, rule: &Rule, packet: &Packet) {
        if rule.allowance.requests.is_some() {
            let count = packet.requests();
            let needs = if rule.action == Action::Monitor { count } else { 1 };
            self.take(rule, Thing::Requests, packet, needs, count);
        }
    }

    /// Takes things out of a bucket where it has room for as many as are needed (or is full).
    fn take(&mut self, rule: &Rule, thing: Thing, packet: &Packet, needs: u64, takes: u64) -> bool {
        let (one, full) = terms(rule, thing);
        let at = self.bucket(rule, thing, packet, full);
        let Some(bucket) = self.buckets.get_mut(at) else { return true };
        bucket.left = full.min(bucket.left + i128::from(packet.time_ns - bucket.at));
        bucket.at = packet.time_ns;
        if bucket.left < full.min(one * i128::from(needs)) {
            bucket.over = true;
            return false;
        }
        bucket.left -= one * i128::from(takes);
        true
    }

    /// The place of the bucket that the packet is charged to.
    fn bucket(&mut self, rule: &Rule, thing: Thing, packet: &Packet, full: i128) -> usize {
        let len = if packet.four { 24 } else { 48 };
        let network = Whose::Network(prefix(packet, len));
        let client = prefix(packet, if packet.four { 32 } else { 64 });
        let (own, proven) = (Whose::Answered(client), Whose::Client(client));
        if let Some(at) = self.find(rule, thing, proven, packet).filter(|_| !rule.shared) {
            return at;
        }
        let penalised = self
            .find(rule, thing, own, packet)
            .filter(|at| !rule.shared && self.buckets.get(*at).is_some_and(|bucket| bucket.over));
        if let Some(at) = penalised {
            return at;
        }
        let whose = if rule.shared {
            Whose::Everyone
        } else if self.is_proven(packet) {
            proven
        } else if self.is_answered(packet) {
            own
        } else {
            network
        };
        if let Some(at) = self.find(rule, thing, whose, packet) {
            return at;
        }
        let before = self.find(rule, thing, network, packet).and_then(|at| self.buckets.get(at));
        let (left, at) = before
            .filter(|_| matches!(whose, Whose::Answered(_) | Whose::Client(_)))
            .map_or((full, packet.time_ns), |bucket| (bucket.left, bucket.at));
        self.buckets.push(Bucket { rule: rule.id.clone(), thing, whose, left, at, over: false });
        self.buckets.len() - 1
    }

    fn find(&self, rule: &Rule, thing: Thing, whose: Whose, packet: &Packet) -> Option<usize> {
        let same = |own: Whose| match (own, whose) {
            (Whose::Everyone, Whose::Everyone) => true,
            (Whose::Network(own), Whose::Network(_))
            | (Whose::Client(own), Whose::Client(_))
            | (Whose::Answered(own), Whose::Answered(_)) => own.covers(packet.four, packet.src),
            _ => false,
        };
        self.buckets
            .iter()
            .position(|own| own.rule == rule.id && own.thing == thing && same(own.whose))
    }

    /// Whether the sender's address completed a handshake, or does with this packet.
    fn is_proven(&mut self, packet: &Packet) -> bool {
        let own = (packet.four, packet.src);
        if self.proven.contains(&own) {
            return true;
        }
        let completes = self.connections.completes(packet);
        if completes {
            self.proven.push(own);
        }
        completes
    }

    /// Whether the packet comes from the server of its connection: such is not charged. By UDP the server is who did not speak first.
    pub(super) fn is_from_server(&mut self, packet: &Packet) -> bool {
        if packet.protocol == 6 {
            return self.connections.is_from_server(packet);
        }
        if let Some(known) = self.conversation(packet) {
            return known.server == from(packet);
        }
        let (client, server) = (from(packet), to(packet));
        let at = packet.time_ns;
        self.conversations.push(Conversation { client, server, at, answered: false });
        false
    }

    /// Whether the sender asked this server before, and was answered.
    fn is_answered(&mut self, packet: &Packet) -> bool {
        if packet.protocol != 17 {
            return false;
        }
        self.conversation(packet)
            .is_some_and(|known| known.answered && known.client == from(packet))
    }

    /// Notes that a server answers.
    pub(super) fn note_answer(&mut self, packet: &Packet) {
        if packet.protocol == 17
            && let Some(known) = self.conversation(packet)
            && known.server == from(packet)
        {
            (known.answered, known.at) = (true, packet.time_ns);
        }
    }

    fn conversation(&mut self, packet: &Packet) -> Option<&mut Conversation> {
        let (from, to) = (from(packet), to(packet));
        self.conversations.iter_mut().rev().find(|known| {
            ((known.client, known.server) == (from, to)
                || (known.server, known.client) == (from, to))
                && packet.time_ns - known.at < CONVERSATION_NS
        })
    }
}

/// Time that one thing costs, and what the whole bucket holds.
fn terms(rule: &Rule, thing: Thing) -> (i128, i128) {
    let allowance = &rule.allowance;
    let (most, period) = match thing {
        Thing::Packets => (allowance.packets, DAY),
        Thing::NewConnections => (allowance.new_connections, DAY),
        Thing::Requests => (allowance.requests, DAY),
        Thing::Bytes => (allowance.bytes, SECOND),
    };
    let most = u128::from(most.unwrap_or(1));
    let one = if thing == Thing::Bytes { period / 1_000 } else { period / most };
    let signed = |time: u128| i128::try_from(time).unwrap_or(i128::MAX);
    (signed(one), signed(one * most))
}

fn prefix(packet: &Packet, len: u8) -> Prefix {
    Prefix { four: packet.four, address: packet.src, len }
}
