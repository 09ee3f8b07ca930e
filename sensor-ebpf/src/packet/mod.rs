//! Header walk over [`PacketBytes`]: link, VLAN, IPv4 or IPv6, TCP or UDP.

mod bytes;
mod headers;
mod network;
#[cfg(test)]
mod tests;

pub use bytes::{PacketBytes, Slice, Wire};
pub use headers::{Headers, Link, Outcome, TcpFlags, parse};
