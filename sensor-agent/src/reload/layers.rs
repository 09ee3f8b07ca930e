//! What makes the policy in force: a base document and the rules that were added by command.
//!
//! Merge order, documented once: the base is the policy file, or the document that `policy apply` put in its place (until the file changes:
//! the last change wins). Rules added by command come before those of the base, the first added first, each within its list
//! (allow, block, limits); so they decide where both name the same prefix. Ids are unique over both: a base that
//! brings a rule of the same id takes the place of the added one. A rule that the guard stopped only monitors, as long as it is the same
//! rule. Bound: [`ADDED_RULES_MAX`]; stops, by the rules there are.

use std::{collections::BTreeMap, sync::Arc};

use sensor_core::{
    digest::Digest,
    policy::{self, Policy, ReasonPattern, Rule, RuleAction, What},
    time::UnixNs,
};
use serde::{Deserialize, Serialize};

use crate::audit::Hash;

/// Rules that are added by command at most; a policy that grows further belongs into a file.
pub const ADDED_RULES_MAX: usize = 512;
/// Longest document of one added rule.
pub const ADDED_BYTES_MAX: usize = 64 << 10;

/// Where the base comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configured file.
    File,
    /// `policy apply`.
    Applied {
        /// When.
        unix_ns: u64,
        /// By whom, in words.
        by: String,
    },
}

/// The document below everything else.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) policy: Arc<Policy>,
    pub(super) sha256: Hash,
    pub(super) origin: Origin,
}

/// A rule added by command.
#[derive(Clone, Debug)]
pub(super) struct Added {
    pub(super) rule: Rule,
    pub(super) text: String,
    pub(super) unix_ns: u64,
    pub(super) by: String,
    pub(super) reason: Option<String>,
}

impl Added {
    /// Reads a document that holds one rule and nothing else.
    pub(super) fn read(
        text: String,
        unix_ns: u64,
        by: String,
        reason: Option<String>,
    ) -> Result<Self, String> {
        if text.len() > ADDED_BYTES_MAX {
            return Err(format!(
                "a rule of {} bytes is over the limit of {ADDED_BYTES_MAX}: write it into the policy file, or name a list file",
                text.len()
            ));
        }
        let policy = policy::parse("added rule", text.as_bytes(), UnixNs(unix_ns))
            .map_err(|errors| errors.to_string())?;
        let plain = policy::parse("added rule", b"version: 1\n", UnixNs(unix_ns))
            .map_err(|errors| errors.to_string())?;
        let [rule] = policy.rules.as_slice() else {
            return Err(format!("{} rules: one is added at a time", policy.rules.len()));
        };
        if policy.failsafe != plain.failsafe {
            return Err("the failsafe section belongs into the policy file".into());
        }
        Ok(Self { rule: rule.clone(), text, unix_ns, by, reason })
    }

    pub(super) fn id(&self) -> &str {
        &self.rule.about.id
    }

    /// Refuses a rule whose reason is not as somebody demands.
    pub(super) fn with_reason(&self, demanded: &[ReasonPattern]) -> Result<(), String> {
        let reason = self.rule.about.reason.as_deref();
        match demanded.iter().find_map(|pattern| pattern.refusal(reason)) {
            Some(refusal) => Err(format!("rule `{}`: {refusal} (--reason)", self.id())),
            None => Ok(()),
        }
    }

    /// Whether its time is over.
    pub(super) fn expired(&self, now: UnixNs) -> bool {
        self.rule.expires.is_some_and(|at| at <= now)
    }
}

/// Base and added rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub(super) base: Option<Base>,
    pub(super) added: Vec<Added>,
    /// Rules that only monitor, by id.
    pub(super) stopped: BTreeMap<String, Stopped>,
}

/// A rule that the guard stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    /// Of the rule as it was: another rule of the same id is not stopped.
    pub(super) fingerprint: u64,
    /// Why, in words.
    pub(super) why: String,
}

impl Stopped {
    /// Whether it is this rule that was stopped.
    pub(super) fn is(&self, rule: &Rule) -> bool {
        self.fingerprint == fingerprint(rule)
    }
}

