//! How long the body after a head is: RFC 9112 section 6.3, decided the same way every time.
//!
//! `Transfer-Encoding` beats `Content-Length`; different or unreadable `Content-Length` values lose the position
//! in a request and mean "until close" in a response. Nothing here looks at the body.

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks (RFC 9112 section 7.1).
    Chunked,
    /// Everything until the connection closes.
    UntilClose,
    /// Cannot be known: the position in the stream is lost.
    Unknown,
}

/// The fields that frame a body, collected from a head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields {
    length: Option<u64>,
    length_bad: bool,
    encoding: bool,
    chunked_last: bool,
}

impl FramingFields {
    /// Takes a `Content-Length` value; a list of equal numbers counts as one (RFC 9110 section 8.6).
    pub(super) fn content_length(&mut self, value: &[u8]) {
        for part in value.split(|byte| *byte == b',') {
            match parse_u64(part.trim_ascii()) {
                Some(length) if self.length.is_none_or(|before| before == length) => {
                    self.length = Some(length);
                }
                _ => self.length_bad = true,
            }
        }
    }

    /// Takes a `Transfer-Encoding` value.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) {
        self.encoding = true;
        // Empty elements of a list do not count (RFC 9110 section 5.6.1).
        let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if let Some(last) = codings.find(|coding| !coding.is_empty()) {
            self.chunked_last = last.eq_ignore_ascii_case(b"chunked");
        }
    }

    /// The declared length, where it frames the body.
    pub(super) fn length(&self) -> Option<u64> {
        if self.encoding || self.length_bad { None } else { self.length }
    }

    pub(super) fn of_request(&self) -> Framing {
        if self.encoding {
            return if self.chunked_last { Framing::Chunked } else { Framing::Unknown };
        }
        match (self.length_bad, self.length) {
            (true, _) => Framing::Unknown,
            (false, None | Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        }
    }

    pub(super) fn of_response(&self) -> Framing {
        if self.encoding {
            return if self.chunked_last { Framing::Chunked } else { Framing::UntilClose };
        }
        match (self.length_bad, self.length) {
            (true, _) | (false, None) => Framing::UntilClose,
            (false, Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        }
    }
}

fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lengths: &[&str], encodings: &[&str], request: Framing, response: Framing) {
        let mut fields = FramingFields::default();
        for value in lengths {
            fields.content_length(value.as_bytes());
        }
        for value in encodings {
            fields.transfer_encoding(value.as_bytes());
        }
        assert_eq!(
            (fields.of_request(), fields.of_response()),
            (request, response),
            "{lengths:?} {encodings:?}"
        );
    }

    #[test]
    fn rfc_9112_section_6_3() {
        check(&[], &[], Framing::None, Framing::UntilClose);
        check(&["5"], &[], Framing::Length(5), Framing::Length(5));
        check(&["5", "5"], &[], Framing::Length(5), Framing::Length(5));
        check(&["5, 5"], &[], Framing::Length(5), Framing::Length(5));
        check(&["5", "6"], &[], Framing::Unknown, Framing::UntilClose);
        check(&["+5"], &[], Framing::Unknown, Framing::UntilClose);
        check(&["99999999999999999999999"], &[], Framing::Unknown, Framing::UntilClose);
        check(&["5"], &["chunked"], Framing::Chunked, Framing::Chunked);
        check(&[], &["gzip, Chunked"], Framing::Chunked, Framing::Chunked);
        check(&[], &["gzip", "chunked"], Framing::Chunked, Framing::Chunked);
        check(&[], &["gzip,, chunked ,", ""], Framing::Chunked, Framing::Chunked);
        check(&[], &["chunked, gzip"], Framing::Unknown, Framing::UntilClose);
    }
}
