//! The ring buffer as the source stage sees it: records by reference, its size, a descriptor to wait on, and the
//! settings that the poller may change.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use aya::maps::{MapData, MapError, RingBuf, ring_buf::RingBufItem};
use sensor_core::time::MonoNs;

use super::settings::SettingsMap;

/// The consumer's end of the ring. There is one.
pub struct Ring {
    records: RingBuf<MapData>,
    settings: Arc<SettingsMap>,
    bytes: u32,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Ring").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Ring {
    pub(crate) fn new(ring: RingBuf<MapData>, settings: Arc<SettingsMap>, bytes: u32) -> Self {
        Self { records: ring, settings, bytes }
    }

    /// The next record; its memory is given back when the item is dropped.
    pub fn next_record(&mut self) -> Option<RingBufItem<'_>> {
        self.records.next()
    }

    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Becomes readable by a forced wake-up (and, level-triggered, whenever a record waits).
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }

    /// Tells the programs that the agent is alive.
    pub fn write_heartbeat(&self, now: MonoNs) -> Result<(), MapError> {
        self.settings.update(|settings| settings.heartbeat_ns = now.0).map_err(MapError::IoError)
    }

    /// Sets which share of the flows is sampled.
    pub fn write_sampling(&self, threshold: u32, weight: u32) -> Result<(), MapError> {
        self.settings
            .update(|settings| {
                settings.sample_threshold = threshold;
                settings.sample_weight = weight;
            })
            .map_err(MapError::IoError)
    }

    /// Threshold and weight in force.
    #[must_use]
    pub fn sampling(&self) -> (u32, u32) {
        let settings = self.settings.current();
        (settings.sample_threshold, settings.sample_weight)
    }
}
