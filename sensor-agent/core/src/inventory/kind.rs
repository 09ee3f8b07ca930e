//! What kind of endpoint it is, by what it answers and how it is called; a hint for views, never for states.

use super::row::Kind;

impl Kind {
    /// Judges by template and media type of the response.
    #[must_use]
    pub fn of_response(template: &str, content_type: Option<&str>) -> Self {
        let name = template.rsplit('/').next().unwrap_or_default();
        if OPERATIONAL_NAMES.contains(&name) {
            return Self::Operational;
        }
        match content_type {
            Some("text/html" | "application/xhtml+xml") => return Self::Page,
            Some(media) if is_asset_media(media) => return Self::Asset,
            _ => {}
        }
        match name.rsplit_once('.') {
            Some((stem, extension))
                if !stem.is_empty() && ASSET_EXTENSIONS.contains(&extension) =>
            {
                Self::Asset
            }
            _ => Self::Api,
        }
    }
}

fn is_asset_media(media: &str) -> bool {
    let (kind, sub) = media.split_once('/').unwrap_or((media, ""));
    matches!(kind, "image" | "font" | "audio" | "video")
        || matches!(sub, "css" | "javascript" | "x-javascript" | "wasm")
}

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
    "css", "js", "mjs", "map", "png", "jpg", "jpeg", "gif", "svg", "ico", "webp", "woff", "woff2",
    "ttf", "eot", "wasm",
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
        check("/healthz", Some("application/json"), Kind::Operational);
        check("/.js", None, Kind::Api);
    }
}
