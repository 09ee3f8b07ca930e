//! Limits that the agent counts at layer 7 (`key: forwarded`, `key: credential`), as they apply on this host, and the allow rules above them.
//!
//! The same precedence as in the kernel: the longest prefix that lists the client, rules of one prefix in the order of the file. Built only where
//! a policy has such a limit: a list of a million prefixes takes about 40 MB here, beside the kernel's image.

use std::{net::IpAddr, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sensor_ebpf::abi::image::canary;

use super::{
    facts::HostFacts,
    image::{salt, share},
    list::Lists,
    model::{LimitKey, Policy, Rate, Rule, RuleAction, What},
};
use crate::time::UnixNs;

/// All limits of a policy that the agent counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    /// In the order of the file.
    pub limits: Vec<RequestRule>,
    /// Whom no limit touches.
    pub allow: Vec<Meant>,
}

/// A limit of requests that the agent counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRule {
    /// Its id.
    pub rule: Arc<str>,
    /// Who a client is; never [`LimitKey::Address`].
    pub key: LimitKey,
    /// How many requests.
    pub rate: Rate,
    /// What happens beyond.
    pub action: RuleAction,
    /// Clients within an IPv4 prefix of this length share an allowance.
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
    /// Which requests it is about.
    pub meant: Meant,
}

/// A request, as far as rules ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The client, as far as it is known: behind a trusted proxy the one that it speaks for.
    pub client: IpAddr,
    /// Ports of the service, before and after NAT.
    pub ports: [u16; 2],
    /// Interface of the first sighting.
    pub ifindex: u32,
    /// When.
    pub time: UnixNs,
}

/// Which requests a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    clients: Clients,
    ports: Vec<(u16, u16)>,
    ifindex: u32,
    salt: u64,
    share: u32,
    starts: UnixNs,
    expires: UnixNs,
}

/// Prefixes with their expiry, by length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Clients {
    /// Bits beyond the length are zero; IPv4 v4-mapped.
    prefixes: HashMap<(u8, u128), UnixNs, FixedState>,
    /// Longest first.
    lengths: Vec<u8>,
}

impl Policy {
    /// The limits that the agent counts on this host.
    #[must_use]
    pub fn request_rules(&self, facts: &HostFacts, lists: &Lists) -> RequestRules {
        let limits: Vec<RequestRule> =
            self.rules.iter().filter_map(|rule| request_rule(rule, facts, lists)).collect();
        let allow = if limits.is_empty() {
            Vec::new()
        } else {
            let allow = self.rules.iter().filter(|rule| rule.what == What::Allow);
            allow.filter_map(|rule| Meant::new(rule, facts, lists)).collect()
        };
        RequestRules { limits, allow }
    }
}

fn request_rule(rule: &Rule, facts: &HostFacts, lists: &Lists) -> Option<RequestRule> {
    let What::Limit(terms) = &rule.what else { return None };
    if terms.key == LimitKey::Address {
        return None;
    }
    Some(RequestRule {
        rule: (*rule.about.id).into(),
        key: terms.key,
        rate: terms.requests?,
        action: rule.action,
        prefix_v4: terms.prefix_v4,
        prefix_v6: terms.prefix_v6,
        meant: Meant::new(rule, facts, lists)?,
    })
}

impl Meant {
    /// `None` where the rule waits for its interface.
    fn new(rule: &Rule, facts: &HostFacts, lists: &Lists) -> Option<Self> {
        let ifindex = match &rule.when.interface {
            None => 0,
            Some(name) => *facts.interfaces.get(&**name)?,
        };
        let mut clients = Clients::default();
        for net in &rule.clients {
            clients.add(net, None);
        }
        for list in lists.of(rule) {
            for (net, expires) in list.entries() {
                clients.add(&net, expires);
            }
        }
        clients.lengths.sort_unstable_by(|one, other| other.cmp(one));
        Some(Self {
            clients,
            ports: rule.when.ports.clone(),
            ifindex,
            salt: salt(&rule.about.id),
            share: share(rule.percent),
            starts: rule.starts.unwrap_or(UnixNs(0)),
            expires: rule.expires.unwrap_or(UnixNs(u64::MAX)),
        })
    }

    /// Length of the longest prefix that lists the client of a request which the rule is about; IPv4 prefixes as v4-mapped ones.
    #[must_use]
    pub fn applies(&self, asked: &Asked) -> Option<u8> {
        let in_time = self.starts <= asked.time && asked.time < self.expires;
        let at_port =
            |(low, high): &(u16, u16)| asked.ports.iter().any(|port| (low..=high).contains(&port));
        let here = self.ifindex == 0 || self.ifindex == asked.ifindex;
        if !in_time || !here || !(self.ports.is_empty() || self.ports.iter().any(at_port)) {
            return None;
        }
        if self.share != u32::MAX && !self.in_share(asked.client) {
            return None;
        }
        self.clients.longest(asked.client, asked.time)
    }

