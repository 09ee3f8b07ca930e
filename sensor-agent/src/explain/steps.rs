//! One question to an image: the packets of both directions, and what was asked about each, in words.

use std::{collections::BTreeMap, net::SocketAddr};

use sensor_core::policy::image::{
    self, Answer, Decided, End, Explained, Kept, Sighting, Verdicts, View, explain,
};
use sensor_ebpf::abi::{
    dynamic::DropReason,
    image::{Action, Line, ListId},
    policy::RuleDirection,
};

use super::{
    question::ExplainQuery,
    view::{ExplainStep, ExplainedPacket, ExplainedVerdict},
    words,
};
pub use words::Clocks;

/// A policy, and what is known beside it.
pub struct Asked<'a> {
    /// The image; empty = no policy.
    pub lines: &'a [Line],
    /// Rules by the number of their hits.
    pub names: &'a dyn Fn(u32) -> Option<String>,
    /// Interfaces of the host by name.
    pub interfaces: &'a BTreeMap<String, u32>,
    /// Now.
    pub clocks: Clocks,
    /// What the live tables hold.
    pub beside: Beside,
}

/// What the live tables hold for the connection, the client as the first end; nothing for a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// Verdicts of the agent.
    pub verdicts: Verdicts,
    /// Whether many clients share the client's, and the server's address.
    pub shared: (bool, bool),
}

/// Asks about the packets from the client, and those to it. An error says what is wrong with the question.
pub fn packets(query: &ExplainQuery, asked: &Asked<'_>) -> Result<Vec<ExplainedPacket>, String> {
    let (client, server) = query.ends()?;
    let ifindex = query.interface.as_deref().map(|name| {
        let index = asked.interfaces.get(name).copied();
        index.ok_or_else(|| format!("there is no interface `{name}`"))
    });
    let ifindex = ifindex.transpose()?;
    let view = View::new(asked.lines);
    let Beside { verdicts, shared } = asked.beside;
    let Verdicts { flow, clients: [of_client, of_server] } = verdicts;
    let sighting = |src: SocketAddr, dst: SocketAddr, direction| Sighting {
        src: src.ip(),
        dst: dst.ip(),
        ports: Some((src.port(), dst.port())),
        protocol: query.protocol.number(),
        direction,
        ifindex,
        now_ns: asked.clocks.boot.0,
        shared,
        verdicts,
    };
    let from_client = sighting(client, server, RuleDirection::Ingress);
    let to_client = Sighting {
        shared: (shared.1, shared.0),
        verdicts: Verdicts { flow, clients: [of_server, of_client] },
        ..sighting(server, client, RuleDirection::Egress)
    };
    let packet = |sighting: &Sighting| match &view {
        Some(view) => Teller { view, asked, packet: sighting }.tell(&explain(view, sighting)),
        None => base(sighting, "there is no policy".into()),
    };
    Ok(vec![packet(&from_client), packet(&to_client)])
}

fn base(packet: &Sighting, why: String) -> ExplainedPacket {
    let (src_port, dst_port) = packet.ports.unwrap_or_default();
    let shown = |address, port| match port {
        0 => format!("{address}"),
        port => SocketAddr::new(address, port).to_string(),
    };
    ExplainedPacket {
        direction: match packet.direction {
            RuleDirection::Egress => "egress",
            _ => "ingress",
        }
        .into(),
        protocol: if packet.protocol == 17 { "udp" } else { "tcp" }.into(),
        source: shown(packet.src, src_port),
        destination: shown(packet.dst, dst_port),
        source_shared: packet.shared.0,
        destination_shared: packet.shared.1,
        why,
        ..ExplainedPacket::default()
    }
}

struct Teller<'a> {
    view: &'a View<'a, [Line]>,
    asked: &'a Asked<'a>,
    packet: &'a Sighting,
}

