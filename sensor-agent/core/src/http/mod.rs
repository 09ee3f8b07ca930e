//! Stage 6, http: ordered bytes to [`Exchange`]s (RFC 9110: a request with its response).

mod exchange;

pub use exchange::{AuthScheme, Exchange, Method, OwnerHint, RequestFacts, ResponseFacts};
