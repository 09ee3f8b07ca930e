//! Connections as the documentation of limits has them: open from the segment that completes a handshake until both ends sent FIN or one RST.

use super::{Action, Kind, Packet, Prefix, Rule};

type End = (bool, u128, u16);

/// A SYN-ACK that was let through, and whose connection has not sent anything but acknowledgements.
#[derive(Clone, Copy, Debug)]
struct Handshake {
    client: End,
    server: End,
    /// What its completion acknowledges.
    acknowledges: u32,
}

/// A connection that limits count.
#[derive(Clone, Debug)]
struct Connection {
    client: End,
    server: End,
    ended: [bool; 2],
    counts: Vec<(String, Prefix)>,
}

/// Handshakes, and connections that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    /// Who sent a SYN-ACK to whom.
    answers: Vec<(End, End)>,
    handshakes: Vec<Handshake>,
    open: Vec<Connection>,
    /// What the packet at hand would be counted for.
    counts: Vec<(String, Prefix)>,
}

impl Connections {
    /// Whether the packet's sender is the server: it sent a SYN-ACK, and the other end did not.
    pub(super) fn is_from_server(&self, packet: &Packet) -> bool {
        let (from, to) = (from(packet), to(packet));
        packet.kind != Kind::Syn
            && self.answers.contains(&(from, to))
            && !self.answers.contains(&(to, from))
    }

    /// Whether a packet completes a handshake.
    pub(super) fn completes(&self, packet: &Packet) -> bool {
        packet.protocol == 6
            && matches!(packet.kind, Kind::Ack | Kind::Requests(_))
            && self.handshakes.iter().any(|known| {
                (known.client, known.server) == (from(packet), to(packet))
                    && known.acknowledges == packet.numbers.1
            })
    }

    /// Whether a rule's number of connections has no room for the packet's.
    pub(super) fn exceeds(&mut self, rule: &Rule, packet: &Packet) -> bool {
        let Some(most) = rule.allowance.connections else { return false };
        if packet.protocol != 6 {
            return false;
        }
        let len = match (rule.shared, packet.four) {
            (true, _) => 0,
            (false, true) => 32,
            (false, false) => 64,
        };
        let of_client = |(id, prefix): &&(String, Prefix)| {
            *id == rule.id && (rule.shared || prefix.covers(packet.four, packet.src))
        };
        let open = self.open.iter().flat_map(|one| &one.counts).filter(of_client).count();
        let full = open as u64 >= most;
        if packet.kind == Kind::Syn {
            return full;
        }
        if !self.completes(packet) || self.find(packet).is_some() {
            return false;
        }
        if !full || rule.action == Action::Monitor {
            let client = Prefix { four: packet.four, address: packet.src, len };
            self.counts.push((rule.id.clone(), client));
        }
        full
    }

    /// Behind the last limit: the packet's connection counts, unless a limit drops the packet.
    pub(super) fn settle(&mut self, packet: &Packet, dropped: bool) {
        let counts = std::mem::take(&mut self.counts);
        if !counts.is_empty() && !dropped {
            let (client, server) = (from(packet), to(packet));
            self.open.push(Connection { client, server, ended: [false; 2], counts });
        }
    }

    /// Before anything else: a FIN of both ends, or a RST, ends a connection.
    pub(super) fn ends(&mut self, packet: &Packet) {
        let Some(at) = self.find(packet) else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        match packet.kind {
            Kind::Fin if open.client == from(packet) => open.ended[0] = true,
            Kind::Fin => open.ended[1] = true,
            Kind::Rst => open.ended = [true; 2],
            _ => {}
        }
        if open.ended == [true; 2] {
            self.open.remove(at);
        }
    }

    /// A packet was answered by resets: its connection is over.
    pub(super) fn reset(&mut self, packet: &Packet) {
        if let Some(at) = self.find(packet) {
            self.open.remove(at);
        }
    }

    /// A packet was let through.
    pub(super) fn passed(&mut self, packet: &Packet) {
        if packet.protocol != 6 {
            return;
        }
        let (from, to) = (from(packet), to(packet));
        match packet.kind {
            Kind::SynAck => {
                self.answers.push((from, to));
                // One connection has one handshake, the last.
                self.handshakes.retain(|known| {
                    ![(from, to), (to, from)].contains(&(known.client, known.server))
                });
                self.handshakes.push(Handshake {
                    client: to,
                    server: from,
                    acknowledges: packet.numbers.0 + 1,
                });
            }
            Kind::Fin => self
                .handshakes
                .retain(|known| ![(from, to), (to, from)].contains(&(known.client, known.server))),
            _ => {}
        }
    }

    fn find(&self, packet: &Packet) -> Option<usize> {
        let ends = [(from(packet), to(packet)), (to(packet), from(packet))];
        self.open
            .iter()
            .position(|open| packet.protocol == 6 && ends.contains(&(open.client, open.server)))
    }
}

pub(super) fn from(packet: &Packet) -> End {
    (packet.four, packet.src, packet.ports.0)
}

pub(super) fn to(packet: &Packet) -> End {
    (packet.four, packet.dst, packet.ports.1)
}
