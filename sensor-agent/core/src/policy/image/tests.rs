//! Images against a linear scan over the rules, and at the size of a million entries.
#![expect(clippy::cast_possible_truncation, reason = "halves of addresses and hashes")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;
use sensor_ebpf::abi::image::{
    ANY4_WORDS, DENSE_24, DENSE_COVERED_24, Line, Lines as _, ListId, NO_ANCHOR, WITH_24,
    WITH_COVERED_24, filter6, hash6, hash24, mix, other_bucket, slot4, swift6,
};

use super::{
    super::{
        HostFacts, List, ListFacts, ListFormat, ListRef, Lists, OnError, Policy, RuleAction, What,
        parse,
    },
    Compiled, Decided, Numbers, Sighting, Verdicts, View, explain,
    family::cut,
};
use crate::time::{MonoNs, UnixNs};

const NOW: UnixNs = UnixNs(1_800_000_000_000_000_000);

fn facts() -> HostFacts {
    HostFacts { now: NOW, boot: MonoNs(5_000_000_000), ..HostFacts::default() }
}

fn policy(text: &str) -> Policy {
    parse("p.yaml", text.as_bytes(), NOW).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn compiled(policy: &Policy, lists: &Lists) -> Compiled {
    policy
        .compile(&facts(), lists, &mut Numbers::default())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn view(compiled: &Compiled) -> View<'_, [Line]> {
    View::new(&compiled.image.lines[..]).unwrap()
}

/// Rules of the policy that a list holds for an address, in the order of the image.
fn asked(compiled: &Compiled, list: ListId, address: IpAddr) -> Vec<usize> {
    let view = view(compiled);
    let mut rules = Vec::new();
    for (_, first) in view.entries(list, address) {
        let numbers: Vec<u32> = if list == ListId::Limit {
            view.limits(first)
                .iter()
                .map(|(_, limit)| view.rule(limit.rule).unwrap().hits)
                .collect()
        } else {
            view.rules(first).iter().map(|(_, rule)| rule.hits).collect()
        };
        rules.extend(numbers.iter().map(|hits| compiled.owners[*hits as usize].unwrap() as usize));
    }
    rules
}

/// The same, by a scan over the policy: longest prefix first, then the order of the file; a rule counts at each of its prefixes.
fn scanned(policy: &Policy, list: ListId, address: IpAddr) -> Vec<(u8, usize)> {
    let mut found = Vec::new();
    for (number, rule) in policy.rules.iter().enumerate() {
        let own = match rule.what {
            What::Block => ListId::Block,
            What::Allow => ListId::Allow,
            What::Limit(_) => ListId::Limit,
        };
        if own == list {
            found.extend(
                rule.clients
                    .iter()
                    .filter(|net| net.contains(&address))
                    .map(|net| (net.prefix_len(), number)),
            );
        }
    }
    found.sort_unstable_by_key(|(len, number)| (std::cmp::Reverse(*len), *number));
    found
}

/// Whether the membership structures say that an address may be blocked, as the kernel asks them.
fn is_member(compiled: &Compiled, address: IpAddr) -> bool {
    let image = &compiled.image;
    let header = view(compiled).header;
    let line = |number: u32| *image.lines[..].line(number).unwrap();
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            let number = bits >> 8;
            if image.any4.is_empty() || image.any4[(number / 64) as usize] >> (number % 64) & 1 == 0
            {
                return false;
            }
            // The one or two buckets of the /24.
            let (hash, mask) = (hash24(bits, ListId::Block), header.entries4_mask);
            let mut slots = line(header.entries4 + (hash as u32 & mask)).to_vec();
            if !slots.contains(&0) {
                slots.extend(line(header.entries4 + other_bucket(hash, mask)));
            }
            let of24 = |slot: &&u64| {
                let same = (*slot ^ slot4(bits, 0, ListId::Block, 0)) & 0xffff_ff00_0300_0000 == 0;
                same && **slot >> 26 & 63 > 32
            };
            let mut covered = true;
            let mut found = false;
            for slot in slots.iter().filter(of24) {
                let code = (slot >> 26 & 63) as u32;
                covered = (41..=48).contains(&code) || code == DENSE_COVERED_24;
                found |= if code >= DENSE_24 {
                    let (leaf, octet) = ((slot & 0xff_ffff) as u32, bits & 0xff);
                    let pair = line(header.leaves4 + leaf / 2);
                    pair[(leaf % 2 * 4 + octet / 64) as usize] >> (octet % 64) & 1 != 0
                } else {
                    let len = if code > 40 { code - WITH_COVERED_24 } else { code - WITH_24 };
                    let different = (slot >> 32) as u32 ^ bits;
                    different >> (32 - len) == 0
                };
            }
            found || covered
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let (high, low) = ((bits >> 64) as u64, bits as u64);
            let hashed = |len: u8| {
                let (high, low) = cut(high, low, len);
                hash6(high, low, len.into(), ListId::Block)
            };
            let [first, ..] = header.anchor_lengths;
            let (word, set) = filter6(swift6(high, low, first.into()));
            if first == NO_ANCHOR
                || image.filter6.is_empty()
                || image.filter6[word as usize] & set != set
            {
                return false;
            }
            // Some length of some anchor must be one at which there is an entry.
            header.anchor_lengths.iter().filter(|len| **len != NO_ANCHOR).any(|anchor| {
                let hash = hashed(*anchor);
                let scan = |bucket: Line| {
                    bucket
                        .chunks(2)
                        .find(|pair| pair[0] == hash && pair[1] != 0)
                        .map(|pair| pair[1])
                };
                let home = line(header.anchors6 + (hash as u32 & header.anchors6_mask));
                let other = line(header.anchors6 + other_bucket(hash, header.anchors6_mask));
                let lengths = scan(home).or_else(|| scan(other)).unwrap_or(0);
                view(compiled).entries(ListId::Block, IpAddr::V6(address)).iter().any(|(net, _)| {
                    net.prefix_len() >= *anchor
                        && lengths >> (net.prefix_len() - anchor).min(63) & 1 != 0
                })
            })
        }
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    let four = (
        0_u32..4,
        any::<u16>(),
        prop::sample::select(vec![0_u8, 1, 7, 63, 64, 127, 128, 200, 255]),
    )
        .prop_map(|(a, b, c)| {
            IpAddr::V4(Ipv4Addr::from(
                0x0a00_0000 | a << 20 | u32::from(b & 0x303) << 8 | u32::from(c),
            ))
        });
    let six = (0_u128..4, 0_u128..4, 0_u128..4).prop_map(|(a, b, c)| {
        IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | a << 78 | b << 63 | c))
    });
    prop_oneof![four, six]
}

