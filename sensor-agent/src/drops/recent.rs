//! Rows of the kernel's table to records, and the last of them for whoever asks.
//!
//! Bounds: [`RECENT_MAX`] records; who falls behind is told how many records he missed (each has the sum of packets so far, so that their packets are known too). A row is idle after [`IDLE_NS`].

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use sensor_core::time::{MonoNs, UnixNs};
use sensor_ebpf::abi::{
    dynamic::{DropKey, DropReason, DropValue},
    policy::{NETWORK_V4, NETWORK_V6},
};

use crate::control::{DropRecord, DropsView};

/// Records that are kept for those who ask.
pub const RECENT_MAX: usize = 8_192;
/// A row without drops for this long is taken out of the kernel's table.
const IDLE_NS: u64 = 60_000_000_000;
/// Records in one answer.
const ANSWER_MAX: usize = 2_048;

/// What is known of the kernel's table.
#[derive(Debug, Default)]
pub struct Drops {
    /// Counts of rows at the last look.
    seen: HashMap<DropKey, u64>,
    recent: VecDeque<DropRecord>,
    /// Number of the last record.
    number: u64,
    /// Packets in all records so far.
    packets: u64,
}

/// What names and clocks a look needs.
pub struct Names<'a> {
    /// Id of the rule that has a number of hits.
    pub rule: &'a dyn Fn(u32) -> Option<String>,
    /// Name of an interface.
    pub interface: &'a dyn Fn(u32) -> String,
    /// Wall-clock time of a kernel time.
    pub unix: &'a dyn Fn(MonoNs) -> UnixNs,
}

impl Drops {
    /// Takes a look at the whole table; returns the rows that are idle, to be taken out of it ([`Drops::gone`]).
    pub fn look(
        &mut self,
        now: MonoNs,
        rows: &[(DropKey, DropValue)],
        names: &Names<'_>,
    ) -> Vec<DropKey> {
        let mut idle = Vec::new();
        for (key, value) in rows {
            let before = self.seen.get(key).copied();
            // Less than before: the row was taken out and is there again.
            let new = match before {
                Some(before) if before <= value.count => value.count - before,
                _ => value.count,
            };
            if new > 0 {
                self.seen.insert(*key, value.count);
                self.push(record(key, value, new, before.is_none(), names));
            } else if now.0.saturating_sub(value.last_ns) > IDLE_NS {
                idle.push(*key);
            }
        }
        if self.seen.len() > rows.len() {
            let there: std::collections::HashSet<&DropKey> =
                rows.iter().map(|(key, _)| key).collect();
            self.seen.retain(|key, _| there.contains(key));
        }
        idle
    }

    /// A row was taken out of the table; `last` is what it counted in the end, where that is known.
    pub fn gone(&mut self, key: &DropKey, last: Option<&DropValue>, names: &Names<'_>) {
        let before = self.seen.remove(key).unwrap_or(0);
        if let Some(value) = last.filter(|value| value.count > before) {
            self.push(record(key, value, value.count - before, before == 0, names));
        }
    }

    /// Records after a number, oldest first. Whoever gives the number of a record that is not kept any more missed some.
    #[must_use]
    pub fn after(&self, number: u64) -> DropsView {
        let first = self.recent.front().map_or(self.number + 1, |record| record.number);
        let missed_records = first.saturating_sub(number.saturating_add(1));
        let skip = usize::try_from((number + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let records: Vec<DropRecord> =
            self.recent.iter().skip(skip).take(ANSWER_MAX).cloned().collect();
        let last = records.last().map_or(number.min(self.number), |record| record.number);
        DropsView { last, missed_records, records, ..DropsView::default() }
    }

    fn push(&mut self, mut record: DropRecord) {
        self.number += 1;
        self.packets = self.packets.saturating_add(record.packets);
        record.number = self.number;
        record.packets_so_far = self.packets;
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(record);
    }
}

fn record(
    key: &DropKey,
    value: &DropValue,
    packets: u64,
    first: bool,
    names: &Names<'_>,
) -> DropRecord {
    let tuple = &value.tuple;
    DropRecord {
        number: 0,
        time_unix_ns: (names.unix)(MonoNs(value.last_ns)).0,
        rule: (names.rule)(key.hits).unwrap_or_else(|| format!("#{}", key.hits)),
        reason: reason(key.reason).into(),
        client: client(key),
        source: SocketAddr::new(address(tuple.src), tuple.src_port).to_string(),
        destination: SocketAddr::new(address(tuple.dst), tuple.dst_port).to_string(),
        protocol: match tuple.protocol {
            6 => "tcp".into(),
            17 => "udp".into(),
            other => other.to_string(),
        },
        interface: (names.interface)(value.ifindex),
        first,
        packets,
        packets_so_far: 0,
    }
}

/// The client that is told, or the network where its senders may be forged.
fn client(key: &DropKey) -> String {
    let address = address(key.client);
    if !matches!(DropReason::of_word(key.reason), Some(DropReason::Network)) {
        return address.to_string();
    }
    format!("{address}/{}", if address.is_ipv4() { NETWORK_V4 } else { NETWORK_V6 })
}

const fn reason(number: u32) -> &'static str {
    match DropReason::of_word(number) {
        Some(DropReason::Block) => "block",
        Some(DropReason::Limit) => "limit",
        Some(DropReason::Flow) => "flow verdict",
        Some(DropReason::Client) => "client verdict",
        Some(DropReason::Network) => "limit of its network",
        None => "unknown",
    }
}

/// An address of the ABI, IPv4 as such.
pub(super) fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}
