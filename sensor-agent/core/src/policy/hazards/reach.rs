//! How much of the address space rules reach together, and on how many ports.
//!
//! Ports are judged in [`CELLS`] cells of equal size, of which a rule has those that it has half of. Addresses: first the sum of all
//! prefixes, which needs no memory; only where that is half of a family or more their union, 8 bytes (IPv4) or 16 (IPv6) a prefix.
//! Of IPv6 the part that is in use, 2000::/3, is what matters, and prefixes longer than /64 come to nothing.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    super::{list::Lists, model::Rule},
    Looked,
};

/// Cells that the ports are divided into.
const CELLS: u32 = 64;
const CELL_PORTS: u32 = 65_536 / CELLS;
/// From so many cells on it is every port.
const CELLS_HALF: u32 = CELLS / 2;
const HALF4: u64 = 1 << 31;
/// Of 2000::/3, in /64s.
const HALF6: u64 = 1 << 60;
/// 2000::/3 in /64s: the first, and the one behind the last.
const USED6: (u64, u64) = (0x2000 << 48, 0x4000 << 48);

/// Ports, by cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports(u64);

impl Ports {
    /// None of them.
    pub(super) const NONE: Self = Self(0);

    /// Those of a rule; none named is all.
    pub(super) fn of(rule: &Rule) -> Self {
        let ports = &rule.when.ports;
        let count = |(low, high): &(u16, u16)| u32::from(*high).saturating_sub((*low).into()) + 1;
        if ports.is_empty() || ports.iter().map(count).sum::<u32>() >= 32_768 {
            return Self(u64::MAX);
        }
        let mut cells = 0;
        for cell in 0..CELLS {
            let (first, last) = (cell * CELL_PORTS, (cell + 1) * CELL_PORTS - 1);
            let within = ports.iter().map(|(low, high)| {
                let (low, high) = (u32::from(*low).max(first), u32::from(*high).min(last));
                (high + 1).saturating_sub(low)
            });
            if within.sum::<u32>() >= CELL_PORTS / 2 {
                cells |= 1 << cell;
            }
        }
        Self(cells)
    }

    /// Whether that is as good as every port.
    pub(super) const fn are_all(self) -> bool {
        self.0.count_ones() >= CELLS_HALF
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, cell: u32) -> bool {
        self.0 >> cell & 1 != 0
    }
}

/// Who is reached by half of a family or more, for each rule by itself; and for rules that only come to it with others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Less.
    Some,
    /// By itself.
    Alone(&'static str),
    /// With others.
    Together(&'static str),
}

/// Judges every rule.
pub(super) fn reach(looked: &[Looked<'_>], lists: &Lists) -> Vec<Reach> {
    let mut found: Vec<Reach> = Vec::with_capacity(looked.len());
    let mut large = Vec::new();
    for (at, one) in looked.iter().enumerate() {
        let (four, six) = sum([one], lists);
        let alone = if one.ports.are_all() { whom([one], lists) } else { None };
        // Where less than this is reached, as many rules as there may be do not come to half.
        let share = |half: u64| half / super::super::RULES_MAX as u64;
        if alone.is_none() && (four >= share(HALF4) || six >= share(HALF6)) {
            large.push((at, one));
        }
        found.push(alone.map_or(Reach::Some, Reach::Alone));
    }
    let all = large.iter().fold(Ports::NONE, |all, (_, one)| all.with(one.ports));
    if large.len() < 2 || !all.are_all() {
        return found;
    }
    // Most cells have the same rules.
    let mut cells: BTreeMap<Vec<usize>, u32> = BTreeMap::new();
    for cell in 0..CELLS {
        let there = large.iter().enumerate().filter(|(_, (_, one))| one.ports.has(cell));
        *cells.entry(there.map(|(at, _)| at).collect()).or_default() += 1;
    }
    let mut reached: Vec<(Vec<usize>, u32, &'static str)> = Vec::new();
    for (rules, count) in cells {
        let there = || rules.iter().filter_map(|at| large.get(*at)).map(|(_, one)| *one);
        if let Some(whom) = whom(there(), lists) {
            reached.push((rules, count, whom));
        }
    }
    if reached.iter().map(|(_, count, _)| count).sum::<u32>() >= CELLS_HALF {
        for (rules, _, whom) in &reached {
            for (at, _) in rules.iter().filter_map(|at| large.get(*at)) {
                if let Some(place) = found.get_mut(*at) {
                    *place = Reach::Together(whom);
                }
            }
        }
    }
    found
}

fn nets<'a>(rule: &'a Rule, lists: &'a Lists) -> impl Iterator<Item = IpNet> + 'a {
    let listed = lists.of(rule).flat_map(|list| list.entries().map(|(net, _)| net));
    rule.clients.iter().copied().chain(listed)
}

/// IPv4 addresses, and /64s of IPv6, in all prefixes; what is there twice counts twice.
fn sum<'r>(rules: impl IntoIterator<Item = &'r Looked<'r>>, lists: &Lists) -> (u64, u64) {
    let all = rules.into_iter().flat_map(|one| nets(one.rule, lists));
    all.fold((0, 0), |(four, six), net| match span(net) {
        Span::Four(from, to) => (four.saturating_add(u64::from(to) - u64::from(from) + 1), six),
        Span::Six(from, to) => (four, six.saturating_add(to - from)),
    })
}

/// Who is reached, if it is half of a family or more.
fn whom<'r>(
    rules: impl IntoIterator<Item = &'r Looked<'r>, IntoIter: Clone>,
    lists: &Lists,
) -> Option<&'static str> {
    let rules = rules.into_iter();
    let (most4, most6) = sum(rules.clone(), lists);
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for net in rules.flat_map(|one| nets(one.rule, lists)) {
        match span(net) {
            Span::Four(from, to) if most4 >= HALF4 => four.push((from, to)),
            Span::Six(from, to) if most6 >= HALF6 && from < to => six.push((from, to)),
            Span::Four(..) | Span::Six(..) => {}
        }
    }
    four.sort_unstable();
    let four = covered(four.into_iter().map(|(from, to)| (from.into(), u64::from(to) + 1)));
    six.sort_unstable();
    let six = covered(six.into_iter());
    match (four == 2 * HALF4, six == 2 * HALF6) {
        (true, true) => Some("every client"),
        (true, false) => Some("every IPv4 client"),
        (false, true) => Some("every IPv6 client"),
        _ if four >= HALF4 => Some("half of all IPv4 addresses or more"),
        _ if six >= HALF6 => Some("half of all IPv6 addresses in use or more"),
        _ => None,
    }
}

enum Span {
    /// First and last address.
    Four(u32, u32),
    /// First /64 in use, and the one behind the last.
    Six(u64, u64),
}

fn span(net: IpNet) -> Span {
    match net {
        IpNet::V4(net) => Span::Four(net.network().to_bits(), net.broadcast().to_bits()),
        IpNet::V6(own) => {
            let high = |address: IpAddr| match address {
                IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
                IpAddr::V4(_) => 0,
            };
            let from = high(net.network()).clamp(USED6.0, USED6.1);
            let behind = match own.prefix_len() {
                0..=64 => high(net.broadcast()).saturating_add(1),
                _ => from,
            };
            Span::Six(from, behind.clamp(from, USED6.1.max(from)))
        }
    }
}

/// Size of the union of sorted spans.
fn covered(spans: impl Iterator<Item = (u64, u64)>) -> u64 {
    let (mut sum, mut end) = (0, 0);
    for (from, behind) in spans {
        let from = from.max(end);
        if behind > from {
            sum += behind - from;
            end = behind;
        }
    }
    sum
}
