//! Netlink messages: requests to bytes, bytes to (type, payload) and attributes.
//!
//! Bound: what is in the buffer; a length that points beyond it ends the walk.

use nix::libc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct nlmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Header {
    pub(crate) len: u32,
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) port: u32,
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct AttrHeader {
    len: u16,
    kind: u16,
}

const HEADER_LEN: usize = size_of::<Header>();
const ATTR_HEADER_LEN: usize = size_of::<AttrHeader>();
/// The two upper bits of an attribute's type are flags (nested, byte order).
const ATTR_TYPE_MASK: u16 = 0x3fff;

/// A request under construction.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Starts a message; `flags` are added to `NLM_F_REQUEST`.
    pub(crate) fn new(kind: u16, flags: libc::c_int) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(0);
        let header = Header { kind, flags, ..Header::default() };
        Self { bytes: header.as_bytes().to_vec() }
    }

    /// Appends a fixed part or payload, padded to four bytes.
    pub(crate) fn push(mut self, part: &[u8]) -> Self {
        self.bytes.extend_from_slice(part);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an attribute.
    pub(crate) fn attr(self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(ATTR_HEADER_LEN + value.len()).unwrap_or(u16::MAX);
        self.push(AttrHeader { len, kind }.as_bytes()).push(value)
    }

    /// Appends an attribute that holds attributes.
    pub(crate) fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self = fill(self.push(AttrHeader { len: 0, kind }.as_bytes()));
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 2) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
        self
    }

    /// The finished message.
    pub(crate) fn finish(mut self, seq: u32) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(..4) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
        if let Some(place) = self.bytes.get_mut(8..12) {
            place.copy_from_slice(&seq.to_ne_bytes());
        }
        self.bytes
    }
}

/// Walks the messages of a buffer.
pub(crate) fn messages(buffer: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let (header, _) = Header::read_from_prefix(rest).ok()?;
        let len = usize::try_from(header.len).ok().filter(|len| *len >= HEADER_LEN)?;
        let payload = rest.get(HEADER_LEN..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// Walks the attributes of a payload.
pub(crate) fn attrs(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let (header, _) = AttrHeader::read_from_prefix(rest).ok()?;
        let len = usize::from(header.len);
        if len < ATTR_HEADER_LEN {
            return None;
        }
        let value = rest.get(ATTR_HEADER_LEN..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((header.kind & ATTR_TYPE_MASK, value))
    })
}

/// Reads an attribute's u32.
pub(crate) fn value_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Reads an attribute's string, without its NUL.
pub(crate) fn value_str(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was_built() {
        let bytes = Request::new(7, libc::NLM_F_ACK)
            .push(&[1, 2, 3, 4, 5])
            .attr(1, b"name\0")
            .nested(2, |request| request.attr(3, &9_u32.to_ne_bytes()))
            .finish(42);
        let (header, payload) = messages(&bytes).next().expect("one message");
        assert_eq!((header.kind, header.seq), (7, 42));
        let found: Vec<_> = attrs(&payload[8..]).collect();
        assert_eq!(value_str(found[0].1), Some("name"));
        let inner: Vec<_> =
            attrs(found[1].1).map(|(kind, value)| (kind, value_u32(value))).collect();
        assert_eq!(inner, [(3, Some(9))]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for (_, payload) in messages(&bytes) {
                prop_assert!(attrs(payload).count() <= 200);
            }
            prop_assert!(attrs(&bytes).count() <= 200);
        }
    }
}
