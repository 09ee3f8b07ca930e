//! Rules as the kernel asks them: a rule with each of its expiries is a *term*, and a term is one kernel rule for each range of ports.

use std::collections::BTreeSet;

use sensor_ebpf::abi::{
    image::{Action, BYTES_SHIFT, Limit, LimitKind, RULE_INCLUDE_SHARED, Rule as KernelRule},
    policy::{LIMIT_FRACTION_BITS, RuleDirection},
};

use super::{
    super::{
        facts::{HostFacts, Inactive},
        list::Lists,
        model::{Direction, LimitKey, LimitTerms, Policy, Protocol, Rate, Rule, RuleAction, What},
    },
    numbers::Numbers,
};
use crate::time::UnixNs;

/// A rule with one of its expiries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// Index of the rule in the policy.
    pub(super) rule: u32,
    /// Until when, of the rule and of the entry of its list.
    pub(super) expires: Option<UnixNs>,
}

/// All terms, by rule, within a rule what lasts longest first.
pub(super) struct Terms {
    pub(super) all: Vec<Term>,
    /// For each rule its first term and how many it has; none when it is not in force.
    by_rule: Vec<Result<(u32, u32), Inactive>>,
}

impl Terms {
    pub(super) fn new(policy: &Policy, facts: &HostFacts, lists: &Lists) -> Self {
        let mut all = Vec::new();
        let mut by_rule = Vec::with_capacity(policy.rules.len());
        for (rule, number) in policy.rules.iter().zip(0..) {
            by_rule.push(inactive(rule, facts).map_or_else(
                || {
                    let first = count(all.len());
                    all.extend(
                        expiries(rule, facts, lists).into_iter().rev().map(|at| Term {
                            rule: number,
                            expires: (at != FOR_EVER).then_some(at),
                        }),
                    );
                    Ok((first, count(all.len()) - first))
                },
                Err,
            ));
        }
        Self { all, by_rule }
    }

    /// Why a rule is not in force, or that it is.
    pub(super) fn states(&self) -> impl Iterator<Item = Result<(), Inactive>> {
        self.by_rule.iter().map(|terms| terms.clone().map(|_| ()))
    }

    /// The term of a rule with an expiry; `None` when the rule is not in force or that time is over.
    pub(super) fn find(&self, rule: usize, expires: Option<UnixNs>) -> Option<u32> {
        let (first, len) = *self.by_rule.get(rule)?.as_ref().ok()?;
        let terms = self.all.get(wide(first)..wide(first + len))?;
        let at = expires.unwrap_or(FOR_EVER);
        // Latest first.
        let found = terms.binary_search_by(|term| at.cmp(&term.expires.unwrap_or(FOR_EVER)));
        found.ok().map(|offset| first + count(offset))
    }
}

const FOR_EVER: UnixNs = UnixNs(u64::MAX);

/// Why a rule is not in force now.
fn inactive(rule: &Rule, facts: &HostFacts) -> Option<Inactive> {
    if rule.expires.is_some_and(|at| at <= facts.now) {
        return Some(Inactive::Expired);
    }
    let name = rule.when.interface.as_ref()?;
    (!facts.interfaces.contains_key(&**name)).then(|| Inactive::NoInterface(name.clone()))
}

/// When entries of a rule expire; what is over already is left out.
fn expiries(rule: &Rule, facts: &HostFacts, lists: &Lists) -> BTreeSet<UnixNs> {
    let own = rule.expires.unwrap_or(FOR_EVER);
    let mut times: BTreeSet<UnixNs> = [own].into();
    for list in lists.of(rule) {
        times.extend(
            list.expiries().iter().skip(1).filter(|at| **at > facts.now).map(|at| own.min(*at)),
        );
    }
    times
}

