//! Puts a record into the ring: header and data lie together in the window and are copied out at once. The header of a
//! record whose data begins further on is moved there first.
//!
//! Bounds: one header and `SNAP_BYTES_MAX` bytes. Nobody is woken for a record; the agent polls, and is woken only when
//! `wake_bytes` are waiting.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ringbuf_output, bpf_ringbuf_query},
};
use sensor_ebpf::{
    abi::sample::SampleHeader,
    work::{Window, Work},
};

use crate::{context::and_mask, maps::RING};

/// The ring's fill is asked for by every 16th record of a CPU: asking costs a fifth of what the record does.
const QUERY_MASK: u64 = 15;
const HEADER_WORDS: usize = size_of::<SampleHeader>() / 8;
const _: () = assert!(size_of::<SampleHeader>() % 8 == 0 && HEADER_WORDS == 12);

/// Writes the window's header and `data_len` bytes of its data from `from` on; false when the ring is full.
#[inline(always)]
pub(crate) fn emit(work: &mut Work, from: u32, wake_bytes: u32) -> bool {
    let at = and_mask::<{ Window::INDEX_MASK }>(from) as usize;
    let data_len = work.window.header.data_len;
    let words = (&raw mut work.window).cast::<u64>();
    let base = words.cast::<u8>();
    // SAFETY: `at` is at most 2047, and the window goes on for a header and 2047 bytes behind that.
    let to = unsafe { base.add(at) };
    if at != 0 {
        // Last word first: the two places may overlap.
        let mut word = HEADER_WORDS;
        while word != 0 {
            word -= 1;
            // SAFETY: word is below HEADER_WORDS, and the window is aligned to 8.
            let from = unsafe { words.add(word) };
            // SAFETY: a whole word of the header.
            let value = unsafe { from.read() };
            // SAFETY: as for `to`.
            let slot = unsafe { to.add(word * 8) };
            // SAFETY: 8 bytes of the window; at any alignment, so the store is written out.
            unsafe { store(slot, value) };
        }
    }
    output(to, data_len, &mut work.emitted, wake_bytes)
}

/// As [`emit`], from the window's first byte on.
#[inline(always)]
pub(crate) fn emit_first(work: &mut Work, wake_bytes: u32) -> bool {
    let data_len = work.window.header.data_len;
    output((&raw mut work.window).cast::<u8>(), data_len, &mut work.emitted, wake_bytes)
}

/// Copies a header and at most 2047 bytes behind it into the ring.
#[inline(always)]
fn output(record: *mut u8, data_len: u32, emitted: &mut u64, wake_bytes: u32) -> bool {
    let data_len = and_mask::<{ Window::INDEX_MASK }>(data_len) as u64;
    let ring = (&raw const RING).cast_mut().cast();
    *emitted = emitted.wrapping_add(1);
    // SAFETY: RING is a ring buffer map.
    let wake = *emitted & QUERY_MASK == 0
        && unsafe { bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) }
            >= u64::from(wake_bytes);
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    let bytes = size_of::<SampleHeader>() as u64 + data_len;
    // SAFETY: `bytes` from `record` on lie in the window.
    let error = unsafe { bpf_ringbuf_output(ring, record.cast(), bytes, u64::from(flags)) };
    error == 0
}

/// Stores a word at any alignment in one instruction.
///
/// # Safety
/// 8 bytes at `to` must be writable.
#[inline(always)]
unsafe fn store(to: *mut u8, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("*(u64 *)({0} + 0) = {1}", in(reg) to, in(reg) value, options(nostack)) };
}
