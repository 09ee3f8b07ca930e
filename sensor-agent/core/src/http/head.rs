//! Parses one complete head (request or response, blank line included) into what an [`Exchange`](super::Exchange) needs.
//!
//! Bound: the length, which its reader bounds. Tolerant where servers are (bare LF, odd fields are skipped), strict in
//! what makes a head one: the first line.

use std::mem::MaybeUninit;
use std::sync::Arc;

use httparse::{Header, ParserConfig, Status};

use super::exchange::{Method, RequestFacts, ResponseFacts};
use super::facts;
use super::framing::Framing;
use super::lenient::Lines;

/// Header fields that are read without allocation.
const HEADERS_FAST: usize = 64;

/// A parsed request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// Host as sent.
    pub host: Option<Arc<[u8]>>,
    /// Target as sent.
    pub target: Box<[u8]>,
    /// Facts from the header fields.
    pub facts: RequestFacts,
    /// What follows.
    pub framing: Framing,
    /// `Expect: 100-continue`.
    pub expect_continue: bool,
    /// `Upgrade` was there.
    pub upgrade: bool,
}

/// A parsed response head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Facts from the header fields.
    pub facts: ResponseFacts,
    /// Framing by the header fields alone; see [`ResponseHead::framing_for`].
    framing: Framing,
}

impl ResponseHead {
    /// What follows this head when it answers `method` (RFC 9112 section 6.3).
    #[must_use]
    pub fn framing_for(&self, method: Option<&Method>) -> Framing {
        match self.status {
            100..=199 | 204 | 304 => Framing::None,
            _ if method == Some(&Method::Head) => Framing::None,
            _ => self.framing,
        }
    }
}

/// A head whose first line is not that of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an HTTP/1 head")]
pub struct HeadError;

/// Parses a request head.
pub fn parse_request(head: &[u8]) -> Result<RequestHead, HeadError> {
    let mut few = [const { MaybeUninit::uninit() }; HEADERS_FAST];
    request_with(head, &mut few).or_else(|_refused| {
        let lines = Lines::of(head);
        let (method, target) = lines.request_line().ok_or(HeadError)?;
        let method = Method::parse(method).ok_or(HeadError)?;
        Ok(finish_request(head, method, target, &lines.fields))
    })
}

/// Parses a response head.
pub fn parse_response(head: &[u8]) -> Result<ResponseHead, HeadError> {
    let mut few = [const { MaybeUninit::uninit() }; HEADERS_FAST];
    response_with(head, &mut few).or_else(|_refused| {
        let lines = Lines::of(head);
        let status = lines.status().ok_or(HeadError)?;
        finish_response(head, status, &lines.fields)
    })
}

fn config() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true);
    config
}

fn request_with<'b>(
    head: &'b [u8],
    headers: &mut [MaybeUninit<Header<'b>>],
) -> Result<RequestHead, httparse::Error> {
    let mut request = httparse::Request::new(&mut []);
    let Status::Complete(_) =
        config().parse_request_with_uninit_headers(&mut request, head, headers)?
    else {
        return Err(httparse::Error::NewLine);
    };
    let (Some(method), Some(target)) = (request.method.and_then(Method::parse), request.path)
    else {
        return Err(httparse::Error::Token);
    };
    Ok(finish_request(head, method, target.as_bytes(), request.headers))
}

fn finish_request(
    head: &[u8],
    method: Method,
    target: &[u8],
    headers: &[Header<'_>],
) -> RequestHead {
    let mut fields = facts::request_fields(headers);
    let framing = fields.framing.of_request();
    facts::complete_auth(&mut fields.facts, target);
    fields.facts.preflight = method == Method::Options && fields.asks_preflight();
    fields.facts.body_bytes = match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        _ => None,
    };
    fields.facts.head_bytes = u32::try_from(head.len()).unwrap_or(u32::MAX);
    RequestHead {
        host: authority(&method, target).or(fields.host).map(Into::into),
        target: target.into(),
        framing,
        expect_continue: fields.expect_continue,
        upgrade: fields.upgrade,
        facts: fields.facts,
        method,
    }
}

/// The authority of an absolute-form target beats `Host` (RFC 9112 section 3.2.2); CONNECT's target is one.
fn authority<'a>(method: &Method, target: &'a [u8]) -> Option<&'a [u8]> {
    if *method == Method::Connect {
        return Some(target);
    }
    if target.first() == Some(&b'/') {
        return None;
    }
    let start = target.windows(3).take(16).position(|part| part == b"://")? + 3;
    let rest = target.get(start..)?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let host = memchr::memrchr(b'@', authority)
        .map_or(authority, |at| authority.get(at + 1..).unwrap_or_default());
    (!host.is_empty()).then_some(host)
}

