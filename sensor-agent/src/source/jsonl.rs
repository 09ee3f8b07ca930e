//! JSON lines of requests: `method`, `host`, `path`, `status`, optionally `time`, `client`, `server`; of the request `auth`,
//! `user_agent`, `sec_fetch_dest`, of the response `content_type`, `response_body_bytes`, `location`, `deprecation`, `sunset` and `link`.
//!
//! A line that is wrong is reported with its number and counted, the others are used. Bound: [`LINE_BYTES_MAX`] a line.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

use sensor_core::http::{AuthScheme, Exchange, written_request, written_response};

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
    #[serde(borrow, default)]
    auth: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sec_fetch_dest: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(default)]
    response_body_bytes: Option<u64>,
    #[serde(borrow, default)]
    location: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    deprecation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sunset: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    link: Option<Cow<'a, str>>,
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

/// What the parser says; that it was line 1 of what it was given says nothing.
fn in_line(error: &serde_json::Error) -> String {
    error.to_string().replacen(" at line 1 column", " at column", 1)
}

/// Reads one line.
pub fn parse(text: &[u8]) -> Result<Exchange, String> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|error| in_line(&error))?;
    let mut exchange = Record {
        method: &line.method,
        host: line.host.as_deref(),
        target: &line.path,
        status: json::status(line.status)?,
        time: json::time(&line.time)?,
        client: json::address("client", line.client.as_deref())?,
        server: json::address("server", line.server.as_deref())?,
    }
    .exchange()?;
    let fields =
        [("user-agent", &line.user_agent), ("sec-fetch-dest", &line.sec_fetch_dest)].into_iter();
    let fields: Vec<_> =
        fields.filter_map(|(name, value)| Some((name, value.as_deref()?))).collect();
    exchange.request = written_request(&exchange.method, &exchange.target, &fields);
    if let Some(word) = line.auth.as_deref() {
        exchange.request.auth = AuthScheme::of_word(word)
            .ok_or_else(|| format!("`auth` is no scheme: {:?}", json::clip(word)))?;
    }
    let fields: Vec<(&str, &str)> = [
        ("content-type", &line.content_type),
        ("location", &line.location),
        ("deprecation", &line.deprecation),
        ("sunset", &line.sunset),
        ("link", &line.link),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    .collect();
    exchange.response = written_response(&fields);
    exchange.response.body_bytes = line.response_body_bytes;
    Ok(exchange)
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
    fn what_was_answered_is_read_where_it_is_there() {
        let line = br#"{"method":"GET","path":"/a","status":302,"auth":"bearer","user_agent":"kube-probe/1.29",
            "content_type":"Text/HTML; charset=utf-8","response_body_bytes":153,"location":"/login?next=%2Fa","sunset":"Wed, 11 Nov 2026 11:11:11 GMT"}"#;
        let exchange = parse(line).unwrap();
        assert_eq!(exchange.request.auth, AuthScheme::Bearer);
        assert_eq!(exchange.request.user_agent.as_deref(), Some("kube-probe"));
        let response = exchange.response;
        assert_eq!(response.content_type.as_deref(), Some("text/html"));
        assert_eq!(
            (response.body_bytes, response.location.as_deref()),
            (Some(153), Some("/login"))
        );
        assert_eq!(response.sunset.as_deref(), Some("Wed, 11 Nov 2026 11:11:11 GMT"));
        assert!(parse(br#"{"method":"GET","path":"/a","auth":"magic"}"#).is_err());
        assert!(parse(br#"{"method":"GET","path":"/a","response_body_bytes":-1}"#).is_err());
    }

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