fn net() -> impl Strategy<Value = IpNet> {
    (address(), 0_u8..=32, 0_u8..=128, any::<bool>()).prop_map(|(address, four, six, long)| {
        // Most prefixes are long, as in lists.
        let len = match address {
            IpAddr::V4(_) if long => four.max(20),
            IpAddr::V4(_) => four,
            IpAddr::V6(_) if long => six.max(56),
            IpAddr::V6(_) => six,
        };
        IpNet::new(address, len).unwrap().trunc()
    })
}

fn text(rules: &[(u8, Vec<IpNet>, u8)]) -> String {
    let mut lists = [String::new(), String::new(), String::new()];
    for (number, (kind, nets, tail)) in rules.iter().enumerate() {
        let nets: Vec<String> = nets.iter().map(|net| format!("'{net}'")).collect();
        let tail = match (kind % 3, tail % 6) {
            (_, 0) => ", ports: [80]",
            (_, 1) => ", percent: 10",
            (0, 2) => ", action: monitor",
            (0, 3) => ", action: reset, include_shared: true",
            (0, 4) => ", include_shared: true",
            _ => "",
        };
        let limit = if kind % 3 == 2 { ", packets: {rate: 5}" } else { "" };
        lists[usize::from(kind % 3)].extend([format!(
            "  - {{id: r{number}, clients: [{}]{tail}{limit}}}\n",
            nets.join(", ")
        )]);
    }
    let [block, allow, limits] = lists;
    let list = |name: &str, rules: String| {
        if rules.is_empty() { String::new() } else { format!("{name}:\n{rules}") }
    };
    format!(
        "version: 1\n{}{}{}",
        list("allow", allow),
        list("block", block),
        list("limits", limits)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_image_holds_what_a_scan_over_the_rules_finds(
        rules in prop::collection::vec((0_u8..3, prop::collection::vec(net(), 1..12), any::<u8>()), 1..10),
        addresses in prop::collection::vec(address(), 60),
    ) {
        let text = text(&rules);
        let policy = policy(&text);
        let compiled = compiled(&policy, &Lists::default());
        let borders = rules.iter().flat_map(|(_, nets, _)| nets).flat_map(|net| [net.network(), net.broadcast()]);
        for address in addresses.into_iter().chain(borders) {
            for list in [ListId::Block, ListId::Allow, ListId::Limit] {
                let expected = scanned(&policy, list, address);
                let found = asked(&compiled, list, address);
                // Repeats that a rule around makes superfluous, and what is behind a rule that ends every look-up, may be left out;
                // the first of each rule stands where it stood, up to the end.
                let first = |rules: Vec<usize>| {
                    let mut seen = Vec::new();
                    for rule in rules {
                        if !seen.contains(&rule) { seen.push(rule); }
                    }
                    seen
                };
                let ends = |rule: usize| {
                    let rule = &policy.rules[rule];
                    rule.include_shared && rule.when.ports.is_empty() && rule.percent == 100 && rule.action != RuleAction::Monitor
                        && list != ListId::Limit
                };
                let cut = |rules: Vec<usize>| {
                    let end = rules.iter().position(|rule| ends(*rule)).map_or(rules.len(), |at| at + 1);
                    rules[..end].to_vec()
                };
                let expected = cut(first(expected.into_iter().map(|(_, rule)| rule).collect()));
                let found = cut(first(found));
                prop_assert_eq!(&found, &expected, "{} {:?}\n{}", address, list, text);
                if list == ListId::Block {
                    prop_assert_eq!(is_member(&compiled, address), !expected.is_empty(), "{}\n{}", address, text);
                }
            }
        }
        let size = policy.size(&facts(), &Lists::default()).unwrap();
        prop_assert!((size.bytes..size.bytes + 4096).contains(&compiled.bytes));
    }
}

/// A cheap generator: tests of size need no better.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    sensor_ebpf::abi::image::mix(*state)
}

