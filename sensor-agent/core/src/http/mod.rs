//! Stage 6, http: ordered bytes to [`Exchange`]s (RFC 9110: a request with its response).

mod chunked;
mod detect;
mod exchange;
mod facts;
mod forwarded;
mod framing;
mod head;
mod hello;
mod known;
mod lenient;
mod link;
mod proxy;
mod reader;

pub use chunked::{ChunkStep, Chunked};
pub use detect::{Detect, preface, request, response, tls};
pub(crate) use detect::{may_decide, skip_blank_lines, without_blank_lines};
pub use exchange::{
    AuthScheme, Exchange, FetchedFor, Method, OwnerHint, RequestFacts, ResponseFacts,
};
pub use facts::{written_request, written_response};
pub use forwarded::{FORWARDED_MAX, Forwarded, ForwardedHeader};
pub use framing::Framing;
pub use head::{HeadError, RequestHead, ResponseHead, parse_request, parse_response};
pub use hello::{ClientHello, HelloError, TlsVersion, parse_hello};
pub(crate) use known::KnownHeads;
pub use link::LifeLinks;
pub use proxy::{ProxyHeader, parse_proxy};
pub use reader::{Kind, Position, Reader, Step};
