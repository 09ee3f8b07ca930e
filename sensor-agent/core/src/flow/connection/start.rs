//! First bytes of a connection -> what it is: HTTP/1, HTTP/2 with prior knowledge, TLS, or nothing that is read.
//!
//! An undecided start and a ClientHello wait for more bytes, at most `EARLY_BYTES_MAX`. A connection that was joined in
//! its middle is HTTP only where surely a head begins.

use super::{Connection, Mode, Out};
use crate::flow::assembled::{Assembled, FlowClass};
use crate::flow::counts::FlowCounter;
use crate::flow::pairing::{HeadStart, Http};
use crate::http::{self, Detect, HelloError, Kind, Position};
use crate::time::UnixNs;

/// Most bytes of an undecided start or of a ClientHello.
const EARLY_BYTES_MAX: usize = 132 * 1024;

impl Connection {
    /// First bytes: what is this connection?
    pub(super) fn decide(
        &mut self,
        from: usize,
        start: HeadStart,
        data: &[u8],
        joined: bool,
        out: &mut Out<'_>,
    ) {
        match self.client {
            Some(client) if client == from && (!joined || !self.early.is_empty()) => {
                self.decide_client(from, start, data, out);
            }
            Some(client) if client != from && !joined => {
                if http::response(data) == Detect::No {
                    self.classify(FlowClass::Other, start.time);
                    self.mode = Mode::Ignored;
                } else {
                    self.open_http(Kind::Response, start.time);
                    let _none_waits = self.read(from, start, data, out);
                }
            }
            _ => self.decide_joined(from, start, data, out),
        }
    }

    fn decide_client(&mut self, from: usize, start: HeadStart, data: &[u8], out: &mut Out<'_>) {
        let collected;
        let bytes = if self.early.is_empty() {
            data
        } else {
            let before = self.early.len();
            self.early.extend_from_slice(data);
            if before <= EARLY_BYTES_MAX && !http::may_decide(&self.early, before) {
                return;
            }
            collected = std::mem::take(&mut self.early);
            &collected
        };
        let detected = [http::request(bytes, false), http::preface(bytes), http::tls(bytes)];
        match detected {
            [Detect::Yes, ..] => {
                self.open_http(Kind::Request, start.time);
                let _none_waits = self.read(from, start, bytes, out);
            }
            [_, Detect::Yes, _] => {
                self.classify(FlowClass::H2c, start.time);
                self.mode = Mode::Ignored;
            }
            [_, _, Detect::Yes] => {
                self.classify(FlowClass::Tls, start.time);
                self.mode = Mode::Hello;
                let bytes = bytes.to_vec();
                self.hello(from, &bytes, out);
            }
            _ if bytes.len() <= EARLY_BYTES_MAX && detected.contains(&Detect::More) => {
                self.early = http::without_blank_lines(bytes).to_vec();
            }
            _ => {
                self.classify(FlowClass::Other, start.time);
                self.mode = Mode::Ignored;
            }
        }
    }

    /// The beginning was not seen: only what is surely a head decides.
    fn decide_joined(&mut self, from: usize, start: HeadStart, data: &[u8], out: &mut Out<'_>) {
        let may_be = |side: usize| self.client.is_none_or(|client| client == side);
        let kind = if may_be(from) && http::request(data, true) != Detect::No {
            Kind::Request
        } else if may_be(1 - from) && http::response(data) == Detect::Yes {
            Kind::Response
        } else {
            return;
        };
        out.counts.one(FlowCounter::FlowsJoined);
        self.client = Some(if kind == Kind::Request { from } else { 1 - from });
        self.mode = Mode::Http;
        let mut http = Http::new(Position::Lost);
        http.requests_blind = true;
        http.heads_missed = self.start_missed;
        self.http = Some(Box::new(http));
        self.turned = true;
        let _none_waits = self.read(from, start, data, out);
    }

    pub(super) fn open_http(&mut self, kind: Kind, time: UnixNs) {
        if self.http.is_none() {
            let mut http = Http::new(Position::Head);
            http.requests_blind = kind == Kind::Response;
            http.heads_missed = self.start_missed;
            self.http = Some(Box::new(http));
        }
        self.mode = Mode::Http;
        self.classify(FlowClass::Http, time);
    }

    pub(super) fn hello(&mut self, from: usize, data: &[u8], out: &mut Out<'_>) {
        if self.client != Some(from) {
            return;
        }
        self.early.extend_from_slice(data);
        let hello = match http::parse_hello(&self.early) {
            Err(HelloError::Partial(_)) if self.early.len() < EARLY_BYTES_MAX => return,
            Ok(hello) | Err(HelloError::Partial(hello)) => Some(hello),
            Err(HelloError::NotHello) => None,
        };
        self.hello = hello.map(Box::new);
        if self.announced {
            self.announce(out);
        }
        self.early = Vec::new();
        self.mode = Mode::Ignored;
    }

    pub(super) fn classify(&mut self, class: FlowClass, time: UnixNs) {
        if self.class.is_none() {
            self.class = Some(class);
            self.classified = time;
        }
    }

    /// Says what it carries: not before the server answers or all is over, for a twin may still come and know its ends.
    pub(super) fn announce(&mut self, out: &mut Out<'_>) {
        let Some(class) = self.class else { return };
        if self.announced && self.hello.is_none() {
            return;
        }
        let (client, server) = self.ends();
        let time = self.classified;
        if !std::mem::replace(&mut self.announced, true) {
            (out.sink)(Assembled::Connection { time, client, server, class });
        }
        if let Some(hello) = self.hello.take() {
            (out.sink)(Assembled::Hello { time, client, server, hello: *hello });
        }
    }
}
