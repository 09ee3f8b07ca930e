//! HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/): entries to exchanges, read as a stream.
//!
//! Memory is one entry's header fields; bodies are skipped. An entry that is wrong is counted and named, the rest is used.

use std::cell::RefCell;
use std::io::Read;

use sensor_core::http::{AuthScheme, Exchange};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{self, Record};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    started_date_time: Option<String>,
    #[serde(default)]
    time: Option<f64>,
    #[serde(default, rename = "serverIPAddress")]
    server_ip: Option<String>,
    request: Request,
    #[serde(default)]
    response: Option<Response>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<Header>,
    #[serde(default)]
    body_size: Option<i64>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    status: Option<i64>,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    body_size: Option<i64>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(default)]
    mime_type: Option<String>,
}

#[derive(serde::Deserialize)]
struct Header {
    name: String,
    value: String,
}

struct Take<'a> {
    exchange: &'a mut dyn FnMut(Exchange),
    wrong: &'a mut dyn FnMut(u64, &str),
    entries: Option<u64>,
}

/// Reads a HAR file; an error means that the file ends or breaks there, what came before was used.
pub fn read<R: Read>(
    input: R,
    mut take: impl FnMut(Exchange),
    mut wrong: impl FnMut(u64, &str),
) -> Result<(), String> {
    let state = RefCell::new(Take { exchange: &mut take, wrong: &mut wrong, entries: None });
    let mut json = serde_json::Deserializer::from_reader(input);
    Member(&state, Level::Root)
        .deserialize(&mut json)
        .map_err(|error| format!("not HAR 1.2, or cut: {error}"))?;
    if state.borrow().entries.is_none() {
        return Err("not HAR 1.2: there is no `log.entries`".into());
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Level {
    Root,
    Log,
    Entries,
}

struct Member<'s, 'a>(&'s RefCell<Take<'a>>, Level);

impl<'de> DeserializeSeed<'de> for Member<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.1 {
            Level::Entries => json.deserialize_seq(self),
            _ => json.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Member<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a HAR object with log.entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match (self.1, key.as_str()) {
                (Level::Root, "log") => map.next_value_seed(Member(self.0, Level::Log))?,
                (Level::Log, "entries") => map.next_value_seed(Member(self.0, Level::Entries))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut state = self.0.borrow_mut();
        state.entries.get_or_insert(0);
        while let Some(entry) = list.next_element::<Entry>()? {
            let number = state.entries.map_or(1, |count| count + 1);
            state.entries = Some(number);
            match entry.exchange() {
                Ok(exchange) => (state.exchange)(exchange),
                Err(fault) => (state.wrong)(number, &fault),
            }
        }
        Ok(())
    }
}

impl Entry {
    fn exchange(&self) -> Result<Exchange, String> {
        let (scheme, rest) = self.request.url.split_once("://").ok_or("`url` has no scheme")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = path.split('#').next().unwrap_or_default();
        let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let header = |wanted: &str| {
            self.request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(wanted))
                .map(|field| field.value.as_str())
        };
        let default_port = if matches!(scheme, "https" | "wss") { 443 } else { 80 };
        let port = authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(default_port);
        let server = json::address(
            "serverIPAddress",
            self.server_ip.as_deref().filter(|ip| !ip.is_empty()),
        )?
        .map(|address| std::net::SocketAddr::new(address.ip(), port));
        let time = json::time(&self.started_date_time.clone().into())?;
        let status = json::status(self.response.as_ref().and_then(|response| response.status))?;
        let mut exchange = Record {
            method: &self.request.method,
            host: Some(header("host").unwrap_or(authority)),
            target: &target,
            status,
            time,
            client: None,
            server,
        }
        .exchange()?;
        exchange.server.set_port(port);
        let size = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        exchange.request.body_bytes = size(self.request.body_size);
        exchange.request.content_type = header("content-type").and_then(media_type);
        exchange.request.auth =
            match header("authorization").and_then(|value| value.split(' ').next()) {
                Some(scheme) if scheme.eq_ignore_ascii_case("basic") => AuthScheme::Basic,
                Some(scheme) if scheme.eq_ignore_ascii_case("bearer") => AuthScheme::Bearer,
                Some(_) => AuthScheme::Other,
                None => AuthScheme::None,
            };
        if let Some(response) = &self.response {
            exchange.response.body_bytes = size(response.body_size);
            exchange.response.content_type = response
                .content
                .as_ref()
                .and_then(|content| content.mime_type.as_deref())
                .and_then(media_type);
        }
        let milliseconds = self.time.filter(|time| status.is_some() && (0.0..1e9).contains(time));
        exchange.latency_ns = milliseconds.and_then(|time| {
            u64::try_from(std::time::Duration::from_secs_f64(time / 1e3).as_nanos()).ok()
        });
        Ok(exchange)
    }
}

fn media_type(value: &str) -> Option<std::sync::Arc<str>> {
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!kind.is_empty() && kind.len() <= 64).then(|| kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAR: &str = r#"{"log":{"version":"1.2","creator":{"name":"x"},"entries":[
        {"startedDateTime":"2026-01-02T03:04:05.678Z","time":12.5,"serverIPAddress":"10.0.0.9",
         "request":{"method":"GET","url":"http://u:p@api.example:8080/a?b=c#d","headers":[{"name":"Host","value":"api.example:8080"}]},
         "response":{"status":200,"content":{"mimeType":"application/json; charset=utf-8","text":"GET /x HTTP/1.1"}}},
        {"request":{"method":"GET","url":"no scheme"}},
        {"request":{"method":"POST","url":"https://api.example"},"response":{"status":0}}
    ]}}"#;

    #[test]
    fn entries_become_exchanges() {
        let (mut exchanges, mut faults) = (Vec::new(), Vec::new());
        read(HAR.as_bytes(), |exchange| exchanges.push(exchange), |number, _| faults.push(number))
            .unwrap();
        assert_eq!((exchanges.len(), faults), (2, vec![2]));
        assert_eq!(&*exchanges[0].target, b"/a?b=c");
        assert_eq!(exchanges[0].server, "10.0.0.9:8080".parse().unwrap());
        assert_eq!(exchanges[0].latency_ns, Some(12_500_000));
        assert_eq!((exchanges[1].server.port(), exchanges[1].status), (443, None));
    }

    #[test]
    fn a_cut_file_gives_what_came_before() {
        for len in 0..HAR.len() {
            let mut count = 0;
            assert!(
                read(HAR[..len].trim_end().as_bytes(), |_| count += 1, |_, _| ()).is_err(),
                "{len}"
            );
            assert!(count <= 2);
        }
    }
}
