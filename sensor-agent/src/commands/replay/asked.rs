//! `--emit templates`: every request with its path template, in the order in which they were asked, once all were read.
//!
//! Equal requests are kept once. Raw paths leave the process here, on the user's own terminal, as with `--emit exchanges`.

use std::borrow::Cow;
use std::collections::HashMap;

use sensor_core::flow::Assembled;
use sensor_core::http::Exchange;
use sensor_core::pipeline::Pipeline;
use serde::Serialize;

use super::Emit;
use super::emitter::Emitter;

/// Requests of a recording; nothing is kept where templates were not asked for.
pub(super) struct Asked {
    wanted: bool,
    order: Vec<u32>,
    distinct: Vec<Exchange>,
    index: HashMap<Vec<u8>, u32>,
}

#[derive(Serialize)]
struct Line<'a> {
    method: &'a str,
    host: Option<Cow<'a, str>>,
    path: Cow<'a, str>,
    template: &'a str,
}

impl Asked {
    pub(super) fn new(emit: Option<Emit>) -> Self {
        Self {
            wanted: emit == Some(Emit::Templates),
            order: Vec::new(),
            distinct: Vec::new(),
            index: HashMap::new(),
        }
    }

    pub(super) fn assembled(&mut self, assembled: &Assembled) {
        if let Assembled::Exchange(exchange) = assembled {
            self.exchange(exchange);
        }
    }

    pub(super) fn exchange(&mut self, exchange: &Exchange) {
        if !self.wanted {
            return;
        }
        let next = u32::try_from(self.distinct.len()).unwrap_or(u32::MAX);
        let number = *self.index.entry(key(exchange)).or_insert(next);
        if number == next {
            self.distinct.push(exchange.clone());
        }
        self.order.push(number);
    }

    /// Writes one line a request.
    pub(super) fn write(&self, pipeline: &mut Pipeline, emitter: &mut Emitter) {
        let templates: Vec<String> =
            self.distinct.iter().map(|exchange| pipeline.template_of(exchange)).collect();
        for number in &self.order {
            let place = *number as usize;
            let (Some(exchange), Some(template)) = (self.distinct.get(place), templates.get(place))
            else {
                continue;
            };
            emitter.line(&Line {
                method: exchange.method.as_str(),
                host: exchange.host.as_deref().map(String::from_utf8_lossy),
                path: String::from_utf8_lossy(&exchange.target),
                template,
            });
        }
    }
}

/// What a template depends on; lengths keep the parts apart.
fn key(exchange: &Exchange) -> Vec<u8> {
    let host = exchange.host.as_deref().unwrap_or_default();
    let media = exchange.request.content_type.as_deref().unwrap_or_default();
    let server = exchange.server.to_string();
    let mut key = Vec::with_capacity(64 + host.len() + exchange.target.len());
    for part in [server.as_bytes(), host, exchange.method.as_str().as_bytes(), media.as_bytes()] {
        key.extend_from_slice(&part.len().to_le_bytes());
        key.extend_from_slice(part);
    }
    key.extend_from_slice(&exchange.target);
    key
}
