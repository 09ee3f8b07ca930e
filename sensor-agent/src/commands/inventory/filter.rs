//! Which endpoints are wanted, and in which order: the options that `inventory` and `replay` share.

use std::cmp::Reverse;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use sensor_core::{
    catalogue::parse_rfc3339,
    inventory::{EndpointRow, Exposure, Kind},
    state::State,
    time::UnixNs,
};

use super::glob::Glob;
use crate::config::Span;

/// Options that choose endpoints.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::commands) struct FilterArgs {
    /// Only endpoints in this state (repeat or separate by commas): observed, declared, shadow-path, zombie-removed, dormant, ...;
    /// `shadow` and `zombie` mean all states that begin so, a wrong word is answered with all of them
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = states(), hide_possible_values = true)]
    state: Vec<States>,
    /// Only services whose name, host or listener fits this pattern: `orders.example`, `*.shop.example`, `10.0.0.*:8080`
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    service: Vec<Glob>,
    /// Only endpoints of this kind
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kinds())]
    kind: Vec<Kind>,
    /// Only endpoints that were reached from here
    #[arg(long, value_name = "FROM", value_delimiter = ',', value_parser = exposures())]
    exposure: Vec<Exposure>,
    /// Only endpoints called since: a length of time (24h, 7d) or RFC 3339
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Order of the endpoints [default: by service and path]
    #[arg(long, value_name = "BY", value_enum)]
    sort: Option<Sort>,
}

/// Order of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Riskiest first
    Risk,
    /// By state, in the order of their table in the README
    State,
    /// Most requests first
    Requests,
    /// Last called first
    LastSeen,
    /// By path, whatever the service
    Path,
}

/// A time: before now, or by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum When {
    /// This far from now.
    Ago(Span),
    /// At this time.
    At(UnixNs),
}

/// States that a word means.
#[derive(Clone, Debug, PartialEq, Eq)]
struct States(Vec<State>);

/// What was asked for, at a time.
#[derive(Clone, Debug)]
pub(in crate::commands) struct Filter {
    states: Vec<State>,
    services: Vec<Glob>,
    kinds: Vec<Kind>,
    exposures: Vec<Exposure>,
    since: Option<UnixNs>,
    sort: Option<Sort>,
}

impl FilterArgs {
    /// The filter as of a time.
    pub(in crate::commands) fn at(&self, now: UnixNs) -> Filter {
        Filter {
            states: self.state.iter().flat_map(|word| word.0.iter().copied()).collect(),
            services: self.service.clone(),
            kinds: self.kind.clone(),
            exposures: self.exposure.clone(),
            since: self.since.map(|when| when.before(now)),
            sort: self.sort,
        }
    }

    /// Whether some endpoints are left out.
    pub(in crate::commands) fn chooses(&self) -> bool {
        self.names_rows() || !self.service.is_empty() || self.since.is_some()
    }

    /// Whether the wanted ones are named so that none of them is hidden.
    pub(in crate::commands) fn names_rows(&self) -> bool {
        !self.state.is_empty() || !self.kind.is_empty() || !self.exposure.is_empty()
    }

    /// Whether anything was asked for.
    pub(in crate::commands) fn is_set(&self) -> bool {
        self.chooses() || self.sort.is_some()
    }

    /// Whether an order was asked for.
    pub(in crate::commands) const fn sorts(&self) -> bool {
        self.sort.is_some()
    }
}

impl Filter {
    /// Whether an endpoint is wanted.
    pub(in crate::commands) fn wants(&self, row: &EndpointRow) -> bool {
        let named = |glob: &Glob| {
            glob.matches(&row.service)
                || glob.matches(&row.listener)
                || row.hosts.iter().any(|host| glob.matches(host))
        };
        let reached = || {
            let seen = row.exposure.as_ref();
            seen.is_some_and(|seen| seen.requests.keys().any(|from| self.exposures.contains(from)))
        };
        (self.states.is_empty() || self.states.contains(&row.state))
            && (self.kinds.is_empty() || self.kinds.contains(&row.kind))
            && (self.services.is_empty() || self.services.iter().any(named))
            && (self.exposures.is_empty() || reached())
            && self.since.is_none_or(|since| row.last_seen_unix_ns >= Some(since))
    }

