//! ABI and pure decisions shared by the kernel programs and the agent.
//!
//! The same code judges a packet in the kernel and in a test on the host: everything here works over
//! [`packet::PacketBytes`] and `verdict::Tables`, has no `unsafe` and does not know aya.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
