//! The entries of one list and family: gathered, sorted, each with its chain, without those that the prefix around them makes
//! superfluous, and no look-up longer than the kernel goes.

use sensor_ebpf::abi::image::{ListId, STEPS_MAX};

use super::{
    super::{error::PolicyError, list::Lists},
    chains::{Chain, Chains, Full, Source},
    family::Key,
    numbers::Numbers,
    terms::list_of,
};

/// Entries with the number of their first rule or limit, by prefix.
pub(super) struct Entries<K> {
    pub(super) keys: Vec<K>,
    /// Bit n = an entry of n bits.
    pub(super) lengths: [u64; 3],
    /// Prefixes left out because the prefix around them says the same.
    pub(super) merged: usize,
}

/// Gathers and settles the entries of a list.
pub(super) fn entries<K: Key>(
    list: ListId,
    source: &Source<'_>,
    lists: &Lists,
    chains: &mut Chains,
    numbers: &mut Numbers,
) -> Result<Entries<K>, PolicyError> {
    let mut keys = gather::<K>(list, source, lists);
    keys.sort_unstable();
    settle(keys, source, chains, numbers).map_err(|error| error.told(source))
}

/// Every prefix of the list with its term.
fn gather<K: Key>(list: ListId, source: &Source<'_>, lists: &Lists) -> Vec<K> {
    let mut keys = Vec::new();
    for (number, rule) in source.policy.rules.iter().enumerate() {
        if list_of(&rule.what) != list {
            continue;
        }
        if let Some(term) = source.terms.find(number, rule.expires) {
            keys.extend(rule.clients.iter().filter_map(|net| K::of(net, term)));
        }
        for loaded in lists.of(rule) {
            // The term of each expiry, worked out once for the list.
            let term_of = |at: Option<crate::time::UnixNs>| {
                let at = match (rule.expires, at) {
                    (Some(own), Some(at)) => Some(own.min(at)),
                    (own, at) => own.or(at),
                };
                source.terms.find(number, at)
            };
            let mut by_expiry = vec![term_of(None)];
            by_expiry.extend(loaded.expiries().iter().skip(1).map(|at| term_of(Some(*at))));
            keys.extend(K::of_list(loaded).filter_map(|key| {
                let at = usize::try_from(key.number()).ok()?;
                by_expiry.get(at).copied().flatten().map(|term| key.with(term))
            }));
        }
    }
    keys
}

/// Why a list does not fit.
enum Unfit<K> {
    Full(Full),
    /// A look-up of an address in this prefix takes too many steps.
    Deep {
        key: K,
        steps: u32,
    },
}

/// A prefix around the one that is looked at.
struct Around<K> {
    key: K,
    chain: Chain,
    /// Rules of a look-up from here outwards, and the length at which it ends (0 with no rule that ends it).
    rules: u32,
    ends: u8,
}

/// Replaces terms by chains, in place.
fn settle<K: Key>(
    mut keys: Vec<K>,
    source: &Source<'_>,
    chains: &mut Chains,
    numbers: &mut Numbers,
) -> Result<Entries<K>, Unfit<K>> {
    let mut around: Vec<Around<K>> = Vec::new();
    let (mut lengths, mut merged, mut kept) = ([0_u64; 3], 0, 0);
    // By the length at which a look-up ends: most rules on a way there, and the prefix where it begins (with its terms' number).
    let mut deepest: Vec<Option<(u32, K)>> = vec![None; 129];
    let mut terms: Vec<u32> = Vec::new();
    let mut next = 0;
    while let Some(key) = keys.get(next).copied() {
        terms.clear();
        let mut last_rule = None;
        while let Some(same) = keys.get(next).copied().filter(|other| other.is_same(key)) {
            next += 1;
            // Of one rule with several expiries the longest lasting one comes first, and says all.
            let rule = rule_of(same.number(), source);
            if rule != last_rule {
                terms.push(same.number());
                last_rule = rule;
            }
        }
        let chain = chains.of(&terms, source, numbers).map_err(Unfit::Full)?;
        while around.last().is_some_and(|outer| !outer.key.contains(key)) {
            around.pop();
        }
        let outer = around.last();
        if outer.is_some_and(|outer| outer.chain.first == chain.first) {
            merged += 1;
            continue;
        }
        let (rules, ends) = match outer {
            _ if chain.is_final => (chain.steps, key.len()),
            Some(outer) => (outer.rules.saturating_add(chain.steps), outer.ends),
            None => (chain.steps, 0),
        };
        if let Some(place) = deepest.get_mut(usize::from(ends))
            && place.is_none_or(|(most, _)| rules > most)
        {
            *place = Some((rules, key));
        }
        around.push(Around { key, chain, rules, ends });
        if let Some(word) = lengths.get_mut(usize::from(key.len()) / 64) {
            *word |= 1 << (key.len() % 64);
        }
        if let Some(place) = keys.get_mut(kept) {
            *place = key.with(chain.first);
        }
        kept += 1;
    }
    keys.truncate(kept);
    for (ends, (rules, key)) in deepest.into_iter().enumerate().filter_map(|(n, at)| Some((n, at?)))
    {
        // One step more ends the look-up.
        let steps = rules.saturating_add(longer_than(&lengths, ends)).saturating_add(1);
        if steps > STEPS_MAX {
            return Err(Unfit::Deep { key, steps });
        }
    }
    Ok(Entries { keys, lengths, merged })
}

fn rule_of(term: u32, source: &Source<'_>) -> Option<u32> {
    source.terms.all.get(usize::try_from(term).ok()?).map(|term| term.rule)
}

/// Lengths in use from `len` on.
fn longer_than(lengths: &[u64; 3], len: usize) -> u32 {
    (len..=128)
        .filter(|len| lengths.get(len / 64).is_some_and(|word| word >> (len % 64) & 1 != 0))
        .map(|_| 1)
        .sum()
}

impl<K: Key> Unfit<K> {
    fn told(self, source: &Source<'_>) -> PolicyError {
        let (line, field, message) = match self {
            Self::Full(Full::Rules) => (
                None,
                "",
                format!(
                    "more than {} kernel rules (a rule takes one for each range of ports, for each expiry of its lists, and for each chain it is part of); \
                 join rules that share their clients, or round the times of lists",
                    sensor_ebpf::abi::image::IMAGE_RULES_MAX - 1
                ),
            ),
            Self::Full(Full::Limits) => (
                None,
                "",
                format!(
                    "more than {} kernel limits; join limits that share their clients",
                    sensor_ebpf::abi::image::IMAGE_RULES_MAX - 1
                ),
            ),
            Self::Deep { key, steps } => {
                let rule = rule_of(key.number(), source)
                    .and_then(|rule| source.policy.rules.get(usize::try_from(rule).ok()?));
                let id = rule.map_or("", |rule| &rule.about.id);
                let net = key.net().map_or_else(String::new, |net| net.to_string());
                let message = format!(
                    "an address in {net} of rule `{id}` takes {steps} steps (rules of the prefixes around it, ranges of ports each for itself, and prefix \
                     lengths in use) and the kernel goes {STEPS_MAX}; join rules or ranges of ports"
                );
                (rule.map(|rule| rule.about.line), "clients", message)
            }
        };
        PolicyError { line, field: field.into(), message }
    }
}
