//! Reads the few header fields that matter into facts; credentials are reduced to their scheme here.
//!
//! Bound: each kept value has its own limit (see the constants); nothing else of a head survives.

use std::sync::Arc;

use httparse::Header;

use super::exchange::{AuthScheme, FetchedFor, Method, RequestFacts, ResponseFacts};
use super::framing::FramingFields;
use super::link::LifeLinks;
use crate::keyed_hash::siphash24;

const CONTENT_TYPE_BYTES_MAX: usize = 64;
const USER_AGENT_BYTES_MAX: usize = 32;
const LOCATION_BYTES_MAX: usize = 256;
const DATE_BYTES_MAX: usize = 64;
const COOKIE_SCAN_BYTES_MAX: usize = 2048;

/// What a request's header section says beside its facts.
#[expect(clippy::struct_excessive_bools, reason = "each is a header field that was there or not")]
#[derive(Debug, Default)]
pub(super) struct RequestFields<'a> {
    pub(super) facts: RequestFacts,
    pub(super) framing: FramingFields,
    pub(super) host: Option<&'a [u8]>,
    pub(super) upgrade: bool,
    pub(super) expect_continue: bool,
    origin: bool,
    preflight_method: bool,
}

impl RequestFields<'_> {
    /// Whether `Origin` and `Access-Control-Request-Method` were both there.
    pub(super) fn asks_preflight(&self) -> bool {
        self.origin && self.preflight_method
    }
}

/// Reads the header fields of a request.
pub(super) fn request_fields<'a>(headers: &[Header<'a>]) -> RequestFields<'a> {
    let mut fields = RequestFields::default();
    let mut auth = AuthScheme::None;
    for header in headers {
        let (name, value) = (header.name.as_bytes(), header.value);
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is(b"host") => fields.host = fields.host.or(Some(value)),
            9 if is(b"forwarded") => {
                fields.facts.forwarded.add_forwarded(value);
            }
            15 if is(b"x-forwarded-for") => {
                fields.facts.forwarded.add_x_forwarded_for(value);
            }
            6 if is(b"cookie") && auth == AuthScheme::None && has_session_cookie(value) => {
                auth = AuthScheme::Cookie;
            }
            6 if is(b"origin") => fields.origin = true,
            6 if is(b"expect") => {
                fields.expect_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if is(b"upgrade") => fields.upgrade = true,
            10 if is(b"user-agent") => fields.facts.user_agent = user_agent(value),
            12 if is(b"content-type") => fields.facts.content_type = media_type(value),
            13 if is(b"authorization") => {
                auth = authorization(value);
                fields.facts.credential = Some(credential(value));
            }
            14 if is(b"content-length") => fields.framing.content_length(value),
            14 if is(b"sec-fetch-dest") => fields.facts.fetched_for = FetchedFor::of_header(value),
            17 if is(b"transfer-encoding") => fields.framing.transfer_encoding(value),
            11 | 13 | 15..=28 if tells_certificate(name, value) => {
                fields.facts.client_certificate = true;
            }
            29 if is(b"access-control-request-method") => fields.preflight_method = true,
            _ if matches!(auth, AuthScheme::None | AuthScheme::Cookie) && is_api_key_name(name) => {
                auth = AuthScheme::ApiKeyHeader;
                fields.facts.credential = Some(credential(value));
            }
            _ => {}
        }
    }
    fields.facts.auth = auth;
    fields
}

/// Adds what shows only with the whole request: a key in its query, and a certificate where there is nothing else.
pub(super) fn complete_auth(facts: &mut RequestFacts, target: &[u8]) {
    if !matches!(facts.auth, AuthScheme::None | AuthScheme::ClientCertificate) {
        return;
    }
    if has_key_in_query(target) {
        facts.auth = AuthScheme::ApiKeyQuery;
    } else if facts.client_certificate {
        facts.auth = AuthScheme::ClientCertificate;
    }
}

