//! A `servers` entry to the place it names and the prefix of its paths.
//!
//! Variables with `enum` are expanded to each value. Others: in the host part any name fits (`*`), since the default is
//! only an example tenant; in the path the default stands, so that another version's prefix is not taken for this one's.

use std::net::IpAddr;

use serde_json::Value;

use super::{host::HostPattern, limits::SERVERS_MAX};

/// What a server URL says about where its paths are served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Nothing: the URL is relative.
    Relative,
    /// A name of the machine itself (`localhost`, 127.0.0.1): most often a leftover of development.
    Loopback(Box<str>),
    /// A host or a pattern of hosts.
    Host(HostPattern),
    /// An address.
    Address(IpAddr),
}

/// One server after expansion of its variables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    pub(super) place: Place,
    /// Port where the URL names one.
    pub(super) port: Option<u16>,
    /// Starts with `/` and does not end with it, or is empty.
    pub(super) prefix: Box<str>,
}

impl Server {
    /// The server of a document that names none (OpenAPI 3, `servers`: default `/`).
    pub(super) fn root() -> Self {
        Self { place: Place::Relative, port: None, prefix: "".into() }
    }
}

/// Why a server could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerError {
    TooMany,
    Bad(&'static str),
}

/// Reads one server URL with its `variables` (an object, or nothing).
pub(super) fn parse(url: &str, variables: Option<&Value>) -> Result<Vec<Server>, ServerError> {
    let mut texts = vec![url.trim().to_owned()];
    for (name, values) in enums(variables) {
        let hole = format!("{{{name}}}");
        if !url.contains(&hole) {
            continue;
        }
        if texts.len().saturating_mul(values.len()) > SERVERS_MAX {
            return Err(ServerError::TooMany);
        }
        texts = texts
            .iter()
            .flat_map(|text| values.iter().map(|value| text.replace(&hole, value)))
            .collect();
    }
    let mut servers =
        texts.iter().map(|text| parse_one(text, variables)).collect::<Result<Vec<_>, _>>()?;
    servers.sort();
    servers.dedup();
    Ok(servers)
}

/// The variables that have a non-empty `enum`.
fn enums(variables: Option<&Value>) -> Vec<(&str, Vec<String>)> {
    let Some(Value::Object(map)) = variables else { return Vec::new() };
    map.iter()
        .filter_map(|(name, variable)| {
            let values: Vec<String> =
                variable.get("enum")?.as_array()?.iter().filter_map(text_of).collect();
            (!values.is_empty()).then_some((name.as_str(), values))
        })
        .collect()
}

fn parse_one(text: &str, variables: Option<&Value>) -> Result<Server, ServerError> {
    let filled = fill_leading(text, variables);
    let after_scheme = match filled.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => Some(rest),
        Some(_) => return Err(ServerError::Bad("the scheme is not one; write `https://`")),
        None => filled.strip_prefix("//"),
    };
    let Some(rest) = after_scheme else {
        let first = filled.split('/').next().unwrap_or_default();
        if looks_like_host(first) {
            return Err(ServerError::Bad("write `https://` before a host, or `/` before a path"));
        }
        let prefix = prefix_of(&filled, variables)?;
        return Ok(Server { place: Place::Relative, port: None, prefix });
    };
    let cut = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(cut);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (place, port) = parse_authority(authority)?;
    Ok(Server { place, port, prefix: prefix_of(path, variables)? })
}

/// A variable at the very start may hold scheme and host: its default is what it says.
fn fill_leading(text: &str, variables: Option<&Value>) -> String {
    if let Some((name, tail)) = text.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        && !tail.starts_with("://")
        && let Some(default) = default_of(variables, name)
    {
        return format!("{default}{tail}");
    }
    text.to_owned()
}

fn default_of(variables: Option<&Value>, name: &str) -> Option<String> {
    text_of(variables?.get(name)?.get("default")?)
}

/// Text; a number (`default: 8443`, against the specification but common) as written.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_scheme(text: &str) -> bool {
    let variable = text.starts_with('{') && text.ends_with('}');
    variable
        || (!text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)))
}

/// `api.example.com` or `localhost:8080` where a path was expected.
fn looks_like_host(first: &str) -> bool {
    let (name, port) =
        first.split_once(':').map_or((first, None), |(name, port)| (name, Some(port)));
    let has_port = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let last = name.rsplit('.').next().unwrap_or_default();
    let dotted = name.len() > last.len() + 1
        && last.len() >= 2
        && last.bytes().all(|byte| byte.is_ascii_alphabetic());
    has_port || dotted
}

fn parse_authority(authority: &str) -> Result<(Place, Option<u16>), ServerError> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, tail)) => (inside, tail.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains('}') || port.starts_with('{') => {
                (host, Some(port))
            }
            _ => (authority, None),
        },
    };
    let port = match port {
        // A variable without `enum`: any port.
        Some(text) if text.starts_with('{') => None,
        Some("") | None => None,
        Some(digits) => Some(
            digits
                .parse()
                .map_err(|_| ServerError::Bad("the port is not a number from 0 to 65535"))?,
        ),
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        let place = if address.is_loopback() {
            Place::Loopback(host.into())
        } else {
            Place::Address(address)
        };
        return Ok((place, port));
    }
    let pattern = variables_to_stars(host)?;
    match HostPattern::parse(&pattern) {
        Some(HostPattern::Exact(name)) if &*name == "localhost" || name.ends_with(".localhost") => {
            Ok((Place::Loopback(name), port))
        }
        Some(pattern) => Ok((Place::Host(pattern), port)),
        None => Err(ServerError::Bad("the host is not one; write `https://api.example.com/v1`")),
    }
}