/// Changes with everything that a rule says but its place in the file.
pub(super) fn fingerprint(rule: &Rule) -> u64 {
    let mut hasher = Digest::default();
    for net in &rule.clients {
        hasher.field(net.to_string().as_bytes());
    }
    let lists = rule.lists.iter().map(|list| (&list.path, list.format, list.on_error));
    hasher.field(format!("{:?}", lists.collect::<Vec<_>>()).as_bytes());
    hasher.field(format!("{:?}{:?}{:?}", rule.what, rule.when, rule.action).as_bytes());
    hasher.field(format!("{}{}{:?}", rule.percent, rule.include_shared, rule.starts).as_bytes());
    // Only where it is said, so that rules stopped by an agent before this field stay stopped.
    if let Some(share) = rule.max_share {
        hasher.field(&[share]);
    }
    hasher.value()
}

impl Layers {
    /// The same with another base; an added rule whose id the base now has is left out, and named.
    pub(super) fn on(&self, base: Base) -> (Self, Vec<String>) {
        let has = |id: &str| base.policy.rules.iter().any(|rule| &*rule.about.id == id);
        let (gone, added): (Vec<_>, Vec<_>) =
            self.added.iter().cloned().partition(|added| has(added.id()));
        let gone = gone.iter().map(|added| added.id().to_owned()).collect();
        (Self { base: Some(base), added, stopped: self.stopped.clone() }, gone)
    }

    /// The same with one rule more.
    pub(super) fn with(&self, added: Added) -> Result<Self, String> {
        let id = added.id();
        if let Some(base) = &self.base
            && let Some(rule) = base.policy.rules.iter().find(|rule| &*rule.about.id == id)
        {
            return Err(format!(
                "`{id}` is a rule of {} line {}: choose another id, or change it there",
                base.policy.file, rule.about.line
            ));
        }
        if self.added.iter().any(|other| other.id() == id) {
            return Err(format!("`{id}` was added already: remove it first (policy remove {id})"));
        }
        if self.added.len() >= ADDED_RULES_MAX {
            return Err(format!(
                "{ADDED_RULES_MAX} rules are added by command, no more fit: move them into the policy file (policy export)"
            ));
        }
        let mut layers = self.clone();
        layers.added.push(added);
        Ok(layers)
    }

    /// The same without a rule that was added.
    pub(super) fn without(&self, id: &str) -> Result<Self, String> {
        if let Some(base) = &self.base
            && let Some(rule) = base.policy.rules.iter().find(|rule| &*rule.about.id == id)
        {
            return Err(format!(
                "`{id}` is a rule of {} line {}: take it out there (or: policy export > FILE, edit, policy apply FILE)",
                base.policy.file, rule.about.line
            ));
        }
        let added: Vec<_> = self.added.iter().filter(|added| added.id() != id).cloned().collect();
        if added.len() == self.added.len() {
            return Err(format!("there is no rule `{id}` (policy list shows them)"));
        }
        let mut stopped = self.stopped.clone();
        stopped.remove(id);
        Ok(Self { base: self.base.clone(), added, stopped })
    }

    /// The same without rules whose time is over, and their ids.
    pub(super) fn unexpired(&self, now: UnixNs) -> (Self, Vec<String>) {
        let (gone, added): (Vec<_>, Vec<_>) =
            self.added.iter().cloned().partition(|added| added.expired(now));
        let gone = gone.iter().map(|added| added.id().to_owned()).collect();
        (Self { base: self.base.clone(), added, stopped: self.stopped.clone() }, gone)
    }

    /// The same with a rule that only monitors from now on.
    pub(super) fn stopping(&self, rule: &Rule, why: String) -> Self {
        let mut layers = self.clone();
        let stopped = Stopped { fingerprint: fingerprint(rule), why };
        layers.stopped.insert(rule.about.id.to_string(), stopped);
        layers
    }

