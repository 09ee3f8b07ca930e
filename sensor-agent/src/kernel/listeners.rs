//! The kernel's count of connections by listener: read for the coverage, swept of what is idle and not ours.
//!
//! The table is bounded in the kernel; a host that calls many servers fills it with remote ones. Those are
//! removed once idle for [`IDLE_NS`], local ones stay.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aya::maps::{HashMap, Map, MapData, MapError};
use sensor_core::time::MonoNs;
use sensor_ebpf::abi::settings::{ListenerCounts, ListenerKey};

use super::pod::Wire;

/// How long a remote listener is kept without a new connection.
const IDLE_NS: u64 = 60 * 1_000_000_000;

/// The listener table.
pub(crate) struct Listeners {
    map: HashMap<MapData, Wire<ListenerKey>, Wire<ListenerCounts>>,
}

impl Listeners {
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { map: HashMap::try_from(map)? })
    }

    /// All listeners with their counts. An entry that vanishes during the walk is left out.
    pub(crate) fn read(&self) -> Vec<(SocketAddr, ListenerCounts)> {
        let entries = self.map.iter().flatten();
        entries.map(|(Wire(key), Wire(counts))| (address(&key), counts)).collect()
    }

    /// Removes idle listeners that are not `local`; returns how many.
    pub(crate) fn sweep(&mut self, now: MonoNs, local: impl Fn(IpAddr) -> bool) -> usize {
        let idle = |counts: &ListenerCounts| now.since(MonoNs(counts.last_ns)) > IDLE_NS;
        let keys: Vec<_> = self
            .map
            .iter()
            .flatten()
            .filter(|(Wire(key), Wire(counts))| idle(counts) && !local(address(key).ip()))
            .map(|(key, _)| key)
            .collect();
        keys.iter().filter(|key| self.map.remove(key).is_ok()).count()
    }
}

fn address(key: &ListenerKey) -> SocketAddr {
    SocketAddr::new(IpAddr::from(Ipv6Addr::from(key.address)).to_canonical(), key.port)
}
