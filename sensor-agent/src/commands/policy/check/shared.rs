//! Sources that many clients share, as far as is known here, and the rules of a policy that leave them alone.
//!
//! Known are those that a running agent marked, and without one the trusted proxies that the configuration names. Bound: [`SOURCES_MAX`].

use std::net::IpAddr;

use ipnet::IpNet;
use sensor_core::policy::{Lists, Policy, Rule, What};
use serde::Serialize;

use crate::{
    commands::output,
    config::Config,
    control::{PolicyView, Question, ask},
};

/// Sources that are looked at; an ingress has few addresses.
const SOURCES_MAX: usize = 64;

/// A source with the rules that skip it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct SharedLine {
    address: IpAddr,
    skipped_by: Vec<String>,
}

/// Shared sources that rules by address list and therefore skip.
pub(super) fn shared_sources(config: &Config, policy: &Policy, lists: &Lists) -> Vec<SharedLine> {
    let asked = ask(&config.socket, &Question::Policy).ok();
    let view: Option<PolicyView> = asked.and_then(|value| serde_json::from_value(value).ok());
    let known: Vec<IpAddr> = match view {
        Some(view) => {
            let sources = view.shared_sources.iter();
            sources.filter_map(|source| source.address.parse().ok()).collect()
        }
        None => config.trusted_proxies.iter().flat_map(IpNet::hosts).take(SOURCES_MAX).collect(),
    };
    lines(known, policy, lists)
}

fn lines(known: Vec<IpAddr>, policy: &Policy, lists: &Lists) -> Vec<SharedLine> {
    let mut found: Vec<SharedLine> = known
        .into_iter()
        .take(SOURCES_MAX)
        .map(|address| SharedLine { address, skipped_by: Vec::new() })
        .collect();
    for rule in policy.rules.iter().filter(|rule| by_address(rule)) {
        let listed = |net: &IpNet, found: &mut Vec<SharedLine>| {
            for line in found.iter_mut().filter(|line| net.contains(&line.address)) {
                if line.skipped_by.last().is_none_or(|last| **last != *rule.about.id) {
                    line.skipped_by.push(rule.about.id.to_string());
                }
            }
        };
        for net in &rule.clients {
            listed(net, &mut found);
        }
        for list in lists.of(rule) {
            for (net, _) in list.entries() {
                listed(&net, &mut found);
            }
        }
    }
    found.retain(|line| !line.skipped_by.is_empty());
    found
}

/// Whether a rule goes by the source address, and skips the shared ones.
fn by_address(rule: &Rule) -> bool {
    let by_key = match &rule.what {
        What::Allow => return false,
        What::Block => false,
        What::Limit(terms) => terms.key != sensor_core::policy::LimitKey::Address,
    };
    !by_key && !rule.include_shared
}

impl SharedLine {
    /// For people.
    pub(super) fn text(&self) -> String {
        let rules: Vec<_> = self.skipped_by.iter().map(|rule| output::clean(rule)).collect();
        format!(
            "shared source {}: skipped by {} (include_shared: true would hit it)\n",
            self.address,
            rules.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use sensor_core::{policy::parse, time::UnixNs};

    use super::*;

    #[test]
    fn a_shared_source_is_named_with_the_rules_that_skip_it() {
        let text = "\
allow:
  - {id: ours, clients: [192.0.2.0/24]}
block:
  - {id: bad, clients: [192.0.2.7, 192.0.2.0/28]}
  - {id: all-the-same, clients: [192.0.2.7], include_shared: true}
limits:
  - {id: slow, packets: {rate: 10}}
  - {id: users, requests: {rate: 10}, key: forwarded}
";
        let policy = parse("p.yaml", text.as_bytes(), UnixNs(0)).expect("valid");
        let known = ["192.0.2.7", "2001:db8::1"].map(|text| text.parse().expect("an address"));
        let found = lines(known.into(), &policy, &Lists::default());
        let rules: Vec<_> = found.iter().map(|line| line.skipped_by.join(" ")).collect();
        assert_eq!(rules, ["bad slow", "slow"]);
        assert!(found[0].text().contains("192.0.2.7: skipped by bad, slow"));
    }
}
