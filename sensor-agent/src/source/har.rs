//! HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/): entries to exchanges, read as a stream.
//!
//! Memory is one entry's header fields; bodies are skipped. An entry that is wrong is counted and named, the rest is used.

use std::cell::RefCell;
use std::io::Read;

use sensor_core::http::{Exchange, ResponseFacts, written_request, written_response};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{self, Record};
use super::loose::{Form, Loose, Shape};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Entry {
    started_date_time: Loose<String>,
    time: Loose<f64>,
    #[serde(rename = "serverIPAddress")]
    server_ip: Loose<String>,
    request: Loose<Request>,
    response: Loose<Response>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    method: Loose<String>,
    url: Loose<String>,
    headers: Loose<Vec<Loose<Header>>>,
    body_size: Loose<i64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    status: Loose<i64>,
    headers: Loose<Vec<Loose<Header>>>,
    content: Loose<Content>,
    #[serde(rename = "redirectURL")]
    redirect_url: Loose<String>,
    body_size: Loose<i64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    mime_type: Loose<String>,
    size: Loose<i64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Header {
    name: Loose<String>,
    value: Loose<String>,
}

macro_rules! objects {
    ($($name:ident)*) => {$(
        impl Shape for $name {
            const FORM: Form = Form::Object;
        }
    )*};
}

objects! { Entry Request Response Content Header }

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
        while let Some(entry) = list.next_element::<Loose<Entry>>()? {
            let number = state.entries.map_or(1, |count| count + 1);
            state.entries = Some(number);
            let entry =
                entry.value("entry").and_then(|entry| entry.ok_or("`entry` is null".into()));
            match entry.and_then(Entry::exchange) {
                Ok(exchange) => (state.exchange)(exchange),
                Err(fault) => (state.wrong)(number, &fault),
            }
        }
        Ok(())
    }
}

impl Entry {
    fn exchange(&self) -> Result<Exchange, String> {
        let request = self.request.value("request")?.ok_or("there is no `request`")?;
        let url = request.url.value("url")?.ok_or("there is no `url`")?;
        let method = request.method.value("method")?.ok_or("there is no `method`")?;
        let (scheme, rest) = url.split_once("://").ok_or("`url` has no scheme")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = path.split('#').next().unwrap_or_default();
        let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let fields = fields(&request.headers)?;
        let host = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let default_port = if matches!(scheme, "https" | "wss") { 443 } else { 80 };
        let port = authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(default_port);
        let ip = self.server_ip.value("serverIPAddress")?.map(String::as_str);
        let server = json::address("serverIPAddress", ip.filter(|ip| !ip.is_empty()))?
            .map(|address| std::net::SocketAddr::new(address.ip(), port));
        let started = self.started_date_time.value("startedDateTime")?;
        let response = self.response.value("response")?;
        let status = response.map(|response| response.status.value("status")).transpose()?;
        let status = json::status(status.flatten().copied())?;
        let mut exchange = Record {
            method,
            host: Some(host.map_or(authority, |(_, value)| value)),
            target: &target,
            status,
            time: json::time(&started.cloned().into())?,
            client: None,
            server,
        }
        .exchange()?;
        exchange.server.set_port(port);
        exchange.request = written_request(&exchange.method, &exchange.target, &fields);
        exchange.request.body_bytes = size(request.body_size.value("bodySize")?);
        if let Some(response) = response {
            exchange.response = response.facts()?;
        }
        let time = self.time.value("time")?.copied();
        let milliseconds = time.filter(|time| status.is_some() && (0.0..1e9).contains(time));
        exchange.latency_ns = milliseconds.and_then(|time| {
            u64::try_from(std::time::Duration::from_secs_f64(time / 1e3).as_nanos()).ok()
        });
        Ok(exchange)
    }
}

