//! Which known clients a policy would hit: the callers of the inventory, each asked about at the listeners that they call.
//!
//! The inventory names some callers of each endpoint ([`sensor_core::inventory`]), so a count is of those that are named; how many there are
//! in all is said beside it. Addresses that were masked cannot be judged, and are counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use sensor_core::{
    inventory::InventoryView,
    policy::{
        HostFacts, Policy,
        image::{Answer, Compiled, Decided, Explained, Sighting, Verdicts, View, explain},
    },
};
use sensor_ebpf::abi::policy::RuleDirection;
use serde::Serialize;

use crate::commands::output;

/// Clients that are named for a rule.
const NAMED_MAX: usize = 8;
const PROTO_TCP: u8 = 6;

/// What a policy would do to the clients of the inventory.
#[derive(Debug, Default, Serialize)]
pub(super) struct KnownClients {
    /// Addresses that were asked about.
    asked: usize,
    /// Distinct clients of all endpoints by the inventory's estimate: those beyond the asked ones are not named in it.
    estimated: u64,
    /// Callers whose address is masked.
    masked: usize,
    /// Rules that hit somebody, in the order of the policy.
    rules: Vec<RuleHits>,
}

/// What one rule would do.
#[derive(Debug, Default, Serialize)]
struct RuleHits {
    rule: String,
    list: &'static str,
    /// Clients that it would drop.
    dropped: usize,
    /// Clients that it would limit.
    limited: usize,
    /// Clients that it would only count.
    monitored: usize,
    /// Clients that it keeps from being dropped.
    kept: usize,
    /// Endpoints that they call.
    endpoints: usize,
    /// Some of them.
    clients: Vec<String>,
}

#[derive(Default)]
struct Hits {
    by_effect: BTreeMap<Effect, BTreeSet<IpAddr>>,
    endpoints: BTreeSet<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Dropped,
    Limited,
    Monitored,
    Kept,
}

/// Asks about all of them.
pub(super) fn known_clients(
    inventory: &InventoryView,
    policy: &Policy,
    compiled: &Compiled,
    facts: &HostFacts,
) -> KnownClients {
    let Some(view) = View::new(compiled.image.lines.as_slice()) else {
        return KnownClients::default();
    };
    let (mut asked, mut masked) = (BTreeSet::new(), BTreeSet::new());
    let mut rules: BTreeMap<u32, Hits> = BTreeMap::new();
    for (number, endpoint) in inventory.endpoints.iter().enumerate() {
        let Ok(listener) = endpoint.listener.parse::<SocketAddr>() else { continue };
        for caller in &endpoint.callers {
            let Ok(client) = caller.parse::<IpAddr>() else {
                masked.insert(caller);
                continue;
            };
            let client = client.to_canonical();
            asked.insert(client);
            let packet = Sighting {
                src: client,
                dst: listener.ip().to_canonical(),
                ports: Some((0, listener.port())),
                protocol: PROTO_TCP,
                direction: RuleDirection::Ingress,
                ifindex: None,
                now_ns: facts.boot.0,
                shared: (false, false),
                verdicts: Verdicts::default(),
            };
            for (hits, effect) in effects(&explain(&view, &packet)) {
                let owner =
                    usize::try_from(hits).ok().and_then(|hits| *compiled.owners.get(hits)?);
                let Some(owner) = owner else { continue };
                let hits = rules.entry(owner).or_default();
                hits.by_effect.entry(effect).or_default().insert(client);
                hits.endpoints.insert(number);
            }
        }
    }
    let rules = rules.iter().filter_map(|(owner, hits)| {
        let rule = policy.rules.get(usize::try_from(*owner).ok()?)?;
        let count = |effect| hits.by_effect.get(&effect).map_or(0, BTreeSet::len);
        let clients: BTreeSet<&IpAddr> = hits.by_effect.values().flatten().collect();
        Some(RuleHits {
            rule: rule.about.id.to_string(),
            list: rule.what.list(),
            dropped: count(Effect::Dropped),
            limited: count(Effect::Limited),
            monitored: count(Effect::Monitored),
            kept: count(Effect::Kept),
            endpoints: hits.endpoints.len(),
            clients: clients.iter().take(NAMED_MAX).map(ToString::to_string).collect(),
        })
    });
    KnownClients {
        asked: asked.len(),
        estimated: inventory.endpoints.iter().map(|endpoint| endpoint.clients).sum(),
        masked: masked.len(),
        rules: rules.collect(),
    }
}

