//! What a list of a million entries of each family costs a packet, beside the same packets with no policy in force, in the same rounds.
//!
//! Each packet of a run has an address of its own (`Spread`): a hot key would measure the processor's caches. In the same rounds
//! `tc/floor*`: a program that only reads one random word of an array as large as the bitmap (or filter) that a clean packet asks, or also one
//! of an array as large as `NEAR`, which a neighbour asks too. What they take over the empty program is the machine's, not ours.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sensor_agent::kernel::{Bench, Install, Spread};
use sensor_core::{
    policy::{
        self, HostFacts, List, ListFacts, Lists,
        image::{Compiled, Numbers},
    },
    time::UnixNs,
};
use sensor_ebpf::abi::{
    counter::Counter,
    image::{ANY4_WORDS, FILTER6_WORDS},
    near::FILTER_WORDS,
};

use super::{EMPTY, PROGRAM, figure, load, median};
use crate::packets::{ack4, ack6};

pub(super) const ENTRIES: u32 = 1_000_000;
const ROUNDS: u32 = 15;
/// Packets of a round, each from another address; a power of two.
const PACKETS: u32 = 1 << 18;
/// Blocked clients of a flood that are few enough to have a row each in the table of drops.
const KNOWN: u64 = 4_096;
const POLICY: &str =
    "version: 1\nblock:\n  - id: list\n    lists: [{file: list.txt}]\n    reason: bench\n";

const CLEAN4: &str = "tc/clean/1000000";
const NEIGHBOUR4: &str = "tc/clean_neighbour/1000000";
const CLEAN6: &str = "tc/clean6/1000000";
const NEIGHBOUR6: &str = "tc/clean6_neighbour/1000000";

/// A program that only reads, in the rounds of a case.
struct Floor {
    name: &'static str,
    beside: &'static str,
    /// Words of its arrays; it reads one of each.
    words: &'static [usize],
}

const FLOORS: [Floor; 4] = [
    Floor { name: "tc/floor/one_read", beside: CLEAN4, words: &[ANY4_WORDS] },
    Floor { name: "tc/floor/two_reads", beside: NEIGHBOUR4, words: &[ANY4_WORDS, FILTER_WORDS] },
    Floor { name: "tc/floor6/one_read", beside: CLEAN6, words: &[FILTER6_WORDS] },
    Floor {
        name: "tc/floor6/two_reads",
        beside: NEIGHBOUR6,
        words: &[FILTER6_WORDS, FILTER_WORDS],
    },
];

