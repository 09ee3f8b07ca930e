//! A compiled policy to the kernel's maps, and the hits of its rules back.
//!
//! Order of writing: rules and limits first, then entries that are new or changed, then the removal of those
//! that are gone, so no address that stays listed is unlisted for a moment. Rule numbers are stable (the compiler
//! gives a rule that stays its old number); the hits of a number that changes hands start at zero.
//! Since Linux 6.13 an insert can fail with ENOMEM while memory is free: retried [`INSERT_TRIES`] times.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

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
    FAILSAFE_MAX, FailsafeEntry, LIMITS_MAX, Limit, PolicyEntry, RULES_MAX, Rule, RuleHits,
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
    rules_written: Vec<Rule>,
    settings: Arc<SettingsMap>,
}

impl PolicyMaps {
    /// Names of the tries, whose size is a setting.
    pub(crate) const TRIES: [&str; 6] = ["ALLOW4", "ALLOW6", "BLOCK4", "BLOCK6", "LIMIT4", "LIMIT6"];

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
        self.write_rules(&tables.rules)?;
        write(&mut self.limits, "LIMITS", &tables.limits)?;
        // A look-up is skipped while its count is 0: raise the counts before entries come, lower them after entries went.
        let counts = Counts { block: tables.block4.len() + tables.block6.len(), limits: tables.limit4.len() + tables.limit6.len() };
        self.write_counts(Counts { block: counts.block.max(self.counted().block), limits: counts.limits.max(self.counted().limits) })?;
        let mut applied = Applied::default();
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
        let one = |number| {
            let values = self.hits.get(&number, 0)?;
            Ok(values.iter().fold(RuleHits::default(), |sum, Wire(hits)| RuleHits {
                packets: sum.packets.wrapping_add(hits.packets),
                bytes: sum.bytes.wrapping_add(hits.bytes),
                last_ns: sum.last_ns.max(hits.last_ns),
                would_packets: sum.would_packets.wrapping_add(hits.would_packets),
                would_bytes: sum.would_bytes.wrapping_add(hits.would_bytes),
            }))
        };
        (0..index(self.rules_written.len())).map(one).collect()
    }

    /// Writes the rules that changed; a rule that gave its number to another one takes its hits with it.
    fn write_rules(&mut self, rules: &[Rule]) -> Result<(), ApplyError> {
        let failed = |source| ApplyError::Map { name: "RULES", source };
        let unused = Rule::default();
        for number in 0..rules.len().max(self.rules_written.len()) {
            let new = rules.get(number).unwrap_or(&unused);
            let old = self.rules_written.get(number).unwrap_or(&unused);
            if new == old {
                continue;
            }
            self.rules.set(index(number), Wire(*new), 0).map_err(failed)?;
            if identity(new) != identity(old) {
                let cpus = aya::util::nr_cpus().unwrap_or(1);
                let zero = PerCpuValues::try_from(vec![Wire(RuleHits::default()); cpus])
                    .map_err(|source| failed(MapError::from(source)))?;
                self.hits.set(index(number), zero, 0).map_err(|source| ApplyError::Map { name: "RULE_HITS", source })?;
            }
        }
        self.rules_written = rules.to_vec();
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

/// What makes a rule the same rule when only its chain or its expiry moved.
const fn identity(rule: &Rule) -> (u16, u16, u8, u8, u8, u32) {
    (rule.port_min, rule.port_max, rule.action, rule.protocol, rule.direction, rule.ifindex)
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

fn write<T>(map: &mut Array<MapData, Wire<T>>, name: &'static str, values: &[T]) -> Result<(), ApplyError>
where
    Wire<T>: aya::Pod,
    T: Copy,
{
    for (number, value) in values.iter().enumerate() {
        map.set(index(number), Wire(*value), 0).map_err(|source| ApplyError::Map { name, source })?;
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
        let map = LpmTrie::try_from(take(ebpf, name)?).map_err(|source| LoadError::Map { name, source })?;
        Ok(Self { name, map, written: HashMap::new() })
    }

    /// Inserts what is new, then removes what is gone. An entry that does not fit is left out and said.
    fn replace<L>(&mut self, entries: &[(L, PolicyEntry)], split: impl Fn(&L) -> (u32, K)) -> Applied {
        let wanted: HashMap<(u32, K), PolicyEntry> = entries.iter().map(|(key, entry)| (split(key), *entry)).collect();
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
                Err(error) => tracing::warn!(map = self.name, %error, "a policy entry was not installed"),
            }
        }
        let gone: Vec<_> = self.written.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for key in gone {
            match self.map.remove(&Key::new(key.0, key.1)) {
                Ok(()) => {
                    self.written.remove(&key);
                    applied.removed += 1;
                }
                Err(error) => tracing::warn!(map = self.name, %error, "a policy entry was not removed"),
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
                    if error.io_error.raw_os_error() == Some(libc::ENOMEM) && tries < INSERT_TRIES =>
                {
                    std::thread::sleep(INSERT_BACK_OFF * (1 << tries));
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}