/// Reads the header fields of a response.
pub(super) fn response_fields(headers: &[Header<'_>]) -> (ResponseFacts, FramingFields) {
    let mut facts = ResponseFacts::default();
    let mut framing = FramingFields::default();
    for header in headers {
        let (name, value) = (header.name.as_bytes(), header.value);
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is(b"link") => LifeLinks::add(&mut facts.links, value),
            6 if is(b"sunset") => facts.sunset = text(value, DATE_BYTES_MAX),
            8 if is(b"location") => {
                let end = memchr::memchr2(b'?', b'#', value).unwrap_or(value.len());
                facts.location = text(value.get(..end).unwrap_or_default(), LOCATION_BYTES_MAX);
            }
            11 if is(b"deprecation") => facts.deprecation = text(value, DATE_BYTES_MAX),
            11 if is(b"grpc-status") => {
                facts.grpc_status =
                    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            }
            12 if is(b"content-type") => facts.content_type = media_type(value),
            14 if is(b"content-length") => framing.content_length(value),
            17 if is(b"transfer-encoding") => framing.transfer_encoding(value),
            _ => {}
        }
    }
    (facts, framing)
}

/// Facts of a request whose header fields were written down (HAR, JSON lines): as [`super::parse_request`] reads them.
#[must_use]
pub fn written_request(method: &Method, target: &[u8], fields: &[(&str, &str)]) -> RequestFacts {
    let fields = request_fields(&headers(fields));
    let mut facts = fields.facts.clone();
    complete_auth(&mut facts, target);
    facts.preflight = *method == Method::Options && fields.asks_preflight();
    facts
}

/// As [`written_request`], of a response.
#[must_use]
pub fn written_response(fields: &[(&str, &str)]) -> ResponseFacts {
    response_fields(&headers(fields)).0
}

fn headers<'a>(fields: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
    fields.iter().map(|(name, value)| Header { name, value: value.trim().as_bytes() }).collect()
}

/// Whether the target's query carries a key or token.
fn has_key_in_query(target: &[u8]) -> bool {
    const NAMES: &[&[u8]] = &[
        b"api_key",
        b"apikey",
        b"api-key",
        b"access_token",
        b"auth_token",
        b"token",
        b"x-api-key",
        b"subscription-key",
    ];
    let Some(start) = memchr::memchr(b'?', target) else { return false };
    let query = target.get(start + 1..).unwrap_or_default();
    query.split(|byte| *byte == b'&').any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        NAMES.iter().any(|wanted| name.eq_ignore_ascii_case(wanted))
    })
}

fn is_api_key_name(name: &[u8]) -> bool {
    const NAMES: &[&[u8]] = &[
        b"x-api-key",
        b"api-key",
        b"apikey",
        b"x-apikey",
        b"x-auth-token",
        b"x-access-token",
        b"x-functions-key",
        b"ocp-apim-subscription-key",
        b"private-token",
        b"x-goog-api-key",
    ];
    matches!(name.first(), Some(b'x' | b'X' | b'a' | b'A' | b'o' | b'O' | b'p' | b'P'))
        && NAMES.iter().any(|wanted| name.eq_ignore_ascii_case(wanted))
}

/// Whether a field is one by which a proxy that ended TLS tells of the client's certificate: RFC 9440, Envoy, nginx, Apache, AWS, Azure.
fn tells_certificate(name: &[u8], value: &[u8]) -> bool {
    const CERTIFICATES: &[&[u8]] = &[
        b"client-cert",
        b"x-forwarded-client-cert",
        b"x-forwarded-tls-client-cert",
        b"x-client-cert",
        b"ssl-client-cert",
        b"x-ssl-client-cert",
        b"x-arr-clientcert",
        b"x-amzn-mtls-clientcert",
        b"x-amzn-mtls-clientcert-leaf",
    ];
    const VERDICTS: &[&[u8]] = &[b"ssl-client-verify", b"x-ssl-client-verify"];
    let is = |wanted: &&[u8]| name.eq_ignore_ascii_case(wanted);
    if !matches!(name.first(), Some(b'c' | b'C' | b'x' | b'X' | b's' | b'S')) {
        return false;
    }
    let value = value.trim_ascii();
    if VERDICTS.iter().any(is) {
        return value.eq_ignore_ascii_case(b"success");
    }
    !value.is_empty() && !value.eq_ignore_ascii_case(b"(null)") && CERTIFICATES.iter().any(is)
}

fn authorization(value: &[u8]) -> AuthScheme {
    let end = memchr::memchr(b' ', value).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if scheme.eq_ignore_ascii_case(b"basic") {
        AuthScheme::Basic
    } else if scheme.eq_ignore_ascii_case(b"bearer") {
        let token = rest.trim_ascii();
        let jwt = token.starts_with(b"eyJ") && memchr::memchr_iter(b'.', token).count() == 2;
        if jwt { AuthScheme::Jwt } else { AuthScheme::Bearer }
    } else if scheme.eq_ignore_ascii_case(b"digest") {
        AuthScheme::Digest
    } else {
        AuthScheme::Other
    }
}

