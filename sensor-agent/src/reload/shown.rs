//! What is shown of the policy in force: its state, its rules with their hits, its lists, itself as a document.

use std::{collections::HashMap, sync::Arc};

use sensor_core::{
    policy::{self, Inactive, Policy, RequestRules, RuleState},
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::policy::RuleHits;

use super::{
    layers::{Base, Origin},
    policy::{InForce, PolicyFile},
    spared::Spared,
};
use crate::{
    audit::Version,
    control::{ListStatus, PolicyStatus, PolicyText, RuleStatus},
};

impl PolicyFile {
    /// As `status` shows it.
    #[must_use]
    pub const fn status(&self) -> &PolicyStatus {
        &self.status
    }

    /// What is in force, for the audit.
    #[must_use]
    pub fn version(&self) -> Version {
        Version {
            generation: self.status.generation,
            hash: self.status.hash.clone(),
            sha256: self.status.sha256.clone(),
        }
    }

    /// Rules by the number of their hits.
    #[must_use]
    pub fn hit_names(&self) -> HashMap<u32, String> {
        let Some(InForce { policy, compiled, .. }) = &self.in_force else { return HashMap::new() };
        let names = compiled.owners.iter().enumerate().filter_map(|(number, owner)| {
            let rule = policy.rules.get(usize::try_from((*owner)?).ok()?)?;
            Some((u32::try_from(number).ok()?, rule.about.id.to_string()))
        });
        names.collect()
    }

    /// Numbers of hits by rule.
    #[must_use]
    pub fn hit_slots(&self) -> HashMap<String, u32> {
        self.hit_names().into_iter().map(|(slot, id)| (id, slot)).collect()
    }

    /// Limits that the agent counts.
    #[must_use]
    pub fn request_rules(&self) -> Arc<RequestRules> {
        self.in_force.as_ref().map(|in_force| Arc::clone(&in_force.requests)).unwrap_or_default()
    }

    /// Whom no verdict touches.
    #[must_use]
    pub fn spared(&self) -> Arc<Spared> {
        self.in_force.as_ref().map(|in_force| Arc::clone(&in_force.spared)).unwrap_or_default()
    }

    /// When the policy in force became another one.
    #[must_use]
    pub const fn installed(&self) -> MonoNs {
        self.installed
    }

    /// Shares, in per cent, that rules allow themselves before the guard stops them, by the number of their hits.
    #[must_use]
    pub fn max_shares(&self) -> HashMap<u32, u8> {
        let Some(InForce { policy, compiled, .. }) = &self.in_force else { return HashMap::new() };
        let shares = (0..).zip(&compiled.owners).filter_map(|(number, owner)| {
            let rule = policy.rules.get(usize::try_from((*owner)?).ok()?)?;
            Some((number, rule.max_share?))
        });
        shares.collect()
    }

    /// What is in force as a document, with its generation.
    #[must_use]
    pub fn export(&self) -> Option<PolicyText> {
        let policy = &self.in_force.as_ref()?.policy;
        let time = |at: UnixNs| sensor_proto::json::rfc3339(at.0);
        Some(PolicyText {
            generation: self.status.generation,
            text: policy::export(policy, &time),
            added: self.layers.added.iter().map(|added| added.id().to_owned()).collect(),
        })
    }

    /// Prefixes of the lists that a rule names.
    fn listed(&self, rule: &policy::Rule) -> usize {
        let lists = self.in_force.as_ref().map(|in_force| &in_force.lists);
        lists.map_or(0, |lists| lists.of(rule).map(|list| list.len()).sum())
    }

    /// What the policy started from.
    pub(super) fn layer(&self) -> &'static str {
        match self.layers.base.as_ref().map(|base| &base.origin) {
            Some(Origin::File) => "file",
            Some(Origin::Applied { .. }) => "applied",
            None => "none",
        }
    }

    /// Hits by rule of the file. `offset_ns` turns the kernel's clock into wall-clock time.
    #[must_use]
    pub fn rules(&self, hits: &[RuleHits], to_unix: impl Fn(MonoNs) -> UnixNs) -> Vec<RuleStatus> {
        let Some(InForce { policy, compiled, .. }) = &self.in_force else { return Vec::new() };
        let sums = compiled.hits_by_rule(hits);
        let rows =
            policy.rules.iter().zip(&compiled.states).zip(sums).map(|((rule, state), hits)| {
                RuleStatus {
                    state: match state {
                        RuleState::Active => "in force".into(),
                        RuleState::Inactive(Inactive::Expired) => "expired".into(),
                        RuleState::Inactive(Inactive::NoInterface(name)) => {
                            format!("no interface {name}")
                        }
                    },
                    packets: hits.packets,
                    bytes: hits.bytes,
                    would_packets: hits.would_packets,
                    would_bytes: hits.would_bytes,
                    shared_packets: hits.shared_packets,
                    last_unix_ns: if hits.last_ns == 0 {
                        0
                    } else {
                        to_unix(MonoNs(hits.last_ns)).0
                    },
                    ..self.about(rule)
                }
            });
        rows.collect()
    }

    /// List files in force, with the hits of the rules that name them.
    #[must_use]
    pub fn lists(&self, rules: &[RuleStatus]) -> Vec<ListStatus> {
        let Some(InForce { policy, lists, .. }) = &self.in_force else { return Vec::new() };
        lists.iter().map(|(name, list)| list_status(name, list, policy, rules)).collect()
    }

    /// What a rule says of itself, and where it comes from.
    fn about(&self, rule: &policy::Rule) -> RuleStatus {
        let about = &rule.about;
        let text = |text: &Option<Box<str>>| text.as_deref().map(ToOwned::to_owned);
        let from = match self.layers.added(&about.id) {
            Some(added) => format!("added by {}", added.by),
            None => match self.layers.base.as_ref() {
                Some(Base { policy, origin: Origin::Applied { by, .. }, .. }) => {
                    format!("{}:{}, applied by {by}", policy.file, about.line)
                }
                Some(base) => format!("{}:{}", base.policy.file, about.line),
                None => String::new(),
            },
        };
        RuleStatus {
            id: about.id.to_string(),
            kind: rule.what.list().into(),
            action: action(rule).into(),
            clients: (rule.clients.len() + self.listed(rule)) as u64,
            expires_unix_ns: rule.expires.map_or(0, |at| at.0),
            from,
            reason: text(&about.reason),
            origin: text(&about.origin),
            owner: text(&about.owner),
            stopped: self.layers.stop_of(&about.id).map(|stopped| stopped.why.clone()),
            ..RuleStatus::default()
        }
    }
}

