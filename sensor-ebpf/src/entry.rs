//! Values of maps as references, for one packet.
//!
//! `unsafe` here dereferences what a map look-up returned: valid until the program ends.

use core::{
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use sensor_ebpf::{
    abi::repeat::{REPEATS_PER_CPU, Repeat},
    tracker::Flow,
};

use crate::maps::REPEATS;

/// A flow entry in the map.
pub(crate) struct FlowEntry(NonNull<Flow>);

impl FlowEntry {
    /// What a look-up returned.
    #[inline(always)]
    pub(crate) const fn new(at: NonNull<Flow>) -> Self {
        Self(at)
    }
}

impl Deref for FlowEntry {
    type Target = Flow;

    #[inline(always)]
    fn deref(&self) -> &Flow {
        // SAFETY: a map value is valid until the program ends (an evicted one is reused, never unmapped).
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for FlowEntry {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Flow {
        // SAFETY: as above; the streams are written by packets of their own direction only, one at a time.
        unsafe { self.0.as_mut() }
    }
}

/// A row of this CPU's `REPEATS`.
pub(crate) struct RepeatEntry(NonNull<Repeat>);

impl RepeatEntry {
    /// The row of this number.
    #[inline(always)]
    pub(crate) fn of_this_cpu(number: u32) -> Option<Self> {
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let at = cpu.wrapping_mul(REPEATS_PER_CPU).wrapping_add(number);
        REPEATS.get_ptr_mut(at).and_then(NonNull::new).map(Self)
    }
}

impl Deref for RepeatEntry {
    type Target = Repeat;

    #[inline(always)]
    fn deref(&self) -> &Repeat {
        // SAFETY: a map value is valid until the program ends.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for RepeatEntry {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Repeat {
        // SAFETY: as above; written by programs of this CPU only, one at a time, but for two words that all move atomically.
        unsafe { self.0.as_mut() }
    }
}
