//! Fields of a protobuf message, one by one, without a schema: as much of the wire format as descriptors need.
//!
//! Nothing is copied and nothing is nested here: who wants what is in a field reads that as a message of its own.
//! See protobuf.dev/programming-guides/encoding. Groups (long deprecated) are an error.

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// A message, a text or bytes.
    Bytes(&'a [u8]),
    /// A number of 4 or 8 bytes.
    Fixed,
}

/// Why bytes are no message, and at which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WireError {
    pub(super) at: usize,
    pub(super) why: &'static str,
}

/// Reads the fields of a message; ends after the first error.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn read(&mut self) -> Result<(u64, Value<'a>), &'static str> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 {
            return Err("a field without a number");
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.skip(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| CUT)?;
                let end = self.at.checked_add(length).ok_or(CUT)?;
                let bytes = self.bytes.get(self.at..end).ok_or(CUT)?;
                self.at = end;
                Value::Bytes(bytes)
            }
            5 => self.skip(4)?,
            _ => return Err("a field of a kind that is not used any more"),
        };
        Ok((number, value))
    }

    fn skip(&mut self, bytes: usize) -> Result<Value<'a>, &'static str> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.bytes.len()).ok_or(CUT)?;
        Ok(Value::Fixed)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(CUT)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number that does not end")
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        let read = self.read().map_err(|why| WireError { at: start, why });
        if read.is_err() {
            self.at = self.bytes.len();
        }
        Some(read)
    }
}

const CUT: &str = "a field that is cut off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_all_kinds_are_read() {
        let bytes =
            [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21, 0, 0, 0, 0, 0, 0, 0, 0];
        let read: Vec<_> = Fields::of(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(
            read,
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes(b"hi")),
                (3, Value::Fixed),
                (4, Value::Fixed)
            ]
        );
        // Every prefix is either whole fields or an error, and the error comes once.
        for len in 0..bytes.len() {
            let errors = Fields::of(&bytes[..len]).filter(Result::is_err).count();
            assert!(errors <= 1, "{len}");
        }
    }

    #[test]
    fn what_is_no_message_names_its_byte() {
        for (bytes, at) in [
            (&[0x0a, 5, 1][..], 0),
            (&[0x08, 1, 0x0b], 2),
            (&[0x00], 0),
            (&[0xff; 12], 0),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 0),
        ] {
            let error = Fields::of(bytes).find_map(Result::err).unwrap();
            assert_eq!(error.at, at, "{bytes:?}");
        }
    }
}
