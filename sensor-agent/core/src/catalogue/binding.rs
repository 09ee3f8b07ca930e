//! Which services a document is for: from the binding file `catalogue.yaml`, else from `servers`, else every service.
//!
//! ```yaml
//! documents:
//!   - document: orders.yaml            # name of the document, relative to the folder
//!     # or several versions of it, oldest first; the last is current: `versions: [v1.yaml, v2.yaml]`
//!     hosts: [api.example.com, "*.shop.example"]
//!     ports: [8080]                    # ports of the listener
//!     addresses: [10.0.0.0/8]          # addresses of the listener
//!     prefix: {strip: /api, add: /internal}
//!     retired: false                   # true: an older version; false: current, whatever its `info.version`
//!     owner: Orders                    # of operations whose document has no `x-owner`
//! ```
//! `hosts`, `ports` and `addresses` must all fit; one that is missing fits everything, and a document with none of
//! them is bound by its `servers`. A document may be listed several times. `prefix` says what a gateway in front does to
//! the path: the sensor sees `add` + (path without `strip`). Only whole segments are stripped.

use ipnet::IpNet;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    document::clean,
    error::Problem,
    host::HostPattern,
    limits::BINDING_BYTES_MAX,
    read::{ReadError, as_text},
    servers::{Place, Server},
};
use crate::yaml::{self, one_line};

/// Why a document is bound to the services it is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingReason {
    /// The binding file says so.
    BindingFile,
    /// Hosts of the document's `servers`.
    Servers,
    /// All servers are loopback names: for these, and for services no other document names.
    LoopbackServersOnly,
    /// What was asked shows for which services it is, of a document that names no host.
    Evidence,
    /// The document names no host: for every service.
    NoServers,
}

impl BindingReason {
    /// The reason in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::BindingFile => "binding file",
            Self::Servers => "hosts that the document names",
            Self::LoopbackServersOnly => {
                "only loopback servers in the document: for every host that no other document names"
            }
            Self::Evidence => "requests match, of a document that names no host",
            Self::NoServers => {
                "no host in the document and no binding: for every host until requests show for which"
            }
        }
    }

    /// Whether evidence may say better.
    pub(super) const fn asks_evidence(self) -> bool {
        matches!(self, Self::LoopbackServersOnly | Self::NoServers)
    }
}

/// Services that something is for; all conditions must fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    pub(super) host: HostPattern,
    /// Port in a server's URL: among documents of one host, the one whose port fits comes first.
    pub(super) url_port: Option<u16>,
    /// Port of the listener.
    pub(super) port: Option<u16>,
    /// Address of the listener.
    pub(super) network: Option<IpNet>,
    /// Asked only when nothing else is bound.
    pub(super) fallback: bool,
    /// The document that evidence may bind more closely: it has a scope of its own.
    pub(super) floating: Option<u32>,
}

impl Scope {
    pub(super) const EVERY: Self = Self {
        host: HostPattern::Any,
        url_port: None,
        port: None,
        network: None,
        fallback: false,
        floating: None,
    };

    /// Whether it says nothing of the service.
    pub(super) fn is_every(&self) -> bool {
        *self == Self { fallback: self.fallback, floating: self.floating, ..Self::EVERY }
    }

    /// The scope as a user reads it.
    pub(super) fn text(&self) -> String {
        let host = match &self.host {
            HostPattern::Any => "every host",
            HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
        };
        let url_port = self.url_port.map(|port| format!(":{port}")).unwrap_or_default();
        let network = self.network.map(|network| format!(" on {network}")).unwrap_or_default();
        let port = self.port.map(|port| format!(" at port {port}")).unwrap_or_default();
        format!("{host}{url_port}{network}{port}")
    }
}

