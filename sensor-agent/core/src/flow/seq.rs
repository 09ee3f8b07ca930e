//! TCP sequence numbers, compared modulo 2^32 (RFC 9293 section 3.4).

/// A sequence number; ordered only by [`SeqNo::since`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqNo(pub u32);

impl SeqNo {
    /// Signed distance from `earlier` to this, right for distances below 2^31.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// This number plus `len` bytes.
    #[must_use]
    pub const fn plus(self, len: u32) -> Self {
        Self(self.0.wrapping_add(len))
    }
}

#[cfg(test)]
mod tests {
    use super::SeqNo;

    #[test]
    fn distance_is_right_across_the_wrap() {
        assert_eq!(SeqNo(5).since(SeqNo(u32::MAX - 4)), 10);
        assert_eq!(SeqNo(u32::MAX).since(SeqNo(0)), -1);
        assert_eq!(SeqNo(u32::MAX).plus(2), SeqNo(1));
    }
}