/// The kernel rules of a term: one for each range of ports.
pub(super) fn variants(
    rule: &Rule,
    expires: Option<UnixNs>,
    slot: u32,
    facts: &HostFacts,
) -> impl Iterator<Item = KernelRule> {
    let boot_ns = |at: UnixNs| facts.boot.0.saturating_add(at.0.saturating_sub(facts.now.0)).max(1);
    let any = [(0, u16::MAX)];
    let ports = if rule.when.ports.is_empty() { any.to_vec() } else { rule.when.ports.clone() };
    let kernel = KernelRule {
        starts_ns: rule.starts.filter(|at| *at > facts.now).map_or(0, boot_ns),
        expires_ns: expires.map_or(0, boot_ns),
        salt: salt(&rule.about.id),
        ifindex: rule
            .when
            .interface
            .as_ref()
            .and_then(|name| facts.interfaces.get(&**name))
            .copied()
            .unwrap_or(0),
        next: 0,
        hits: slot,
        share: share(rule.percent),
        port_min: 0,
        port_max: 0,
        action: match rule.action {
            RuleAction::Drop => Action::Drop,
            RuleAction::Reset => Action::Reset,
            RuleAction::Monitor => Action::Monitor,
        } as u8,
        protocol: rule.when.protocol.map_or(0, Protocol::number),
        direction: match rule.when.direction {
            Direction::Both => RuleDirection::Both,
            Direction::Ingress => RuleDirection::Ingress,
            Direction::Egress => RuleDirection::Egress,
        } as u8,
        flags: if rule.include_shared { RULE_INCLUDE_SHARED } else { 0 },
        pad: [0; 2],
    };
    ports.into_iter().map(move |(port_min, port_max)| KernelRule { port_min, port_max, ..kernel })
}

/// Whether a look-up always ends at this kernel rule when it is an allow or block rule or limit that does not only monitor.
pub(super) fn is_final(rule: &KernelRule) -> bool {
    let anywhere = rule.ifindex == 0 && rule.direction == 0 && rule.protocol == 0;
    let any_time = rule.starts_ns == 0 && rule.expires_ns == 0;
    let any_port = rule.port_min == 0 && rule.port_max == u16::MAX;
    let any_client = rule.share == u32::MAX && rule.flags & RULE_INCLUDE_SHARED != 0;
    anywhere && any_time && any_port && any_client && rule.action != Action::Monitor as u8
}

/// The limits of a rule; `rule` is the number of its kernel rule.
pub(super) fn limits(id: &str, terms: &LimitTerms, rule: u32, numbers: &mut Numbers) -> Vec<Limit> {
    let rates = [
        (LimitKind::Packets, terms.packets),
        (LimitKind::Bytes, terms.bytes),
        (LimitKind::Connections, terms.new_connections),
        (LimitKind::Requests, terms.requests),
    ];
    let concurrent =
        terms.connections.map(|connections| (LimitKind::Concurrent, 0, u64::from(connections)));
    let rates = rates.into_iter().filter_map(|(kind, rate)| {
        let (increment, tolerance) = gcra(kind, &rate?);
        Some((kind, increment, tolerance))
    });
    let mut limits = Vec::new();
    for (kind, increment, tolerance) in rates.chain(concurrent) {
        let terms = Limit {
            increment,
            tolerance,
            kind: kind as u8,
            prefix_v4: terms.prefix_v4,
            prefix_v6: terms.prefix_v6,
            by_agent: u8::from(terms.key != LimitKey::Address),
            ..Limit::default()
        };
        limits.push(Limit { rule, state: numbers.state(id, terms), ..terms });
    }
    limits
}

/// Increment and tolerance in 1/2^[`LIMIT_FRACTION_BITS`] ns: period / rate, rounded to the nearest unit (an error of at
/// most 1/128 ns in the distance of two things; of 64 bytes), and `burst` times that.
pub(super) fn gcra(kind: LimitKind, rate: &Rate) -> (u64, u64) {
    let shift = if kind == LimitKind::Bytes { BYTES_SHIFT } else { 0 };
    let units = u128::from(rate.period_ns) << (LIMIT_FRACTION_BITS + shift);
    let count = u128::from(rate.count.max(1));
    let increment = ((units + count / 2) / count).max(1);
    let tolerance = (increment * u128::from(rate.burst)) >> shift;
    (u64::try_from(increment).unwrap_or(u64::MAX), u64::try_from(tolerance).unwrap_or(u64::MAX))
}

/// Of 2^32 hash values those below this are in; 100 % is all of them.
pub(in super::super) fn share(percent: u8) -> u32 {
    if percent >= 100 {
        return u32::MAX;
    }
    u32::try_from((u64::from(percent) << 32) / 100).unwrap_or(u32::MAX)
}

/// FNV-1a of a rule's id: which clients a percentage means differs from rule to rule.
pub(in super::super) fn salt(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Which list a rule belongs to.
pub(super) fn list_of(what: &What) -> sensor_ebpf::abi::image::ListId {
    use sensor_ebpf::abi::image::ListId;
    match what {
        What::Block => ListId::Block,
        What::Allow => ListId::Allow,
        What::Limit(_) => ListId::Limit,
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn wide(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