/// Scopes of one server, with the reason.
pub(super) fn scopes_of(server: &Server) -> (Vec<Scope>, BindingReason) {
    let host = |host: HostPattern| Scope { host, url_port: server.port, ..Scope::EVERY };
    match &server.place {
        Place::Relative => (vec![Scope::EVERY], BindingReason::NoServers),
        Place::Host(HostPattern::Any) => (vec![host(HostPattern::Any)], BindingReason::Servers),
        Place::Host(pattern) => (vec![host(pattern.clone())], BindingReason::Servers),
        Place::Loopback(name) => {
            let anywhere = Scope { fallback: true, ..Scope::EVERY };
            (
                vec![host(HostPattern::Exact(name.clone())), anywhere],
                BindingReason::LoopbackServersOnly,
            )
        }
        Place::Address(address) => {
            let by_name = host(HostPattern::Exact(address.to_string().into()));
            let by_address =
                Scope { network: Some((*address).into()), url_port: server.port, ..Scope::EVERY };
            (vec![by_name, by_address], BindingReason::Servers)
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    documents: Vec<Spanned<RawBinding>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBinding {
    document: Option<Spanned<String>>,
    #[serde(default)]
    versions: Vec<Spanned<String>>,
    #[serde(default)]
    hosts: Vec<Spanned<String>>,
    #[serde(default)]
    ports: Vec<u16>,
    #[serde(default)]
    addresses: Vec<Spanned<String>>,
    #[serde(default)]
    prefix: RawPrefix,
    retired: Option<bool>,
    owner: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawPrefix {
    #[serde(default)]
    strip: String,
    #[serde(default)]
    add: String,
}

/// How many versions of a document came after it; zero for the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age(pub(super) usize);

/// One entry of the binding file, for one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) document: String,
    pub(super) line: u64,
    /// Empty: the document's own servers decide.
    pub(super) scopes: Vec<Scope>,
    /// Segments to take off the front, as `/a/b`; empty for none.
    pub(super) strip: String,
    /// Segments to put in front.
    pub(super) add: String,
    /// What it says of the document's age; nothing: its folder and `info.version` decide.
    pub(super) age: Option<Age>,
    pub(super) owner: Option<Box<str>>,
}

/// Reads a binding file.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Binding>, ReadError> {
    let at = |line: u64, problem| ReadError {
        line: Some(line).filter(|line| *line > 0),
        pointer: String::new(),
        problem,
    };
    if bytes.len() > BINDING_BYTES_MAX {
        return Err(at(0, Problem::BindingTooLarge { bytes: bytes.len() }));
    }
    let text = as_text(bytes).map_err(|problem| at(0, problem))?;
    let file: RawFile = yaml::from_str(text)
        .map_err(|error| at(error.line.unwrap_or(0), Problem::Syntax(error.message)))?;
    let mut bindings = Vec::new();
    for raw in file.documents {
        let line = raw.referenced.line();
        let resolved = resolve(&raw.value, line).map_err(|(line, problem)| at(line, problem))?;
        bindings.extend(resolved);
    }
    Ok(bindings)
}

/// A document as an entry names it.
struct Listed {
    name: String,
    line: u64,
    age: Option<Age>,
}

/// Documents that an entry names, each with its age.
fn documents_of(raw: &RawBinding, line: u64) -> Result<Vec<Listed>, (u64, Problem)> {
    let listed = |name: &Spanned<String>, age| Listed {
        name: name.value.clone(),
        line: name.referenced.line(),
        age,
    };
    match (&raw.document, &*raw.versions) {
        (Some(document), []) => {
            let age = raw.retired.map(|retired| Age(usize::from(retired)));
            Ok(vec![listed(document, age)])
        }
        (None, [_, ..]) if raw.retired.is_none() => {
            let newest = raw.versions.len() - 1;
            let versions = raw.versions.iter().enumerate();
            Ok(versions.map(|(at, it)| listed(it, Some(Age(newest - at)))).collect())
        }
        (None, [_, ..]) => Err((line, Problem::BindingOfNothing("`retired` beside `versions`"))),
        (Some(_), _) => Err((line, Problem::BindingOfNothing("`document` beside `versions`"))),
        (None, []) => Err((line, Problem::BindingOfNothing("neither `document` nor `versions`"))),
    }
}

fn resolve(raw: &RawBinding, line: u64) -> Result<Vec<Binding>, (u64, Problem)> {
    let documents = documents_of(raw, line)?;
    let hosts = raw.hosts.iter().map(|host| {
        HostPattern::parse(&host.value)
            .ok_or_else(|| (host.referenced.line(), Problem::BadHost(one_line(&host.value))))
    });
    let mut hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    let addresses = raw.addresses.iter().map(|address| {
        let parsed = address.value.parse::<IpNet>().map(|net| net.trunc()).ok();
        let parsed =
            parsed.or_else(|| address.value.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        parsed.map(Some).ok_or_else(|| {
            (address.referenced.line(), Problem::BadAddress(one_line(&address.value)))
        })
    });
    let mut networks = addresses.collect::<Result<Vec<_>, _>>()?;
    let mut ports: Vec<Option<u16>> = raw.ports.iter().copied().map(Some).collect();
    let bound = !(hosts.is_empty() && networks.is_empty() && ports.is_empty());
    let mut scopes = Vec::new();
    if bound {
        if hosts.is_empty() {
            hosts.push(HostPattern::Any);
        }
        if networks.is_empty() {
            networks.push(None);
        }
        if ports.is_empty() {
            ports.push(None);
        }
        for host in &hosts {
            for network in &networks {
                for port in &ports {
                    scopes.push(Scope {
                        host: host.clone(),
                        port: *port,
                        network: *network,
                        ..Scope::EVERY
                    });
                }
            }
        }
    }
    if scopes.len() > super::limits::SERVERS_MAX {
        return Err((line, Problem::TooManyServers));
    }
    let strip = whole_segments(&raw.prefix.strip, line)?;
    let add = whole_segments(&raw.prefix.add, line)?;
    let owner = raw.owner.as_deref().map(clean).filter(|owner| !owner.is_empty());
    let bindings = documents.into_iter().map(|Listed { name, line, age }| Binding {
        document: name,
        line,
        scopes: scopes.clone(),
        strip: strip.clone(),
        add: add.clone(),
        age,
        owner: owner.clone(),
    });
    Ok(bindings.collect())
}

fn whole_segments(text: &str, line: u64) -> Result<String, (u64, Problem)> {
    let path: String = text
        .split('/')
        .filter(|segment| !segment.is_empty())
        .flat_map(|segment| ["/", segment])
        .collect();
    match super::template::Template::parse(&format!("{path}/")) {
        Ok(_) => Ok(path),
        Err(_) => {
            Err((line, Problem::BadTemplate(one_line(text), "write a prefix such as `/api/v1`")))
        }
    }
}

/// `path` without `prefix` where it starts with it on a segment border.
pub(super) fn strip_prefix<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_names_hosts_ports_addresses_and_prefixes() {
        let text = b"documents:\n  - document: a.yaml\n    hosts: [API.example.com, '*.x']\n    ports: [80, 81]\n    \
            addresses: [10.1.2.3/8, '::1']\n    prefix: {strip: api/, add: /int//ernal}\n    retired: true\n";
        let bindings = read(text).unwrap();
        let [binding] = &*bindings else { panic!("{bindings:?}") };
        assert_eq!(binding.scopes.len(), 8);
        assert_eq!(
            (&*binding.strip, &*binding.add, binding.age),
            ("/api", "/int/ernal", Some(Age(1)))
        );
        assert_eq!(binding.scopes[0].text(), "api.example.com on 10.0.0.0/8 at port 80");
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let cases: [(&[u8], u64); 9] = [
            (b"documents:\n  - document: a\n    versions: [a, b]\n", 2),
            (b"documents:\n  - versions: [a, b]\n    retired: true\n", 2),
            (b"documents:\n  - document: a\n    hosts: ['http://x/']\n", 3),
            (b"documents:\n  - document: a\n    addresses: [10.0.0.0/33]\n", 3),
            (b"documents:\n  - document: a\n    host: x\n", 3),
            (b"documents:\n  - document: a\n    ports: [70000]\n", 3),
            (b"documents:\n  - hosts: [x]\n", 2),
            (b"documents: 7\n", 1),
            (b"\xff", 0),
        ];
        for (text, line) in cases {
            let error = read(text).expect_err("bad");
            assert_eq!(
                error.line.unwrap_or(0),
                line,
                "{:?} {error:?}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn prefixes_are_stripped_on_segment_borders_only() {
        assert_eq!(strip_prefix("/api/users", "/api"), Some("/users"));
        assert_eq!(strip_prefix("/apiary", "/api"), None);
        assert_eq!(strip_prefix("/api", "/api"), Some(""));
        assert_eq!(strip_prefix("/users", ""), Some("/users"));
    }
}
