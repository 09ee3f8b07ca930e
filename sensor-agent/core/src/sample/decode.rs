//! Checks one ring buffer record and borrows it as a [`Sample`].
//!
//! Bound: [`SNAP_BYTES_MAX`] bytes of data. A record of another ABI version is an error, never misread.

use sensor_ebpf::abi::{
    ABI_VERSION,
    sample::{SNAP_BYTES_MAX, SampleHeader, SampleKind},
};
use zerocopy::FromBytes;

/// One record of the kernel: its header and its data.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// What it is.
    pub kind: SampleKind,
    /// The header as the kernel wrote it.
    pub header: SampleHeader,
    /// Bytes of a head, of a ClientHello, or of the other tuple.
    pub data: &'a [u8],
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than a header, or than its header says.
    #[error("record of {len} bytes is shorter than it says ({needed})")]
    Short {
        /// Bytes there.
        len: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// Written by another version of the kernel programs.
    #[error("record has ABI version {0}, this agent reads {ABI_VERSION}")]
    Version(u8),
    /// Unknown kind.
    #[error("record of unknown kind {0}")]
    Kind(u8),
    /// More data than a record may hold.
    #[error("record says {0} bytes of data, the limit is {SNAP_BYTES_MAX}")]
    DataLen(u32),
}

/// Reads one record.
pub fn decode(record: &[u8]) -> Result<Sample<'_>, DecodeError> {
    let short = |needed| DecodeError::Short { len: record.len(), needed };
    let (header, rest) =
        SampleHeader::read_from_prefix(record).map_err(|_| short(size_of::<SampleHeader>()))?;
    if header.version != ABI_VERSION {
        return Err(DecodeError::Version(header.version));
    }
    let kind = SampleKind::from_wire(header.kind).ok_or(DecodeError::Kind(header.kind))?;
    if header.data_len > SNAP_BYTES_MAX {
        return Err(DecodeError::DataLen(header.data_len));
    }
    let len =
        usize::try_from(header.data_len).map_err(|_| DecodeError::DataLen(header.data_len))?;
    let data = rest.get(..len).ok_or_else(|| short(size_of::<SampleHeader>() + len))?;
    Ok(Sample { kind, header, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn every_prefix_of_a_record_is_refused_and_the_whole_is_read() {
        let header = SampleHeader {
            version: ABI_VERSION,
            kind: SampleKind::RequestHead as u8,
            data_len: 4,
            ..Default::default()
        };
        let mut record = header.as_bytes().to_vec();
        record.extend_from_slice(b"GET ");
        for len in 0..record.len() {
            assert!(matches!(decode(&record[..len]), Err(DecodeError::Short { .. })), "{len}");
        }
        assert_eq!(decode(&record).map(|sample| sample.data), Ok(&b"GET "[..]));
    }
}
