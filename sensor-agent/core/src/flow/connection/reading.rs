//! Ordered bytes of one direction -> heads and bodies -> exchanges, for a connection that is HTTP/1.
//!
//! Missing bytes cut a head (used as far as it was seen) or shorten a body. Bounds: those of the reader and the pairing.

use super::{Connection, Mode, Out};
use crate::flow::assembled::{Assembled, FlowClass};
use crate::flow::counts::FlowCounter;
use crate::flow::pairing::{After, HeadStart};
use crate::http::{
    self, Detect, Exchange, Framing, Kind, OwnerHint, Position, RequestFacts, ResponseFacts, Step,
};
use crate::time::UnixNs;

impl Connection {
    /// Bytes are missing in one direction.
    pub(super) fn lost_heads(&mut self, from: usize, len: u64, out: &mut Out<'_>) {
        let kind = if self.client == Some(from) { Kind::Request } else { Kind::Response };
        if self.mode == Mode::Hello {
            self.hello(from, &[], out);
            self.mode = Mode::Ignored;
            return;
        }
        if !self.early.is_empty() && self.client == Some(from) {
            let early = std::mem::take(&mut self.early);
            self.open_http(Kind::Request, self.last);
            self.truncated(from, Kind::Request, &early, out);
        }
        let Some(http) = &mut self.http else {
            if self.mode == Mode::Undecided {
                self.start_missed = true;
                self.half_mut(from).started = true;
            }
            return;
        };
        let Some(reader) = http.readers.get_mut(from) else { return };
        let cut = reader.gap(len);
        if reader.position() == Position::Lost {
            http.heads_missed = true;
            if kind == Kind::Response {
                http.flush_current(None, &mut |exchange| (out.sink)(Assembled::Exchange(exchange)));
            }
        }
        if let Some(cut) = cut {
            self.truncated(from, kind, &cut, out);
        }
    }

    /// Uses a head as far as it was seen.
    pub(super) fn truncated(&mut self, from: usize, kind: Kind, head: &[u8], out: &mut Out<'_>) {
        let whole_lines = memchr::memrchr(b'\n', head).map_or(0, |end| end + 1);
        let mut closed = head.get(..whole_lines).unwrap_or_default().to_vec();
        closed.extend_from_slice(b"\r\n");
        let read = whole_lines > 0 && self.take_head(from, kind, &closed, Extent::Truncated, out);
        if read {
            out.counts.one(FlowCounter::HeadsTruncated);
        } else {
            out.counts.one(FlowCounter::HeadsMalformed);
        }
        if let Some(reader) = self.http.as_mut().and_then(|http| http.readers.get_mut(from)) {
            reader.lose();
        }
    }

    /// Reads on; returns how many bytes at the end must wait (responses whose request did not come yet).
    pub(super) fn read(
        &mut self,
        from: usize,
        start: HeadStart,
        data: &[u8],
        out: &mut Out<'_>,
    ) -> usize {
        let kind = if self.client == Some(from) { Kind::Request } else { Kind::Response };
        let mut input = data;
        let mut may_begin =
            self.turned && self.http.as_ref().is_some_and(|http| http.may_begin(kind, 1 - from));
        let mut first = true;
        while !input.is_empty() {
            let Some(http) = &mut self.http else { return 0 };
            if kind == Kind::Response && http.wants_request(from) {
                // A blank line after a body answers nothing.
                return http::skip_blank_lines(input).len();
            }
            let restarts = first
                && http.may_restart(kind, from, start.ack)
                && http::request(input, true) == Detect::Yes;
            let Some(reader) = http.readers.get_mut(from) else { return 0 };
            if restarts {
                reader.restart();
            }
            if (reader.at_head_start() || reader.position() == Position::Lost)
                && let Some(begin) = http.starts.get_mut(from)
            {
                let used = u32::try_from(data.len() - input.len()).unwrap_or(0);
                *begin = HeadStart { seq: start.seq.plus(used), ..start };
            }
            match reader.advance(kind, &mut input, may_begin) {
                Step::Idle => {}
                Step::Head(head) => {
                    if !self.take_head(from, kind, &head, Extent::Whole, out) {
                        out.counts.one(FlowCounter::HeadsMalformed);
                        self.lose(from);
                        return 0;
                    }
                }
                Step::BodyEnd { bytes } => match kind {
                    Kind::Request => http.request_body(bytes),
                    Kind::Response => {
                        http.flush_current(Some(bytes), &mut |exchange| {
                            (out.sink)(Assembled::Exchange(exchange));
                        });
                    }
                },
                Step::NotHttp => {
                    out.counts.one(FlowCounter::PositionsLost);
                    http.heads_missed = true;
                    if kind == Kind::Response {
                        http.flush_current(None, &mut |exchange| {
                            (out.sink)(Assembled::Exchange(exchange));
                        });
                    }
                }
                Step::TooLong(head) => self.truncated(from, kind, &head, out),
            }
            may_begin = false;
            first = false;
        }
        0
    }

    fn lose(&mut self, from: usize) {
        if let Some(http) = &mut self.http {
            http.heads_missed = true;
            if let Some(reader) = http.readers.get_mut(from) {
                reader.lose();
            }
        }
    }

    /// Parses a head and pairs it; `false` when it is none.
    fn take_head(
        &mut self,
        from: usize,
        kind: Kind,
        head: &[u8],
        extent: Extent,
        out: &mut Out<'_>,
    ) -> bool {
        let blank = (kind == Kind::Request).then(|| self.blank_exchange());
        let Some(http) = &mut self.http else { return false };
        let start = http.starts.get(from).copied().unwrap_or_default();
        let mut emit = |exchange| (out.sink)(Assembled::Exchange(exchange));
        let after = match kind {
            Kind::Request => {
                let Ok(mut head) = http::parse_request(head) else { return false };
                if extent == Extent::Truncated {
                    head.framing = Framing::Unknown;
                    head.facts.truncated = true;
                }
                let framing = head.framing;
                let Some(blank) = blank else { return false };
                http.request(head, start, blank, out.counts, &mut emit);
                After::Body(framing)
            }
            Kind::Response => {
                let Ok(mut head) = http::parse_response(head) else { return false };
                head.facts.truncated = extent == Extent::Truncated;
                http.response(head, start, out.counts, &mut emit)
            }
        };
        match after {
            After::Body(framing) => {
                if let Some(reader) = http.readers.get_mut(from) {
                    reader.body(framing);
                }
                if self.class.is_none() {
                    self.classify(FlowClass::Http, start.time);
                }
            }
            After::Tunnel => {
                self.http = None;
                self.mode = Mode::Ignored;
            }
        }
        true
    }

    fn blank_exchange(&self) -> Exchange {
        let (client, server) = self.ends();
        Exchange {
            time: UnixNs(0),
            client,
            server,
            method: http::Method::Get,
            host: None,
            target: Box::default(),
            status: None,
            latency_ns: None,
            request: RequestFacts::default(),
            response: ResponseFacts::default(),
            weight: 1,
            client_hint: OwnerHint::default(),
            server_hint: OwnerHint::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    Truncated,
}