/// Tells credentials apart without keeping them. Not keyed: what counts by it hashes it again with a key.
fn credential(value: &[u8]) -> u64 {
    siphash24([0, 0], value.trim_ascii())
}

fn has_session_cookie(value: &[u8]) -> bool {
    let value = value.get(..value.len().min(COOKIE_SCAN_BYTES_MAX)).unwrap_or_default();
    value.split(|byte| *byte == b';').any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        let contains = |wanted: &[u8]| {
            name.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
        };
        name.len() <= 64
            && [&b"sess"[..], b"sid", b"auth", b"token", b"jwt"].into_iter().any(contains)
    })
}

fn user_agent(value: &[u8]) -> Option<Arc<str>> {
    let end = value
        .iter()
        .position(|byte| matches!(byte, b'/' | b' ' | b'\t' | b'('))
        .unwrap_or(value.len());
    text(value.get(..end).unwrap_or_default(), USER_AGENT_BYTES_MAX)
}

fn media_type(value: &[u8]) -> Option<Arc<str>> {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let text: Arc<str> =
        text(value.get(..end).unwrap_or_default().trim_ascii(), CONTENT_TYPE_BYTES_MAX)?;
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Some(text.to_ascii_lowercase().into())
    } else {
        Some(text)
    }
}

/// Printable text of at most `max` bytes; `None` when nothing is left or it is not UTF-8.
fn text<T: for<'a> From<&'a str>>(value: &[u8], max: usize) -> Option<T> {
    let value = value.get(..value.len().min(max)).unwrap_or_default();
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && !text.chars().any(char::is_control))?;
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, fields: &[(&str, &str)], expected: AuthScheme) {
        let facts = written_request(&Method::Get, target.as_bytes(), fields);
        assert_eq!(facts.auth, expected, "{target} {fields:?}");
    }

    #[test]
    fn every_scheme_is_told_by_its_header_field_cookie_or_query() {
        use AuthScheme as A;
        check("/", &[("Accept", "*/*"), ("Cookie", "theme=dark")], A::None);
        check("/", &[("Authorization", "Basic dTpw")], A::Basic);
        check("/", &[("Authorization", "bearer opaque")], A::Bearer);
        check("/", &[("Authorization", "Bearer eyJh.eyJz.c2ln")], A::Jwt);
        check("/", &[("Authorization", "Digest username=u")], A::Digest);
        check("/", &[("Authorization", "AWS4-HMAC-SHA256 x")], A::Other);
        check("/", &[("X-Api-Key", "k")], A::ApiKeyHeader);
        check("/?a=1&access_token=k", &[], A::ApiKeyQuery);
        check("/", &[("Cookie", "theme=dark; sessionid=1")], A::Cookie);
        check(
            "/",
            &[("X-Forwarded-Client-Cert", "Hash=ab;Subject=\"CN=x\"")],
            A::ClientCertificate,
        );
        check("/", &[("X-SSL-Client-Verify", "SUCCESS")], A::ClientCertificate);
        check("/", &[("Ssl-Client-Verify", "NONE"), ("Client-Cert", "")], A::None);
    }

    #[test]
    fn what_a_browser_fetches_for_is_read() {
        let read =
            |value| written_request(&Method::Get, b"/", &[("Sec-Fetch-Dest", value)]).fetched_for;
        assert_eq!(read("empty"), FetchedFor::Script);
        assert_eq!(read("iframe"), FetchedFor::Page);
        assert_eq!(read("serviceworker"), FetchedFor::Part);
        assert_eq!(read("teapot"), FetchedFor::Unknown);
    }

    #[test]
    fn a_certificate_stands_beside_other_credentials() {
        let fields = [("X-Client-Cert", "MIIB"), ("Authorization", "Bearer t")];
        let facts = written_request(&Method::Get, b"/?token=1", &fields);
        assert_eq!((facts.auth, facts.client_certificate), (AuthScheme::Bearer, true));
        check("/?token=1", &fields[..1], AuthScheme::ApiKeyQuery);
    }
}
