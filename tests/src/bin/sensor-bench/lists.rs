//! What a list of a million entries costs: clean packets beside the same packets with no policy loaded, in the same rounds; and what it
//! takes to build and to replace one.
//!
//! Each packet has an address of its own and is run once: a hot key would measure the processor's caches.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sensor_agent::kernel::{Bench, Install};
use sensor_core::{
    policy::{
        self, HostFacts, List, ListFacts, Lists,
        image::{Compiled, Numbers},
    },
    time::UnixNs,
};
use sensor_ebpf::abi::counter::Counter;

use super::{EMPTY, PROGRAM, drain, figure, load, median};
use crate::packets::{ack4, ack6};

const ENTRIES: u32 = 1_000_000;
const ROUNDS: u32 = 9;
const PACKETS: u32 = 5_000;
const POLICY: &str =
    "version: 1\nblock:\n  - id: list\n    lists: [{file: list.txt}]\n    reason: bench\n";

/// Measures and prints the figures.
pub(super) fn lists(object: &[u8]) -> Result<()> {
    let (four, six) = (nets4(0), nets6(0));
    let all: Vec<IpNet> =
        four.iter().copied().map(IpNet::from).chain(six.iter().copied().map(IpNet::from)).collect();
    let other: Vec<IpNet> = nets4(1)
        .into_iter()
        .map(IpNet::from)
        .chain(nets6(1).into_iter().map(IpNet::from))
        .collect();
    let mut numbers = Numbers::default();
    let build = Instant::now();
    let compiled = compile(&all, &mut numbers)?;
    let build_ns = build.elapsed().as_secs_f64() * 1e3;
    figure("policy/build/2000000", build_ns, "ms", None, 1);
    let mut none = load(object)?;
    let mut full = load(object)?;
    let install = Instant::now();
    let installed = full.publish(&compiled.image, Install::Confirmed)?;
    figure("policy/install/2000000", install.elapsed().as_secs_f64() * 1e3, "ms", None, 1);
    #[expect(clippy::cast_precision_loss, reason = "a size for reading")]
    figure("policy/memory/2000000", installed.bytes as f64 / 1_048_576.0, "MiB", None, 1);
    let other = compile(&other, &mut numbers)?;
    let replace = Instant::now();
    full.publish(&other.image, Install::Confirmed)?;
    full.publish(&compiled.image, Install::Confirmed)?;
    let replace_ms = replace.elapsed().as_secs_f64() * 1e3 / 2.0;
    figure("policy/replace/2000000", replace_ms, "ms", None, 2);
    drop((compiled, other));

    let four = Set::new(four.into_iter().map(IpNet::from));
    let six = Set::new(six.into_iter().map(IpNet::from));
    let clean4 = |at: u32| Ipv4Addr::from(u32_of(mix(u64::from(at) ^ 0x77_0000_0000)));
    let near4 = |at: u32| {
        let IpNet::V4(net) = entry4(0, at) else { return Ipv4Addr::UNSPECIFIED };
        Ipv4Addr::from(u32::from(net.network()) ^ (1 + u32_of(mix(u64::from(at))) % 255))
    };
    let listed4 = |at: u32| match entry4(0, at % ENTRIES) {
        IpNet::V4(net) => net.network(),
        IpNet::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let clean6 = |at: u32| Ipv6Addr::from(wide(u64::from(at) ^ 0x99_0000_0000) >> 3 | 1 << 125);
    let near6 = |at: u32| match entry6(0, at) {
        IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()) ^ (1 + u128::from(at % 65_535))),
        IpNet::V4(_) => Ipv6Addr::UNSPECIFIED,
    };
    let mut beside = |name: &str, bucket, packets: &dyn Fn(u32) -> Option<Vec<u8>>| {
        beside(name, bucket, &mut none, &mut full, packets)
    };
    let unlisted4 = |address: Ipv4Addr| (!four.covers(address.into())).then(|| ack4(address));
    let unlisted6 = |address: Ipv6Addr| (!six.covers(address.into())).then(|| ack6(address));
    beside("tc/clean/1000000", Counter::NoPayload, &|at| unlisted4(clean4(at)))?;
    beside("tc/clean_neighbour/1000000", Counter::NoPayload, &|at| unlisted4(near4(at)))?;
    beside("tc/clean6/1000000", Counter::NoPayload, &|at| unlisted6(clean6(at)))?;
    beside("tc/clean6_neighbour/1000000", Counter::NoPayload, &|at| unlisted6(near6(at)))?;
    beside("tc/blocked/1000000", Counter::Blocked, &|at| Some(ack4(listed4(at))))
}

