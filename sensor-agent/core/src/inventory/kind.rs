//! What kind of endpoint it is, by what its successes are and how it is called; a hint for views, never for states.

use serde::{Deserialize, Serialize};

use super::{
    answers::is_page, catch_all::is_rest, endpoint::Endpoint, evidence::Outcome,
    facet::AuthPosture, row::Kind,
};
use crate::http::{AuthScheme, Exchange, FetchedFor};

/// What the successes of an endpoint were, and who asked: bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Sights(u16);

impl Sights {
    const API: u16 = 1;
    const PAGE: u16 = 2;
    const ASSET: u16 = 4;
    const PROBED: u16 = 8;
    const CALLED: u16 = 16;
    /// A success that was asked for without credentials, and one with.
    const OPEN: u16 = 32;
    const AUTHENTICATED: u16 = 64;
    /// A browser said that it was for a page, or for a part of one, where the media type did not tell.
    const FETCHED_PAGE: u16 = 128;
    const FETCHED_PART: u16 = 256;
    /// Neither told.
    const UNTOLD: u16 = 512;

    /// Notes one exchange.
    pub(super) fn note(&mut self, exchange: &Exchange, outcome: Outcome) {
        let agent = exchange.request.user_agent.as_deref();
        self.0 |= if agent.is_some_and(is_prober) { Self::PROBED } else { Self::CALLED };
        if outcome != Outcome::Success {
            return;
        }
        self.0 |= match exchange.request.auth {
            AuthScheme::None => Self::OPEN,
            _ => Self::AUTHENTICATED,
        };
        self.0 |= match (exchange.response.content_type.as_deref(), exchange.request.fetched_for) {
            (media, _) if is_page(media) => Self::PAGE,
            (Some(media), _) if is_asset_media(media) => Self::ASSET,
            (Some(media), _) if is_data_media(media) => Self::API,
            // The media type does not tell; the browser knows what it asked for, but anybody may write what a browser would.
            (_, FetchedFor::Page) => Self::FETCHED_PAGE,
            (_, FetchedFor::Part) => Self::FETCHED_PART,
            (Some(_), _) | (None, FetchedFor::Script) => Self::API,
            (None, FetchedFor::Unknown) => Self::UNTOLD,
        };
    }

    /// Adds another's.
    pub(super) fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether it answers without credentials.
    pub(super) const fn posture(self) -> Option<AuthPosture> {
        match (self.has(Self::OPEN), self.has(Self::AUTHENTICATED)) {
            (false, false) => None,
            (true, false) => Some(AuthPosture::Open),
            (true, true) => Some(AuthPosture::Mixed),
            (false, true) => Some(AuthPosture::Credentials),
        }
    }

    const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

impl Kind {
    /// Judges one answer by template and media type.
    #[must_use]
    pub fn of_response(template: &str, content_type: Option<&str>) -> Self {
        let name = last_segment(template);
        if OPERATIONAL_NAMES.contains(&name) {
            return Self::Operational;
        }
        match content_type {
            media if is_page(media) => Self::Page,
            Some(media) if is_asset_media(media) => Self::Asset,
            media => Self::of_name(name, media),
        }
    }

    /// Judges an endpoint: what a document declares is of an API, and the best of its successes counts.
    pub(super) fn of_endpoint(endpoint: &Endpoint) -> Self {
        let (sights, name) = (endpoint.sights, last_segment(&endpoint.template));
        if is_rest(endpoint) {
            return Self::Page;
        }
        if OPERATIONAL_NAMES.contains(&name) {
            return Self::Operational;
        }
        if !endpoint.declared.is_undeclared() {
            return Self::Api;
        }
        let by_name = Self::of_name(name, None);
        if sights.has(Sights::API) {
            // A file that is sent as bytes is one all the same.
            return match by_name {
                Self::Asset => Self::Asset,
                _ if sights.has(Sights::PROBED) && !sights.has(Sights::CALLED) => Self::Operational,
                _ => Self::Api,
            };
        }
        if sights.has(Sights::PROBED) && !sights.has(Sights::CALLED) {
            Self::Operational
        } else if sights.has(Sights::PAGE) {
            Self::Page
        } else if sights.has(Sights::ASSET) {
            Self::Asset
        } else if sights.has(Sights::UNTOLD) {
            by_name
        } else if sights.has(Sights::FETCHED_PAGE) {
            Self::Page
        } else if sights.has(Sights::FETCHED_PART) {
            Self::Asset
        } else {
            by_name
        }
    }

