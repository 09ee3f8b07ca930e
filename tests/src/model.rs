//! A reference model of the policy: a linear scan over the rules as an operator wrote them.
//!
//! Written from the documentation of the policy, not from its compiler or the verdict: no tries, hashes of prefixes, bitmaps or compiled
//! tables, and no type of theirs. Slow on purpose. [`world`] makes policies and packets for it.

mod allowance;
mod connections;
pub mod decide;
pub mod packet;
pub mod world;

pub use decide::{Decided, Model};
pub use packet::{Kind, Packet};
pub use world::World;

/// One of the three lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Never dropped.
    Allow,
    /// Dropped.
    Block,
    /// Dropped beyond an allowance.
    Limits,
}

/// What a rule does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dropped in silence.
    Drop,
    /// Both ends are told.
    Reset,
    /// Counted.
    Monitor,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// IPv4 (then the address is in the low 32 bits) or IPv6.
    pub four: bool,
    /// The first address.
    pub address: u128,
    /// Bits that count.
    pub len: u8,
}

impl Prefix {
    /// Whether an address begins like this: compared bit by bit.
    #[must_use]
    pub fn covers(&self, four: bool, address: u128) -> bool {
        let bits = if self.four { 32 } else { 128 };
        four == self.four
            && (0..self.len).all(|bit| {
                let at = bits - 1 - bit;
                (address >> at) & 1 == (self.address >> at) & 1
            })
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> u128 {
        let free = (if self.four { 32 } else { 128 }) - self.len;
        (0..free).fold(self.address, |address, bit| address | 1 << bit)
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.four {
            let address = u32::try_from(self.address).unwrap_or(0);
            write!(f, "{}/{}", std::net::Ipv4Addr::from(address), self.len)
        } else {
            write!(f, "{}/{}", std::net::Ipv6Addr::from(self.address), self.len)
        }
    }
}

/// What a limit allows, at once; bytes come back at 1 000 a second, everything else within a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Packets.
    pub packets: Option<u64>,
    /// IP bytes.
    pub bytes: Option<u64>,
    /// SYNs.
    pub new_connections: Option<u64>,
    /// Request heads.
    pub requests: Option<u64>,
    /// Connections open at a time.
    pub connections: Option<u64>,
}

/// A rule as it is written.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Its list.
    pub list: List,
    /// Its clients.
    pub clients: Vec<Prefix>,
    /// Service ports; empty = any.
    pub ports: Vec<(u16, u16)>,
    /// 6, 17, or both.
    pub protocol: Option<u8>,
    /// Into the host (true), out of it (false), or both.
    pub ingress: Option<bool>,
    /// Index of its interface; `Some(0)` is one that the host does not have.
    pub interface: Option<u32>,
    /// Of clients.
    pub percent: u8,
    /// What it does.
    pub action: Action,
    /// Seconds from the compilation on, from which it is in force.
    pub starts: Option<u64>,
    /// Seconds from the compilation on, from which it no longer is.
    pub expires: Option<u64>,
    /// What a limit allows.
    pub allowance: Allowance,
    /// All clients share the allowance.
    pub shared: bool,
}
