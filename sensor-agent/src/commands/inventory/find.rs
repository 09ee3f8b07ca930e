//! The one endpoint that a person means: its id, the beginning of it, or `METHOD host/path`.
//!
//! The path may be a template (whatever its parameters are called) or one that was asked for; of several templates that it fits,
//! the most literal one counts. At most [`CANDIDATES_MAX`] candidates are named where it is none or several.

use sensor_core::inventory::{EndpointRow, InventoryView};

/// Candidates that an error names.
const CANDIDATES_MAX: usize = 8;

/// What was meant is no endpoint, or several.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct FindError {
    text: String,
}

/// The words of a command line that name an endpoint.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Named {
    /// Its id (or the beginning of it), or METHOD host/path
    #[arg(required = true, num_args = 1..=2, value_name = "ENDPOINT")]
    endpoint: Vec<String>,
}

impl Named {
    /// As it was written.
    pub(super) fn text(&self) -> String {
        self.endpoint.join(" ")
    }

    /// The endpoint.
    pub(super) fn find<'v>(&self, view: &'v InventoryView) -> Result<&'v EndpointRow, FindError> {
        find(view, &self.text())
    }
}

fn find<'v>(view: &'v InventoryView, text: &str) -> Result<&'v EndpointRow, FindError> {
    let text = text.trim();
    let rows = &view.endpoints;
    if text.len() <= ID_DIGITS && !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit()) {
        let id = text.to_ascii_lowercase();
        let found: Vec<&EndpointRow> = rows.iter().filter(|row| row.id.starts_with(&id)).collect();
        return match *found {
            [one] => Ok(one),
            [] => Err(FindError::none(text, "no endpoint has an id that begins so", rows.iter())),
            _ => Err(FindError::several(text, &found)),
        };
    }
    let wanted = Wanted::parse(text);
    let mut found: Vec<(usize, &EndpointRow)> =
        rows.iter().filter_map(|row| Some((wanted.rank(row)?, row))).collect();
    let best = found.iter().map(|(rank, _)| *rank).max();
    found.retain(|(rank, _)| Some(*rank) == best);
    match *found {
        [(_, one)] => Ok(one),
        [] => {
            let alike = rows.iter().filter(|row| wanted.is_near(row));
            Err(FindError::none(text, "no such endpoint", alike))
        }
        _ => Err(FindError::several(text, &found.iter().map(|(_, row)| *row).collect::<Vec<_>>())),
    }
}

/// `METHOD host/path` in its parts.
struct Wanted<'t> {
    method: Option<&'t str>,
    host: &'t str,
    path: &'t str,
}

impl<'t> Wanted<'t> {
    fn parse(text: &'t str) -> Self {
        let (method, rest) = match text.split_once(' ') {
            Some((method, rest)) => (Some(method), rest.trim_start()),
            None => (None, text),
        };
        let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        Self { method, host, path: if path.is_empty() { "/" } else { path } }
    }

    fn is_method(&self, row: &EndpointRow) -> bool {
        self.method.is_none_or(|method| row.method.eq_ignore_ascii_case(method))
    }

    fn is_host(&self, row: &EndpointRow) -> bool {
        let is = |name: &String| name.eq_ignore_ascii_case(self.host);
        let plain = || row.service.split_once(':').is_some_and(|(name, _)| name == self.host);
        self.host.is_empty()
            || is(&row.service)
            || is(&row.listener)
            || plain()
            || row.hosts.iter().any(is)
    }

    /// How well a row fits; a template beats a path that fits it, and what is literal a parameter.
    fn rank(&self, row: &EndpointRow) -> Option<usize> {
        if !self.is_method(row) || !self.is_host(row) {
            return None;
        }
        if segments(&row.path_template).map(nameless).eq(segments(self.path).map(nameless)) {
            return Some(usize::MAX);
        }
        literals(&row.path_template, self.path)
    }

    /// Whether a row could have been meant.
    fn is_near(&self, row: &EndpointRow) -> bool {
        let first = |path| segments(path).next().unwrap_or_default();
        self.is_host(row)
            && (self.rank_of_path(row).is_some()
                || first(&row.path_template).eq_ignore_ascii_case(first(self.path)))
    }

