//! Rules of one prefix as chains of kernel rules, shared where they are equal.
//!
//! A kernel rule has one `next`, so a rule that is followed by different rules in different places is there once for each.
//! Steps of a look-up as the kernel counts them: one for each rule asked, one for each look-up of a shorter prefix.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sensor_ebpf::abi::policy::{Action, LIMITS_MAX, LOOKUPS_MAX, Limit, RULES_MAX, Rule};

/// A kernel rule without its place in a chain, and the rule of the policy it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub(super) owner: u32,
    /// `next` is 0.
    pub(super) rule: Rule,
}

impl Variant {
    /// Whether a look-up always ends here: no condition, and not a monitor.
    pub(super) fn is_final(&self) -> bool {
        self.is_unconditional() && self.rule.action != Action::Monitor as u8
    }

    pub(super) fn is_unconditional(&self) -> bool {
        let rule = &self.rule;
        let anywhere = rule.ifindex == 0 && rule.direction == 0 && rule.protocol == 0;
        anywhere && rule.expires_ns == 0 && rule.port_min == 0 && rule.port_max == u16::MAX
    }
}

/// Cuts a chain behind the first rule that ends every look-up.
pub(super) fn cut(chain: &mut Vec<Variant>) {
    if let Some(at) = chain.iter().position(Variant::is_final) {
        chain.truncate(at + 1);
    }
}

/// What to write into the trie for a prefix, given its own rules and those of the prefixes around it, nearest first:
/// its own chain where the kernel gets through all levels in time, else all levels in one chain; `None` when
/// even that is too long.
pub(super) fn flatten<'c>(
    own: &[Variant],
    around: impl Iterator<Item = &'c Vec<Variant>>,
) -> Option<Vec<Variant>> {
    let mut all = own.to_vec();
    let mut steps = own.len();
    if !own.iter().any(Variant::is_final) {
        for level in around {
            steps += 1 + level.len();
            all.extend(level.iter().filter(|variant| !own.contains(variant)));
            if level.iter().any(Variant::is_final) {
                break;
            }
        }
    }
    let max = LOOKUPS_MAX as usize;
    if steps <= max {
        return Some(own.to_vec());
    }
    let mut seen: Vec<Variant> = Vec::with_capacity(max);
    for variant in all {
        if !seen.contains(&variant) {
            seen.push(variant);
        }
        if variant.is_final() {
            break;
        }
    }
    (seen.len() <= max).then_some(seen)
}

/// More kernel rules or limits than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Rules,
    Limits,
}

/// Kernel rules and limits with their numbers; number 0 is never used.
pub(super) struct Numbers {
    pub(super) rules: Vec<Rule>,
    /// Rule of the policy behind each kernel rule.
    pub(super) owners: Vec<Option<u32>>,
    pub(super) limits: Vec<Limit>,
    known_rules: HashMap<(Variant, u32), u32, FixedState>,
    known_limits: HashMap<Limit, u32, FixedState>,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self {
            rules: vec![Rule::default()],
            owners: vec![None],
            limits: vec![Limit::default()],
            known_rules: HashMap::default(),
            known_limits: HashMap::default(),
        }
    }

    /// Number of the first rule of a chain, made from the end so that equal ends are shared.
    pub(super) fn chain(&mut self, chain: &[Variant]) -> Result<u32, Full> {
        let mut next = 0;
        for variant in chain.iter().rev() {
            let key = (*variant, next);
            if let Some(number) = self.known_rules.get(&key) {
                next = *number;
                continue;
            }
            let number = number_below(self.rules.len(), RULES_MAX).ok_or(Full::Rules)?;
            self.rules.push(Rule { next, ..variant.rule });
            self.owners.push(Some(variant.owner));
            self.known_rules.insert(key, number);
            next = number;
        }
        Ok(next)
    }

    /// The same for limits.
    pub(super) fn limit_chain(&mut self, chain: &[Limit]) -> Result<u32, Full> {
        let mut next = 0;
        for limit in chain.iter().rev() {
            let key = Limit { next, ..*limit };
            if let Some(number) = self.known_limits.get(&key) {
                next = *number;
                continue;
            }
            let number = number_below(self.limits.len(), LIMITS_MAX).ok_or(Full::Limits)?;
            self.limits.push(key);
            self.known_limits.insert(key, number);
            next = number;
        }
        Ok(next)
    }
}

fn number_below(len: usize, max: u32) -> Option<u32> {
    u32::try_from(len).ok().filter(|number| *number < max)
}
