//! JSON lines on standard output: exchanges, endpoints or events. A reader that goes away ends it quietly.

use std::io::{self, BufWriter, StdoutLock, Write as _};

use anyhow::{Context as _, Result};
use sensor_core::flow::Assembled;
use sensor_core::http::Exchange;
use sensor_core::pipeline::Pipeline;
use sensor_proto::json::rfc3339;
use serde::Serialize;

use super::{Emit, exchange_line};
use crate::sink::encode;

/// Writes what was asked for.
pub(super) struct Emitter {
    emit: Option<Emit>,
    out: BufWriter<StdoutLock<'static>>,
    failed: Option<io::Error>,
}

/// An event as the file sink writes it, without the numbers of a running sensor.
#[derive(Serialize)]
struct EventLine<'a> {
    time: String,
    #[serde(flatten)]
    body: Option<&'a sensor_proto::v1::event::Body>,
}

impl Emitter {
    pub(super) fn new(emit: Option<Emit>) -> Self {
        Self { emit, out: BufWriter::with_capacity(64 * 1024, io::stdout().lock()), failed: None }
    }

    pub(super) fn assembled(&mut self, assembled: &Assembled) {
        if let Assembled::Exchange(exchange) = assembled {
            self.exchange(exchange);
        }
    }

    pub(super) fn exchange(&mut self, exchange: &Exchange) {
        if self.emit == Some(Emit::Exchanges) && self.failed.is_none() {
            self.failed = exchange_line::write(&mut self.out, exchange).err();
        }
    }

    /// Writes the events that wait, or drops them where nobody asked for them.
    pub(super) fn events(&mut self, pipeline: &mut Pipeline) {
        if self.emit != Some(Emit::Events) {
            drop(pipeline.take_events());
            return;
        }
        for event in pipeline.take_events() {
            let event = encode(event);
            let line = EventLine { time: rfc3339(event.time_unix_nano), body: event.body.as_ref() };
            write_line(&mut self.out, &mut self.failed, &line);
        }
    }

    pub(super) fn line(&mut self, row: &impl Serialize) {
        write_line(&mut self.out, &mut self.failed, row);
    }

    pub(super) fn finish(mut self) -> Result<()> {
        match self.failed.take().or_else(|| self.out.flush().err()) {
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(error) => Err(error).context("writing to standard output"),
            None => Ok(()),
        }
    }
}

fn write_line(out: &mut impl io::Write, failed: &mut Option<io::Error>, row: &impl Serialize) {
    if failed.is_none() {
        let written = serde_json::to_writer(&mut *out, row)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        *failed = written.err();
    }
}
