//! Rules that are more likely a mistake than meant: refused unless somebody insists (`--force`, or `force: true` in the rule).
//!
//! Looked at are rules that drop: block rules that do not only monitor, for more than 0 % of clients, and limits that let next to nothing
//! through ([`lets_nothing_through`]). A rule for some ports is looked at for peers that need those ports; one for half of the ports or more
//! for all of them. What no rule does by itself is looked at for all of them together.

mod peers;
mod reach;

#[cfg(test)]
mod tests;

use ipnet::IpNet;

use self::{
    peers::Peers,
    reach::{Ports, Reach},
};
use super::{
    facts::HostFacts,
    image::PREFIXES_MAX,
    list::Lists,
    model::{LimitTerms, Policy, Rate, Rule, RuleAction, What},
};

/// A reason not to put a rule in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// Index in [`Policy::rules`].
    pub rule: usize,
    /// Line of the rule in its file.
    pub line: u64,
    /// Its id.
    pub id: Box<str>,
    /// What it would do.
    pub message: String,
}

/// A rule that drops.
struct Looked<'p> {
    number: usize,
    rule: &'p Rule,
    ports: Ports,
}

impl<'p> Looked<'p> {
    fn new(number: usize, rule: &'p Rule) -> Option<Self> {
        let drops = match &rule.what {
            What::Allow => false,
            What::Block => true,
            What::Limit(terms) => lets_nothing_through(terms),
        };
        let carried_out = rule.action != RuleAction::Monitor && rule.percent > 0 && !rule.force;
        (drops && carried_out).then(|| Self { number, rule, ports: Ports::of(rule) })
    }

    fn does(&self, whom: &str) -> String {
        match self.rule.what {
            What::Limit(_) => format!("limits {whom} to next to nothing"),
            What::Allow | What::Block => format!("drops {whom}"),
        }
    }

    fn hazard(&self, message: String) -> Hazard {
        let (line, id) = (self.rule.about.line, self.rule.about.id.clone());
        Hazard { rule: self.number, line, id, message }
    }
}

/// Looks for hazards; at most one of each kind for a rule.
pub fn hazards(policy: &Policy, lists: &Lists, facts: &HostFacts) -> Vec<Hazard> {
    // What has more is refused when it is compiled, and would take long to look at.
    if policy.prefixes(lists) > PREFIXES_MAX {
        return Vec::new();
    }
    let numbered = policy.rules.iter().enumerate();
    let looked: Vec<_> = numbered.filter_map(|(number, rule)| Looked::new(number, rule)).collect();
    let peers = Peers::new(policy, facts);
    let reached = reach::reach(&looked, lists);
    let ports = looked.iter().fold(Ports::NONE, |all, one| all.with(one.ports));
    let mut found = Vec::new();
    // By peer: rules for some ports that touch it, with the prefix that does.
    let mut shared: Vec<Vec<(usize, IpNet)>> = vec![Vec::new(); peers.all.len()];
    for ((at, one), reached) in looked.iter().enumerate().zip(reached) {
        match reached {
            Reach::Alone(whom) => {
                found.push(one.hazard(one.does(whom)));
                continue;
            }
            Reach::Together(whom) => {
                found.push(one.hazard(format!("{}, together with other rules", one.does(whom))));
                continue;
            }
            Reach::Some => {}
        }
        let touched = touched(one.rule, lists, &peers);
        let mut last = "";
        for ((peer, net), shared) in peers.all.iter().zip(touched).zip(&mut shared) {
            let Some(net) = net else { continue };
            if one.ports.are_all() || peer.needs_a_port_of(one.rule) {
                if peer.kind != last {
                    let whom = format!("{} ({})", peer.kind, peer.shown());
                    found.push(one.hazard(format!("{}, by {net}", one.does(&whom))));
                    last = peer.kind;
                }
            } else if ports.are_all() && peer.needs_most_ports() {
                shared.push((at, net));
            }
        }
    }
    found.extend(together(&looked, &peers, &shared));
    found.sort_by_key(|hazard| hazard.rule);
    found
}

/// Peers whose ports several rules take away between them.
fn together(looked: &[Looked<'_>], peers: &Peers, shared: &[Vec<(usize, IpNet)>]) -> Vec<Hazard> {
    let mut found = Vec::new();
    let mut told: Vec<(usize, &str)> = Vec::new();
    for (peer, rules) in peers.all.iter().zip(shared) {
        let there = || rules.iter().filter_map(|(at, net)| Some((*at, looked.get(*at)?, net)));
        if !there().fold(Ports::NONE, |all, (_, one, _)| all.with(one.ports)).are_all() {
            continue;
        }
        for (at, one, net) in there().filter(|(_, one, _)| one.ports != Ports::NONE) {
            if !told.contains(&(at, peer.kind)) {
                told.push((at, peer.kind));
                let whom = one.does(&format!("{} ({})", peer.kind, peer.shown()));
                found.push(one.hazard(format!("{whom}, by {net}, together with other rules")));
            }
        }
    }
    found
}

/// For each peer the first prefix of the rule that overlaps with it.
fn touched(rule: &Rule, lists: &Lists, peers: &Peers) -> Vec<Option<IpNet>> {
    let mut touched = vec![None; peers.all.len()];
    let mut look = |net: IpNet| {
        peers.touched_by(net, |number| {
            if let Some(place) = touched.get_mut(number) {
                place.get_or_insert(net);
            }
        });
    };
    rule.clients.iter().copied().for_each(&mut look);
    for list in lists.of(rule) {
        list.entries().map(|(net, _)| net).for_each(&mut look);
    }
    touched
}

/// Slower than this a client gets nothing done: things per 1000 s.
const PACKETS_LEAST: u64 = 1_000;
const BYTES_LEAST: u64 = 1_000_000;
const CONNECTIONS_LEAST: u64 = 16;
const REQUESTS_LEAST: u64 = 16;
/// What all clients share must be so much faster than what one of them gets.
const SHARED_TIMES: u64 = 10;

/// Whether a limit is as good as a block.
fn lets_nothing_through(terms: &LimitTerms) -> bool {
    let times = if terms.shared { SHARED_TIMES } else { 1 };
    let below = |rate: Option<Rate>, least: u64| {
        rate.is_some_and(|rate| {
            let per_1000_s =
                u128::from(rate.count) * 1_000_000_000_000 / u128::from(rate.period_ns.max(1));
            per_1000_s < u128::from(least * times)
        })
    };
    below(terms.packets, PACKETS_LEAST)
        || below(terms.bytes, BYTES_LEAST)
        || below(terms.new_connections, CONNECTIONS_LEAST)
        || below(terms.requests, REQUESTS_LEAST)
}
