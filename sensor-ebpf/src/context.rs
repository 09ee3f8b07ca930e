//! An skb as [`PacketBytes`]: headers by direct access where the hook allows it, else (and for payload) by `bpf_skb_load_bytes`.
//!
//! `unsafe` here reads the skb's context fields and bytes between `data` and `data_end` after a bounds check, which the
//! verifier checks again.

use core::arch::asm;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_load_bytes};
use sensor_ebpf::{
    packet::{PacketBytes, Wire},
    work::Window,
};

/// Largest offset of a header that is read by direct access (the verifier wants a bound).
const DIRECT_OFFSET_MASK: u32 = 0x3ff;
/// Largest number of bytes in one load into the window, a power of two.
const LOAD_BYTES_MAX: u32 = Window::DATA_BYTES;

/// A packet at one hook. `DIRECT`: whether the program type may read packet memory (TC may, socket filters may not).
#[derive(Clone, Copy)]
pub(crate) struct Skb<const DIRECT: bool> {
    skb: *mut __sk_buff,
}

macro_rules! field {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(self) -> u32 {
            // SAFETY: the context pointer of a running program is valid; the verifier allows this field to be read.
            unsafe { (*self.skb).$name }
        }
    };
}

impl<const DIRECT: bool> Skb<DIRECT> {
    pub(crate) const fn new(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }

    pub(crate) const fn as_ptr(self) -> *mut __sk_buff {
        self.skb
    }

    field!(
        /// Interface of the sighting.
        ifindex
    );
    field!(
        /// `PACKET_OUTGOING` and its kin.
        pkt_type
    );
    field!(
        /// Wire packets in this skb, 0 when it is not a GSO one.
        gso_segs
    );

    #[inline(always)]
    fn length(self) -> u32 {
        // SAFETY: as in `field!`.
        unsafe { (*self.skb).len }
    }

    // Both by assembly: the compiler would pass these fields to a function as 32-bit numbers, which packet pointers are not.
    #[inline(always)]
    fn data(self) -> usize {
        let data: u64;
        // SAFETY: reads a field of the context.
        unsafe {
            asm!("{0} = *(u32 *)({1} + {2})", out(reg) data, in(reg) self.skb, const core::mem::offset_of!(__sk_buff, data), options(pure, readonly, nostack))
        };
        data as usize
    }

    #[inline(always)]
    fn data_end(self) -> usize {
        let end: u64;
        // SAFETY: reads a field of the context.
        unsafe {
            asm!("{0} = *(u32 *)({1} + {2})", out(reg) end, in(reg) self.skb, const core::mem::offset_of!(__sk_buff, data_end), options(pure, readonly, nostack))
        };
        end as usize
    }

    #[inline(always)]
    fn load_direct(self, offset: u32, size: usize) -> Option<u64> {
        if offset > DIRECT_OFFSET_MASK {
            return None;
        }
        let at = self.data() + (offset & DIRECT_OFFSET_MASK) as usize;
        // At least 2: a check of one byte is turned round by the compiler into a form that tells the verifier nothing.
        // (A single byte is only loaded where more of its header must follow.)
        let needed = if size < 2 { 2 } else { size };
        if at + needed > self.data_end() {
            return None;
        }
        // SAFETY: `size` bytes from `at` on lie in the packet, checked just above.
        Some(unsafe { read(at, size) })
    }

    #[inline(always)]
    fn load_slow(self, offset: u32, size: u32) -> Option<u64> {
        let mut raw = 0u64;
        // SAFETY: `raw` has room for 8 bytes and `size` is at most 8.
        let error =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, (&raw mut raw).cast(), size) };
        (error == 0).then_some(raw)
    }
}

/// Reads header bytes that are not in the linear part: once for all places that load, and never by a pull, which copies the
/// head of an skb that TCP still holds (0.2 us for each packet sent, where only the payload is in pages).
#[inline(never)]
fn load_paged(skb: *mut __sk_buff, offset: u32, size: u32) -> u64 {
    let mut raw = 0u64;
    let size = if size > 8 { 8 } else { size };
    // SAFETY: `raw` has room for 8 bytes, and `size` is at most 8 (and never 0: it is the size of an integer).
    let _checked = unsafe { bpf_skb_load_bytes(skb.cast(), offset, (&raw mut raw).cast(), size) };
    raw
}

/// Reads an integer at any alignment: a plain load in BPF, where Rust would read byte by byte.
///
/// # Safety
/// `size` bytes (1, 2, 4 or 8) must be readable at `at`.
#[inline(always)]
unsafe fn read(at: usize, size: usize) -> u64 {
    let value: u64;
    match size {
        // SAFETY: the caller's promise; so for the others.
        1 => unsafe {
            asm!("{0} = *(u8 *)({1} + 0)", out(reg) value, in(reg) at, options(pure, readonly, nostack))
        },
        // SAFETY: see above.
        2 => unsafe {
            asm!("{0} = *(u16 *)({1} + 0)", out(reg) value, in(reg) at, options(pure, readonly, nostack))
        },
        // SAFETY: see above.
        4 => unsafe {
            asm!("{0} = *(u32 *)({1} + 0)", out(reg) value, in(reg) at, options(pure, readonly, nostack))
        },
        // SAFETY: see above.
        _ => unsafe {
            asm!("{0} = *(u64 *)({1} + 0)", out(reg) value, in(reg) at, options(pure, readonly, nostack))
        },
    }
    value
}

impl<const DIRECT: bool> PacketBytes for Skb<DIRECT> {
    #[inline(always)]
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        if DIRECT && let Some(raw) = self.load_direct(offset, size_of::<T>()) {
            return Some(T::from_memory(raw));
        }
        if offset.saturating_add(size_of::<T>() as u32) > self.length() {
            return None;
        }
        Some(T::from_memory(load_paged(self.skb, offset, size_of::<T>() as u32)))
    }

    #[inline(always)]
    fn load_payload(&self, offset: u32) -> u64 {
        self.load_slow(offset, 8).unwrap_or(0)
    }

    #[inline(always)]
    fn load_window(&self, offset: u32, len: u32, at: u32, window: &mut Window) -> bool {
        let len = and_mask::<{ LOAD_BYTES_MAX - 1 }>(len.wrapping_sub(1)) + 1;
        let at = and_mask::<63>(at) as usize;
        let base = (&raw mut *window).cast::<u8>();
        // SAFETY: headroom + 63 + LOAD_BYTES_MAX bytes lie in the window.
        let to = unsafe { base.add(Window::HEADROOM + at) };
        // SAFETY: as above; the helper writes at most `len` bytes.
        let error = unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, to.cast(), len) };
        error == 0
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.length()
    }
}

/// Bounds a number by a real instruction, which the optimiser cannot drop and the verifier understands.
#[inline(always)]
pub(crate) fn and_mask<const MASK: u32>(value: u32) -> u32 {
    let mut wide = u64::from(value);
    // SAFETY: arithmetic on a register.
    unsafe { asm!("{0} &= {1}", inout(reg) wide, const MASK, options(pure, nomem, nostack)) };
    wide as u32
}
