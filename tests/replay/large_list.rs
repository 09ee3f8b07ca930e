//! A list so large that the policy has the filter of neighbours: nobody on it gets past, and nobody else is held.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sensor_core::{
    policy::{
        self, HostFacts, List, ListFacts, Lists,
        image::{Numbers, View},
    },
    time::UnixNs,
};
use sensor_ebpf::{
    abi::{
        near::{NEAR_ENTRIES_MIN, NEAR_WORDS},
        settings::{POLICY_ANCHOR_SHIFT, POLICY_NEAR4, POLICY_NEAR6},
    },
    packet::Link,
    testing::{Host, image::Image},
    verdict::Decision,
};
use sensor_tests::packets::Dice;

const POLICY: &str = "version: 1\nblock:\n  - {id: list, lists: [{file: list.txt}]}\n";
const ENTRIES: u32 = 4_500;

/// An entry of either family: half single addresses, the others of every length.
fn entry(dice: &mut Dice, six: bool) -> IpNet {
    let word = |dice: &mut Dice| {
        dice.bytes(16).iter().fold(0_u128, |word, byte| word << 8 | u128::from(*byte))
    };
    let (single, number) = (dice.byte() < 128, dice.byte());
    if six {
        let len = if single { 128 } else { 40 + number % 89 };
        let address = Ipv6Addr::from(word(dice) >> 3 | 1 << 125);
        Ipv6Net::new(address, len).unwrap().trunc().into()
    } else {
        let len = if single { 32 } else { 12 + number % 21 };
        #[expect(clippy::cast_possible_truncation, reason = "any bits do")]
        let word = word(dice) as u32;
        // Loopback is kept by failsafe whatever is listed.
        let address = Ipv4Addr::from(if word >> 24 == 127 { word ^ 1 << 24 } else { word });
        Ipv4Net::new(address, len).unwrap().trunc().into()
    }
}

/// A UDP packet, either from the address or to it.
fn frame(address: std::net::IpAddr, from: bool) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match address {
        std::net::IpAddr::V4(address) => {
            let other = [192, 0, 2, 1];
            let (src, dst) =
                if from { (address.octets(), other) } else { (other, address.octets()) };
            bytes.extend([8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
            bytes.extend(src);
            bytes.extend(dst);
        }
        std::net::IpAddr::V6(address) => {
            let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets();
            let (src, dst) =
                if from { (address.octets(), other) } else { (other, address.octets()) };
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
            bytes.extend(src);
            bytes.extend(dst);
        }
    }
    bytes.extend([0x30, 0x39, 0x1f, 0x90, 0, 8, 0, 0]);
    bytes
}

#[test]
fn everybody_on_a_large_list_is_dropped_and_their_neighbours_are_not() {
    let mut dice = Dice::new(7);
    let nets: Vec<IpNet> =
        (0..2 * ENTRIES).map(|number| entry(&mut dice, number % 2 == 0)).collect();
    assert!(nets.len() / 2 >= NEAR_ENTRIES_MIN);
    let policy = policy::parse("p.yaml", POLICY.as_bytes(), UnixNs(1)).unwrap();
    let mut lists = Lists::default();
    let list = List::new(ListFacts::default(), nets.iter().map(|net| (*net, None)));
    lists.insert(&policy.rules[0].lists[0], Arc::new(list));
    let compiled = policy.compile(&HostFacts::default(), &lists, &mut Numbers::default()).unwrap();
    let built = &compiled.image;
    assert!(built.near4.len() == NEAR_WORDS && built.flags & POLICY_NEAR4 != 0);
    assert!(built.near6.len() == NEAR_WORDS && built.flags & POLICY_NEAR6 != 0);

    let anchor = View::new(&built.lines[..]).unwrap().header.anchor_lengths[0];
    let mut host = Host::default();
    host.enforce = true;
    host.settings.policy = built.flags | u64::from(anchor) << POLICY_ANCHOR_SHIFT;
    host.images[0] = Image {
        lines: built.lines.clone(),
        any4: built.any4.clone(),
        filter6: built.filter6.clone(),
        near4: built.near4.clone(),
        near6: built.near6.clone(),
        flags: host.settings.policy,
    };
    let (mut dropped, mut passed) = (0_u32, 0_u32);
    for (number, net) in nets.iter().enumerate() {
        let near = u32::from(dice.byte());
        let neighbour = match net.network() {
            std::net::IpAddr::V4(it) => Ipv4Addr::from(u32::from(it) ^ near).into(),
            std::net::IpAddr::V6(it) => Ipv6Addr::from(u128::from(it) ^ u128::from(near)).into(),
        };
        for address in [net.network(), net.broadcast(), neighbour] {
            let decision = host.see(Link::Ethernet, &frame(address, number % 2 == 0));
            let listed = nets.iter().any(|net| net.contains(&address));
            let wanted = if listed { Decision::Blocked } else { Decision::Pass };
            assert_eq!(decision, wanted, "{address} of {net}");
            *(if listed { &mut dropped } else { &mut passed }) += 1;
        }
    }
    assert!(dropped >= 4 * ENTRIES && passed > 1_000, "{dropped} {passed}");
}