fn action(rule: &policy::Rule) -> &'static str {
    match (&rule.what, rule.action) {
        (policy::What::Allow, _) => "pass",
        (_, policy::RuleAction::Drop) => "drop",
        (_, policy::RuleAction::Reset) => "reset",
        (_, policy::RuleAction::Monitor) => "monitor",
    }
}

fn list_status(
    name: &policy::ListRef,
    list: &policy::List,
    policy: &Policy,
    rules: &[RuleStatus],
) -> ListStatus {
    let about = &list.about;
    let takes = |rule: &&policy::Rule| {
        let mut lists = rule.lists.iter();
        lists.any(|one| {
            (&one.path, one.format, one.on_error) == (&name.path, name.format, name.on_error)
        })
    };
    let named: Vec<&policy::Rule> = policy.rules.iter().filter(takes).collect();
    let of_named = || rules.iter().filter(|rule| named.iter().any(|one| *one.about.id == *rule.id));
    let sum = |count: fn(&RuleStatus) -> u64| of_named().map(count).sum::<u64>();
    ListStatus {
        file: name.path.to_string(),
        rules: named.iter().map(|rule| rule.about.id.to_string()).collect(),
        changed_unix_ns: about.changed.0,
        read_unix_ns: about.read.0,
        lines: about.lines,
        entries: about.entries as u64,
        merged: about.merged as u64,
        skipped: about.skipped,
        first_skipped: about
            .first_skipped
            .as_ref()
            .map(|(line, why)| format!("line {line}: {why}")),
        packets: sum(|rule| rule.packets),
        bytes: sum(|rule| rule.bytes),
        would_packets: sum(|rule| rule.would_packets),
        would_bytes: sum(|rule| rule.would_bytes),
        last_unix_ns: of_named().map(|rule| rule.last_unix_ns).max().unwrap_or(0),
    }
}