    fn of_name(name: &str, media: Option<&str>) -> Self {
        match name.rsplit_once('.') {
            _ if media.is_some_and(is_data_media) => Self::Api,
            Some(("", _)) => Self::Api,
            Some((_, "html" | "htm" | "xhtml")) => Self::Page,
            Some((_, extension)) if ASSET_EXTENSIONS.contains(&extension) => Self::Asset,
            _ => Self::Api,
        }
    }
}

/// The extension of a file that was sent as such, with its dot: files of one folder are one row.
pub(super) fn file_extension<'a>(path: &'a [u8], media: Option<&str>) -> Option<&'a str> {
    let media = media.filter(|media| !is_data_media(media) && !is_page(Some(media)))?;
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0)?;
    let extension = std::str::from_utf8(name.get(dot..)?).ok()?;
    let known = ASSET_EXTENSIONS.contains(&extension.get(1..)?);
    (known && !media.is_empty()).then_some(extension)
}

fn last_segment(template: &str) -> &str {
    template.rsplit('/').next().unwrap_or_default()
}

fn is_data_media(media: &str) -> bool {
    let sub = media.split_once('/').map_or(media, |(_, sub)| sub);
    matches!(sub, "json" | "xml" | "grpc") || sub.ends_with("+json") || sub.starts_with("grpc+")
}

/// Whether a media type is that of pages' parts.
pub(super) fn is_asset_media(media: &str) -> bool {
    let media = media.as_bytes();
    let at = media.iter().position(|byte| *byte == b'/').unwrap_or(media.len());
    let (kind, sub) = (media.get(..at), media.get(at + 1..));
    matches!(kind, Some(b"image" | b"font" | b"audio" | b"video"))
        || matches!(sub, Some(b"css" | b"javascript" | b"x-javascript" | b"wasm"))
}

/// First product of the user agent of what only asks whether a server lives.
fn is_prober(agent: &str) -> bool {
    PROBERS.iter().any(|prober| agent.eq_ignore_ascii_case(prober))
}

/// Kubernetes, load balancers of AWS, Google and Azure, Prometheus, Blackbox exporter, Consul, Envoy.
const PROBERS: &[&str] = &[
    "kube-probe",
    "ELB-HealthChecker",
    "GoogleHC",
    "HealthChecker",
    "Load Balancer Agent",
    "Prometheus",
    "Blackbox-Exporter",
    "Consul",
    "Envoy",
];

/// Last segments by which probers ask (Kubernetes, Spring, Prometheus).
const OPERATIONAL_NAMES: &[&str] = &[
    "health",
    "healthz",
    "livez",
    "readyz",
    "liveness",
    "readiness",
    "metrics",
    "ping",
    "_status",
    "actuator",
];

const ASSET_EXTENSIONS: &[&str] = &[
    "css",
    "js",
    "mjs",
    "map",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "ico",
    "webp",
    "avif",
    "woff",
    "woff2",
    "ttf",
    "otf",
    "eot",
    "wasm",
    "pdf",
    "zip",
    "gz",
    "txt",
    "mp3",
    "mp4",
    "webm",
    "webmanifest",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, content_type: Option<&str>, expected: Kind) {
        assert_eq!(
            Kind::of_response(template, content_type),
            expected,
            "{template} {content_type:?}"
        );
    }

    #[test]
    fn kinds_follow_content_type_then_name() {
        check("/users/{id}", Some("application/json"), Kind::Api);
        check("/users/{id}", None, Kind::Api);
        check("/", Some("text/html"), Kind::Page);
        check("/logo", Some("image/png"), Kind::Asset);
        check("/app.js", None, Kind::Asset);
        check("/about.html", None, Kind::Page);
        check("/map.js", Some("application/json"), Kind::Api);
        check("/healthz", Some("application/json"), Kind::Operational);
        check("/.js", None, Kind::Api);
    }

    #[test]
    fn files_have_the_extension_of_their_row() {
        let of = |path: &'static str, media| file_extension(path.as_bytes(), media);
        assert_eq!(of("/css/a.b.css", Some("text/css")), Some(".css"));
        assert_eq!(of("/css/a.css", None), None, "what it was sent as is not known");
        assert_eq!(of("/maps/17.map", Some("application/json")), None);
        assert_eq!(of("/.png", Some("image/png")), None);
        assert_eq!(of("/avatars/17", Some("image/png")), None);
    }
}
