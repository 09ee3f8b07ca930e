//! What the kernel remembers of clients under limits: open connections, recounted here; clients over a limit, let go when their
//! allowance is whole again.
//!
//! The kernel counts a connection up and down by what it sees; a FIN that it missed, or a client that vanished, makes the number drift. Every
//! 30 s the connections themselves are counted, without those idle for [`IDLE_NS`], and the numbers set right. Bounds: those of the maps.

use std::collections::{BTreeMap, BTreeSet};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
};
use schemars::JsonSchema;
use sensor_core::policy::image::PolicyImage;
use sensor_ebpf::abi::{
    dynamic::Connection,
    flow_key::FlowKey,
    image::{Header, Limit, LimitKind},
    policy::{LIMIT_FRACTION_BITS, LimitKey},
};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes as _, IntoBytes as _};

use self::counted::Counted;
use super::{
    load::{LoadError, take},
    pod::Wire,
    policy_maps::Install,
};

mod counted;

/// A connection whose client was silent for so long does not count any more; it does again with its next packet.
const IDLE_NS: u64 = 15 * 60 * 1_000_000_000;

/// What the last recount found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientCounts {
    /// Open connections that limits count.
    pub connections: u64,
    /// Of them idle, and no longer counted, since the start.
    pub connections_idle: u64,
    /// By how much the numbers of open connections were wrong, since the start.
    pub connections_drift: u64,
    /// Recounts since the start.
    pub recounts: u64,
    /// Clients over a limit.
    pub penalised: u64,
}

/// The maps.
pub(crate) struct ClientMaps {
    connections: HashMap<MapData, Wire<FlowKey>, Wire<Connection>>,
    open: HashMap<MapData, Wire<LimitKey>, u64>,
    penalised: HashMap<MapData, Wire<LimitKey>, u64>,
    counted: Counted,
    counts: ClientCounts,
}

impl ClientMaps {
    pub(crate) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let failed = |name| move |source| LoadError::Map { name, source };
        macro_rules! map {
            ($name:literal) => {
                HashMap::try_from(take(ebpf, $name)?).map_err(failed($name))?
            };
        }
        let open: HashMap<MapData, Wire<LimitKey>, u64> = map!("OPEN");
        let limits = open.keys().flatten().map(|key| key.0.limit).collect();
        Ok(Self {
            connections: map!("CONNECTIONS"),
            counted: Counted::found(limits),
            open,
            penalised: map!("PENALISED"),
            counts: ClientCounts::default(),
        })
    }

    pub(crate) const fn counts(&self) -> ClientCounts {
        self.counts
    }

    /// Numbers of limits up to this one were given by the agent before this one.
    pub(crate) fn given_before(&mut self, given: u32) {
        self.counted.given_before(given);
    }

    /// A policy was put in force: with other limits of open connections than before, the count begins anew, with each
    /// connection's next packet.
    pub(crate) fn published(
        &mut self,
        image: &PolicyImage,
        install: Install,
    ) -> Result<(), MapError> {
        let limits = limits_of_connections(image);
        if !self.counted.goes_on(&limits) {
            self.forget_connections()?;
        }
        self.counted.published(limits, install);
        Ok(())
    }

    /// What was on trial stays.
    pub(crate) fn confirmed(&mut self) {
        self.counted.confirmed();
    }

    /// A trial ended.
    pub(crate) fn reverted(&mut self) -> Result<(), MapError> {
        if self.counted.reverted() { Ok(()) } else { self.forget_connections() }
    }

    /// Begins the count of connections anew.
    pub(crate) fn forget_connections(&mut self) -> Result<(), MapError> {
        let connections: Vec<_> = self.connections.keys().flatten().collect();
        for key in connections {
            gone(self.connections.remove(&key))?;
        }
        let open: Vec<_> = self.open.keys().flatten().collect();
        for key in open {
            gone(self.open.remove(&key))?;
        }
        Ok(())
    }

    /// Counts the open connections, sets the kernel's numbers right, and lets clients go whose allowance is whole again.
    pub(crate) fn recount(&mut self, now_ns: u64) -> Result<ClientCounts, MapError> {
        let connections: Vec<(FlowKey, Connection)> =
            self.connections.iter().flatten().map(|(key, value)| (key.0, value.0)).collect();
        let open: BTreeMap<LimitKey, u64> =
            self.open.iter().flatten().map(|(key, value)| (key.0, value)).collect();
        let found = recount(&connections, &open, now_ns);
        for key in &found.idle {
            gone(self.connections.remove(&Wire(*key)))?;
        }
        for (key, number) in &found.right {
            if *number == 0 {
                gone(self.open.remove(&Wire(*key)))?;
            } else {
                self.open.insert(Wire(*key), *number, 0)?;
            }
        }
        let now = now_ns << LIMIT_FRACTION_BITS;
        let penalised: Vec<_> = self.penalised.iter().flatten().collect();
        let whole = penalised.iter().filter(|(_, until)| *until <= now);
        let mut left = penalised.len() as u64;
        for (key, _) in whole {
            gone(self.penalised.remove(key))?;
            left -= 1;
        }
        self.counts.penalised = left;
        self.counts.recounts += 1;
        self.counts.connections = (connections.len() - found.idle.len()) as u64;
        self.counts.connections_idle += found.idle.len() as u64;
        self.counts.connections_drift += found.drift;
        Ok(self.counts)
    }
}

