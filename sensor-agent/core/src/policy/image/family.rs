//! Prefixes of the two address families as packed, sortable keys: an outer prefix sorts right before the prefixes in it.

use ipnet::IpNet;

use super::super::list::List;

/// A prefix with a number (of a term, later of the entry's first rule or limit) in one word or three.
pub(super) trait Key: Copy + Ord {
    /// Packs a prefix of this family; `None` for one of the other.
    fn of(net: &IpNet, number: u32) -> Option<Self>;
    /// The prefixes of a list in this family, each with the number of its expiry.
    fn of_list(list: &List) -> impl Iterator<Item = Self>;
    /// Bits of the prefix.
    fn len(self) -> u8;
    /// The number.
    fn number(self) -> u32;
    /// The same prefix with another number.
    fn with(self, number: u32) -> Self;
    /// Whether the two are one prefix.
    fn is_same(self, other: Self) -> bool {
        self.with(0) == other.with(0)
    }
    /// Whether `inner` lies in this prefix (or is it).
    fn contains(self, inner: Self) -> bool;
    /// As people write it.
    fn net(self) -> Option<IpNet>;
}

/// IPv4: address (32 bits), length (6), number (26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key4(u64);

impl Key4 {
    pub(super) fn address(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Key for Key4 {
    fn of(net: &IpNet, number: u32) -> Option<Self> {
        let IpNet::V4(net) = net else { return None };
        Some(Self::new(net.network().to_bits(), net.prefix_len(), number))
    }

    fn of_list(list: &List) -> impl Iterator<Item = Self> {
        list.four().map(|(address, len, expiry)| Self::new(address, len, expiry))
    }

    #[expect(clippy::cast_possible_truncation, reason = "six bits are left")]
    fn len(self) -> u8 {
        (self.0 >> 26) as u8 & 0x3f
    }

    fn number(self) -> u32 {
        (self.0 & 0x3ff_ffff) as u32
    }

    fn with(self, number: u32) -> Self {
        Self(self.0 & !0x3ff_ffff | u64::from(number & 0x3ff_ffff))
    }

    fn contains(self, inner: Self) -> bool {
        let different = self.address() ^ inner.address();
        inner.len() >= self.len()
            && different.checked_shr(32 - u32::from(self.len())).unwrap_or(0) == 0
    }

    fn net(self) -> Option<IpNet> {
        Some(ipnet::Ipv4Net::new(self.address().into(), self.len()).ok()?.into())
    }
}

impl Key4 {
    fn new(address: u32, len: u8, number: u32) -> Self {
        Self(u64::from(address) << 32 | u64::from(len) << 26 | u64::from(number & 0x3ff_ffff))
    }
}

/// IPv6: high word, low word, length (8 bits) and number (24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key6 {
    pub(super) high: u64,
    pub(super) low: u64,
    last: u32,
}

impl Key for Key6 {
    fn of(net: &IpNet, number: u32) -> Option<Self> {
        let IpNet::V6(net) = net else { return None };
        let bits = net.network().to_bits();
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        Some(Self::new(high, low, net.prefix_len(), number))
    }

    fn of_list(list: &List) -> impl Iterator<Item = Self> {
        list.six().map(|(high, low, len, expiry)| Self::new(high, low, len, expiry))
    }

    fn len(self) -> u8 {
        (self.last >> 24) as u8
    }

    fn number(self) -> u32 {
        self.last & 0xff_ffff
    }

    fn with(self, number: u32) -> Self {
        Self { last: self.last & 0xff00_0000 | number & 0xff_ffff, ..self }
    }

    fn contains(self, inner: Self) -> bool {
        inner.len() >= self.len() && cut(inner.high, inner.low, self.len()) == (self.high, self.low)
    }

    fn net(self) -> Option<IpNet> {
        let bits = u128::from(self.high) << 64 | u128::from(self.low);
        Some(ipnet::Ipv6Net::new(bits.into(), self.len()).ok()?.into())
    }
}

impl Key6 {
    fn new(high: u64, low: u64, len: u8, number: u32) -> Self {
        Self { high, low, last: u32::from(len) << 24 | number & 0xff_ffff }
    }
}

/// The first `len` bits of an address, the others zero.
pub(super) fn cut(high: u64, low: u64, len: u8) -> (u64, u64) {
    let mask = |bits: u32| match bits {
        0 => 0,
        bits => u64::MAX << (64 - bits.min(64)),
    };
    let len = u32::from(len);
    (high & mask(len.min(64)), low & mask(len.saturating_sub(64)))
}