/// Rules by the number of their hits, and what each does to a packet.
fn effects(explained: &Explained) -> Vec<(u32, Effect)> {
    let mut found = match explained.decided {
        Decided::Blocked { block, .. } => vec![(block, Effect::Dropped)],
        Decided::Allowed { allow, .. } => vec![(allow, Effect::Kept)],
        Decided::Failsafe { .. } | Decided::Pass => Vec::new(),
    };
    found.extend(explained.asked.iter().filter_map(|asked| match asked.answer {
        Answer::Charged => Some((asked.hits, Effect::Limited)),
        Answer::Monitors | Answer::ChargedMonitor => Some((asked.hits, Effect::Monitored)),
        Answer::Decides | Answer::Skipped(_) => None,
    }));
    found
}

impl KnownClients {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "\nknown clients: {} named in the inventory (of about {} over all endpoints)",
            output::grouped(self.asked as u64),
            output::grouped(self.estimated)
        );
        if self.masked > 0 {
            text.extend([format!(", {} masked, which cannot be judged", self.masked)]);
        }
        text.push('\n');
        if self.rules.is_empty() {
            text.push_str("no rule would hit any of them\n\n");
            return text;
        }
        let row = |one: &RuleHits| {
            let counts = [one.dropped, one.limited, one.monitored, one.kept, one.endpoints];
            let words = [one.rule.clone(), one.list.to_owned()];
            let counts = counts.map(|count| output::grouped(count as u64));
            let more = one.dropped + one.limited + one.monitored + one.kept > one.clients.len();
            let clients = one.clients.join(" ") + if more { " ..." } else { "" };
            words.into_iter().chain(counts).chain([clients]).collect()
        };
        let rows: Vec<_> = self.rules.iter().map(row).collect();
        let header = ["RULE", "LIST", "DROPS", "LIMITS", "COUNTS", "KEEPS", "ENDPOINTS", "CLIENTS"];
        text.push_str(&output::table(&header, &rows));
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use sensor_core::{
        policy::{Lists, image::Numbers, parse},
        time::{MonoNs, UnixNs},
    };

    use super::*;

    fn inventory() -> InventoryView {
        let row = |path: &str, listener: &str, callers: &[&str]| {
            serde_json::json!({
                "id": path, "service": "shop", "listener": listener, "hosts": [], "method": "GET",
                "path_template": path, "kind": "api", "state": "gone", "confidence": "normal",
                "reason": "", "declaration": "no-catalogue", "lifecycle": "supported", "activity": "served",
                "requests": 9, "requests_observed": 9, "status": {}, "clients": callers.len(),
                "callers": callers, "client_owners": [], "auth": [], "request_types": [],
                "response_types": [], "query_names": [], "accuracy": "exact"
            })
        };
        let endpoints = [
            row("/a", "192.0.2.1:443", &["203.0.113.7", "203.0.113.8", "198.51.100.1"]),
            row("/b", "192.0.2.1:8080", &["203.0.113.7", "2001:db8::1", "a1b2c3"]),
        ];
        let endpoints = endpoints.map(|row| serde_json::from_value(row).expect("a row"));
        InventoryView { endpoints: endpoints.into(), ..InventoryView::default() }
    }

    #[test]
    fn each_rule_is_told_with_the_clients_that_it_hits_where_they_call() {
        let text = "\
allow:
  - {id: partner, clients: [203.0.113.8]}
block:
  - {id: https, clients: [203.0.113.0/24], ports: [443]}
  - {id: six, clients: ['2001:db8::/32'], action: monitor}
  - {id: nobody, clients: [192.0.2.200]}
limits:
  - {id: slow, clients: [198.51.100.0/24], packets: {rate: 10}}
";
        let policy = parse("p.yaml", text.as_bytes(), UnixNs(0)).expect("valid");
        let facts = HostFacts { boot: MonoNs(1), ..HostFacts::default() };
        let compiled = policy.compile(&facts, &Lists::default(), &mut Numbers::default());
        let known = known_clients(&inventory(), &policy, &compiled.expect("compiles"), &facts);
        assert_eq!((known.asked, known.masked, known.estimated), (4, 1, 6));
        let rows: Vec<_> = known
            .rules
            .iter()
            .map(|one| (&*one.rule, one.dropped, one.limited, one.monitored, one.kept))
            .collect();
        let expected = [
            ("partner", 0, 0, 0, 1),
            ("https", 1, 0, 0, 0),
            ("six", 0, 0, 1, 0),
            ("slow", 0, 1, 0, 0),
        ];
        assert_eq!(rows, expected);
        assert_eq!(known.rules[1].clients, ["203.0.113.7"]);
        assert!(known.text().contains("4 named in the inventory"), "{}", known.text());
    }
}
