//! Where samples come from: the ring buffer (live, Linux) or files.

pub mod budget;
pub mod fragments;
pub mod har;
pub mod json;
pub mod jsonl;
mod loose;
pub mod packet;
pub mod pcap;
pub mod recording;
#[cfg(target_os = "linux")]
pub mod ring_buffer;
