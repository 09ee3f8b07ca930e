//! An exchange as one JSON line, raw target included: it leaves the process only here, on the user's own terminal.
//!
//! Written by hand into one reused buffer: this is the hot path of `--emit exchanges`. Bytes that are not UTF-8 are
//! percent-encoded, and the object then says `"lossy": true`.

use std::io::{self, Write};

use sensor_core::http::Exchange;
use sensor_proto::json::rfc3339;

/// Writes one line.
pub(super) fn write(out: &mut impl Write, exchange: &Exchange) -> io::Result<()> {
    let mut line = String::with_capacity(320);
    let mut lossy = false;
    line.push_str("{\"method\":");
    string(&mut line, exchange.method.as_str().as_bytes(), &mut lossy);
    line.push_str(",\"host\":");
    match &exchange.host {
        Some(host) => string(&mut line, host, &mut lossy),
        None => line.push_str("null"),
    }
    line.push_str(",\"path\":");
    string(&mut line, &exchange.target, &mut lossy);
    number(&mut line, "status", exchange.status.map(u64::from));
    line.push_str(",\"client\":\"");
    line.push_str(&exchange.client.to_string());
    line.push_str("\",\"server\":\"");
    line.push_str(&exchange.server.to_string());
    line.push_str("\",\"time\":\"");
    line.push_str(&rfc3339(exchange.time.0));
    line.push('"');
    number(&mut line, "latency_ns", exchange.latency_ns);
    number(&mut line, "request_head_bytes", Some(exchange.request.head_bytes.into()));
    number(&mut line, "request_body_bytes", exchange.request.body_bytes);
    let response_head = exchange.status.map(|_| exchange.response.head_bytes.into());
    number(&mut line, "response_head_bytes", response_head);
    number(
        &mut line,
        "response_body_bytes",
        exchange.response.body_bytes.filter(|_| exchange.status.is_some()),
    );
    if exchange.request.truncated || exchange.response.truncated {
        line.push_str(",\"truncated\":true");
    }
    if lossy {
        line.push_str(",\"lossy\":true");
    }
    line.push_str("}\n");
    out.write_all(line.as_bytes())
}

fn number(line: &mut String, name: &str, value: Option<u64>) {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":");
    match value {
        Some(value) => line.push_str(&value.to_string()),
        None => line.push_str("null"),
    }
}

/// A JSON string; bytes that are not UTF-8 become `%XX`.
fn string(line: &mut String, bytes: &[u8], lossy: &mut bool) {
    line.push('"');
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        if text.bytes().any(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f)) {
            for c in text.chars() {
                match c {
                    '"' => line.push_str("\\\""),
                    '\\' => line.push_str("\\\\"),
                    c if c.is_control() => {
                        hex(line, "\\u00", u8::try_from(u32::from(c)).unwrap_or(0));
                    }
                    c => line.push(c),
                }
            }
        } else {
            line.push_str(text);
        }
        for byte in chunk.invalid() {
            *lossy = true;
            hex(line, "%", *byte);
        }
    }
    line.push('"');
}

fn hex(line: &mut String, prefix: &str, byte: u8) {
    line.push_str(prefix);
    for digit in [byte >> 4, byte & 15] {
        line.push(char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase());
    }
}
