//! Passes ABI types through aya's maps as they are.
//!
//! aya wants its own `Pod` trait, which cannot be implemented for a type of another crate: [`Wire`] is the
//! transparent wrapper that has it, and the only `unsafe impl` of the agent.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An ABI type on its way into or out of a kernel map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct Wire<T>(pub(crate) T);

// SAFETY: `Wire<T>` has the layout of `T`; zerocopy's derives prove that `T` has no padding, no interior
// mutability and that every bit pattern is a value of it, which is what `Pod` asks for.
unsafe impl<T: Copy + FromBytes + IntoBytes + Immutable + 'static> aya::Pod for Wire<T> {}
