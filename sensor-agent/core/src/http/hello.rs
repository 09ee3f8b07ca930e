//! Reads a TLS ClientHello (RFC 8446 section 4.1.2) as far as it is there: server name, ALPN, versions, and whether a
//! post-quantum key exchange is offered.
//!
//! Bound: one handshake message of at most 16 KiB, over several records; names of at most 255 bytes, 8 protocols.
//! "Not enough yet" is [`HelloError::Partial`], with what was read so far.

const HELLO_BYTES_MAX: usize = 16 * 1024;
const ALPN_MAX: usize = 8;

/// What a ClientHello offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name (RFC 6066), lower case.
    pub server_name: Option<Box<str>>,
    /// Application protocols (RFC 7301) in the client's order.
    pub alpn: Vec<Box<str>>,
    /// Highest version offered.
    pub version: Option<TlsVersion>,
    /// A hybrid or pure post-quantum group is among the supported groups or key shares.
    pub post_quantum: bool,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// SSL 3.0
    Ssl30,
    /// TLS 1.0
    Tls10,
    /// TLS 1.1
    Tls11,
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl TlsVersion {
    /// Reads the wire value; `None` for GREASE and unknown ones.
    #[must_use]
    pub const fn from_wire(value: u16) -> Option<Self> {
        Some(match value {
            0x0300 => Self::Ssl30,
            0x0301 => Self::Tls10,
            0x0302 => Self::Tls11,
            0x0303 => Self::Tls12,
            0x0304 => Self::Tls13,
            _ => return None,
        })
    }

    /// The version's usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssl30 => "SSL 3.0",
            Self::Tls10 => "TLS 1.0",
            Self::Tls11 => "TLS 1.1",
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        }
    }
}

/// Why there is no whole ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// More bytes are needed; what was read so far.
    Partial(ClientHello),
    /// Not a ClientHello.
    NotHello,
}

/// Parses a ClientHello from the first bytes of a TLS stream.
pub fn parse_hello(stream: &[u8]) -> Result<ClientHello, HelloError> {
    let mut message = Vec::new();
    let mut whole = false;
    let mut rest = stream;
    while let Some((header, after)) = rest.split_at_checked(5) {
        let &[kind, major, _, high, low] = header else { break };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if kind != 0x16 || major != 3 {
            return Err(HelloError::NotHello);
        }
        let part = after.get(..len.min(after.len())).unwrap_or_default();
        message.extend_from_slice(part);
        whole = message_len(&message).is_some_and(|wanted| message.len() >= wanted);
        if whole || part.len() < len || message.len() > HELLO_BYTES_MAX {
            break;
        }
        rest = after.get(len..).unwrap_or_default();
    }
    if message.first().is_some_and(|kind| *kind != 1) {
        return Err(HelloError::NotHello);
    }
    let mut hello = ClientHello::default();
    let body = message
        .get(4..message_len(&message).unwrap_or(usize::MAX).min(message.len()))
        .unwrap_or_default();
    // An early end is either not enough yet or a malformed message: `whole` tells.
    let _ended = read_body(body, &mut hello);
    if whole { Ok(hello) } else { Err(HelloError::Partial(hello)) }
}

fn message_len(message: &[u8]) -> Option<usize> {
    let &[_, a, b, c] = message.get(..4)? else { return None };
    Some(4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)))
}

/// `None` when the input ended early; what was read is in `hello`.
fn read_body(mut body: &[u8], hello: &mut ClientHello) -> Option<()> {
    hello.version = TlsVersion::from_wire(take_u16(&mut body)?);
    take(&mut body, 32)?;
    take_vec8(&mut body)?;
    take_vec16(&mut body)?;
    take_vec8(&mut body)?;
    if body.is_empty() {
        return Some(());
    }
    let declared = usize::from(take_u16(&mut body)?);
    let mut extensions = body.get(..declared.min(body.len()))?;
    let cut = body.len() < declared;
    while !extensions.is_empty() {
        let kind = take_u16(&mut extensions)?;
        let value = take_vec16(&mut extensions)?;
        read_extension(kind, value, hello);
    }
    (!cut).then_some(())
}