/// What a recount finds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recount {
    /// Connections that do not count any more.
    idle: Vec<FlowKey>,
    /// Numbers that are not what the kernel has; 0 takes the entry away.
    right: Vec<(LimitKey, u64)>,
    /// By how much they were wrong, idle connections left aside.
    drift: u64,
}

fn recount(
    connections: &[(FlowKey, Connection)],
    open: &BTreeMap<LimitKey, u64>,
    now_ns: u64,
) -> Recount {
    let mut found = Recount::default();
    // All connections, and those that still count.
    let mut numbers: BTreeMap<LimitKey, (u64, u64)> =
        open.keys().map(|key| (*key, (0, 0))).collect();
    for (flow, connection) in connections {
        let idle = now_ns.saturating_sub(connection.last_ns) > IDLE_NS;
        if idle {
            found.idle.push(*flow);
        }
        let count = usize::try_from(connection.count).unwrap_or(usize::MAX);
        for key in connection.keys.iter().take(count) {
            let (all, live) = numbers.entry(*key).or_default();
            *all += 1;
            *live += u64::from(!idle);
        }
    }
    for (key, (all, live)) in numbers {
        let kernel = open.get(&key).copied().unwrap_or(0);
        found.drift += kernel.abs_diff(all);
        if kernel != live || live == 0 {
            found.right.push((key, live));
        }
    }
    found
}

/// Numbers of the limits of open connections in an image.
fn limits_of_connections(image: &PolicyImage) -> BTreeSet<u32> {
    let Ok((header, _)) = Header::read_from_prefix(image.lines.as_bytes()) else {
        return BTreeSet::new();
    };
    let wide = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let lines = image.lines.iter().skip(wide(header.limits)).take(wide(header.limits_count));
    lines
        .filter_map(|line| Limit::read_from_bytes(line.as_bytes()).ok())
        .filter(|limit| limit.kind == LimitKind::Concurrent as u8)
        .map(|limit| limit.state)
        .collect()
}

/// What the kernel removed first is gone all the same.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(limit: u32) -> LimitKey {
        LimitKey { limit, ..LimitKey::default() }
    }

    fn connection(port: u16, last_ns: u64, limits: &[u32]) -> (FlowKey, Connection) {
        let mut connection = Connection { last_ns, ..Connection::default() };
        for (place, limit) in connection.keys.iter_mut().zip(limits) {
            *place = key(*limit);
            connection.count += 1;
        }
        (FlowKey { low_port: port, ..FlowKey::default() }, connection)
    }

    #[test]
    fn numbers_are_set_right_and_the_drift_is_told() {
        let now = 10 * IDLE_NS;
        let connections = [
            connection(1, now, &[1, 2]),
            connection(2, now - IDLE_NS, &[1]),
            connection(3, 5, &[1, 2]),
        ];
        let open = [(key(1), 3), (key(2), 7), (key(3), 1)].into();
        let found = recount(&connections, &open, now);
        assert_eq!(found.idle, [connections[2].0]);
        assert_eq!(found.right, [(key(1), 2), (key(2), 1), (key(3), 0)]);
        // Limit 1 was right but for the idle one; 2 was 5 too many, 3 one.
        assert_eq!(found.drift, 6);
    }

    #[test]
    fn right_numbers_are_left_alone() {
        let connections = [connection(1, 0, &[1])];
        let found = recount(&connections, &[(key(1), 1)].into(), 1);
        assert_eq!(found, Recount::default());
    }
}
