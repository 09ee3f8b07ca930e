//! Where samples come from: the ring buffer (live, Linux) or files.

pub mod budget;
#[cfg(target_os = "linux")]
pub mod ring_buffer;