fn compile(nets: &[IpNet], numbers: &mut Numbers) -> Result<Compiled> {
    let policy = policy::parse("bench.yaml", POLICY.as_bytes(), UnixNs(1))?;
    let name = policy.rules.iter().flat_map(|rule| &rule.lists).next().context("no list")?;
    let mut lists = Lists::default();
    let entries = nets.iter().map(|net| (*net, None));
    lists.insert(name, Arc::new(List::new(ListFacts::default(), entries)));
    Ok(policy.compile(&HostFacts::default(), &lists, numbers)?)
}

/// The same packets on both, in turns; the baseline is the one with no policy.
fn beside(
    name: &str,
    bucket: Counter,
    none: &mut Bench,
    full: &mut Bench,
    packet: &dyn Fn(u32) -> Option<Vec<u8>>,
) -> Result<()> {
    let (mut empties, mut values, mut bases, mut ratios) = (vec![], vec![], vec![], vec![]);
    let before = full.ledger()?;
    for round in 0..ROUNDS {
        let numbers = round * 10 * PACKETS..;
        let packets: Vec<Vec<u8>> =
            numbers.filter_map(packet).take(usize::try_from(PACKETS)?).collect();
        let (mut with, mut without, mut nothing) = (0.0, 0.0, 0.0);
        // In turns packet by packet, so that whatever else the machine does hits both.
        for packet in &packets {
            without += none.run(PROGRAM, packet, 1)?.duration.as_secs_f64() * 1e9;
            with += full.run(PROGRAM, packet, 1)?.duration.as_secs_f64() * 1e9;
            nothing += full.run(EMPTY, packet, 1)?.duration.as_secs_f64() * 1e9;
        }
        let count = f64::from(u32::try_from(packets.len())?);
        values.push(with / count);
        bases.push(without / count);
        empties.push(nothing / count);
        ratios.push(with / without);
        drain(none);
        drain(full);
    }
    let after = full.ledger()?;
    let moved = after.count(bucket) - before.count(bucket);
    let all = u64::from(ROUNDS * PACKETS);
    ensure!(moved * 10 >= all * 9, "{name}: {moved} of {all} packets in {}", bucket.name());
    let (value, base) = (median(&mut values), median(&mut bases));
    figure(name, value, "ns", Some((base, median(&mut ratios))), values.len());
    figure(&format!("{name}/over_none"), value - base, "ns", None, values.len());
    figure(&format!("{name}/empty"), median(&mut empties), "ns", None, values.len());
    Ok(())
}

/// 70 % addresses, 30 % prefixes of 16 to 31 bits, but few short ones: a million of them would be the whole Internet.
fn entry4(salt: u64, at: u32) -> IpNet {
    let word = mix(u64::from(at) | salt << 40);
    let address = Ipv4Addr::from(u32_of(word));
    let len = if at % 10 < 7 {
        32
    } else {
        // One in 4096 is a /16, one in 2048 a /17, ... one in two a /28 to /31.
        let zeros = u32_of(mix(word)).trailing_zeros().min(12);
        28 + u8::try_from(at % 4).unwrap_or(0) - u8::try_from(zeros).unwrap_or(0)
    };
    Ipv4Net::new(address, len).map_or_else(|_| IpNet::default(), |net| net.trunc().into())
}

/// 70 % addresses, 30 % prefixes of 48 to 127 bits, in 2000::/3.
fn entry6(salt: u64, at: u32) -> IpNet {
    let address = Ipv6Addr::from(wide(u64::from(at) | (salt + 2) << 40) >> 3 | 1 << 125);
    let len = if at % 10 < 7 { 128 } else { 48 + u8::try_from(at % 80).unwrap_or(0) };
    Ipv6Net::new(address, len).map_or_else(|_| IpNet::default(), |net| net.trunc().into())
}

fn nets4(salt: u64) -> Vec<Ipv4Net> {
    (0..ENTRIES)
        .filter_map(|at| match entry4(salt, at) {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
        .collect()
}

fn nets6(salt: u64) -> Vec<Ipv6Net> {
    (0..ENTRIES)
        .filter_map(|at| match entry6(salt, at) {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        })
        .collect()
}

/// Prefixes, to know which addresses none covers.
struct Set {
    nets: HashSet<IpNet>,
    lens: Vec<u8>,
}

impl Set {
    fn new(nets: impl Iterator<Item = IpNet>) -> Self {
        let nets: HashSet<IpNet> = nets.collect();
        let lens: HashSet<u8> = nets.iter().map(IpNet::prefix_len).collect();
        Self { nets, lens: lens.into_iter().collect() }
    }

    fn covers(&self, address: IpAddr) -> bool {
        self.lens
            .iter()
            .any(|len| IpNet::new(address, *len).is_ok_and(|net| self.nets.contains(&net.trunc())))
    }
}

/// Scatters (the finaliser of splitmix64).
const fn mix(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn wide(word: u64) -> u128 {
    u128::from(mix(word)) << 64 | u128::from(mix(mix(word)))
}

fn u32_of(word: u64) -> u32 {
    u32::try_from(word >> 32).unwrap_or(0)
}
