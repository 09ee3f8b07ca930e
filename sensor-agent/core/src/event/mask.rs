//! Addresses as the operator wants them shown: full, truncated, or hashed with a key of the installation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::keyed_hash::siphash24;

/// How client addresses leave the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressMask {
    /// As they are.
    #[default]
    Full,
    /// IPv4 to /24, IPv6 to /48.
    Truncated,
    /// A keyed hash of 64 bits, `h:` and 16 hex digits: equal addresses are equal, nothing else shows.
    Hashed,
}

/// Masks addresses.
#[derive(Clone, Default)]
pub struct Mask {
    mode: AddressMask,
    key: [u64; 2],
}

impl Mask {
    /// Makes a mask; `key` is secret, random, and one per installation.
    #[must_use]
    pub const fn new(mode: AddressMask, key: [u64; 2]) -> Self {
        Self { mode, key }
    }

    /// The address as shown. Loopback and unspecified addresses tell nothing about anyone and stay.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> String {
        let address = address.to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return address.to_string();
        }
        match (self.mode, address) {
            (AddressMask::Full, _) => address.to_string(),
            (AddressMask::Truncated, IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                Ipv4Addr::new(a, b, c, 0).to_string()
            }
            (AddressMask::Truncated, IpAddr::V6(v6)) => {
                let [a, b, c, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()
            }
            (AddressMask::Hashed, IpAddr::V4(v4)) => self.hashed(v4.to_ipv6_mapped()),
            (AddressMask::Hashed, IpAddr::V6(v6)) => self.hashed(v6),
        }
    }

    fn hashed(&self, address: Ipv6Addr) -> String {
        format!("h:{:016x}", siphash24(self.key, &address.octets()))
    }
}

impl core::fmt::Debug for Mask {
    /// The key is left out: debug output ends up in logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mask").field("mode", &self.mode).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: AddressMask, address: &str, expected: &str) {
        assert_eq!(Mask::new(mode, [1, 2]).address(address.parse().expect("an address")), expected);
    }

    #[test]
    fn truncation_keeps_24_and_48_bits() {
        check(AddressMask::Truncated, "192.0.2.77", "192.0.2.0");
        check(AddressMask::Truncated, "::ffff:192.0.2.77", "192.0.2.0");
        check(AddressMask::Truncated, "2001:db8:1:2:3::4", "2001:db8:1::");
        check(AddressMask::Truncated, "127.0.0.1", "127.0.0.1");
    }

    #[test]
    fn hash_needs_the_key_and_joins_both_spellings_of_ipv4() {
        let of = |key, address: &str| {
            Mask::new(AddressMask::Hashed, key).address(address.parse().expect("an address"))
        };
        assert_eq!(of([1, 2], "192.0.2.77"), of([1, 2], "::ffff:192.0.2.77"));
        assert_ne!(of([1, 2], "192.0.2.77"), of([1, 3], "192.0.2.77"));
        assert_ne!(of([1, 2], "192.0.2.77"), of([1, 2], "192.0.2.78"));
        assert!(!format!("{:?}", Mask::new(AddressMask::Hashed, [77, 78])).contains("77"));
    }
}
