//! ABI and pure decisions shared by the kernel programs and the agent.
//!
//! The same code judges a packet in the kernel and in a test on the host: everything here works over
//! [`packet::PacketBytes`] and [`tables::Tables`], has no `unsafe` and does not know aya.
#![no_std]
#![forbid(unsafe_code)]
#![expect(
    clippy::inline_always,
    reason = "the verifier judges a program, not a crate: what is a function there is chosen here"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "packed words and hashes are cut into their fields; a checked conversion is a branch more for the verifier"
)]
#![allow(clippy::similar_names, reason = "fields of entries have the names of the layout")]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod abi;
pub mod http_head;
pub mod judge;
pub mod packet;
pub mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tracker;
pub mod verdict;
pub mod work;
