//! A policy to entries of the kernel's maps.
//!
//! Several rules of one prefix become a chain in the order of the file; a prefix whose rules are those of the prefix around it is
//! left out (`merged`). Chains and nested prefixes that the kernel could not get through in `LOOKUPS_MAX` steps are
//! flattened into one chain, and refused where that is too long. No rule is lost: each is in force, expired, or
//! waits for its interface, and `states` says which.

use ipnet::IpNet;
use sensor_ebpf::abi::policy::{
    Action, FailsafeEntry, LIMIT_FRACTION_BITS, LIMITS_MAX, LOOKUPS_MAX, Limit, LimitKind, LpmKey4,
    LpmKey6, PolicyEntry, RULES_MAX, Rule as KernelRule, RuleDirection, RuleHits,
};

use super::{
    chain::{Full, Numbers, Variant, cut, flatten},
    error::{PolicyError, PolicyErrors},
    facts::{HostFacts, Inactive, RuleState},
    model::{Direction, LimitKey, LimitTerms, Policy, Protocol, Rate, Rule, RuleAction, What},
};

/// A policy as it goes into the maps; index 0 of `rules` and `limits` is never used. Entries are sorted by prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyTables {
    /// `ALLOW4`
    pub allow4: Vec<(LpmKey4, PolicyEntry)>,
    /// `ALLOW6`
    pub allow6: Vec<(LpmKey6, PolicyEntry)>,
    /// `BLOCK4`
    pub block4: Vec<(LpmKey4, PolicyEntry)>,
    /// `BLOCK6`
    pub block6: Vec<(LpmKey6, PolicyEntry)>,
    /// `LIMIT4`
    pub limit4: Vec<(LpmKey4, PolicyEntry)>,
    /// `LIMIT6`
    pub limit6: Vec<(LpmKey6, PolicyEntry)>,
    /// `RULES`, by number.
    pub rules: Vec<KernelRule>,
    /// `LIMITS`, by number.
    pub limits: Vec<Limit>,
    /// `FAILSAFE`
    pub failsafe: Vec<FailsafeEntry>,
}

/// A compiled policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What goes into the maps.
    pub tables: PolicyTables,
    /// For each kernel rule the index of its rule in [`Policy::rules`].
    pub owners: Vec<Option<u32>>,
    /// For each rule of the policy whether it is in force.
    pub states: Vec<RuleState>,
    /// Prefixes left out because the prefix around them says the same.
    pub merged: usize,
    /// [`Policy::digest`]
    pub digest: u64,
}

impl Compiled {
    /// Hits of the kernel's rules, summed up by rule of the policy.
    pub fn sum_hits(&self, hits: &[RuleHits]) -> Vec<RuleHits> {
        let mut sums = vec![RuleHits::default(); self.states.len()];
        for (owner, hit) in self.owners.iter().zip(hits) {
            let Some(sum) = owner.and_then(|owner| sums.get_mut(usize::try_from(owner).ok()?))
            else {
                continue;
            };
            sum.packets = sum.packets.saturating_add(hit.packets);
            sum.bytes = sum.bytes.saturating_add(hit.bytes);
            sum.would_packets = sum.would_packets.saturating_add(hit.would_packets);
            sum.would_bytes = sum.would_bytes.saturating_add(hit.would_bytes);
            sum.last_ns = sum.last_ns.max(hit.last_ns);
        }
        sums
    }
}

impl Policy {
    /// Compiles the policy for this host.
    pub fn compile(&self, facts: &HostFacts) -> Result<Compiled, PolicyErrors> {
        let mut compiler =
            Compiler { policy: self, numbers: Numbers::new(), merged: 0, errors: unsaid(self) };
        let variants: Vec<Result<Vec<Variant>, Inactive>> = self
            .rules
            .iter()
            .zip(0..)
            .map(|(rule, number)| variants(rule, number, facts))
            .collect();
        let (allow4, allow6) = split(compiler.list(&variants, |what| matches!(what, What::Allow)));
        let (block4, block6) = split(compiler.list(&variants, |what| matches!(what, What::Block)));
        let (limit4, limit6) = split(compiler.limits(&variants));
        let failsafe = self.failsafe.entries(facts).unwrap_or_else(|message| {
            compiler.errors.push(PolicyError { line: None, field: "failsafe".into(), message });
            Vec::new()
        });
        let Compiler { numbers, merged, errors, .. } = compiler;
        if !errors.is_empty() {
            return Err(PolicyErrors::new(&self.file, errors));
        }
        let states = variants
            .into_iter()
            .map(|variants| variants.map_or_else(RuleState::Inactive, |_| RuleState::Active))
            .collect();
        let Numbers { rules, owners, limits, .. } = numbers;
        let tables = PolicyTables {
            allow4,
            allow6,
            block4,
            block6,
            limit4,
            limit6,
            rules,
            limits,
            failsafe,
        };
        Ok(Compiled { tables, owners, states, merged, digest: self.digest })
    }
}

