//! A compiled policy to the kernel's maps, and the hits of its rules back.
//!
//! Failsafe first, then rules and limits, then entries that are new or changed, then the removal of those that are gone, so
//! no address that stays listed is unlisted for a moment. Rules and limits that changed go into the other half of their
//! tables, where no entry points yet: until an entry is replaced it follows its old rule, never somebody else's. Their
//! hits start at zero ([`Applied::hits_reset`]). A policy too large for half a table is written in place.
//! Since Linux 6.13 an insert can fail with ENOMEM while memory is free: retried [`INSERT_TRIES`] times.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use aya::{
    Ebpf,
    maps::{
        Array, MapData, MapError, PerCpuArray, PerCpuValues,
        lpm_trie::{Key, LpmTrie},
    },
};
use nix::libc;
pub use sensor_core::policy::PolicyTables;
use sensor_ebpf::abi::policy::{
    FAILSAFE_MAX, FailsafeEntry, LIMITS_MAX, Limit, LpmKey4, LpmKey6, PolicyEntry, RULES_MAX, Rule,
    RuleHits,
};

use super::{
    load::{LoadError, take},
    pod::Wire,
    settings::SettingsMap,
};

const INSERT_TRIES: u32 = 6;
const INSERT_BACK_OFF: Duration = Duration::from_millis(2);

/// What became of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Applied {
    /// Entries of the policy that are in the kernel now.
    pub installed: usize,
    /// Entries of the policy.
    pub wanted: usize,
    /// Entries of the policy before that were removed.
    pub removed: usize,
    /// The rules changed, so their hits count from zero again.
    pub hits_reset: bool,
}

/// Why a policy could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// More than the kernel's table holds.
    #[error("the policy has {found} {what}, the kernel holds {max}")]
    TooMany {
        /// rules, limits or failsafe entries.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        max: u32,
    },
    /// The kernel said no.
    #[error("write map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        source: MapError,
    },
}

/// The policy maps with what was last written.
pub(crate) struct PolicyMaps {
    allow4: Trie<[u8; 4]>,
    allow6: Trie<[u8; 16]>,
    block4: Trie<[u8; 4]>,
    block6: Trie<[u8; 16]>,
    limit4: Trie<[u8; 4]>,
    limit6: Trie<[u8; 16]>,
    rules: Array<MapData, Wire<Rule>>,
    limits: Array<MapData, Wire<Limit>>,
    failsafe: Array<MapData, Wire<FailsafeEntry>>,
    hits: PerCpuArray<MapData, Wire<RuleHits>>,
    /// Rules and limits as last asked for, and where they were put.
    rules_written: Vec<Rule>,
    limits_written: Vec<Limit>,
    place: Place,
    settings: Arc<SettingsMap>,
}

impl PolicyMaps {
    /// Names of the tries, whose size is a setting.
    pub(crate) const TRIES: [&str; 6] =
        ["ALLOW4", "ALLOW6", "BLOCK4", "BLOCK6", "LIMIT4", "LIMIT6"];

    pub(crate) fn new(ebpf: &mut Ebpf, settings: Arc<SettingsMap>) -> Result<Self, LoadError> {
        let [allow4, allow6, block4, block6, limit4, limit6] = Self::TRIES;
        let failed = |name| move |source| LoadError::Map { name, source };
        Ok(Self {
            allow4: Trie::new(ebpf, allow4)?,
            allow6: Trie::new(ebpf, allow6)?,
            block4: Trie::new(ebpf, block4)?,
            block6: Trie::new(ebpf, block6)?,
            limit4: Trie::new(ebpf, limit4)?,
            limit6: Trie::new(ebpf, limit6)?,
            rules: Array::try_from(take(ebpf, "RULES")?).map_err(failed("RULES"))?,
            limits: Array::try_from(take(ebpf, "LIMITS")?).map_err(failed("LIMITS"))?,
            failsafe: Array::try_from(take(ebpf, "FAILSAFE")?).map_err(failed("FAILSAFE"))?,
            hits: PerCpuArray::try_from(take(ebpf, "RULE_HITS")?).map_err(failed("RULE_HITS"))?,
            rules_written: Vec::new(),
            limits_written: Vec::new(),
            place: Place::default(),
            settings,
        })
    }

