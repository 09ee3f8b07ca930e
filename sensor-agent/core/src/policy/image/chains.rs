//! Kernel rules and limits with their numbers. Those of one prefix form a chain; chains that end alike share their end.
//!
//! A kernel rule has one `next`, so a rule that is followed by different rules in different places is there once for each.
//! Bound: `IMAGE_RULES_MAX` of each.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sensor_ebpf::abi::image::{Action, IMAGE_RULES_MAX, Limit, Rule as KernelRule};

use super::{
    super::{
        facts::HostFacts,
        model::{Policy, What},
    },
    numbers::Numbers,
    terms::{Terms, is_final, limits, variants},
};

/// What one prefix leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Number of its first rule or limit; two chains with the same first are the same.
    pub(super) first: u32,
    /// Rules or limits in it: steps of a look-up.
    pub(super) steps: u32,
    /// Whether a look-up always ends in it.
    pub(super) is_final: bool,
}

/// More kernel rules or limits than an image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Rules,
    Limits,
}

/// What chains are made of.
pub(super) struct Source<'p> {
    pub(super) policy: &'p Policy,
    pub(super) facts: &'p HostFacts,
    pub(super) terms: &'p Terms,
    /// Hits slot by rule.
    pub(super) slots: &'p [u32],
}

/// All chains of an image; number 0 of rules and limits is never used.
pub(super) struct Chains {
    pub(super) rules: Vec<KernelRule>,
    pub(super) limits: Vec<Limit>,
    known_rules: HashMap<KernelRule, u32, FixedState>,
    known_limits: HashMap<Limit, u32, FixedState>,
    /// Chains of prefixes with a single term, by term.
    single: Vec<Option<Chain>>,
    several: HashMap<Box<[u32]>, Chain, FixedState>,
}

impl Chains {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            rules: vec![KernelRule::default()],
            limits: vec![Limit::default()],
            known_rules: HashMap::default(),
            known_limits: HashMap::default(),
            single: vec![None; terms.all.len()],
            several: HashMap::default(),
        }
    }

    /// The chain of the terms of one prefix, which are of one list, in their order.
    pub(super) fn of(
        &mut self,
        terms: &[u32],
        source: &Source<'_>,
        numbers: &mut Numbers,
    ) -> Result<Chain, Full> {
        if let [term] = terms {
            let at = usize::try_from(*term).unwrap_or(usize::MAX);
            if let Some(Some(chain)) = self.single.get(at) {
                return Ok(*chain);
            }
            let chain = self.make(terms, source, numbers)?;
            if let Some(place) = self.single.get_mut(at) {
                *place = Some(chain);
            }
            return Ok(chain);
        }
        if let Some(chain) = self.several.get(terms) {
            return Ok(*chain);
        }
        let chain = self.make(terms, source, numbers)?;
        self.several.insert(terms.into(), chain);
        Ok(chain)
    }

    fn make(
        &mut self,
        terms: &[u32],
        source: &Source<'_>,
        numbers: &mut Numbers,
    ) -> Result<Chain, Full> {
        let mut rules = Vec::new();
        let mut of_limits = Vec::new();
        let mut ends = false;
        for term in terms {
            let term = usize::try_from(*term).ok().and_then(|at| source.terms.all.get(at));
            let Some((term, rule)) = term.and_then(|term| {
                let at = usize::try_from(term.rule).ok()?;
                Some((term, (source.policy.rules.get(at)?, *source.slots.get(at)?)))
            }) else {
                continue;
            };
            let (rule, slot) = rule;
            for variant in variants(rule, term.expires, slot, source.facts) {
                match &rule.what {
                    What::Limit(limit) => {
                        let number = self.rule(variant)?;
                        let limits = limits(&rule.about.id, limit, number, numbers);
                        ends |=
                            is_final(&variant) && limits.iter().any(|limit| limit.by_agent == 0);
                        of_limits.extend(limits);
                    }
                    What::Allow | What::Block if !ends => {
                        // An allow rule has no action, so none that only monitors.
                        let mut shown = variant;
                        if rule.what == What::Allow {
                            shown.action = Action::Drop as u8;
                        }
                        rules.push(shown);
                        ends = is_final(&shown);
                    }
                    // Nothing behind a rule that ends every look-up is ever asked.
                    What::Allow | What::Block => {}
                }
            }
        }
        let steps = u32::try_from(rules.len() + of_limits.len()).unwrap_or(u32::MAX);
        let mut first = 0;
        for rule in rules.into_iter().rev() {
            first = self.rule(KernelRule { next: first, ..rule })?;
        }
        for limit in of_limits.into_iter().rev() {
            first = self.limit(Limit { next: first, ..limit })?;
        }
        Ok(Chain { first, steps, is_final: ends })
    }

    fn rule(&mut self, rule: KernelRule) -> Result<u32, Full> {
        if let Some(number) = self.known_rules.get(&rule) {
            return Ok(*number);
        }
        let number = number(self.rules.len()).ok_or(Full::Rules)?;
        self.rules.push(rule);
        self.known_rules.insert(rule, number);
        Ok(number)
    }

    fn limit(&mut self, limit: Limit) -> Result<u32, Full> {
        if let Some(number) = self.known_limits.get(&limit) {
            return Ok(*number);
        }
        let number = number(self.limits.len()).ok_or(Full::Limits)?;
        self.limits.push(limit);
        self.known_limits.insert(limit, number);
        Ok(number)
    }
}

fn number(len: usize) -> Option<u32> {
    u32::try_from(len).ok().filter(|number| *number < IMAGE_RULES_MAX)
}