fn big(count: usize, six: bool) -> Vec<IpNet> {
    let mut state = 7;
    (0..count)
        .map(|_| {
            let word = random(&mut state);
            let (long, len) = (word % 10 < 7, random(&mut state));
            if six {
                let len = if long { 128 } else { 48 + (len % 80) as u8 };
                let bits = 0x2000_u128 << 112
                    | u128::from(word >> 4) << 52
                    | u128::from(random(&mut state) & 0xf_ffff_ffff_ffff);
                IpNet::new(IpAddr::V6(bits.into()), len).unwrap().trunc()
            } else {
                let len = if long { 32 } else { 16 + (len % 16) as u8 };
                IpNet::new(IpAddr::V4(((word >> 8) as u32 | 1).into()), len).unwrap().trunc()
            }
        })
        .collect()
}

fn listed(nets: Vec<IpNet>) -> (Policy, Lists) {
    let policy = policy("block:\n  - {id: big, lists: [{file: big.txt}]}\n");
    let name = ListRef {
        path: "big.txt".into(),
        format: ListFormat::Plain,
        on_error: OnError::Refuse,
        line: 0,
    };
    let list = List::new(ListFacts::default(), nets.into_iter().map(|net| (net, None)));
    let mut lists = Lists::default();
    lists.insert(&name, list.into());
    (policy, lists)
}