    /// Makes the kernel follow a policy.
    pub(crate) fn apply(&mut self, tables: &PolicyTables) -> Result<Applied, ApplyError> {
        within("rules", tables.rules.len(), RULES_MAX)?;
        within("limits", tables.limits.len(), LIMITS_MAX)?;
        within("failsafe entries", tables.failsafe.len(), FAILSAFE_MAX)?;
        // Failsafe first: nothing new may be dropped before it is known what must not be.
        write(&mut self.failsafe, "FAILSAFE", &padded(&tables.failsafe, FAILSAFE_MAX))?;
        let hits_reset = tables.rules != self.rules_written || tables.limits != self.limits_written;
        if hits_reset {
            self.place = self.place.other(tables);
        }
        let shifted = self.place.shift(tables);
        if hits_reset {
            self.write_rules(&shifted)?;
            self.rules_written.clone_from(&tables.rules);
            self.limits_written.clone_from(&tables.limits);
        }
        let tables = &shifted;
        // A look-up is skipped while its count is 0: raise the counts before entries come, lower them after entries went.
        let counts = Counts {
            block: tables.block4.len() + tables.block6.len(),
            limits: tables.limit4.len() + tables.limit6.len(),
        };
        self.write_counts(Counts {
            block: counts.block.max(self.counted().block),
            limits: counts.limits.max(self.counted().limits),
        })?;
        let mut applied = Applied { hits_reset, ..Applied::default() };
        for outcome in [
            self.allow4.replace(&tables.allow4, |key| (key.prefix_len, key.addr)),
            self.allow6.replace(&tables.allow6, |key| (key.prefix_len, key.addr)),
            self.block4.replace(&tables.block4, |key| (key.prefix_len, key.addr)),
            self.block6.replace(&tables.block6, |key| (key.prefix_len, key.addr)),
            self.limit4.replace(&tables.limit4, |key| (key.prefix_len, key.addr)),
            self.limit6.replace(&tables.limit6, |key| (key.prefix_len, key.addr)),
        ] {
            applied.installed += outcome.installed;
            applied.wanted += outcome.wanted;
            applied.removed += outcome.removed;
        }
        self.write_counts(counts)?;
        Ok(applied)
    }

    /// Hits of the rules, by number, summed over the CPUs.
    pub(crate) fn hits(&self) -> Result<Vec<RuleHits>, MapError> {
        let one = |number: u32| {
            let values = self.hits.get(&number, 0)?;
            Ok(values.iter().fold(RuleHits::default(), |sum, Wire(hits)| RuleHits {
                packets: sum.packets.wrapping_add(hits.packets),
                bytes: sum.bytes.wrapping_add(hits.bytes),
                last_ns: sum.last_ns.max(hits.last_ns),
                would_packets: sum.would_packets.wrapping_add(hits.would_packets),
                would_bytes: sum.would_bytes.wrapping_add(hits.would_bytes),
            }))
        };
        (0..index(self.rules_written.len())).map(|number| one(self.place.rules + number)).collect()
    }

    /// Writes rules and limits where they belong, rules with no hits yet.
    fn write_rules(&mut self, tables: &PolicyTables) -> Result<(), ApplyError> {
        let failed = |name| move |source| ApplyError::Map { name, source };
        let cpus = aya::util::nr_cpus().unwrap_or(1);
        for (number, rule) in tables.rules.iter().enumerate().skip(1) {
            let slot = self.place.rules + index(number);
            let zero = PerCpuValues::try_from(vec![Wire(RuleHits::default()); cpus])
                .map_err(|source| failed("RULE_HITS")(MapError::from(source)))?;
            self.hits.set(slot, zero, 0).map_err(failed("RULE_HITS"))?;
            self.rules.set(slot, Wire(*rule), 0).map_err(failed("RULES"))?;
        }
        for (number, limit) in tables.limits.iter().enumerate().skip(1) {
            self.limits
                .set(self.place.limits + index(number), Wire(*limit), 0)
                .map_err(failed("LIMITS"))?;
        }
        Ok(())
    }

    fn counted(&self) -> Counts {
        let current = self.settings.current();
        let wide = |count| usize::try_from(count).unwrap_or(usize::MAX);
        Counts { block: wide(current.block_entries), limits: wide(current.limits) }
    }

    fn write_counts(&self, counts: Counts) -> Result<(), ApplyError> {
        self.settings
            .update(|settings| {
                settings.block_entries = index(counts.block);
                settings.limits = index(counts.limits);
            })
            .map_err(|source| ApplyError::Map { name: "SETTINGS", source })
    }
}

/// Sizes by which the programs skip a look-up.
#[derive(Clone, Copy, Debug)]
struct Counts {
    block: usize,
    limits: usize,
}

/// Offset of the policy's rule and limit numbers in the kernel's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    rules: u32,
    limits: u32,
}

impl Place {
    /// The half that is not in use, or the start when the policy needs more than half.
    fn other(self, tables: &PolicyTables) -> Self {
        let other = |now: u32, count: usize, max: u32| match now {
            0 if index(count) <= max / 2 => max / 2,
            _ => 0,
        };
        Self {
            rules: other(self.rules, tables.rules.len(), RULES_MAX),
            limits: other(self.limits, tables.limits.len(), LIMITS_MAX),
        }
    }

    /// The tables with every number moved; 0 stays "none".
    fn shift(self, tables: &PolicyTables) -> PolicyTables {
        let moved = |number: u32, by: u32| if number == 0 { 0 } else { number + by };
        let mut shifted = tables.clone();
        for entry in entries(&mut shifted.allow4, &mut shifted.allow6)
            .chain(entries(&mut shifted.block4, &mut shifted.block6))
        {
            entry.rule = moved(entry.rule, self.rules);
        }
        for entry in entries(&mut shifted.limit4, &mut shifted.limit6) {
            entry.rule = moved(entry.rule, self.limits);
        }
        for rule in &mut shifted.rules {
            rule.next = moved(rule.next, self.rules);
        }
        for limit in &mut shifted.limits {
            limit.rule = moved(limit.rule, self.rules);
            limit.next = moved(limit.next, self.limits);
        }
        shifted
    }
}