/// `{tenant}.example.com` to `*.example.com`; stars beside each other are one.
fn variables_to_stars(host: &str) -> Result<String, ServerError> {
    let mut pattern = String::new();
    let mut rest = host;
    while let Some((before, tail)) = rest.split_once('{') {
        let (_, after) = tail.split_once('}').ok_or(ServerError::Bad("`{` is not closed"))?;
        pattern.push_str(before);
        if !pattern.ends_with('*') {
            pattern.push('*');
        }
        rest = after;
    }
    pattern.push_str(rest);
    Ok(pattern)
}

/// The path of a server URL as a prefix on a segment border: variables filled, `.` and `..` resolved.
fn prefix_of(path: &str, variables: Option<&Value>) -> Result<Box<str>, ServerError> {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail.split_once('}').ok_or(ServerError::Bad("`{` is not closed"))?;
        filled.push_str(before);
        match default_of(variables, name) {
            Some(default) => filled.push_str(&default),
            // Without a default (which the specification demands) it can be anything: a parameter.
            None => filled.extend(["{", name, "}"]),
        }
        rest = after;
    }
    filled.push_str(rest);
    let end = super::template::cut_query(&filled).len();
    filled.truncate(end);
    Ok(join_segments(&filled).into())
}

/// `./v1/../v2//x/` to `/v2/x`.
fn join_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    segments.iter().flat_map(|segment| ["/", segment]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(pattern: &str) -> Place {
        Place::Host(HostPattern::parse(pattern).expect(pattern))
    }

    fn check(url: &str, variables: &Value, expected: &[(Place, Option<u16>, &str)]) {
        let found = parse(url, Some(variables)).expect(url);
        let found: Vec<_> = found.iter().map(|s| (s.place.clone(), s.port, &*s.prefix)).collect();
        assert_eq!(found, expected, "{url}");
    }

    #[test]
    fn places_and_prefixes_are_read() {
        let none = json!({});
        check("https://API.example.com/v1/", &none, &[(host("api.example.com"), None, "/v1")]);
        check("//api.example.com:8443", &none, &[(host("api.example.com"), Some(8443), "")]);
        check(
            "https://user@h.example/a//b/./../c?x#y",
            &none,
            &[(host("h.example"), None, "/a/c")],
        );
        check("/v1", &none, &[(Place::Relative, None, "/v1")]);
        check("v1", &none, &[(Place::Relative, None, "/v1")]);
        check("../v1", &none, &[(Place::Relative, None, "/v1")]);
        check("", &none, &[(Place::Relative, None, "")]);
        check("/", &none, &[(Place::Relative, None, "")]);
        check(
            "http://localhost:3000/x",
            &none,
            &[(Place::Loopback("localhost".into()), Some(3000), "/x")],
        );
        check(
            "http://[2001:db8::1]:80",
            &none,
            &[(Place::Address("2001:db8::1".parse().unwrap()), Some(80), "")],
        );
    }

    #[test]
    fn variables_become_values_stars_or_defaults() {
        let tenant = json!({"tenant": {"default": "acme"}});
        check("https://{tenant}.example.com/v1", &tenant, &[(host("*.example.com"), None, "/v1")]);
        let regions = json!({"region": {"enum": ["us", "eu"], "default": "eu"}, "base": {"default": "v2/api"}});
        check(
            "https://{region}.example.com/{base}",
            &regions,
            &[(host("eu.example.com"), None, "/v2/api"), (host("us.example.com"), None, "/v2/api")],
        );
        check(
            "{scheme}://{host}:{port}/{x}",
            &json!({}),
            &[(Place::Host(HostPattern::Any), None, "/{x}")],
        );
        let url = json!({"url": {"default": "https://a.example/x"}});
        check("{url}/v1", &url, &[(host("a.example"), None, "/x/v1")]);
        let ports = json!({"port": {"enum": ["443", 8443]}});
        check(
            "https://a.example:{port}",
            &ports,
            &[(host("a.example"), Some(443), ""), (host("a.example"), Some(8443), "")],
        );
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for bad in [
            "https://a:99999",
            "api.example.com/v1",
            "localhost:80",
            "https://{a",
            "https://a b/",
            "/v1/{x",
            "https:///v1",
        ] {
            assert!(matches!(parse(bad, None), Err(ServerError::Bad(_))), "{bad}");
        }
        let wide: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let three = json!({"a": {"enum": wide}, "b": {"enum": wide}, "c": {"enum": wide}});
        assert_eq!(parse("/{a}/{b}/{c}", Some(&three)), Err(ServerError::TooMany));
    }
}