/// What the kernel's maps cannot say yet: refused, so that no condition is left out in silence.
fn unsaid(policy: &Policy) -> Vec<PolicyError> {
    let mut errors = Vec::new();
    for rule in &policy.rules {
        let limit = match rule.what {
            What::Limit(terms) => Some(terms),
            What::Allow | What::Block => None,
        };
        let counted = |terms: &LimitTerms| {
            terms.bytes.is_some() || terms.requests.is_some() || terms.connections.is_some()
        };
        let fields = [
            ("percent", rule.percent < 100),
            ("lists", !rule.lists.is_empty()),
            ("starts", rule.starts.is_some()),
            ("bytes, requests, connections", limit.as_ref().is_some_and(counted)),
            ("shared", limit.is_some_and(|terms| terms.shared)),
            ("key", limit.is_some_and(|terms| terms.key != LimitKey::Address)),
        ];
        for (field, _) in fields.into_iter().filter(|(_, used)| *used) {
            let message =
                format!("rule `{}`: the kernel cannot be told this yet; remove it", rule.about.id);
            errors.push(PolicyError { line: Some(rule.about.line), field: field.into(), message });
        }
    }
    errors
}

/// The kernel rules of a rule: one for each range of ports.
fn variants(rule: &Rule, owner: u32, facts: &HostFacts) -> Result<Vec<Variant>, Inactive> {
    let expires_ns = match rule.expires {
        None => 0,
        Some(at) if at <= facts.now => return Err(Inactive::Expired),
        Some(at) => facts.boot.0.saturating_add(at.0.saturating_sub(facts.now.0)).max(1),
    };
    let ifindex = match &rule.when.interface {
        None => 0,
        Some(name) => {
            *facts.interfaces.get(&**name).ok_or_else(|| Inactive::NoInterface(name.clone()))?
        }
    };
    let any = [(0, u16::MAX)];
    let ports = if rule.when.ports.is_empty() { &any[..] } else { &rule.when.ports };
    let kernel = |(port_min, port_max): (u16, u16)| KernelRule {
        expires_ns,
        ifindex,
        next: 0,
        port_min,
        port_max,
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
        flags: 0,
    };
    Ok(ports.iter().map(|range| Variant { owner, rule: kernel(*range) }).collect())
}

struct Compiler<'p> {
    policy: &'p Policy,
    numbers: Numbers,
    merged: usize,
    errors: Vec<PolicyError>,
}

impl Compiler<'_> {
    /// Entries of an allow or block list.
    fn list(
        &mut self,
        variants: &[Result<Vec<Variant>, Inactive>],
        wanted: fn(&What) -> bool,
    ) -> Vec<(IpNet, PolicyEntry)> {
        let mut entries = Vec::new();
        let mut around: Vec<(IpNet, Vec<Variant>)> = Vec::new();
        for (net, rules) in self.by_prefix(variants, wanted) {
            let mut own: Vec<Variant> = rules
                .iter()
                .filter_map(|rule| variants.get(*rule)?.as_ref().ok())
                .flatten()
                .copied()
                .collect();
            cut(&mut own);
            leave(&mut around, &net);
            if around.last().is_some_and(|(_, outer)| *outer == own) {
                self.merged += 1;
                continue;
            }
            match flatten(&own, around.iter().rev().map(|(_, chain)| chain)) {
                Some(chain) => match self.numbers.chain(&chain) {
                    Ok(rule) => entries.push((net, entry(rule, &net))),
                    Err(full) => {
                        self.full(full);
                        return entries;
                    }
                },
                None => self.too_deep(&net, &rules, around.len()),
            }
            around.push((net, own));
        }
        entries
    }

    /// Entries of the limits. The first prefix with a limit that applies ends the walk, so a wider one is never flattened in.
    fn limits(&mut self, variants: &[Result<Vec<Variant>, Inactive>]) -> Vec<(IpNet, PolicyEntry)> {
        let mut entries = Vec::new();
        let mut around: Vec<(IpNet, Level)> = Vec::new();
        for (net, rules) in self.by_prefix(variants, |what| matches!(what, What::Limit(_))) {
            let level = match self.level(&rules, variants) {
                Ok(level) => level,
                Err(full) => {
                    self.full(full);
                    return entries;
                }
            };
            leave(&mut around, &net);
            if around.last().is_some_and(|(_, outer)| *outer == level) {
                self.merged += 1;
                continue;
            }
            let mut steps = level.limits.len();
            if !level.is_final {
                for (_, outer) in around.iter().rev() {
                    steps += 1 + outer.limits.len();
                    if outer.is_final {
                        break;
                    }
                }
            }
            if steps > LOOKUPS_MAX as usize {
                self.too_deep(&net, &rules, around.len());
            } else {
                match self.numbers.limit_chain(&level.limits) {
                    Ok(limit) => entries.push((net, entry(limit, &net))),
                    Err(full) => {
                        self.full(full);
                        return entries;
                    }
                }
            }
            around.push((net, level));
        }
        entries
    }

    fn level(
        &mut self,
        rules: &[usize],
        variants: &[Result<Vec<Variant>, Inactive>],
    ) -> Result<Level, Full> {
        let mut level = Level { limits: Vec::new(), is_final: false };
        for number in rules {
            let Some(Ok(variants)) = variants.get(*number) else { continue };
            let Some(What::Limit(terms)) = self.policy.rules.get(*number).map(|rule| &rule.what)
            else {
                continue;
            };
            for variant in variants {
                let rule = self.numbers.chain(std::slice::from_ref(variant))?;
                level.limits.extend(kernel_limits(terms, rule));
                level.is_final |= variant.is_unconditional();
            }
        }
        Ok(level)
    }

    /// Rules of a list by prefix, in the order of the file, without those that are not in force.
    fn by_prefix(
        &self,
        variants: &[Result<Vec<Variant>, Inactive>],
        wanted: fn(&What) -> bool,
    ) -> Vec<(IpNet, Vec<usize>)> {
        let mut pairs: Vec<(IpNet, usize)> = Vec::new();
        for (number, rule) in self.policy.rules.iter().enumerate() {
            if wanted(&rule.what) && variants.get(number).is_some_and(Result::is_ok) {
                pairs.extend(rule.clients.iter().map(|net| (*net, number)));
            }
        }
        // An outer prefix sorts before the prefixes in it.
        pairs.sort_unstable();
        pairs.dedup();
        let mut grouped: Vec<(IpNet, Vec<usize>)> = Vec::with_capacity(pairs.len());
        for (net, number) in pairs {
            match grouped.last_mut() {
                Some((last, rules)) if *last == net => rules.push(number),
                _ => grouped.push((net, vec![number])),
            }
        }
        grouped
    }

    fn too_deep(&mut self, net: &IpNet, rules: &[usize], around: usize) {
        if self.errors.len() > PolicyErrors::SHOWN_MAX {
            return;
        }
        let rule = rules.last().and_then(|number| self.policy.rules.get(*number));
        let id = rule.map_or("", |rule| &rule.about.id);
        let message = format!(
            "{net} of rule `{id}`, with the {around} prefixes around it, has more rules with conditions than the {LOOKUPS_MAX} that a \
             packet is asked against; join rules, or widen the inner ones to every port, protocol and direction"
        );
        self.errors.push(PolicyError {
            line: rule.map(|rule| rule.about.line),
            field: "clients".into(),
            message,
        });
    }

    fn full(&mut self, full: Full) {
        let message = match full {
            Full::Rules => format!(
                "more than {} kernel rules (a rule takes one for each range of ports, and for each chain it is part of); \
                 join rules that share their clients",
                RULES_MAX - 1
            ),
            Full::Limits => format!(
                "more than {} kernel limits; join limits that share their clients",
                LIMITS_MAX - 1
            ),
        };
        self.errors.push(PolicyError { line: None, field: String::new(), message });
    }
}

