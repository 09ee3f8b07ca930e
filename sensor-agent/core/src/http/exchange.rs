//! One exchange: what the inventory needs of a request and its response, and nothing else.
//!
//! What comes again with every request of a client is shared (`Arc`): a head that is known is not copied.
//! No body, no header value but the few named here; credentials are reduced to their scheme at parse time.

use std::{net::SocketAddr, sync::Arc};

use super::forwarded::Forwarded;
use super::link::LifeLinks;
use crate::time::UnixNs;

/// A request method; registered ones without allocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
    /// Another token (WebDAV and others), at most [`Method::LEN_MAX`] bytes, as sent.
    Other(Box<str>),
}

impl Method {
    /// Longest method that is read as one.
    pub const LEN_MAX: usize = 24;

    /// Reads a method token; `None` when it is not a token of RFC 9110 or too long.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        Some(match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            _ if token.is_empty() || token.len() > Self::LEN_MAX => return None,
            _ if token.bytes().all(is_token_byte) => Self::Other(token.into()),
            _ => return None,
        })
    }

    /// The method as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(token) => token,
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// How a request was authenticated, as far as it shows; never the credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthScheme {
    /// No credentials seen.
    #[default]
    None,
    /// `Authorization: Basic`
    Basic,
    /// `Authorization: Bearer`, opaque token.
    Bearer,
    /// `Authorization: Bearer` with a token of JWT shape (RFC 7519).
    Jwt,
    /// `Authorization: Digest`
    Digest,
    /// Another `Authorization` scheme.
    Other,
    /// An API key header (`X-API-Key` and its kin).
    ApiKeyHeader,
    /// An API key or token in the query.
    ApiKeyQuery,
    /// A session cookie.
    Cookie,
    /// A client certificate, as the proxy that ended TLS tells of it.
    ClientCertificate,
}

impl AuthScheme {
    /// Every scheme.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::Basic,
        Self::Bearer,
        Self::Jwt,
        Self::Digest,
        Self::Other,
        Self::ApiKeyHeader,
        Self::ApiKeyQuery,
        Self::Cookie,
        Self::ClientCertificate,
    ];

    /// The word in rows, events and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Jwt => "jwt",
            Self::Digest => "digest",
            Self::Other => "other",
            Self::ApiKeyHeader => "api_key_header",
            Self::ApiKeyQuery => "api_key_query",
            Self::Cookie => "cookie",
            Self::ClientCertificate => "client_certificate",
        }
    }

    /// The scheme of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == word)
    }
}

/// Who sent a segment, as the kernel saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerHint {
    /// Cgroup of the sending socket, 0 when unknown.
    pub cgroup_id: u64,
    /// Interface of the sighting.
    pub ifindex: u32,
    /// `sensor_ebpf::abi::sample::Hook` as a number, 0 in a replay.
    pub hook: u8,
    /// The sender's address at the first hook that saw the flow: its name in the kernel's tables. None in a replay.
    pub address: Option<SocketAddr>,
    /// The receiver's address at that hook.
    pub peer: Option<SocketAddr>,
    /// Number of the flow: another one when the same addresses and ports come again. 0 in a replay.
    pub flow: u64,
}

/// What a browser wants the answer for (`Sec-Fetch-Dest`, W3C Fetch Metadata).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchedFor {
    /// Not said: no browser, or an old one.
    #[default]
    Unknown,
    /// A script of the page (`empty`).
    Script,
    /// The page itself, or a page in it (`document`, `iframe`, ...).
    Page,
    /// A part of the page (`image`, `style`, `script`, `font`, ...).
    Part,
}

impl FetchedFor {
    /// Reads the header's value.
    #[must_use]
    pub fn of_header(value: &[u8]) -> Self {
        match value {
            b"empty" => Self::Script,
            b"document" | b"iframe" | b"frame" | b"fencedframe" | b"object" | b"embed" => {
                Self::Page
            }
            b"image" | b"style" | b"script" | b"font" | b"audio" | b"video" | b"track"
            | b"manifest" | b"worker" | b"sharedworker" | b"serviceworker" | b"audioworklet"
            | b"paintworklet" | b"xslt" => Self::Part,
            _ => Self::Unknown,
        }
    }
}

/// Facts of a request beside method, host and target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// Strongest scheme seen.
    pub auth: AuthScheme,
    /// Media type without parameters, lower case, at most 64 bytes.
    pub content_type: Option<Arc<str>>,
    /// First product token of `User-Agent` without version (`curl`, `Mozilla`), at most 32 bytes.
    pub user_agent: Option<Arc<str>>,
    /// What a browser wants the answer for.
    pub fetched_for: FetchedFor,
    /// Whom proxies say they speak for.
    pub forwarded: Forwarded,
    /// Hash of the credential in `Authorization` or in an API key header; never the credential. It is hashed again with the
    /// installation's key before anything counts by it.
    pub credential: Option<u64>,
    /// A proxy tells of a certificate that the client showed, beside whatever else the request has.
    pub client_certificate: bool,
    /// OPTIONS with `Origin` and `Access-Control-Request-Method` (CORS preflight).
    pub preflight: bool,
    /// `Content-Length`, or the body's size once known (chunked: wire bytes of the chunks' data).
    pub body_bytes: Option<u64>,
    /// Bytes of the head, blank line included.
    pub head_bytes: u32,
    /// Only part of the head was seen.
    pub truncated: bool,
}

/// Facts of a response beside its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseFacts {
    /// Media type without parameters, lower case, at most 64 bytes.
    pub content_type: Option<Arc<str>>,
    /// `Location`, at most 256 bytes, query removed.
    pub location: Option<Box<str>>,
    /// `Deprecation` (RFC 9745), raw, at most 64 bytes.
    pub deprecation: Option<Box<str>>,
    /// `Sunset` (RFC 8594), raw, at most 64 bytes.
    pub sunset: Option<Box<str>>,
    /// Links that speak of its operation's life.
    pub links: Option<Box<LifeLinks>>,
    /// gRPC status in the head (`grpc-status`), where there is one.
    pub grpc_status: Option<u16>,
    /// As for [`RequestFacts::body_bytes`].
    pub body_bytes: Option<u64>,
    /// Bytes of the head, blank line included.
    pub head_bytes: u32,
    /// Only part of the head was seen.
    pub truncated: bool,
}

/// A request with its response (`status` is `None` when none was seen).
///
/// A response whose request was not seen makes no exchange; it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When the request's first byte was seen.
    pub time: UnixNs,
    /// Client, the outermost address where the flow was seen before and after NAT.
    pub client: SocketAddr,
    /// Server, the innermost address (nearest the workload).
    pub server: SocketAddr,
    /// Method.
    pub method: Method,
    /// `Host` (or the authority of an absolute-form target) as sent, port included.
    pub host: Option<Arc<[u8]>>,
    /// Request target as sent, query included. Raw: leaves the process only by `replay --emit exchanges`.
    pub target: Box<[u8]>,
    /// Final status code.
    pub status: Option<u16>,
    /// From the request's first byte to the response's first byte, ns.
    pub latency_ns: Option<u64>,
    /// Of the request.
    pub request: RequestFacts,
    /// Of the response.
    pub response: ResponseFacts,
    /// One observed exchange stands for this many (1 = every flow is sampled).
    pub weight: u32,
    /// Sender of the request.
    pub client_hint: OwnerHint,
    /// Sender of the response.
    pub server_hint: OwnerHint,
}