fn response_with<'b>(
    head: &'b [u8],
    headers: &mut [MaybeUninit<Header<'b>>],
) -> Result<ResponseHead, httparse::Error> {
    let mut response = httparse::Response::new(&mut []);
    let Status::Complete(_) =
        config().parse_response_with_uninit_headers(&mut response, head, headers)?
    else {
        return Err(httparse::Error::NewLine);
    };
    let status = response.code.ok_or(httparse::Error::Status)?;
    finish_response(head, status, response.headers).map_err(|_not_a_status| httparse::Error::Status)
}

fn finish_response(
    head: &[u8],
    status: u16,
    headers: &[Header<'_>],
) -> Result<ResponseHead, HeadError> {
    if !(100..=999).contains(&status) {
        return Err(HeadError);
    }
    let (mut facts, fields) = facts::response_fields(headers);
    facts.body_bytes = fields.length();
    facts.head_bytes = u32::try_from(head.len()).unwrap_or(u32::MAX);
    Ok(ResponseHead { status, facts, framing: fields.of_response() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::AuthScheme;

    fn request(head: &str) -> RequestHead {
        parse_request(head.as_bytes()).unwrap()
    }

    #[test]
    fn facts_of_a_request_are_read_and_credentials_are_not_kept() {
        let head = request(
            "POST /a?b=c HTTP/1.1\r\nHost: API.example:8080\r\nUser-Agent: curl/8.1\r\nAuthorization: Bearer eyJa.b.c\r\nContent-Type: Application/JSON; charset=utf-8\r\nContent-Length: 7\r\n\r\n",
        );
        assert_eq!(head.host.as_deref(), Some(&b"API.example:8080"[..]));
        assert_eq!(&*head.target, b"/a?b=c");
        assert_eq!((head.facts.auth, head.framing), (AuthScheme::Jwt, Framing::Length(7)));
        assert_eq!(head.facts.content_type.as_deref(), Some("application/json"));
        assert_eq!(head.facts.user_agent.as_deref(), Some("curl"));
    }

    #[test]
    fn targets_of_every_form_are_kept_as_sent() {
        assert_eq!(
            request("GET http://u@a.b:1/x?y HTTP/1.1\r\nHost: c\r\n\r\n").host.as_deref(),
            Some(&b"a.b:1"[..])
        );
        assert_eq!(
            request("OPTIONS * HTTP/1.1\r\nHost: c\r\n\r\n").host.as_deref(),
            Some(&b"c"[..])
        );
        assert_eq!(
            request("CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n").host.as_deref(),
            Some(&b"a:443"[..])
        );
        let raw = parse_request(b"GET /\xff\xe9?q HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(&*raw.target, b"/\xff\xe9?q");
        for odd in (b'!'..=b'~').filter(|byte| *byte != b' ') {
            let head = [b"GET /", &[odd][..], b"x HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            assert_eq!(
                &*parse_request(&head).unwrap().target,
                &[b'/', odd, b'x'][..],
                "{}",
                char::from(odd)
            );
        }
    }

    #[test]
    fn sloppy_heads_are_read() {
        assert_eq!(request("GET / HTTP/1.1\nHost: a\n\n").host.as_deref(), Some(&b"a"[..]));
        let folded = request("GET / HTTP/1.1\r\nX: a\r\n b: c\r\nHost: a\r\n\r\n");
        assert_eq!(folded.host.as_deref(), Some(&b"a"[..]));
        let many = "X-Y: z\r\n".repeat(500);
        assert!(parse_request(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).is_ok());
    }

    #[test]
    fn heads_with_odd_bytes_or_very_many_fields_are_read() {
        let odd = "X: a\0b\r\nY\0: c\r\n: novalue\r\nnocolon\r\n";
        let many = "X-Y: z\r\n".repeat(5000);
        for fields in [odd, &many] {
            let head = request(&format!("GET / HTTP/1.1\r\n{fields}Host: a\r\n\r\n"));
            assert_eq!(head.host.as_deref(), Some(&b"a"[..]));
            let text = format!("HTTP/1.1 200 \x01\x7f\r\n{fields}Content-Length: 5\r\n\r\n");
            let head = parse_response(text.as_bytes()).unwrap();
            assert_eq!((head.status, head.framing_for(None)), (200, Framing::Length(5)));
        }
        assert_eq!(parse_request(b"GET / HTTP/1.1 x\r\n\r\n"), Err(HeadError));
    }

    #[test]
    fn responses_are_framed_by_status_and_method() {
        let ok = parse_response(b"HTTP/1.1 200 \xe9\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(ok.framing_for(Some(&Method::Get)), Framing::Length(5));
        assert_eq!(ok.framing_for(Some(&Method::Head)), Framing::None);
        let not_modified = parse_response(b"HTTP/1.1 304 NM\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(not_modified.framing_for(None), Framing::None);
    }
}
