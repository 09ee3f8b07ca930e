//! The kernel's counters, summed over the CPUs: its half of the loss ledger.

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use sensor_ebpf::abi::counter::Counter;
use serde::Serialize;

/// The per-CPU counters.
pub(crate) struct Counters {
    map: PerCpuArray<MapData, u64>,
}

/// One reading of all counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KernelLedger {
    values: Vec<u64>,
}

impl Default for KernelLedger {
    fn default() -> Self {
        Self { values: vec![0; Counter::COUNT] }
    }
}

impl KernelLedger {
    /// One counter.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.values.get(counter as usize).copied().unwrap_or(0)
    }

    /// All counters in order.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().map(|counter| (*counter, self.count(*counter)))
    }

    /// What the buckets hold together; equals [`Counter::Sightings`] when no packet is in flight.
    #[must_use]
    pub fn bucket_sum(&self) -> u64 {
        self.iter().filter(|(counter, _)| counter.is_bucket()).map(|(_, count)| count).sum()
    }
}

impl Counters {
    pub(crate) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self { map: PerCpuArray::try_from(map)? })
    }

    /// Reads all counters. They move while they are read: the sum can be off by packets in flight.
    pub(crate) fn read(&self) -> Result<KernelLedger, MapError> {
        let one = |counter: &Counter| {
            let values = self.map.get(&(*counter as u32), 0)?;
            Ok(values.iter().fold(0_u64, |sum, value| sum.wrapping_add(*value)))
        };
        Ok(KernelLedger { values: Counter::ALL.iter().map(one).collect::<Result<_, MapError>>()? })
    }
}
