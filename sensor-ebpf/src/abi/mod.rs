//! Records, keys and settings that cross the border between kernel and agent.
//!
//! Every type is `repr(C)`, has explicit padding and a size assert, and derives zerocopy's traits, so
//! that it passes through maps and the ring buffer as bytes. No bool, usize or enum field.

pub mod counter;
pub mod dynamic;
pub mod flow_key;
pub mod image;
pub mod near;
pub mod policy;
pub mod repeat;
pub mod sample;
pub mod settings;

/// Version of all layouts in this module; a reader refuses records of another version.
pub const ABI_VERSION: u8 = 1;
