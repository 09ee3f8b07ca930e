//! Heads that were read before: on kept connections the same header section comes again and again, and its facts
//! need no second reading.
//!
//! A request is known by what follows its first line, a response by all of it (a `Date` changes once a second). Only a
//! keyed hash and the length are kept, never the bytes: they may hold credentials; two sections that collide (1 in
//! 2^64) would be taken for each other. Bound: [`SLOTS`] of each, direct-mapped; a head that comes only once costs
//! its hash and displaces nothing.

use foldhash::fast::FixedState;
use std::hash::{BuildHasher as _, Hasher as _};

use super::facts::complete_auth;
use super::{HeadError, Method, RequestHead, ResponseHead, parse_request, parse_response};

/// Header sections that are remembered, of requests and of responses.
const SLOTS: usize = 256;

/// Reads heads, and remembers what it read.
#[derive(Debug)]
pub(crate) struct KnownHeads {
    requests: Box<[Slot<RequestHead>]>,
    responses: Box<[Slot<ResponseHead>]>,
    hasher: FixedState,
}

#[derive(Debug)]
struct Slot<T> {
    /// Of the head that came last and was not known.
    candidate: u64,
    known: Option<(u64, T)>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { candidate: 0, known: None }
    }
}

impl<T> Slot<T> {
    fn find(&self, tag: u64) -> Option<&T> {
        self.known.as_ref().filter(|(known, _)| *known == tag).map(|(_, head)| head)
    }

    /// Whether a head that is not known came twice running.
    fn comes_again(&mut self, tag: u64) -> bool {
        std::mem::replace(&mut self.candidate, tag) == tag
    }
}

impl KnownHeads {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            requests: (0..SLOTS).map(|_| Slot::default()).collect(),
            responses: (0..SLOTS).map(|_| Slot::default()).collect(),
            hasher: FixedState::with_seed(seed.rotate_left(17)),
        }
    }

    /// As [`parse_request`].
    pub(crate) fn request(&mut self, head: &[u8]) -> Result<RequestHead, HeadError> {
        let Some((method, target, section)) = plain_line(head) else { return parse_request(head) };
        let tag = self.tag(section);
        let Some(slot) = slot(&mut self.requests, tag) else { return parse_request(head) };
        let Some(known) = slot.find(tag) else {
            if slot.comes_again(tag)
                && let Ok(read) = parse_request(&[NEUTRAL_LINE, section].concat())
            {
                slot.known = Some((tag, read));
            }
            return parse_request(head);
        };
        let mut facts = known.facts.clone();
        facts.head_bytes = u32::try_from(head.len()).unwrap_or(u32::MAX);
        complete_auth(&mut facts, target);
        Ok(RequestHead {
            method,
            host: known.host.clone(),
            target: target.into(),
            facts,
            framing: known.framing,
            expect_continue: known.expect_continue,
            upgrade: known.upgrade,
        })
    }

    /// As [`parse_response`].
    pub(crate) fn response(&mut self, head: &[u8]) -> Result<ResponseHead, HeadError> {
        let tag = self.tag(head);
        let Some(slot) = slot(&mut self.responses, tag) else { return parse_response(head) };
        if let Some(known) = slot.find(tag) {
            return Ok(known.clone());
        }
        let read = parse_response(head);
        if slot.comes_again(tag)
            && let Ok(read) = &read
        {
            slot.known = Some((tag, read.clone()));
        }
        read
    }

    fn tag(&self, bytes: &[u8]) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write(bytes);
        state.write_usize(bytes.len());
        state.finish()
    }
}

/// Stands for the first line while a header section is read: no host, no key in a query, no preflight.
const NEUTRAL_LINE: &[u8] = b"GET / HTTP/1.1\r\n";

fn slot<T>(slots: &mut [Slot<T>], tag: u64) -> Option<&mut Slot<T>> {
    slots.get_mut(usize::try_from(tag >> 32).ok()? % SLOTS)
}

/// Method, target and header section of a request whose first line is as nearly all are; the method says nothing
/// about how the section is to be read.
fn plain_line(head: &[u8]) -> Option<(Method, &[u8], &[u8])> {
    let (method, rest) = [
        (Method::Get, &b"GET "[..]),
        (Method::Post, b"POST "),
        (Method::Put, b"PUT "),
        (Method::Delete, b"DELETE "),
        (Method::Patch, b"PATCH "),
        (Method::Head, b"HEAD "),
    ]
    .into_iter()
    .find_map(|(method, token)| Some((method, head.strip_prefix(token)?)))?;
    if rest.first() != Some(&b'/') {
        return None;
    }
    let end = rest.iter().position(|byte| !PLAIN.get(usize::from(*byte)).is_some_and(|it| *it))?;
    let (target, rest) = rest.split_at_checked(end)?;
    let section = rest.strip_prefix(b" HTTP/1.1\r\n")?;
    Some((method, target, section))
}

/// Bytes that are in a target without dispute.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'/' | b':'
                    | b'.'
                    | b'?'
                    | b'='
                    | b'&'
                    | b'%'
                    | b'*'
                    | b'-'
                    | b'_'
                    | b'@'
                    | b'~'
                    | b'+'
                    | b','
                    | b';'
            );
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(known: &mut KnownHeads, head: &[u8]) {
        for _ in 0..3 {
            assert_eq!(known.request(head), parse_request(head), "{:?}", head.escape_ascii());
            assert_eq!(known.response(head), parse_response(head), "{:?}", head.escape_ascii());
        }
    }

    #[test]
    fn a_section_read_under_one_line_gives_the_same_under_another() {
        let lines = [
            "GET /a",
            "POST /b?token=1",
            "OPTIONS /c",
            "CONNECT d:1",
            "GET http://e/",
            "HEAD /f",
            "XY /g",
            "GET  /h",
            "DELETE /%7b\u{e9}",
        ];
        let sections = [
            "Host: a\r\n\r\n",
            "Host: a\r\nAuthorization: Bearer x\r\nContent-Length: 5\r\n\r\n",
            "Origin: o\r\nAccess-Control-Request-Method: GET\r\nUser-Agent: curl/8\r\n\r\n",
            "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
            "Host: a\r\nno end\r\n",
            "\r\n",
        ];
        let mut known = KnownHeads::new(7);
        for _ in 0..2 {
            for section in sections {
                for line in lines {
                    check(&mut known, format!("{line} HTTP/1.1\r\n{section}").as_bytes());
                    check(&mut known, format!("{line} HTTP/1.0\n{section}").as_bytes());
                    check(&mut known, format!("HTTP/1.1 200 OK\r\n{section}").as_bytes());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_line_and_section_are_read_as_without_memory(
            target in "/[ -~]{0,12}",
            sections in proptest::collection::vec("([A-Za-z-]{1,20}: ?[ -~]{0,20}\r\n){0,4}\r\n", 1..3),
        ) {
            let mut known = KnownHeads::new(9);
            for section in sections.iter().chain(&sections) {
                for method in ["GET", "POST", "OPTIONS"] {
                    check(&mut known, format!("{method} {target} HTTP/1.1\r\n{section}").as_bytes());
                }
            }
        }
    }
}