    /// Puts endpoints in the wanted order; those that are alike keep theirs.
    pub(in crate::commands) fn sort(&self, rows: &mut [EndpointRow]) {
        match self.sort {
            None => {}
            Some(Sort::Risk) => rows
                .sort_by_key(|row| (Reverse(row.risk.as_ref().map(|risk| risk.score)), row.state)),
            Some(Sort::State) => rows.sort_by_key(|row| row.state),
            Some(Sort::Requests) => rows.sort_by_key(|row| Reverse(row.requests)),
            Some(Sort::LastSeen) => rows.sort_by_key(|row| Reverse(row.last_seen_unix_ns)),
            Some(Sort::Path) => rows
                .sort_by(|a, b| (&a.path_template, &a.method).cmp(&(&b.path_template, &b.method))),
        }
    }
}

impl When {
    /// The time, seen from now.
    pub(in crate::commands) fn before(self, now: UnixNs) -> UnixNs {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => {
                let ns = u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX);
                UnixNs(now.0.saturating_sub(ns))
            }
        }
    }
}

impl When {
    /// The time, seen from now on.
    pub(super) fn after(self, now: UnixNs) -> UnixNs {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => {
                let ns = u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX);
                UnixNs(now.0.saturating_add(ns))
            }
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = || parse_rfc3339(text).map(Self::At);
        text.parse().ok().map(Self::Ago).or_else(at).ok_or_else(|| {
            "write a length of time such as 24h or 7d, or RFC 3339 such as 2026-06-30T12:00:00Z"
                .to_owned()
        })
    }
}

/// Words for states: each by its name, and what several begin with.
fn states() -> impl clap::builder::TypedValueParser<Value = States> {
    let words = State::ALL.iter().map(|state| state.as_str()).chain(FAMILIES);
    PossibleValuesParser::new(words).map(|word| States::of(&word))
}

impl States {
    fn of(word: &str) -> Self {
        let means = |state: &&State| {
            let rest = state.as_str().strip_prefix(word);
            rest.is_some_and(|rest| {
                rest.is_empty() || (FAMILIES.contains(&word) && rest.starts_with('-'))
            })
        };
        Self(State::ALL.iter().filter(means).copied().collect())
    }
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(KINDS.map(Kind::as_str))
        .map(|word| KINDS.iter().copied().find(|kind| kind.as_str() == word).unwrap_or_default())
}

fn exposures() -> impl clap::builder::TypedValueParser<Value = Exposure> {
    PossibleValuesParser::new(Exposure::ALL.map(Exposure::as_str)).map(|word| {
        Exposure::ALL.iter().copied().find(|from| from.as_str() == word).unwrap_or_default()
    })
}

/// First words of several states.
const FAMILIES: [&str; 2] = ["shadow", "zombie"];
const KINDS: [Kind; 5] = [Kind::Api, Kind::Page, Kind::Asset, Kind::Operational, Kind::Overflow];

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: FilterArgs,
    }

    fn parse(line: &str) -> Result<FilterArgs, String> {
        let words = std::iter::once("x").chain(line.split(' '));
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_word_means_the_states_that_begin_with_it() {
        let names = |word: &str| {
            let filter = parse(&format!("--state {word}")).ok()?.at(UnixNs(0));
            Some(filter.states.iter().map(|state| state.as_str()).collect::<Vec<_>>())
        };
        assert_eq!(names("shadow"), Some(vec!["shadow-host", "shadow-path", "shadow-method"]));
        assert_eq!(names("declared,gone"), Some(vec!["declared", "gone"]));
        assert_eq!(names("deprecated"), Some(vec!["deprecated"]));
        assert_eq!((names("shad"), names("not"), names("x")), (None, None, None));
    }

    #[test]
    fn a_wrong_value_is_answered_with_the_right_ones() {
        let check = |line: &str, words: &[&str]| {
            let error = parse(line).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        check("--state shad", &["'shad'", "shadow-path", "zombie-removed", "shadow"]);
        check("--kind apis", &["api, page, asset, operational"]);
        check("--exposure internet", &["loopback, host, cluster, private, partner, public"]);
        check("--sort name", &["risk, state, requests, last-seen, path"]);
        check("--since yesterday", &["24h", "2026-06-30T12:00:00Z"]);
    }

    #[test]
    fn times_are_before_now_or_by_the_calendar() {
        let day = 86_400_000_000_000;
        let since = |text: &str| text.parse::<When>().map(|when| when.before(UnixNs(9 * day)));
        assert_eq!(since("7d"), Ok(UnixNs(2 * day)));
        assert_eq!(since("1970-01-02T00:00:00Z"), Ok(UnixNs(day)));
        assert_eq!(since("90d"), Ok(UnixNs(0)));
        assert!(since("7").is_err() && since("").is_err() && since("-1d").is_err());
    }
}