#[test]
fn a_large_list_is_found_entry_by_entry() {
    for six in [false, true] {
        let nets = big(150_000, six);
        let (policy, lists) = listed(nets.clone());
        let compiled = compiled(&policy, &lists);
        assert!(compiled.counts.block + compiled.counts.merged >= 100_000);
        for net in nets.iter().step_by(37) {
            for address in [net.network(), net.broadcast()] {
                assert_eq!(asked(&compiled, ListId::Block, address).first(), Some(&0), "{net}");
                assert!(is_member(&compiled, address), "{net} {address}");
            }
        }
    }
}

#[test]
fn a_prefix_of_everything_fills_the_bitmap() {
    let policy = policy("block:\n  - {id: all, clients: [any]}\n");
    let compiled = compiled(&policy, &Lists::default());
    assert_eq!(compiled.image.any4.len(), ANY4_WORDS);
    assert!(compiled.image.any4.iter().all(|word| *word == u64::MAX));
    assert!(is_member(&compiled, "::1".parse().unwrap()));
}

#[test]
fn expiries_of_a_list_are_exact_and_the_longest_lasting_entry_counts() {
    let policy = policy("block:\n  - {id: a, lists: [{file: big.txt}], ttl: 10s}\n");
    let at = |seconds: u64| Some(UnixNs(NOW.0 + seconds * 1_000_000_000));
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let name = ListRef {
        path: "big.txt".into(),
        format: ListFormat::Plain,
        on_error: OnError::Refuse,
        line: 0,
    };
    let entries = [
        (net("10.0.0.0/8"), at(3)),
        (net("10.1.0.0/16"), at(20)),
        (net("10.1.1.0/24"), Some(UnixNs(NOW.0))),
        (net("10.2.0.0/16"), None),
    ];
    let mut lists = Lists::default();
    lists.insert(&name, List::new(ListFacts::default(), entries).into());
    let compiled = compiled(&policy, &lists);
    let view = view(&compiled);
    let expires = |address: &str| -> Vec<u64> {
        let entries = view.entries(ListId::Block, address.parse().unwrap());
        entries
            .iter()
            .flat_map(|(_, first)| view.rules(*first))
            .map(|(_, rule)| rule.expires_ns / 1_000_000_000)
            .collect()
    };
    // Boot time is 5 s now, and the rule itself ends 10 s from now.
    assert_eq!(expires("10.9.9.9"), [8]);
    assert_eq!(expires("10.1.1.1"), [15, 8]);
    assert_eq!(expires("10.2.1.1"), [15, 8]);
}

#[test]
fn a_look_up_beyond_the_kernel_s_steps_is_refused_with_line_and_reason() {
    let ports: Vec<String> = (0..300).map(|n| (n * 2 + 1).to_string()).collect();
    let text =
        format!("block:\n  - {{id: wide, clients: [10.0.0.0/8], ports: [{}]}}\n", ports.join(", "));
    let errors =
        policy(&text).compile(&facts(), &Lists::default(), &mut Numbers::default()).unwrap_err();
    assert!(
        errors.to_string().starts_with(
            "p.yaml:2: clients: an address in 10.0.0.0/8 of rule `wide` takes 302 steps"
        ),
        "{errors}"
    );
}

#[test]
fn a_limit_is_exact_in_fixed_point_bytes_too() {
    use super::super::Rate;
    use super::terms::gcra;
    use sensor_ebpf::abi::image::LimitKind;
    let rate = |count, period_ns, burst| Rate { count, period_ns, burst };
    assert_eq!(gcra(LimitKind::Packets, &rate(1000, 1_000_000_000, 10)), (64_000_000, 640_000_000));
    assert_eq!(
        gcra(LimitKind::Connections, &rate(3, 1_000_000_000, 1)),
        (21_333_333_333, 21_333_333_333)
    );
    // 50 GB/s: 64 bytes take 1.28 ns, 82 units of 1/64 ns.
    assert_eq!(
        gcra(LimitKind::Bytes, &rate(50_000_000_000, 1_000_000_000, 50_000_000_000)),
        (82, 64_062_500_000)
    );
}