impl Teller<'_> {
    fn tell(&self, explained: &Explained) -> ExplainedPacket {
        let mut steps = self.verdicts(explained);
        let is_kept = explained.kept.is_some()
            || matches!(explained.decided, Decided::Failsafe { .. } | Decided::Allowed { .. });
        let (allow, others): (Vec<_>, Vec<_>) =
            explained.asked.iter().partition(|asked| asked.list == ListId::Allow);
        steps.extend(others.iter().map(|asked| self.step(asked, is_kept)));
        let limited = explained.decided == Decided::Pass;
        // Failsafe and allow are asked once something wants to drop the packet, or a limit might.
        if !limited || others.iter().any(|asked| asked.answer == Answer::Charged) {
            steps.push(self.failsafe_step(explained));
        }
        steps.extend(allow.iter().map(|asked| self.step(asked, is_kept)));
        let (verdict, rule, why) = self.sentence(explained);
        ExplainedPacket { verdict, rule, steps, ..base(self.packet, why) }
    }

    fn name(&self, hits: u32) -> String {
        match hits {
            0 => "(a detector)".into(),
            hits => (self.asked.names)(hits).unwrap_or_else(|| format!("(number {hits})")),
        }
    }

    /// The agent's verdicts on the packet, those that are over or monitor included.
    fn verdicts(&self, explained: &Explained) -> Vec<ExplainStep> {
        let Verdicts { flow, clients: [src, dst] } = self.packet.verdicts;
        let all = [
            (DropReason::Flow, "connection", flow),
            (DropReason::Client, "source", src),
            (DropReason::Client, "destination", dst),
        ];
        let by_verdict = |reason: DropReason| matches!(explained.decided, Decided::Blocked { reason: by, .. } if by == reason);
        let mut found = false;
        let mut steps = Vec::new();
        for (reason, end, verdict) in all {
            let Some(verdict) = verdict else { continue };
            let over = self.packet.now_ns >= verdict.until_ns;
            let monitors = verdict.action == Action::Monitor as u32;
            let decides = by_verdict(reason) && !over && !monitors && !found;
            found |= decides;
            steps.push(ExplainStep {
                list: "verdict".into(),
                rule: self.name(verdict.hits),
                prefix: String::new(),
                end: end.into(),
                decides,
                answer: if over {
                    "is over".into()
                } else {
                    let action = u8::try_from(verdict.action).unwrap_or(0);
                    let until = self.asked.clocks.show(verdict.until_ns);
                    format!("{} until {until}", words::action(action))
                },
            });
        }
        steps
    }

    fn step(&self, asked: &image::Asked, is_kept: bool) -> ExplainStep {
        let rule = self.view.rule(asked.rule).copied().unwrap_or_default();
        let terms = || {
            let kind = asked.limit?;
            let first = self.view.entry(asked.list, asked.prefix)?;
            let mut limits = self.view.limits(first).into_iter().map(|(_, limit)| limit);
            limits.find(|limit| limit.rule == asked.rule && limit.kind == kind)
        };
        let terms = terms().map(|limit| words::limit(&limit)).unwrap_or_default();
        let answer = match asked.answer {
            Answer::Skipped(why) => {
                words::skipped(why, &rule, self.asked.interfaces, self.asked.clocks)
            }
            Answer::Monitors => "applies and only counts".into(),
            Answer::Decides if asked.list == ListId::Allow => "keeps it".into(),
            Answer::Decides => format!("applies: {}", words::action(rule.action)),
            Answer::Charged => format!("charged: {terms}; beyond: {}", words::action(rule.action)),
            Answer::ChargedMonitor => format!("charged, only counts: {terms}"),
        };
        ExplainStep {
            list: match asked.list {
                ListId::Block => "block",
                ListId::Allow => "allow",
                ListId::Limit => "limits",
            }
            .into(),
            rule: self.name(asked.hits),
            prefix: asked.prefix.to_string(),
            end: match asked.end {
                End::Source => "source",
                End::Destination => "destination",
            }
            .into(),
            decides: match asked.answer {
                // What wants to drop a packet that is kept does not decide about it.
                Answer::Decides => asked.list == ListId::Allow || !is_kept,
                Answer::Charged => !is_kept,
                _ => false,
            },
            answer,
        }
    }

    fn failsafe_step(&self, explained: &Explained) -> ExplainStep {
        let entry = match (explained.decided, explained.kept) {
            (Decided::Failsafe { entry, .. }, _) | (_, Some(Kept::Failsafe(entry))) => Some(entry),
            _ => None,
        };
        let count = self.view.header.failsafe_count;
        let found = entry.and_then(|entry| self.entry(entry));
        let (rule, prefix) = found.unwrap_or_default();
        ExplainStep {
            list: "failsafe".into(),
            rule,
            prefix,
            end: String::new(),
            decides: entry.is_some(),
            answer: match entry {
                Some(_) => "keeps it".into(),
                None => format!("none of {count} entries names it"),
            },
        }
    }

    fn entry(&self, entry: u32) -> Option<(String, String)> {
        let kept = self.view.failsafe().nth(usize::try_from(entry).ok()?)?;
        Some((image::name(kept), words::failsafe(kept)))
    }

    fn sentence(&self, explained: &Explained) -> (ExplainedVerdict, Option<String>, String) {
        let prefix = |list: ListId, hits: u32| {
            let decides = |one: &&image::Asked| {
                one.list == list && one.hits == hits && one.answer == Answer::Decides
            };
            explained.asked.iter().find(decides).map(|one| one.prefix.to_string())
        };
        let wants = |reason: DropReason, hits: u32| {
            let name = self.name(hits);
            match reason {
                DropReason::Flow | DropReason::Client => {
                    let Verdicts { flow, clients } = self.packet.verdicts;
                    let now = self.packet.now_ns;
                    let mut given = std::iter::once(flow).chain(clients).flatten();
                    let verdict = given.find(|one| one.hits == hits && now < one.until_ns);
                    let verdict = verdict.unwrap_or_default();
                    let whose = words::verdict(reason, &verdict, self.asked.clocks);
                    if hits == 0 { whose } else { format!("{whose}, on behalf of rule `{name}`") }
                }
                _ => {
                    let prefix = prefix(ListId::Block, hits).unwrap_or_default();
                    format!("block rule `{name}` lists {prefix}")
                }
            }
        };
        match explained.decided {
            Decided::Blocked { reason, block, reset } => {
                let verdict = if reset { ExplainedVerdict::Reset } else { ExplainedVerdict::Drop };
                (verdict, Some(self.name(block)), wants(reason, block))
            }
            Decided::Failsafe { reason, block, entry } => {
                let (name, what) = self.entry(entry).unwrap_or_default();
                let why = format!("never dropped: {name} ({what}); else: {}", wants(reason, block));
                (ExplainedVerdict::Failsafe, Some(name), why)
            }
            Decided::Allowed { reason, block, allow } => {
                let name = self.name(allow);
                let listed = prefix(ListId::Allow, allow).unwrap_or_default();
                let why =
                    format!("allow rule `{name}` lists {listed}; else: {}", wants(reason, block));
                (ExplainedVerdict::Allow, Some(name), why)
            }
            Decided::Pass => self.passes(explained),
        }
    }

    fn passes(&self, explained: &Explained) -> (ExplainedVerdict, Option<String>, String) {
        let mut charged = Vec::new();
        for asked in explained.asked.iter().filter(|asked| asked.answer == Answer::Charged) {
            let name = self.name(asked.hits);
            if !charged.contains(&name) {
                charged.push(name);
            }
        }
        let first = charged.first().cloned();
        match (first, explained.kept) {
            (None, _) if explained.asked.is_empty() => {
                (ExplainedVerdict::Pass, None, "no rule lists it".into())
            }
            (None, _) => (ExplainedVerdict::Pass, None, "no rule that drops applies".into()),
            (Some(_), Some(Kept::Failsafe(entry))) => {
                let (name, what) = self.entry(entry).unwrap_or_default();
                let why = format!("never dropped, also beyond its limits: {name} ({what})");
                (ExplainedVerdict::Failsafe, Some(name), why)
            }
            (Some(_), Some(Kept::Allow(hits))) => {
                let name = self.name(hits);
                let why = format!("allow rule `{name}` keeps it, also beyond its limits");
                (ExplainedVerdict::Allow, Some(name), why)
            }
            (Some(first), None) => {
                let why = format!("passes within `{}`", charged.join("`, `"));
                (ExplainedVerdict::Limit, Some(first), why)
            }
        }
    }
}