fn read_extension(kind: u16, mut value: &[u8], hello: &mut ClientHello) -> Option<()> {
    match kind {
        0 => {
            let mut list = take_vec16(&mut value)?;
            let name_kind = take(&mut list, 1)?;
            let name = take_vec16(&mut list)?;
            let plain =
                name_kind == [0] && name.len() <= 255 && name.iter().all(u8::is_ascii_graphic);
            hello.server_name =
                plain.then(|| String::from_utf8_lossy(name).to_ascii_lowercase().into());
        }
        16 => {
            let mut list = take_vec16(&mut value)?;
            while let Some(name) = take_vec8(&mut list).filter(|_| hello.alpn.len() < ALPN_MAX) {
                if name.iter().all(u8::is_ascii_graphic) {
                    hello.alpn.push(String::from_utf8_lossy(name).into());
                }
            }
        }
        10 => {
            let mut groups = take_vec16(&mut value)?;
            while let Some(group) = take_u16(&mut groups) {
                hello.post_quantum |= is_post_quantum(group);
            }
        }
        51 => {
            let mut shares = take_vec16(&mut value)?;
            while let Some(group) = take_u16(&mut shares) {
                hello.post_quantum |= is_post_quantum(group);
                take_vec16(&mut shares)?;
            }
        }
        43 => {
            let mut versions = take_vec8(&mut value)?;
            while let Some(version) = take_u16(&mut versions) {
                hello.version = hello.version.max(TlsVersion::from_wire(version));
            }
        }
        _ => {}
    }
    Some(())
}

/// Groups with ML-KEM or its drafts: the IANA registry "TLS Supported Groups".
const fn is_post_quantum(group: u16) -> bool {
    matches!(group, 0x0200..=0x0202 | 0x11eb..=0x11ed | 0x6399 | 0x639a | 0x4138 | 0xfe30..=0xfe33)
}

fn take<'a>(input: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (part, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(part)
}

fn take_u16(input: &mut &[u8]) -> Option<u16> {
    take(input, 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes)
}

fn take_vec8<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(*take(input, 1)?.first()?);
    take(input, len)
}

fn take_vec16<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(take_u16(input)?);
    take(input, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).unwrap();
        [&kind.to_be_bytes()[..], &len.to_be_bytes(), value].concat()
    }

    fn hello() -> Vec<u8> {
        let extensions = [
            extension(0x0a0a, &[]),
            extension(0, b"\0\x0e\0\0\x0bExample.com"),
            extension(16, b"\0\x0c\x02h2\x08http/1.1"),
            extension(43, &[4, 3, 4, 3, 3]),
            extension(51, &[0, 6, 0x11, 0xec, 0, 2, 9, 9]),
        ]
        .concat();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let len = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1, len[1], len[2], len[3]], &body[..]].concat();
        // Two records: the message is cut in the middle.
        let (a, b) = message.split_at(50);
        let record = |part: &[u8]| {
            [&[0x16, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
        };
        [record(a), record(b)].concat()
    }

    #[test]
    fn every_prefix_is_partial_and_the_whole_is_read() {
        let stream = hello();
        for len in 0..stream.len() {
            assert!(matches!(parse_hello(&stream[..len]), Err(HelloError::Partial(_))), "{len}");
        }
        let hello = parse_hello(&stream).unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("example.com"));
        assert_eq!(hello.alpn, ["h2".into(), "http/1.1".into()]);
        assert_eq!((hello.version, hello.post_quantum), (Some(TlsVersion::Tls13), true));
    }

    #[test]
    fn any_corrupt_byte_is_survived() {
        let stream = hello();
        for at in 0..stream.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = stream.clone();
                bad[at] = value;
                drop(parse_hello(&bad));
            }
        }
    }
}