    fn in_share(&self, client: IpAddr) -> bool {
        let (high, low) = match client.to_canonical() {
            IpAddr::V4(client) => (0, u64::from(client.to_bits())),
            IpAddr::V6(client) => {
                let high = (client.to_bits() >> 64) as u64;
                (high, 0)
            }
        };
        canary(self.salt, high, low) < self.share
    }
}

impl Clients {
    fn add(&mut self, net: &ipnet::IpNet, expires: Option<UnixNs>) {
        let (bits, len) = match net {
            ipnet::IpNet::V4(net) => (mapped(net.network().into()), net.prefix_len() + 96),
            ipnet::IpNet::V6(net) => (net.network().to_bits(), net.prefix_len()),
        };
        let expires = expires.unwrap_or(UnixNs(u64::MAX));
        let entry = self.prefixes.entry((len, bits)).or_insert(expires);
        *entry = (*entry).max(expires);
        if !self.lengths.contains(&len) {
            self.lengths.push(len);
        }
    }

    fn longest(&self, client: IpAddr, now: UnixNs) -> Option<u8> {
        let (bits, is_four) = (mapped(client), client.to_canonical().is_ipv4());
        let listed = |len: &u8| {
            // `::/0` is for IPv6, `0.0.0.0/0` is `::ffff:0:0/96` here.
            (!is_four || *len >= 96)
                && self.prefixes.get(&(*len, masked(bits, *len))).is_some_and(|until| now < *until)
        };
        self.lengths.iter().copied().find(listed)
    }
}

/// The first bits of an address, the others zero.
#[must_use]
pub fn masked(bits: u128, len: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0)
}

/// An address as a number, IPv4 v4-mapped.
#[must_use]
pub fn mapped(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    fn rules(text: &str) -> RequestRules {
        let policy = parse("p.yaml", text.as_bytes(), UnixNs(0)).unwrap();
        let interfaces = [("eth0".to_owned(), 2)].into();
        let facts = HostFacts { now: UnixNs(0), interfaces, ..HostFacts::default() };
        policy.request_rules(&facts, &Lists::default())
    }

    fn asked(client: &str) -> Asked {
        Asked { client: client.parse().unwrap(), ports: [80, 8080], ifindex: 2, time: UnixNs(5) }
    }

    #[test]
    fn only_limits_with_another_key_are_the_agents() {
        let rules = rules(
            "allow:\n  - {id: a, clients: [192.0.2.1]}\nlimits:\n  - {id: k, requests: {rate: 5}}\n  - {id: f, requests: {rate: 5}, key: forwarded}\n  - {id: c, requests: {rate: 5}, key: credential, interface: eth9}\n",
        );
        assert_eq!(rules.limits.iter().map(|one| &*one.rule).collect::<Vec<_>>(), ["f"]);
        assert_eq!(rules.allow.len(), 1);
        let everyone = &rules.limits[0].meant;
        let lengths = ["192.0.2.1", "2001:db8::1"].map(|one| everyone.applies(&asked(one)));
        assert_eq!(lengths, [Some(96), Some(0)]);
    }

    #[test]
    fn all_conditions_hold_and_the_longest_prefix_is_told() {
        let check = |conditions: &str, client: &str, expected| {
            let text = format!(
                "limits:\n  - {{id: f, requests: {{rate: 5}}, key: forwarded, {conditions}}}\n"
            );
            assert_eq!(rules(&text).limits[0].meant.applies(&asked(client)), expected, "{text}");
        };
        let nested = "clients: [192.0.2.0/24, 192.0.2.64/26, \"2001:db8::/32\"]";
        check(nested, "192.0.2.1", Some(120));
        check(nested, "192.0.2.65", Some(122));
        check(nested, "::ffff:192.0.2.65", Some(122));
        check(nested, "192.0.3.1", None);
        check(nested, "2001:db8::1", Some(32));
        check("clients: [\"::/0\"]", "192.0.2.1", None);
        check("clients: [any], ports: [8080]", "192.0.2.1", Some(96));
        check("clients: [any], ports: [81-8079]", "192.0.2.1", None);
        check("clients: [any], interface: eth0", "192.0.2.1", Some(96));
        check("clients: [any], percent: 0", "192.0.2.1", None);
        check("clients: [any], starts: 2027-01-01", "192.0.2.1", None);
    }
}
