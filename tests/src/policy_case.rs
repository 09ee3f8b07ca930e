//! One generated policy as a file, compiled by the real compiler, with the packets for it and what the model says of each.

use std::collections::HashMap;

use sensor_core::{
    policy::{
        HostFacts, Lists, Policy,
        image::{self, Compiled, Explained, Numbers, Sighting, Verdicts, View},
        parse,
    },
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::{image::Line, policy::RuleDirection};

use crate::model::{Decided, Model, Packet, Prefix, World};

/// Interface of all packets: that of a test run.
pub const IFINDEX: u32 = 1;
/// Time of the compilations, since 1970.
const NOW_S: u64 = 1_800_000_000;
/// Boot time between two policies, longer than a test of one.
const STEP_NS: u64 = 1_000_000_000_000;

/// A policy and its packets, in the order of their times.
pub struct Case {
    /// The file.
    pub text: String,
    /// What the compiler made of it.
    pub compiled: Compiled,
    /// The packets.
    pub packets: Vec<Packet>,
    /// The model, nothing charged yet.
    pub model: Model,
    /// `CLOCK_BOOTTIME` of the compilation, ns.
    pub boot_ns: u64,
    slots: HashMap<String, u32>,
}

/// A packet, and of every eighth one copies: what comes again is known by what it was (`REPEATS`), until a rule begins or ends.
fn repeats((packet, number): (Packet, u64)) -> Vec<Packet> {
    if number % 8 != 0 || packet.requests() != 0 || packet.src == packet.dst {
        return vec![packet];
    }
    let (from, to) = packet.ports;
    let later = |seconds| Packet { time_ns: packet.time_ns + seconds * 1_000_000_000, ..packet };
    let port = |port| Packet { ports: (port, to), ..packet };
    let other = [from.wrapping_add(64), from.wrapping_add(1), 22, 53];
    let other = other.get((number / 8 % 4) as usize).copied().unwrap_or(from);
    let mut copies = vec![packet, packet, packet, port(other), later(number % 13), later(40)];
    // No retransmissions, of which limits charge one.
    for (copy, number) in copies.iter_mut().zip(0..) {
        copy.numbers.0 = copy.numbers.0.wrapping_add(number * 1_000);
    }
    copies
}

impl Case {
    /// Makes the case of this number; `None` for a policy that is refused as a whole (then it decides nothing).
    ///
    /// # Panics
    /// Where a policy that the model makes is refused: that is the test's finding.
    #[must_use]
    #[expect(clippy::panic, reason = "the finding of a test")]
    pub fn new(seed: u64, number: usize, packets: usize, numbers: &mut Numbers) -> Option<Self> {
        let mut world = World::new(seed, number);
        let text =
            world.yaml(|seconds| sensor_proto::json::rfc3339((NOW_S + seconds) * 1_000_000_000));
        let now = UnixNs(NOW_S * 1_000_000_000);
        let policy: Policy = match parse("model.yaml", text.as_bytes(), now) {
            Ok(policy) => policy,
            Err(errors) => panic!("a policy that the model makes is refused: {errors}\n{text}"),
        };
        let boot_ns = (number as u64 + 2) * STEP_NS;
        let four = |address: u128, len| Prefix { four: true, address, len };
        let (resolver, protected) = (four(0x0a01_0007, 32), four(0x0a01_0380, 25));
        let facts = HostFacts {
            now,
            boot: MonoNs(boot_ns),
            interfaces: [("if1".to_owned(), 1), ("if2".to_owned(), 2)].into(),
            resolvers: vec![resolver.to_string().trim_end_matches("/32").parse().ok()?],
            protected: vec![protected.to_string().parse().ok()?],
            ..HostFacts::default()
        };
        let compiled = policy.compile(&facts, &Lists::default(), numbers).ok()?;
        let slots = policy
            .rules
            .iter()
            .zip(0..)
            .filter_map(|(rule, number)| Some((rule.about.id.to_string(), compiled.slot(number)?)))
            .collect();
        let mut made: Vec<Packet> =
            world.packets(packets).into_iter().zip(0..).flat_map(repeats).collect();
        made.sort_by_key(|packet| packet.time_ns);
        let model = Model::new(world.rules, vec![protected], resolver);
        Some(Self { text, compiled, packets: made, model, boot_ns, slots })
    }

    /// Number of the hits of a rule.
    #[must_use]
    pub fn slot(&self, id: &str) -> u32 {
        self.slots.get(id).copied().unwrap_or(0)
    }

    /// What `policy explain` says of a packet, by the lines of an image.
    #[must_use]
    pub fn explain(&self, lines: &[Line], packet: &Packet) -> Option<Explained> {
        let address = |word: u128| -> std::net::IpAddr {
            if packet.four {
                std::net::Ipv4Addr::from(u32::try_from(word).unwrap_or(0)).into()
            } else {
                std::net::Ipv6Addr::from(word).into()
            }
        };
        let sighting = Sighting {
            src: address(packet.src),
            dst: address(packet.dst),
            ports: Some(packet.ports),
            protocol: packet.protocol,
            direction: if packet.ingress { RuleDirection::Ingress } else { RuleDirection::Egress },
            ifindex: Some(IFINDEX),
            now_ns: self.boot_ns + packet.time_ns,
            shared: (false, false),
            verdicts: Verdicts::default(),
        };
        Some(image::explain(&View::new(lines)?, &sighting))
    }

    /// Whether an explanation says what the model decided. Limits are state, so an explanation names them and decides nothing.
    #[must_use]
    #[expect(clippy::match_same_arms, reason = "one line for each decision")]
    pub fn agrees(&self, explained: &Explained, decided: &Decided) -> bool {
        use image::Decided as Said;
        match (explained.decided, decided) {
            (Said::Blocked { block, reset, .. }, Decided::Blocked(id, resets)) => {
                block == self.slot(id) && reset == *resets
            }
            (Said::Allowed { allow, .. }, Decided::Allowed(id)) => allow == self.slot(id),
            (Said::Failsafe { .. }, Decided::Failsafe) => true,
            (Said::Pass, Decided::Limited(id, _)) => explained
                .asked
                .iter()
                .any(|asked| asked.hits == self.slot(id) && asked.answer == image::Answer::Charged),
            // A limit that was exceeded by a packet of a peer that is kept.
            (Said::Pass, Decided::Pass | Decided::Allowed(_) | Decided::Failsafe) => true,
            _ => false,
        }
    }
}

/// What came of all packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pairs of policy and packet.
    pub pairs: u64,
    /// Blocked, limited or reset.
    pub dropped: u64,
    /// Reset.
    pub reset: u64,
    /// Limited.
    pub limited: u64,
    /// Kept by an allow rule.
    pub allowed: u64,
    /// Kept by failsafe.
    pub failsafe: u64,
}

impl Tally {
    /// Counts a decision.
    pub fn add(&mut self, decided: &Decided) {
        self.pairs += 1;
        match decided {
            Decided::Pass => {}
            Decided::Failsafe => self.failsafe += 1,
            Decided::Allowed(_) => self.allowed += 1,
            Decided::Blocked(_, reset) => {
                self.dropped += 1;
                self.reset += u64::from(*reset);
            }
            Decided::Limited(_, reset) => {
                self.dropped += 1;
                self.limited += 1;
                self.reset += u64::from(*reset);
            }
        }
    }
}