#[test]
fn the_memory_of_a_million_entries_is_known_and_bounded() {
    for (six, most) in [(false, 48), (true, 84)] {
        let (policy, lists) = listed(big(1_000_000, six));
        let size = policy.size(&facts(), &lists).unwrap();
        assert!(size.bytes < most << 20, "{} bytes", size.bytes);
        let compiled = compiled(&policy, &lists);
        assert_eq!((compiled.bytes, compiled.counts), (size.bytes, size.counts));
        assert_eq!(compiled.image.lines.len(), compiled.image.lines.capacity());
    }
}

#[test]
fn prefixes_chosen_to_collide_are_refused_and_not_tried_for_ever() {
    let collides = |low: u64| {
        let high = 0x2001_0db8_0000_0000 | low;
        let length = 128 << 2 | ListId::Block as u64;
        Ipv6Addr::from(u128::from(high) << 64 | u128::from(mix(high ^ length) ^ 0x5eed))
    };
    let clients: Vec<String> = (0..40).map(|low| collides(low).to_string()).collect();
    let text = format!("version: 1\nblock:\n- id: chosen\n  clients: [{}]\n", clients.join(", "));
    let policy = policy(&text);
    let mut numbers = Numbers::default();
    let error = policy.compile(&facts(), &Lists::default(), &mut numbers).unwrap_err();
    assert!(error.to_string().contains("collide"), "{error}");
}

#[test]
fn a_verdict_of_the_agent_comes_before_block_rules_and_after_failsafe_and_allow() {
    use sensor_ebpf::abi::{
        dynamic::{DropReason, Verdict},
        image::Action,
        policy::RuleDirection,
    };
    let policy = policy(
        "allow: [{id: partner, clients: [203.0.113.9]}]\nblock: [{id: wide, clients: [203.0.113.0/24]}]\n",
    );
    let facts = HostFacts { protected: vec!["203.0.113.8/32".parse().unwrap()], ..facts() };
    let numbers = &mut Numbers::default();
    let compiled = policy.compile(&facts, &Lists::default(), numbers).unwrap();
    let ask = |src: &str, verdicts: Verdicts| {
        let packet = Sighting {
            src: src.parse().unwrap(),
            dst: "192.0.2.1".parse().unwrap(),
            ports: Some((40_000, 80)),
            protocol: 6,
            direction: RuleDirection::Ingress,
            ifindex: None,
            now_ns: 100,
            shared: (false, false),
            verdicts,
        };
        explain(&view(&compiled), &packet).decided
    };
    let verdict = |until_ns, action: Action| Verdict { until_ns, hits: 77, action: action as u32 };
    let client = |verdict| Verdicts { clients: [Some(verdict), None], ..Verdicts::default() };
    let reset = client(verdict(101, Action::Reset));
    let blocked = |reason, block, reset| Decided::Blocked { reason, block, reset };
    let rule = compiled.slot(1).unwrap();
    assert_eq!(ask("203.0.113.7", reset), blocked(DropReason::Client, 77, true));
    assert_eq!(ask("198.51.100.1", reset), blocked(DropReason::Client, 77, true));
    // One that is over, or that monitors, hides nothing.
    for passed in [verdict(100, Action::Drop), verdict(101, Action::Monitor)] {
        let decided = ask("203.0.113.7", client(passed));
        assert_eq!(decided, blocked(DropReason::Block, rule, false));
    }
    let flow = Verdicts { flow: Some(verdict(101, Action::Drop)), ..reset };
    assert_eq!(ask("203.0.113.7", flow), blocked(DropReason::Flow, 77, false));
    assert!(matches!(ask("203.0.113.9", reset), Decided::Allowed { block: 77, .. }));
    assert!(matches!(ask("203.0.113.8", reset), Decided::Failsafe { block: 77, .. }));
}
