//! Where an operation stands in its life: what its document says and what its responses announce, at a time.
//!
//! `Deprecation` (RFC 9745; older HTTP-dates and `true` too), `Sunset` (RFC 8594) and `Link`. The document wins. An announcement
//! holds until [`WITHOUT_MAX`] successes in a row came without it; it is not forgotten with the window, since what is past its
//! sunset falls silent.

use std::hash::BuildHasher as _;

use serde::{Deserialize, Serialize};

use super::{endpoint::Declared, evidence::Outcome, http_date};
use crate::{
    http::{Exchange, LifeLinks},
    state::Lifecycle,
    time::UnixNs,
};

/// What responses announced last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Announced {
    /// From when it is deprecated; where a response says no date, when it was first said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deprecation: Option<UnixNs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sunset: Option<UnixNs>,
    /// Template of the path of the next version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) successor: Option<Box<str>>,
    /// The pages about its deprecation and its sunset: for people, they change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deprecation_page: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sunset_page: Option<Box<str>>,
    /// Successes since without any of these.
    #[serde(skip)]
    without: u8,
    time: UnixNs,
    /// As it was written.
    #[serde(skip)]
    said: Option<Box<Said>>,
}

/// Texts of an announcement: what says the same again is not read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    deprecation: Option<Box<str>>,
    sunset: Option<Box<str>>,
    /// A hash: there may be values in them.
    links: Option<u64>,
}

impl Announced {
    /// Reads what a response announces; `template` takes the values out of a link.
    pub(super) fn of(exchange: &Exchange, template: impl Fn(&str) -> Link) -> Option<Self> {
        let response = &exchange.response;
        let links = response.links.as_deref();
        if response.deprecation.is_none() && response.sunset.is_none() && links.is_none() {
            return None;
        }
        let link = |of: fn(&LifeLinks) -> &Option<Box<str>>| {
            links.and_then(|links| of(links).as_deref()).map(&template)
        };
        let deprecation = response.deprecation.as_deref().and_then(|text| match text.trim() {
            "true" | "?1" | "1" => Some(exchange.time),
            "false" | "?0" => None,
            text => http_date::parse(text),
        });
        let found = Self {
            deprecation,
            sunset: response.sunset.as_deref().and_then(http_date::parse),
            successor: link(|links| &links.successor).map(|link| link.path),
            deprecation_page: link(|links| &links.deprecation).map(Link::whole),
            sunset_page: link(|links| &links.sunset).map(Link::whole),
            without: 0,
            time: exchange.time,
            said: Some(Box::new(Said {
                deprecation: response.deprecation.clone(),
                sunset: response.sunset.clone(),
                links: links.map(hash),
            })),
        };
        (found.deprecation.is_some() || found.sunset.is_some() || links.is_some()).then_some(found)
    }

    /// Notes a response that says what was said last; false where it says anything else.
    pub(super) fn is_said_again(&mut self, exchange: &Exchange) -> bool {
        let response = &exchange.response;
        let same = self.said.as_deref().is_some_and(|said| {
            said.deprecation == response.deprecation
                && said.sunset == response.sunset
                && said.links == response.links.as_deref().map(hash)
        });
        if same && exchange.time >= self.time {
            (self.time, self.without) = (exchange.time, 0);
        }
        same
    }

    /// Notes what an exchange announced, or that it announced nothing.
    pub(super) fn note(
        into: &mut Option<Box<Self>>,
        found: Option<Self>,
        outcome: Outcome,
        undated: Dating,
    ) {
        match (found, into.as_deref_mut()) {
            // Links alone take no date back, whatever answered (a gateway adds them to its errors too).
            (Some(found), Some(known)) if !found.has_date() && known.has_date() => {
                if found.time >= known.time {
                    known.take_links(found);
                }
                if outcome == Outcome::Success && known.is_said_no_more() {
                    (known.deprecation, known.sunset) = (None, None);
                }
            }
            (Some(mut found), Some(known)) if found.time >= known.time => {
                if undated == Dating::Undated && known.deprecation.is_some() {
                    found.deprecation = known.deprecation;
                }
                *known = found;
            }
            (Some(found), None) => *into = Some(Box::new(found)),
            (None, Some(known)) if outcome == Outcome::Success => {
                let is_over = known.is_said_no_more();
                if is_over {
                    *into = None;
                }
            }
            _ => {}
        }
    }

