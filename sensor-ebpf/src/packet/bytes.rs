//! A packet as bytes that may end anywhere: implemented by skbs in the kernel and by slices on the host.
//!
//! Bound: the packet's own length; a load beyond it is `None`, never a panic.

use crate::work::Window;

/// Loads from a packet. Offsets count from its first byte (link header included).
pub trait PacketBytes {
    /// Loads one integer, converted from network to host order; `None` when it does not lie in the packet.
    fn load<T: Wire>(&self, offset: u32) -> Option<T>;

    /// Eight bytes of payload in memory order, 0 when they are not all there. (Payload may lie in pages.)
    fn load_payload(&self, offset: u32) -> u64;

    /// Copies `len` bytes into the window's data, from its index `at` on; false when they are not all there.
    /// `at + len` is at most [`Window::DATA_BYTES`] and `len` at least 1.
    fn load_window(&self, offset: u32, len: u32, at: u32, window: &mut Window) -> bool;

    /// Bytes of the packet, link header included.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An integer that can be loaded from a packet.
pub trait Wire: sealed::Sealed + Copy {
    /// Makes the value of the bytes as they lie in memory, read in this machine's order and zero-extended.
    fn from_memory(raw: u64) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

macro_rules! wire {
    ($($int:ty)*) => {$(
        impl Wire for $int {
            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "the caller loaded size_of::<Self>() bytes")]
            fn from_memory(raw: u64) -> Self {
                <$int>::from_be(raw as $int)
            }
        }
    )*};
}

wire!(u8 u16 u32);

impl Wire for u64 {
    #[inline(always)]
    fn from_memory(raw: u64) -> Self {
        Self::from_be(raw)
    }
}

/// A packet in memory.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a>(pub &'a [u8]);

impl PacketBytes for Slice<'_> {
    fn load<T: Wire>(&self, offset: u32) -> Option<T> {
        let start = usize::try_from(offset).ok()?;
        let bytes = self.0.get(start..start.checked_add(size_of::<T>())?)?;
        let mut raw = [0u8; 8];
        raw.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(T::from_memory(u64::from_le_bytes(raw).to_le()))
    }

    fn load_payload(&self, offset: u32) -> u64 {
        self.load::<u64>(offset).map_or(0, u64::to_be)
    }

    fn load_window(&self, offset: u32, len: u32, at: u32, window: &mut Window) -> bool {
        let (Ok(start), Ok(len), Ok(at)) =
            (usize::try_from(offset), usize::try_from(len), usize::try_from(at))
        else {
            return false;
        };
        let Some(from) = self.0.get(start..start.saturating_add(len)) else { return false };
        let Some(to) = window.data_mut().get_mut(at..at.saturating_add(len)) else { return false };
        to.copy_from_slice(from);
        true
    }

    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}
