//! Reads a capture file (pcap or pcapng, either byte order, micro- or nanoseconds) as a stream of packets.
//!
//! Own reader: a cut or damaged file gives every packet before the damage and then says where and what it is, memory
//! stays at one buffer whatever the file's size, and a packet is borrowed, never copied. Bound: [`RECORD_BYTES_MAX`].
//! Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

use std::io::{self, Read};

mod ng;

/// Largest packet record (a GSO super-segment with BIG TCP is below 512 KiB).
pub const RECORD_BYTES_MAX: usize = 2 << 20;
const BUFFER_BYTES: usize = 512 * 1024;

/// One packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Nanoseconds since 1970 UTC.
    pub time_ns: u64,
    /// Link type (LINKTYPE_ registry).
    pub link: u32,
    /// Captured bytes.
    pub data: &'a [u8],
    /// Length on the wire.
    pub wire_len: u32,
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file could not be read.
    #[error("reading failed at byte {at}: {source}")]
    Io {
        /// Offset in the file.
        at: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// Not a capture.
    #[error(
        "not a capture file: it looks like {0}; expected pcap, pcapng, HAR 1.2 or JSON lines of requests"
    )]
    Format(&'static str),
    /// The file ends inside a packet or block.
    #[error("the file is cut at byte {at} (inside a {what}); everything before was used")]
    Cut {
        /// Offset of the end.
        at: u64,
        /// What was being read.
        what: &'static str,
    },
    /// A length or version that cannot be.
    #[error("the file is damaged at byte {at}: {what}; everything before was used")]
    Damaged {
        /// Offset of the damage.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A buffered input that hands out slices.
#[derive(Debug)]
pub struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// File offset of `buffer[start]`.
    pub(crate) offset: u64,
}

impl<R: Read> Input<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, offset: 0 }
    }

    /// Makes at least `len` bytes available, fewer only at the end of the file. Returns how many there are.
    pub(crate) fn fill(&mut self, len: usize) -> Result<usize, CaptureError> {
        if self.end - self.start >= len {
            return Ok(self.end - self.start);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        while self.end < len {
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.reader.read(room) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(CaptureError::Io { at: self.offset + self.end as u64, source });
                }
            }
        }
        Ok(self.end - self.start)
    }

    /// What is available.
    pub(crate) fn peek(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Uses up `len` available bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.offset += len as u64;
    }

    /// The `len` bytes before the current position, which were just consumed.
    fn behind(&self, len: usize) -> &[u8] {
        self.buffer.get(self.start.saturating_sub(len)..self.start).unwrap_or_default()
    }

    /// Skips `len` bytes that need not fit the buffer; `false` when the file ends before.
    fn skip(&mut self, mut len: u64) -> Result<bool, CaptureError> {
        while len > 0 {
            let step = usize::try_from(len).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let there = self.fill(step)?.min(step);
            if there == 0 {
                return Ok(false);
            }
            self.consume(there);
            len -= there as u64;
        }
        Ok(true)
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start < self.end {
            let mut rest = self.peek();
            let len = rest.read(out)?;
            self.consume(len);
            return Ok(len);
        }
        let len = self.reader.read(out)?;
        self.offset += len as u64;
        Ok(len)
    }
}

#[derive(Debug)]
enum Format {
    Classic(Classic),
    Ng(ng::Section),
}

#[derive(Clone, Copy, Debug)]
struct Classic {
    order: Order,
    link: u32,
    nanoseconds: bool,
    record_header: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let bytes =
            bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        if self == Self::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let bytes =
            bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        if self == Self::Big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }
}

/// A capture being read.
#[derive(Debug)]
pub struct Capture<R> {
    input: Input<R>,
    format: Format,
}

impl<R: Read> Capture<R> {
    /// Opens a capture; an input that is none is refused with what it looks like.
    pub fn open(reader: R) -> Result<Self, CaptureError> {
        Self::from_input(Input::new(reader))
    }