    const fn has_date(&self) -> bool {
        self.deprecation.is_some() || self.sunset.is_some()
    }

    /// Counts a success without it; whether there were so many that it is over.
    fn is_said_no_more(&mut self) -> bool {
        self.without = self.without.saturating_add(1);
        self.without >= WITHOUT_MAX
    }

    /// Takes the links of another, where it has any.
    fn take_links(&mut self, other: Self) {
        for (ours, theirs) in [
            (&mut self.successor, other.successor),
            (&mut self.deprecation_page, other.deprecation_page),
            (&mut self.sunset_page, other.sunset_page),
        ] {
            if theirs.is_some() {
                *ours = theirs;
            }
        }
    }

    /// The one that was said last.
    pub(super) fn merge(into: &mut Option<Box<Self>>, other: Option<Box<Self>>) {
        let newer = match (&into, &other) {
            (Some(known), Some(other)) => other.time > known.time,
            (None, _) => true,
            _ => false,
        };
        if newer {
            *into = other;
        }
    }
}

fn hash(links: &LifeLinks) -> u64 {
    foldhash::fast::FixedState::default().hash_one(links)
}

/// A link without what may be a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Scheme and host, where it names them.
    pub(super) origin: Box<str>,
    /// Template of its path.
    pub(super) path: Box<str>,
}

impl Link {
    fn whole(self) -> Box<str> {
        format!("{}{}", self.origin, self.path).into()
    }
}

/// Whether a `Deprecation` has a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dating {
    Dated,
    Undated,
}

impl Dating {
    pub(super) fn of(exchange: &Exchange) -> Self {
        match exchange.response.deprecation.as_deref().map(str::trim) {
            Some("true" | "?1" | "1") => Self::Undated,
            _ => Self::Dated,
        }
    }
}

/// Where an operation stands, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effective {
    pub(super) lifecycle: Lifecycle,
    /// From when it is deprecated, where a response says so.
    pub(super) deprecation: Option<UnixNs>,
    /// Its sunset, of the document or of responses.
    pub(super) sunset: Option<UnixNs>,
    pub(super) drift: Drift,
}

/// What of the announcements was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drift {
    None,
    /// Document and responses name different sunsets.
    SunsetsDiffer,
    /// A sunset before the deprecation is invalid.
    SunsetBeforeDeprecation,
}

/// Decides where an operation stands at `now`.
pub(super) fn effective(
    declared: Declared,
    announced: Option<&Announced>,
    now: UnixNs,
) -> Effective {
    let document = (declared.sunset > UnixNs(0)).then_some(declared.sunset);
    let deprecation = announced.and_then(|it| it.deprecation);
    let said = announced.and_then(|it| it.sunset);
    let invalid = matches!((said, deprecation), (Some(sunset), Some(from)) if sunset < from);
    let (sunset, drift) = match (document, said) {
        (_, Some(_)) if invalid => (document, Drift::SunsetBeforeDeprecation),
        (Some(document), Some(said)) if document != said => (Some(document), Drift::SunsetsDiffer),
        (document, said) => (document.or(said), Drift::None),
    };
    let deprecated = declared.deprecated || deprecation.is_some_and(|from| from <= now);
    let lifecycle = match (deprecated, sunset) {
        (_, Some(sunset)) if sunset <= now => Lifecycle::SunsetPassed,
        (true, None) => Lifecycle::Deprecated,
        (true, Some(_)) => Lifecycle::DeprecatedSunsetAhead,
        (false, _) => Lifecycle::Supported,
    };
    Effective { lifecycle, deprecation, sunset, drift }
}

/// Successes in a row without an announcement after which it is taken as withdrawn.
const WITHOUT_MAX: u8 = 10;