fn entries<'a>(
    four: &'a mut [(LpmKey4, PolicyEntry)],
    six: &'a mut [(LpmKey6, PolicyEntry)],
) -> impl Iterator<Item = &'a mut PolicyEntry> {
    four.iter_mut().map(|(_, entry)| entry).chain(six.iter_mut().map(|(_, entry)| entry))
}

fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn within(what: &'static str, found: usize, max: u32) -> Result<(), ApplyError> {
    if index(found) > max { Err(ApplyError::TooMany { what, found, max }) } else { Ok(()) }
}

fn padded(entries: &[FailsafeEntry], max: u32) -> Vec<FailsafeEntry> {
    let mut padded = entries.to_vec();
    padded.resize(usize::try_from(max).unwrap_or(0), FailsafeEntry::default());
    padded
}

fn write<T>(
    map: &mut Array<MapData, Wire<T>>,
    name: &'static str,
    values: &[T],
) -> Result<(), ApplyError>
where
    Wire<T>: aya::Pod,
    T: Copy,
{
    for (number, value) in values.iter().enumerate() {
        map.set(index(number), Wire(*value), 0)
            .map_err(|source| ApplyError::Map { name, source })?;
    }
    Ok(())
}

/// One trie with what is in it.
struct Trie<K: aya::Pod> {
    name: &'static str,
    map: LpmTrie<MapData, K, Wire<PolicyEntry>>,
    written: HashMap<(u32, K), PolicyEntry>,
}

impl<K: aya::Pod + Eq + Hash> Trie<K> {
    fn new(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, LoadError> {
        let map = LpmTrie::try_from(take(ebpf, name)?)
            .map_err(|source| LoadError::Map { name, source })?;
        Ok(Self { name, map, written: HashMap::new() })
    }

    /// Inserts what is new, then removes what is gone. An entry that does not fit is left out and said.
    fn replace<L>(
        &mut self,
        entries: &[(L, PolicyEntry)],
        split: impl Fn(&L) -> (u32, K),
    ) -> Applied {
        let wanted: HashMap<(u32, K), PolicyEntry> =
            entries.iter().map(|(key, entry)| (split(key), *entry)).collect();
        let mut applied = Applied { wanted: wanted.len(), ..Applied::default() };
        for (key, entry) in &wanted {
            if self.written.get(key) == Some(entry) {
                applied.installed += 1;
                continue;
            }
            match self.insert(*key, *entry) {
                Ok(()) => {
                    self.written.insert(*key, *entry);
                    applied.installed += 1;
                }
                Err(error) => {
                    tracing::warn!(map = self.name, %error, "a policy entry was not installed");
                }
            }
        }
        let gone: Vec<_> =
            self.written.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for key in gone {
            match self.map.remove(&Key::new(key.0, key.1)) {
                Ok(()) => {
                    self.written.remove(&key);
                    applied.removed += 1;
                }
                Err(error) => {
                    tracing::warn!(map = self.name, %error, "a policy entry was not removed");
                }
            }
        }
        applied
    }

    fn insert(&mut self, key: (u32, K), entry: PolicyEntry) -> Result<(), MapError> {
        let trie_key = Key::new(key.0, key.1);
        let mut tries = 1;
        loop {
            match self.map.insert(&trie_key, Wire(entry), 0) {
                Err(MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(libc::ENOMEM)
                        && tries < INSERT_TRIES =>
                {
                    std::thread::sleep(INSERT_BACK_OFF * (1 << tries));
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_rules_move_to_the_other_half_and_none_stays_none() {
        let entry = |rule| PolicyEntry { rule, prefix_len: 8, ..PolicyEntry::default() };
        let tables = PolicyTables {
            allow4: vec![(LpmKey4::default(), entry(0))],
            block6: vec![(LpmKey6::default(), entry(2))],
            limit4: vec![(LpmKey4::default(), entry(1))],
            rules: vec![Rule::default(), Rule { next: 2, ..Rule::default() }, Rule::default()],
            limits: vec![Limit::default(), Limit { rule: 1, ..Limit::default() }],
            ..PolicyTables::default()
        };
        let place = Place::default().other(&tables);
        assert_eq!(place, Place { rules: RULES_MAX / 2, limits: LIMITS_MAX / 2 });
        let moved = place.shift(&tables);
        assert_eq!((moved.allow4[0].1.rule, moved.block6[0].1.rule), (0, RULES_MAX / 2 + 2));
        assert_eq!(
            (moved.limit4[0].1.rule, moved.limits[1].rule),
            (LIMITS_MAX / 2 + 1, RULES_MAX / 2 + 1)
        );
        assert_eq!((moved.rules[1].next, moved.rules[2].next), (RULES_MAX / 2 + 2, 0));
        assert_eq!(place.other(&tables), Place::default());
        let full = PolicyTables { rules: vec![Rule::default(); 4096], ..PolicyTables::default() };
        assert_eq!(Place::default().other(&full).rules, 0);
    }
}
