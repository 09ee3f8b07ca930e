//! Requests written down as JSON (HAR, JSON lines) to exchanges.
//!
//! Bounds: a line or entry as the caller reads it; targets and hosts of at most [`TARGET_BYTES_MAX`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sensor_core::catalogue::parse_rfc3339;
use sensor_core::http::{Exchange, Method, OwnerHint, RequestFacts, ResponseFacts};
use sensor_core::time::UnixNs;

/// Longest target or host that is taken.
pub const TARGET_BYTES_MAX: usize = 64 * 1024;

/// What a written-down request says.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// Method.
    pub method: &'a str,
    /// Host as sent.
    pub host: Option<&'a str>,
    /// Target as sent.
    pub target: &'a str,
    /// Status, `None` when no response was seen.
    pub status: Option<u16>,
    /// When.
    pub time: Option<UnixNs>,
    /// Client address.
    pub client: Option<SocketAddr>,
    /// Server address.
    pub server: Option<SocketAddr>,
}

impl Record<'_> {
    /// Makes an exchange of it; the error says which field is wrong.
    pub fn exchange(&self) -> Result<Exchange, String> {
        let method = Method::parse(self.method)
            .ok_or_else(|| format!("`method` is no token: {:?}", clip(self.method)))?;
        if self.target.is_empty()
            || self.target.len() > TARGET_BYTES_MAX
            || self.target.bytes().any(|byte| byte <= b' ')
        {
            return Err(format!("`path` is no request target: {:?}", clip(self.target)));
        }
        // RFC 9112, section 3.2: origin-form, absolute-form; authority and `*` for two methods.
        let other_form = self.target.contains("://")
            || self.target == "*"
            || self.method.eq_ignore_ascii_case("CONNECT");
        if !self.target.starts_with('/') && !other_form {
            return Err(format!("`path` does not begin with `/`: {:?}", clip(self.target)));
        }
        let host = self.host.filter(|host| !host.is_empty());
        if host.is_some_and(|host| {
            host.len() > TARGET_BYTES_MAX || host.bytes().any(|byte| byte <= b' ')
        }) {
            return Err(format!("`host` is none: {:?}", clip(host.unwrap_or_default())));
        }
        let unknown = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        Ok(Exchange {
            time: self.time.unwrap_or_default(),
            client: self.client.unwrap_or(unknown(0)),
            server: self.server.unwrap_or_else(|| unknown(host.and_then(port_of).unwrap_or(80))),
            method,
            host: host.map(|host| host.as_bytes().into()),
            target: self.target.as_bytes().into(),
            status: self.status,
            latency_ns: None,
            request: RequestFacts::default(),
            response: ResponseFacts::default(),
            weight: 1,
            client_hint: OwnerHint::default(),
            server_hint: OwnerHint::default(),
        })
    }
}

/// Reads a status: 100 to 999, 0 and null count as none.
pub(super) fn status(value: Option<i64>) -> Result<Option<u16>, String> {
    match value {
        None | Some(0 | -1) => Ok(None),
        Some(code @ 100..=999) => Ok(u16::try_from(code).ok()),
        Some(code) => Err(format!("`status` {code} is none (100 to 999, or null)")),
    }
}

/// Reads a time: RFC 3339, or seconds since 1970.
pub(super) fn time(value: &serde_json::Value) -> Result<Option<UnixNs>, String> {
    match value {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => parse_rfc3339(text)
            .map(Some)
            .ok_or_else(|| format!("`time` is not RFC 3339: {:?}", clip(text))),
        serde_json::Value::Number(number) => {
            let seconds = number.as_f64().filter(|seconds| (0.0..1.8e10).contains(seconds));
            let seconds =
                seconds.ok_or_else(|| format!("`time` {number} is not seconds since 1970"))?;
            let duration = std::time::Duration::from_secs_f64(seconds);
            Ok(Some(UnixNs(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))))
        }
        _ => Err("`time` is neither RFC 3339 text nor seconds since 1970".into()),
    }
}

/// Reads "ip:port" or "ip".
pub(super) fn address(field: &str, value: Option<&str>) -> Result<Option<SocketAddr>, String> {
    let Some(text) = value else { return Ok(None) };
    let read = text.parse().ok().or_else(|| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0))
    });
    read.map(Some).ok_or_else(|| format!("`{field}` is not \"ip:port\": {:?}", clip(text)))
}

fn port_of(host: &str) -> Option<u16> {
    host.rsplit_once(':')
        .filter(|(name, _)| !name.contains(':') || name.ends_with(']'))?
        .1
        .parse()
        .ok()
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}
