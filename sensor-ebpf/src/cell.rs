//! A word in a map that several CPUs change: compare-and-swap and add, which Rust's bpf target does not offer.
//!
//! `unsafe` here reads a map value (valid until the program ends) and has the two instructions.

use core::arch::asm;

use sensor_ebpf::verdict::TatCell;

/// A limit's state in the map.
pub(crate) struct Cell(pub(crate) *mut u64);

impl TatCell for Cell {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: a map value is valid until the program ends.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn swap_if(&self, old: u64, new: u64) -> bool {
        let seen: u64;
        // SAFETY: a map value, aligned to 8.
        unsafe {
            asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) self.0, in(reg) new, inout("r0") old => seen, options(nostack));
        }
        seen == old
    }
}

/// Exchanges atomically.
#[inline(always)]
pub(crate) fn atomic_exchange(at: *mut u64, value: u64) -> u64 {
    let before: u64;
    // SAFETY: callers give the address of an aligned u64 in a map value.
    unsafe {
        asm!("{1} = xchg_64({0} + 0, {1})", in(reg) at, inout(reg) value => before, options(nostack));
    }
    before
}

/// Adds atomically (there is no result, so kernels before 5.12 know it too).
#[inline(always)]
pub(crate) fn atomic_add(to: *mut u64, by: u64) {
    // SAFETY: callers give the address of an aligned u64 in a map value.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) by, options(nostack)) };
}