    /// The same with a rule that does again what it says.
    pub(super) fn rearmed(&self, id: &str) -> Result<Self, String> {
        let mut layers = self.clone();
        match layers.stopped.remove(id) {
            Some(_) => Ok(layers),
            None => Err(format!("`{id}` is not stopped by the guard")),
        }
    }

    /// Why a rule is stopped, if it is.
    pub(super) fn stop_of(&self, id: &str) -> Option<&Stopped> {
        self.stopped.get(id)
    }

    /// The same with rules that are meant as they are, whatever they hit.
    pub(super) fn forcing(mut self, ids: &[String]) -> Self {
        let wanted = |rule: &Rule| ids.iter().any(|id| **id == *rule.about.id);
        for added in &mut self.added {
            added.rule.force |= wanted(&added.rule);
        }
        if let Some(base) = self.base.as_mut().filter(|base| base.policy.rules.iter().any(wanted)) {
            for rule in &mut Arc::make_mut(&mut base.policy).rules {
                rule.force |= wanted(rule);
            }
        }
        self
    }

    /// What the base demands of every reason.
    pub(super) fn reason(&self) -> Option<ReasonPattern> {
        let policy = &self.base.as_ref()?.policy;
        ReasonPattern::new(policy.require_reason.as_deref()?, &policy.file).ok()
    }

    /// Everything as one policy.
    pub(super) fn merged(&self) -> Result<Arc<Policy>, String> {
        let base = match &self.base {
            Some(base) => Arc::clone(&base.policy),
            None => Arc::new(nothing()?),
        };
        if self.added.is_empty() && self.stopped.is_empty() {
            return Ok(base);
        }
        let mut stops: Vec<&String> = Vec::new();
        let mut merged = Policy::clone(&base);
        if !self.added.is_empty() {
            let rules = std::mem::take(&mut merged.rules);
            merged.rules = self.added.iter().map(|added| added.rule.clone()).chain(rules).collect();
            merged.rules.sort_by_key(|rule| list(&rule.what));
        }
        for rule in &mut merged.rules {
            if let Some((id, _)) =
                self.stopped.get_key_value(&*rule.about.id).filter(|(_, stopped)| stopped.is(rule))
            {
                rule.action = RuleAction::Monitor;
                stops.push(id);
            }
        }
        if self.added.is_empty() && stops.is_empty() {
            return Ok(base);
        }
        let mut digest = Digest::default();
        digest.field(&base.digest.to_le_bytes());
        for added in &self.added {
            digest.field(added.text.as_bytes());
        }
        for id in stops {
            digest.field(b"stopped");
            digest.field(id.as_bytes());
        }
        merged.digest = digest.value();
        Ok(Arc::new(merged))
    }

    /// SHA-256 over the texts.
    pub(super) fn sha256(&self) -> Hash {
        let base = self.base.as_ref().map(|base| base.sha256.to_string()).unwrap_or_default();
        if self.added.is_empty()
            && let Some(base) = &self.base
        {
            return base.sha256;
        }
        let added = self.added.iter().map(|added| added.text.as_bytes());
        Hash::of_all(std::iter::once(base.as_bytes()).chain(added))
    }

    /// The added rule of an id.
    pub(super) fn added(&self, id: &str) -> Option<&Added> {
        self.added.iter().find(|added| added.id() == id)
    }
}

fn nothing() -> Result<Policy, String> {
    policy::parse("no file", b"version: 1\n", UnixNs(0)).map_err(|errors| errors.to_string())
}

