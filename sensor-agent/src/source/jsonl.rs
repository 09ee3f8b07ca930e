//! JSON lines of requests: `method`, `host`, `path`, `status`, optionally `time`, `client`, `server`.
//!
//! A line that is wrong is reported with its number and counted, the others are used. Bound: [`LINE_BYTES_MAX`] a line.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

use sensor_core::http::Exchange;

use super::json::{self, Record};

/// Longest line.
pub const LINE_BYTES_MAX: u64 = 1 << 20;

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    host: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(default)]
    status: Option<i64>,
    #[serde(default)]
    time: serde_json::Value,
    #[serde(borrow, default)]
    client: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    server: Option<Cow<'a, str>>,
}

/// Reads all lines: `take` gets each exchange, `wrong` the number and fault of each line that is none.
pub fn read<R: BufRead>(
    mut input: R,
    mut take: impl FnMut(Exchange),
    mut wrong: impl FnMut(u64, &str),
) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            wrong(number, "longer than 1 MiB");
            skip_line(&mut input)?;
            continue;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        match parse(text) {
            Ok(exchange) => take(exchange),
            Err(fault) => wrong(number, &fault),
        }
    }
    Ok(())
}

/// Reads one line.
pub fn parse(text: &[u8]) -> Result<Exchange, String> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    Record {
        method: &line.method,
        host: line.host.as_deref(),
        target: &line.path,
        status: json::status(line.status)?,
        time: json::time(&line.time)?,
        client: json::address("client", line.client.as_deref())?,
        server: json::address("server", line.server.as_deref())?,
    }
    .exchange()
}

fn skip_line<R: BufRead>(input: &mut R) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (used, done) = match memchr::memchr(b'\n', buffer) {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_are_used_and_wrong_ones_are_named() {
        let text = concat!(
            "{\"method\":\"GET\",\"host\":\"a:8080\",\"path\":\"/x?y\",\"status\":200,\"time\":\"2026-01-02T03:04:05Z\"}\n",
            "\n",
            "{\"method\":\"G T\",\"path\":\"/\"}\n",
            "nonsense\n",
            "{\"method\":\"PUT\",\"path\":\"/\",\"status\":null,\"client\":\"::1\",\"server\":\"10.0.0.1:81\"}",
        );
        let (mut exchanges, mut faults) = (Vec::new(), Vec::new());
        read(text.as_bytes(), |exchange| exchanges.push(exchange), |number, _| faults.push(number))
            .unwrap();
        assert_eq!(faults, [3, 4]);
        assert_eq!(exchanges.len(), 2);
        assert_eq!(exchanges[0].server.port(), 8080);
        assert_eq!(exchanges[1].server, "10.0.0.1:81".parse().unwrap());
        assert_eq!(exchanges[1].status, None);
    }
}
