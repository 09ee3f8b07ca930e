//! What differs between two policies, rule by rule: for people who decide about a change and for those who read it later.
//!
//! Rules are the same rule when their ids are; where a rule stands in its file makes no difference. Bound: one entry a rule.

use std::{cmp::Ordering, collections::HashMap, fmt};

use ipnet::IpNet;

use super::model::{Policy, Rule, What};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What became of it.
    pub change: RuleChange,
    /// allow, block, limit, failsafe or require_reason.
    pub list: &'static str,
    /// Id of the rule.
    pub rule: String,
    /// What it is about, or what changed.
    pub details: Vec<String>,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleChange {
    /// New.
    Added,
    /// Gone.
    Removed,
    /// Another than before.
    Changed,
}

impl fmt::Display for Difference {
    /// `+ block scanners: 3 clients, drop, CHG-1`, `- ...` or `~ ...`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            RuleChange::Added => '+',
            RuleChange::Removed => '-',
            RuleChange::Changed => '~',
        };
        write!(out, "{sign} {}", self.list)?;
        if !self.rule.is_empty() {
            write!(out, " {}", self.rule)?;
        }
        if self.details.is_empty() { Ok(()) } else { write!(out, ": {}", self.details.join(", ")) }
    }
}

/// What has to change to get from one policy to the other: new and changed rules in the order of `after`, then those that are gone.
#[must_use]
pub fn diff(before: &Policy, after: &Policy) -> Vec<Difference> {
    let by_id = |policy: &'_ Policy| -> HashMap<Box<str>, usize> {
        let ids = policy.rules.iter().enumerate();
        ids.map(|(at, rule)| (rule.about.id.clone(), at)).collect()
    };
    let (old, new) = (by_id(before), by_id(after));
    let mut found = Vec::new();
    for rule in &after.rules {
        match old.get(&rule.about.id).and_then(|at| before.rules.get(*at)) {
            None => found.push(whole(RuleChange::Added, rule)),
            Some(earlier) => {
                let details = changes(earlier, rule);
                if !details.is_empty() {
                    found.push(Difference { details, ..whole(RuleChange::Changed, rule) });
                }
            }
        }
    }
    let gone = before.rules.iter().filter(|rule| !new.contains_key(&rule.about.id));
    found.extend(gone.map(|rule| whole(RuleChange::Removed, rule)));
    for (differs, list) in [
        (before.failsafe != after.failsafe, "failsafe"),
        (before.require_reason != after.require_reason, "require_reason"),
    ] {
        if differs {
            let (change, rule, details) = (RuleChange::Changed, String::new(), Vec::new());
            found.push(Difference { change, list, rule, details });
        }
    }
    found
}

impl What {
    /// Name of the list that it stands in.
    #[must_use]
    pub const fn list(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Limit(_) => "limit",
        }
    }
}

fn whole(change: RuleChange, rule: &Rule) -> Difference {
    let mut details = Vec::new();
    if !rule.clients.is_empty() {
        details.push(format!("{} clients", rule.clients.len()));
    }
    details.extend(rule.lists.iter().map(|list| format!("list {}", list.path)));
    if rule.what != What::Allow {
        details.push(action(rule).into());
    }
    if rule.percent < 100 {
        details.push(format!("{} %", rule.percent));
    }
    details.extend(rule.about.reason.as_deref().map(ToOwned::to_owned));
    Difference { change, list: rule.what.list(), rule: rule.about.id.to_string(), details }
}

fn action(rule: &Rule) -> &'static str {
    use super::model::RuleAction as A;
    match rule.action {
        A::Drop => "drop",
        A::Reset => "reset",
        A::Monitor => "monitor",
    }
}

fn changes(before: &Rule, after: &Rule) -> Vec<String> {
    let mut found = Vec::new();
    if before.what.list() != after.what.list() {
        found.push(format!("{} -> {}", before.what.list(), after.what.list()));
    } else if before.what != after.what {
        found.push("terms".into());
    }
    if before.action != after.action {
        found.push(format!("{} -> {}", action(before), action(after)));
    }
    if before.percent != after.percent {
        found.push(format!("{} % -> {} %", before.percent, after.percent));
    }
    let (new, gone) = sorted_difference(&before.clients, &after.clients);
    if new + gone > 0 {
        found.push(format!("clients +{new} -{gone}"));
    }
    let place = |rule: &Rule| {
        let lists = rule.lists.iter().map(|list| (list.path.clone(), list.format, list.on_error));
        lists.collect::<Vec<_>>()
    };
    for (differs, what) in [
        (place(before) != place(after), "lists"),
        (before.when != after.when, "conditions"),
        (before.force != after.force, "force"),
        (before.starts != after.starts, "start"),
        (before.expires != after.expires, "expiry"),
        (
            before.include_shared != after.include_shared && before.what == after.what,
            "include_shared",
        ),
        (before.max_share != after.max_share, "max_share"),
        (before.about.reason != after.about.reason, "reason"),
        (before.about.origin != after.about.origin, "origin"),
        (before.about.owner != after.about.owner, "owner"),
        (before.about.name != after.about.name, "name"),
    ] {
        if differs {
            found.push(what.into());
        }
    }
    found
}

/// How many of two sorted lists are only in the second, and only in the first.
fn sorted_difference(before: &[IpNet], after: &[IpNet]) -> (usize, usize) {
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    let mut both = 0;
    while let (Some(one), Some(other)) = (old.peek(), new.peek()) {
        let order = one.cmp(other);
        if order != Ordering::Greater {
            old.next();
        }
        if order != Ordering::Less {
            new.next();
        }
        both += usize::from(order == Ordering::Equal);
    }
    (after.len() - both, before.len() - both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::parse, time::UnixNs};

    fn policy(text: &str) -> Policy {
        parse("p.yaml", text.as_bytes(), UnixNs(0)).unwrap()
    }

    fn check(before: &str, after: &str, expected: &[&str]) {
        let found: Vec<String> =
            diff(&policy(before), &policy(after)).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rules_are_told_apart_by_their_ids() {
        let before = "block:\n  - {id: a, clients: [192.0.2.1, 192.0.2.2], reason: CHG-1}\n  - {id: b, clients: [any]}\n";
        check(before, before, &[]);
        check(before, &format!("\n\n{before}"), &[]);
        check(
            before,
            "allow: [{id: c, clients: [192.0.2.9]}]\nblock: [{id: a, clients: [192.0.2.2, 192.0.2.3, 192.0.2.4], action: monitor, percent: 5, reason: CHG-2}]\nfailsafe: {dns: false}\n",
            &[
                "+ allow c: 1 clients",
                "~ block a: drop -> monitor, 100 % -> 5 %, clients +2 -1, reason",
                "- block b: 2 clients, drop",
                "~ failsafe",
            ],
        );
        check(
            "block: [{id: a, clients: [192.0.2.1]}]\n",
            "allow: [{id: a, clients: [192.0.2.1]}]\n",
            &["~ allow a: block -> allow"],
        );
        check(
            "block: [{id: a, clients: [192.0.2.1], reason: C1}]\n",
            "require_reason: C\nblock: [{id: a, clients: [192.0.2.1], reason: C1, force: true}]\n",
            &["~ block a: force", "~ require_reason"],
        );
    }
}