const fn list(what: &What) -> u8 {
    match what {
        What::Allow => 0,
        What::Block => 1,
        What::Limit(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, list: &str) -> String {
        format!(
            "version: 1\n{list}:\n  - id: {id}\n    clients: [203.0.113.7]\n    reason: CHG-1\n"
        )
    }

    fn added(id: &str, list: &str) -> Added {
        Added::read(rule(id, list), 5, "root".into(), None).unwrap()
    }

    fn base(text: &str) -> Base {
        Base {
            policy: Arc::new(policy::parse("p.yaml", text.as_bytes(), UnixNs(0)).unwrap()),
            sha256: Hash::of(text.as_bytes()),
            origin: Origin::File,
        }
    }

    fn ids(policy: &Policy) -> Vec<&str> {
        policy.rules.iter().map(|rule| &*rule.about.id).collect()
    }

    #[test]
    fn added_rules_come_first_within_their_list() {
        let (layers, _) = Layers::default().on(base(&rule("from-file", "block")));
        let layers =
            layers.with(added("one", "block")).unwrap().with(added("two", "allow")).unwrap();
        let merged = layers.merged().unwrap();
        assert_eq!(ids(&merged), ["two", "one", "from-file"]);
        assert_ne!(merged.digest, layers.base.as_ref().unwrap().policy.digest);
        assert_ne!(layers.sha256(), layers.without("one").unwrap().sha256());
        let lines = policy::diff(&layers.base.as_ref().unwrap().policy, &merged);
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["+ allow two: 1 clients, CHG-1", "+ block one: 1 clients, drop, CHG-1"]);
    }

    #[test]
    fn an_id_is_one_rule() {
        let (layers, _) = Layers::default().on(base(&rule("a", "block")));
        assert!(layers.with(added("a", "allow")).unwrap_err().contains("p.yaml line 3"));
        let layers = layers.with(added("b", "block")).unwrap();
        assert!(layers.with(added("b", "block")).is_err());
        assert!(layers.without("a").unwrap_err().contains("p.yaml line 3"));
        assert!(layers.without("nowhere").is_err());
        let (layers, gone) = layers.on(base(&rule("b", "block")));
        assert_eq!((ids(&layers.merged().unwrap()), gone), (vec!["b"], vec!["b".to_owned()]));
    }

    #[test]
    fn a_stopped_rule_monitors_until_it_is_another_rule() {
        let (layers, _) = Layers::default().on(base(&rule("a", "block")));
        let before = layers.merged().unwrap();
        let stopped = layers.stopping(&before.rules[0], "hit 12 %".into());
        let merged = stopped.merged().unwrap();
        assert_eq!(merged.rules[0].action, RuleAction::Monitor);
        assert_ne!(merged.digest, before.digest);
        // The same rule further down in the file is still the same rule, with another client it is not.
        let (moved, _) = stopped.on(base(&format!("\n\n{}", rule("a", "block"))));
        assert_eq!(moved.merged().unwrap().rules[0].action, RuleAction::Monitor);
        let (other, _) =
            stopped.on(base(&rule("a", "block").replace("203.0.113.7", "203.0.113.8")));
        assert_eq!(other.merged().unwrap().rules[0].action, RuleAction::Drop);
        assert_eq!(stopped.rearmed("a").unwrap().merged().unwrap().digest, before.digest);
        assert!(layers.rearmed("a").is_err());
    }

    #[test]
    fn only_one_rule_is_added_at_a_time_and_nothing_else() {
        let read = |text: &str| Added::read(text.into(), 0, String::new(), None).map(drop);
        for (text, wanted) in [
            ("version: 1\n", "0 rules"),
            (
                "version: 1\nfailsafe: {dns: false}\nallow: [{id: a, clients: [192.0.2.1]}]\n",
                "failsafe",
            ),
            ("version: 1\nallow: [{id: a, clients: [192.0.2.300]}]\n", "192.0.2.300"),
        ] {
            assert!(read(text).unwrap_err().contains(wanted), "{text}");
        }
        assert!(read(&" ".repeat(ADDED_BYTES_MAX + 1)).unwrap_err().contains("over the limit"));
    }

    #[test]
    fn a_rule_with_a_time_ends_counted_from_when_it_was_added() {
        let text = rule("short", "block") + "    ttl: 1h\n";
        let added = Added::read(text, 5_000_000_000, "root".into(), None).unwrap();
        let end = UnixNs(5_000_000_000 + 3_600_000_000_000);
        assert_eq!(added.rule.expires, Some(end));
        let layers = Layers::default().with(added).unwrap();
        assert!(layers.unexpired(UnixNs(end.0 - 1)).1.is_empty());
        let (left, gone) = layers.unexpired(end);
        assert!(left.added.is_empty() && gone == ["short"]);
    }
}