/// Limits of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    limits: Vec<Limit>,
    /// One of them applies to every packet.
    is_final: bool,
}

fn kernel_limits(terms: &LimitTerms, rule: u32) -> impl Iterator<Item = Limit> {
    let kinds =
        [(LimitKind::Packets, terms.packets), (LimitKind::Connections, terms.new_connections)];
    let (prefix_v4, prefix_v6) = (terms.prefix_v4, terms.prefix_v6);
    kinds.into_iter().filter_map(move |(kind, rate)| {
        let (increment, tolerance) = gcra(&rate?);
        Some(Limit {
            increment,
            tolerance,
            rule,
            next: 0,
            kind: kind as u8,
            prefix_v4,
            prefix_v6,
            pad: [0; 5],
        })
    })
}

/// Increment and tolerance in 1/2^[`LIMIT_FRACTION_BITS`] ns: period / rate, rounded to the nearest unit (an error of at
/// most 1/128 ns in the distance of two things), and `burst` times that.
pub(super) fn gcra(rate: &Rate) -> (u64, u64) {
    let units = u128::from(rate.period_ns) << LIMIT_FRACTION_BITS;
    let count = u128::from(rate.count.max(1));
    let increment = ((units + count / 2) / count).max(1);
    let tolerance = increment * u128::from(rate.burst);
    (u64::try_from(increment).unwrap_or(u64::MAX), u64::try_from(tolerance).unwrap_or(u64::MAX))
}

/// Leaves the prefixes that do not contain `net`.
fn leave<T>(around: &mut Vec<(IpNet, T)>, net: &IpNet) {
    while around.last().is_some_and(|(outer, _)| !outer.contains(net)) {
        around.pop();
    }
}

fn entry(rule: u32, net: &IpNet) -> PolicyEntry {
    PolicyEntry { rule, prefix_len: net.prefix_len(), pad: [0; 3] }
}

type Split = (Vec<(LpmKey4, PolicyEntry)>, Vec<(LpmKey6, PolicyEntry)>);

fn split(entries: Vec<(IpNet, PolicyEntry)>) -> Split {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (net, entry) in entries {
        let prefix_len = u32::from(net.prefix_len());
        match net {
            IpNet::V4(net) => {
                v4.push((LpmKey4 { prefix_len, addr: net.network().octets() }, entry));
            }
            IpNet::V6(net) => {
                v6.push((LpmKey6 { prefix_len, addr: net.network().octets() }, entry));
            }
        }
    }
    (v4, v6)
}