/// Measures and prints the figures.
pub(super) fn lists(object: &[u8]) -> Result<()> {
    let (four, six) = (nets4(0), nets6(0));
    let all: Vec<IpNet> =
        four.iter().copied().map(IpNet::from).chain(six.iter().copied().map(IpNet::from)).collect();
    let compiled = compile(&all, &mut Numbers::default())?;
    let mut full = load(object)?;
    let installed = full.publish(&compiled.image, Install::Confirmed)?;
    #[expect(clippy::cast_precision_loss, reason = "a size for reading")]
    figure("policy/memory/2000000", installed.bytes as f64 / 1_048_576.0, "MiB", None, 1);
    drop(compiled);

    let four = Set::new(four.into_iter().map(IpNet::from));
    let six = Set::new(six.into_iter().map(IpNet::from));
    let clean4 = |at: u64| Ipv4Addr::from(u32_of(mix(at ^ 0x77_0000_0000)));
    let near4 = |at: u64| match entry4(0, entry_at(at)) {
        IpNet::V4(net) => Ipv4Addr::from(u32::from(net.network()) ^ (1 + u32_of(mix(at)) % 255)),
        IpNet::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let clean6 = |at: u64| Ipv6Addr::from(wide(at ^ 0x99_0000_0000) >> 3 | 1 << 125);
    let near6 = |at: u64| match entry6(0, entry_at(at)) {
        IpNet::V6(net) => {
            Ipv6Addr::from(u128::from(net.network()) ^ (1 + u128::from(u32_of(mix(at)) & 0xffff)))
        }
        IpNet::V4(_) => Ipv6Addr::UNSPECIFIED,
    };
    let unlisted4 = |address: Ipv4Addr| (!four.covers(address.into())).then(|| mapped(address));
    let unlisted6 = |address: Ipv6Addr| (!six.covers(address.into())).then(|| address.octets());
    let (packet4, packet6) = (ack4(Ipv4Addr::LOCALHOST), ack6(Ipv6Addr::LOCALHOST));
    let mut beside =
        |name: &str, bucket, packet: &[u8], address: &dyn Fn(u64) -> Option<[u8; 16]>| {
            let floor = FLOORS.iter().find(|floor| floor.beside == name);
            beside((name, bucket), &mut full, packet, &addresses(address), floor)
        };
    beside(CLEAN4, Counter::NoPayload, &packet4, &|at| unlisted4(clean4(at)))?;
    beside(NEIGHBOUR4, Counter::NoPayload, &packet4, &|at| unlisted4(near4(at)))?;
    beside(CLEAN6, Counter::NoPayload, &packet6, &|at| unlisted6(clean6(at)))?;
    beside(NEIGHBOUR6, Counter::NoPayload, &packet6, &|at| unlisted6(near6(at)))?;
    let listed = |at: u64| match entry4(0, entry_at(at)).network() {
        IpAddr::V4(address) => Some(mapped(address)),
        IpAddr::V6(_) => None,
    };
    beside("tc/blocked_one/1000000", Counter::Blocked, &packet4, &|_| listed(0))?;
    beside("tc/blocked_known/1000000", Counter::Blocked, &packet4, &|at| listed(at % KNOWN))?;
    beside("tc/blocked/1000000", Counter::Blocked, &packet4, &listed)
}

/// The addresses of a case, as many as a round has packets.
fn addresses(address: &dyn Fn(u64) -> Option<[u8; 16]>) -> Vec<[u8; 16]> {
    (0..).filter_map(address).take(PACKETS as usize).collect()
}

/// A number of an entry, anywhere in the list.
fn entry_at(at: u64) -> u32 {
    u32_of(mix(at ^ 0x55_0000_0000)) % ENTRIES
}

fn mapped(address: Ipv4Addr) -> [u8; 16] {
    address.to_ipv6_mapped().octets()
}

pub(super) fn compile(nets: &[IpNet], numbers: &mut Numbers) -> Result<Compiled> {
    let policy = policy::parse("bench.yaml", POLICY.as_bytes(), UnixNs(1))?;
    let name = policy.rules.iter().flat_map(|rule| &rule.lists).next().context("no list")?;
    let mut lists = Lists::default();
    let entries = nets.iter().map(|net| (*net, None));
    lists.insert(name, Arc::new(List::new(ListFacts::default(), entries)));
    Ok(policy.compile(&HostFacts::default(), &lists, numbers)?)
}

/// The same packets with the policy in force, without one, and through the empty program, in turns: the same loaded program each
/// time, so that nothing but the policy differs.
fn beside(
    (name, bucket): (&str, Counter),
    bench: &mut Bench,
    packet: &[u8],
    addresses: &[[u8; 16]],
    floor: Option<&Floor>,
) -> Result<()> {
    let (real, empty) = (bench.spread(PROGRAM, addresses)?, bench.spread(EMPTY, addresses)?);
    let reads = floor.map(|floor| reads_of(floor, addresses)).transpose()?;
    let policy = bench.policy_word();
    let time = |spread: &Spread, policy: u64| -> Result<f64> {
        bench.change_settings(|settings| settings.policy = policy)?;
        Ok(spread.run(packet, PACKETS)?.duration.as_secs_f64() * 1e9)
    };
    let (mut empties, mut values, mut bases, mut over) = (vec![], vec![], vec![], vec![]);
    let (mut floors, mut over_empty) = (vec![], vec![]);
    let before = bench.ledger()?.count(bucket);
    time(&real, policy)?;
    let warm = bench.ledger()?.count(bucket);
    for _ in 0..ROUNDS {
        let (without, with) = (time(&real, 0)?, time(&real, policy)?);
        bases.push(without);
        values.push(with);
        over.push(with - without);
        let empty = time(&empty, policy)?;
        empties.push(empty);
        if let Some(reads) = &reads {
            let floor = time(reads, policy)?;
            floors.push(floor);
            over_empty.push(floor - empty);
        }
    }
    let moved = warm - before;
    ensure!(
        moved * 100 >= u64::from(PACKETS) * 99,
        "{name}: {moved} of {PACKETS} packets in {}",
        bucket.name()
    );
    let (value, base) = (median(&mut values), median(&mut bases));
    figure(name, value, "ns", Some((base, value / base)), values.len());
    figure(&format!("{name}/over_none"), median(&mut over), "ns", None, over.len());
    let empty = median(&mut empties);
    figure(&format!("{name}/empty"), empty, "ns", None, values.len());
    if let Some(Floor { name, .. }) = floor {
        let value = median(&mut floors);
        figure(name, value, "ns", Some((empty, value / empty)), floors.len());
        figure(&format!("{name}/over_empty"), median(&mut over_empty), "ns", None, floors.len());
    }
    Ok(())
}

fn reads_of(floor: &Floor, addresses: &[[u8; 16]]) -> Result<Spread> {
    let bytes: Vec<u32> =
        floor.words.iter().map(|words| u32::try_from(words * 8)).collect::<Result<_, _>>()?;
    Ok(Bench::spread_reads(&bytes, addresses)?)
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

pub(super) fn nets4(salt: u64) -> Vec<Ipv4Net> {
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