impl Response {
    fn facts(&self) -> Result<ResponseFacts, String> {
        let mut fields = fields(&self.headers)?;
        // Where a field is there twice, the last counts: the headers themselves.
        if let Some(url) = self.redirect_url.value("redirectURL")?.filter(|url| !url.is_empty()) {
            fields.insert(0, ("location", url));
        }
        let content = self.content.value("content")?;
        let media = content.map(|content| content.mime_type.value("mimeType")).transpose()?;
        if let Some(media) = media.flatten() {
            fields.insert(0, ("content-type", media));
        }
        let mut facts = written_response(&fields);
        // What came over the wire; from a cache, or where that is not known, what it was unpacked.
        let unpacked = content.map(|content| content.size.value("size")).transpose()?;
        let sizes = [size(self.body_size.value("bodySize")?), size(unpacked.flatten())];
        let known = sizes.iter().flatten();
        facts.body_bytes =
            known.clone().find(|bytes| **bytes > 0).or(known.clone().next()).copied();
        Ok(facts)
    }
}

fn fields(headers: &Loose<Vec<Loose<Header>>>) -> Result<Vec<(&str, &str)>, String> {
    let mut fields = Vec::new();
    for header in headers.value("headers")?.into_iter().flatten() {
        let Some(header) = header.value("headers")? else { continue };
        let (name, value) = (header.name.value("name")?, header.value.value("value")?);
        if let (Some(name), Some(value)) = (name, value) {
            fields.push((name.as_str(), value.as_str()));
        }
    }
    Ok(fields)
}

fn size(bytes: Option<&i64>) -> Option<u64> {
    bytes.and_then(|bytes| u64::try_from(*bytes).ok())
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
    fn a_wrong_type_is_the_fault_of_its_entry_alone() {
        let good = r#"{"request":{"method":"GET","url":"http://a/x"},"response":{"status":200}}"#;
        let wrong = [
            "7",
            "null",
            "[[]]",
            r#"{"request":"none"}"#,
            r#"{"request":{"method":["GET"],"url":"http://a/x"}}"#,
            r#"{"request":{"method":"GET","url":{"a":[1,{"b":2}]}}}"#,
            r#"{"request":{"method":"GET","url":"http://a/x"},"response":{"status":"200"}}"#,
            r#"{"request":{"method":"GET","url":"http://a/x"},"response":{"status":200.5}}"#,
            r#"{"request":{"method":"GET","url":"http://a/x","headers":[{"name":"a","value":1}]}}"#,
            r#"{"request":{"method":"GET","url":"http://a/x"},"time":"long"}"#,
        ];
        for wrong in wrong {
            let har = format!(r#"{{"log":{{"entries":[{good},{wrong},{good}]}}}}"#);
            let (mut count, mut faults) = (0, Vec::new());
            read(har.as_bytes(), |_| count += 1, |number, _| faults.push(number)).expect(wrong);
            assert_eq!((count, faults), (2, vec![2]), "{wrong}");
        }
    }

    #[test]
    fn what_was_answered_is_read() {
        let har = r#"{"log":{"entries":[{"request":{"method":"GET","url":"http://a/x","headers":[{"name":"Cookie","value":"session=1"}]},
            "response":{"status":302,"redirectURL":"http://a/login?next=1","bodySize":-1,"headers":[{"name":"Sunset","value":"Wed, 11 Nov 2026 11:11:11 GMT"}],
            "content":{"size":153,"mimeType":"text/html; charset=utf-8"}}}]}}"#;
        let mut exchanges = Vec::new();
        read(har.as_bytes(), |exchange| exchanges.push(exchange), |_, fault| panic!("{fault}"))
            .unwrap();
        let response = &exchanges[0].response;
        assert_eq!(response.location.as_deref(), Some("http://a/login"));
        assert_eq!(response.content_type.as_deref(), Some("text/html"));
        assert_eq!(response.body_bytes, Some(153));
        assert!(response.sunset.is_some());
        assert_eq!(exchanges[0].request.auth, sensor_core::http::AuthScheme::Cookie);
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