    fn rank_of_path(&self, row: &EndpointRow) -> Option<usize> {
        literals(&row.path_template, self.path)
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// A segment without the name of its parameter.
fn nameless(segment: &str) -> (&str, bool, &str) {
    match segment.split_once('{').zip(segment.rsplit_once('}')) {
        Some(((before, _), (_, behind))) => (before, true, behind),
        None => (segment, false, ""),
    }
}

/// How many segments of a path are literals of a template that it fits.
fn literals(template: &str, path: &str) -> Option<usize> {
    let (mut ours, mut theirs) = (segments(template), segments(path));
    let mut count = 0;
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) | (Some("{rest}" | "{*}"), Some(_)) => return Some(count),
            (Some(segment), Some(text)) => match nameless(segment) {
                (_, false, _) if segment == text => count += 1,
                (before, true, behind)
                    if text.len() > before.len() + behind.len()
                        && text.starts_with(before)
                        && text.ends_with(behind) => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

impl FindError {
    fn none<'r>(
        text: &str,
        why: &str,
        candidates: impl Iterator<Item = &'r EndpointRow> + Clone,
    ) -> Self {
        let hint = if candidates.clone().next().is_some() {
            format!("; there is\n{}", list(candidates))
        } else {
            "; `sensor-agent inventory --all` lists them, --json with their ids".to_owned()
        };
        Self { text: format!("`{text}`: {why}{hint}") }
    }

    fn several(text: &str, found: &[&EndpointRow]) -> Self {
        let list = list(found.iter().copied());
        Self {
            text: format!("`{text}` is {} endpoints; say which, by its id\n{list}", found.len()),
        }
    }
}

fn list<'r>(rows: impl Iterator<Item = &'r EndpointRow> + Clone) -> String {
    let line = |row: &EndpointRow| {
        format!("  {}  {} {}{}", row.id, row.method, row.service, row.path_template)
    };
    let more = rows.clone().count().saturating_sub(CANDIDATES_MAX);
    let mut lines: Vec<String> = rows.take(CANDIDATES_MAX).map(line).collect();
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

/// Digits of an id.
const ID_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> InventoryView {
        let rows = [
            ("0a11111111111111", "GET", "orders.example", "/users/{user_id}"),
            ("0a22222222222222", "GET", "orders.example", "/users/me"),
            ("0b33333333333333", "POST", "orders.example", "/users/{user_id}"),
            ("0c44444444444444", "GET", "shop.example:8080", "/users/{id}.json"),
        ];
        let row = |(id, method, service, template): (&str, &str, &str, &str)| {
            serde_json::from_value(serde_json::json!({
                "id": id, "service": service, "listener": "10.0.0.1:80", "hosts": [service], "method": method,
                "path_template": template, "kind": "api", "state": "observed", "confidence": "normal", "reason": "",
                "declaration": "no-catalogue", "lifecycle": "supported", "activity": "served", "requests": 1,
                "requests_observed": 1, "status": {}, "clients": 1, "callers": [], "client_owners": [], "auth": [],
                "request_types": [], "response_types": [], "query_names": [], "accuracy": "exact",
            }))
            .unwrap()
        };
        InventoryView { endpoints: rows.map(row).into(), ..InventoryView::default() }
    }

    fn check(text: &str, expected: &str) {
        let view = view();
        match find(&view, text) {
            Ok(row) => assert_eq!(row.id, expected, "{text}"),
            Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
        }
    }

    #[test]
    fn an_endpoint_is_named_by_id_or_by_method_host_and_path() {
        check("0b", "0b33333333333333");
        check("0A11111111111111", "0a11111111111111");
        check("GET orders.example/users/{anything}", "0a11111111111111");
        check("get orders.example/users/17?x=1", "0a11111111111111");
        check("GET http://orders.example/users/me", "0a22222222222222");
        check("POST /users/17", "0b33333333333333");
        check("GET shop.example/users/17.json", "0c44444444444444");
        check("GET shop.example:8080/users/{x}.json", "0c44444444444444");
    }

    #[test]
    fn what_is_none_or_several_is_answered_with_candidates() {
        check("0a", "0a22222222222222  GET orders.example/users/me");
        check("orders.example/users/17", "is 2 endpoints");
        check("0f", "no endpoint has an id that begins so; there is\n  0a1111");
        check("DELETE orders.example/users/17", "no such endpoint; there is\n  0a1111");
        check("GET nowhere.example/x", "sensor-agent inventory --all");
        check("", "no such endpoint");
    }
}