    pub(crate) fn from_input(mut input: Input<R>) -> Result<Self, CaptureError> {
        let there = input.fill(24)?;
        let head = input.peek();
        if ng::is_section(head) {
            return Ok(Self { input, format: Format::Ng(ng::Section::default()) });
        }
        let magic = [Order::Little, Order::Big].into_iter().find_map(|order| {
            let (nanoseconds, record_header) = match order.u32(head, 0) {
                0xa1b2_c3d4 => (false, 16),
                0xa1b2_3c4d => (true, 16),
                0xa1b2_cd34 => (false, 24),
                _ => return None,
            };
            Some(Classic {
                order,
                link: order.u32(head, 20) & 0x03ff_ffff,
                nanoseconds,
                record_header,
            })
        });
        let Some(classic) = magic.filter(|_| head.len() >= 4) else {
            return Err(CaptureError::Format(looks_like(head)));
        };
        if there < 24 {
            return Err(CaptureError::Cut { at: there as u64, what: "file header" });
        }
        input.consume(24);
        Ok(Self { input, format: Format::Classic(classic) })
    }

    /// Bytes of the file used so far.
    pub fn offset(&self) -> u64 {
        self.input.offset
    }

    /// The next packet; `None` at the end of the file.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.input),
            Format::Ng(section) => section.next(&mut self.input),
        }
    }
}

impl Classic {
    fn next<'a, R: Read>(
        &self,
        input: &'a mut Input<R>,
    ) -> Result<Option<Packet<'a>>, CaptureError> {
        let there = input.fill(self.record_header)?;
        if there < self.record_header {
            let at = input.offset + there as u64;
            return if there == 0 {
                Ok(None)
            } else {
                Err(CaptureError::Cut { at, what: "packet header" })
            };
        }
        let header = input.peek();
        let seconds = u64::from(self.order.u32(header, 0));
        let fraction = u64::from(self.order.u32(header, 4));
        let captured = self.order.u32(header, 8) as usize;
        let wire_len = self.order.u32(header, 12);
        if captured > RECORD_BYTES_MAX {
            return Err(CaptureError::Damaged {
                at: input.offset,
                what: "a packet of more than 2 MiB",
            });
        }
        let whole = self.record_header + captured;
        let there = input.fill(whole)?;
        if there < whole {
            return Err(CaptureError::Cut { at: input.offset + there as u64, what: "packet" });
        }
        input.consume(whole);
        let unit = if self.nanoseconds { 1 } else { 1_000 };
        let time_ns =
            seconds.saturating_mul(1_000_000_000).saturating_add(fraction.saturating_mul(unit));
        Ok(Some(Packet { time_ns, link: self.link, data: input.behind(captured), wire_len }))
    }
}

/// What an unknown file probably is.
fn looks_like(head: &[u8]) -> &'static str {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "a gzip archive (unpack it, or pipe it: zcat FILE | sensor-agent replay -)"),
        (
            b"\x28\xb5\x2f\xfd",
            "a zstd archive (unpack it, or pipe it: zstdcat FILE | sensor-agent replay -)",
        ),
        (b"\xfd7zXZ", "an xz archive (unpack it, or pipe it: xzcat FILE | sensor-agent replay -)"),
        (b"BZh", "a bzip2 archive (unpack it first)"),
        (b"PK\x03\x04", "a zip archive (unpack it first)"),
        (b"\x7fELF", "a program"),
        (b"snoop\0\0\0", "a Solaris snoop capture (convert it: editcap IN OUT.pcap)"),
        (b"RTSS", "a Microsoft netmon capture (convert it: editcap IN OUT.pcap)"),
        (b"GMBU", "a Microsoft netmon capture (convert it: editcap IN OUT.pcap)"),
        (b"%PDF", "a PDF document"),
        (b"<", "HTML or XML"),
        (b"openapi", "an OpenAPI document (give its folder by --catalogue)"),
    ];
    if head.is_empty() {
        return "an empty file";
    }
    KNOWN
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map_or("unknown data", |(_, name)| *name)
}
