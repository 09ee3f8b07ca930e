//! Evidence to the inputs of the state table, at a time that is given.

use std::borrow::Cow;

use super::{
    endpoint::Endpoint,
    evidence::{Redirects, Unreached},
    life::{Effective, effective},
    path::has_parameter,
    table::Inventory,
};
use crate::{
    limits::MISSING_CALLS_MIN,
    state::{
        Activity, Covered, Decision, DeclarationKind, Existence, Inputs, Listening,
        MissingEvidence, NotCovered, Role, State, decide,
    },
    time::UnixNs,
};

/// A state with the inputs that a row shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evaluated {
    pub(super) decision: Decision,
    pub(super) life: Effective,
    pub(super) activity: Activity,
    /// With what operators took into the catalogue.
    pub(super) declaration: DeclarationKind,
}

impl Inventory {
    /// Decides the state of an endpoint at `now`.
    pub(super) fn evaluate(&self, endpoint: &Endpoint, now: UnixNs) -> Evaluated {
        let listener = self.service(endpoint.service).map_or(0, |service| service.listener);
        let entry = self.listeners.get(listener as usize);
        let since = UnixNs(now.0.saturating_sub(self.window_ns));
        let redirects = self.redirects_at(listener, endpoint);
        let unreached = match endpoint.declared.kind {
            DeclarationKind::OlderOnly => Unreached::IsAbsent,
            _ => Unreached::IsFailing,
        };
        let activity = endpoint.times.activity(since, redirects, unreached);
        let listening = match entry {
            // Refused like anything.
            _ if self.is_given_to_anything(listener, endpoint.refused_as) => Listening::Unknown,
            None => Listening::Unknown,
            Some(entry) => entry.listening(endpoint.refused_in, endpoint.template_hash),
        };
        let redirected = endpoint.times.redirect > UnixNs(0) && redirects == Redirects::Particular;
        let proven =
            self.is_proven(endpoint) || redirected || listening == Listening::Discriminates;
        let enough = u64::from(endpoint.absent_calls) >= MISSING_CALLS_MIN
            && (!has_parameter(&endpoint.template) || endpoint.absent_paths.is_full());
        let life = effective(endpoint.declared, endpoint.announced.as_deref(), now);
        let lifecycle = life.lifecycle;
        let holds = self.holds(endpoint, now);
        let declaration = holds.declaration(endpoint.declared.kind);
        let decision = decide(&Inputs {
            role: Role::Server,
            operator: holds.operator(),
            declaration,
            lifecycle,
            activity,
            existence: if proven { Existence::Proven } else { Existence::Unproven },
            listening,
            missing: if enough { MissingEvidence::Enough } else { MissingEvidence::TooLittle },
            observed: self.watch.observed(now, self.window_ns),
            covered: self.covered_everywhere(endpoint, now),
        });
        Evaluated { decision, life, activity, declaration }
    }

    /// Whether an endpoint is redirected like anything on its listener, by what is known now.
    pub(super) fn redirects(&self, endpoint: &Endpoint) -> Redirects {
        let listener = self.service(endpoint.service).map_or(0, |service| service.listener);
        self.redirects_at(listener, endpoint)
    }

    fn redirects_at(&self, listener: u32, endpoint: &Endpoint) -> Redirects {
        match self.listeners.get(listener as usize) {
            Some(entry) if entry.is_generic(endpoint.redirect) => Redirects::Generic,
            _ if self.is_given_to_anything(listener, endpoint.redirected_as) => Redirects::Generic,
            _ => Redirects::Particular,
        }
    }

    /// Whether silence of an endpoint's service proves that nobody called: at every listener that it has.
    fn covered_everywhere(&self, endpoint: &Endpoint, now: UnixNs) -> Covered {
        let Some(service) = self.service(self.shown_as(endpoint.service)) else {
            return self.covered(0, now);
        };
        let mut each = service.listeners.iter().map(|listener| self.covered(*listener, now));
        each.find(|covered| *covered != Covered::Yes).unwrap_or(Covered::Yes)
    }

    /// Whether silence of a listener over the window proves that nobody called.
    pub(super) fn covered(&self, listener: u32, now: UnixNs) -> Covered {
        let start = UnixNs(now.0.saturating_sub(self.window_ns));
        let within = |time: UnixNs| time > UnixNs(0) && time >= start;
        let coverage = self.listeners.get(listener as usize).map(|listener| &listener.coverage);
        let readable = coverage.is_none_or(|it| it.is_readable(now, self.window_ns));
        let listed = coverage.is_some_and(|it| it.totals().opened > 0);
        if !readable {
            Covered::No(NotCovered::Encrypted)
        } else if within(self.watch.sampled) {
            Covered::No(NotCovered::Sampled)
        } else if within(self.watch.lost) || (!listed && within(self.watch.uncounted)) {
            Covered::No(NotCovered::Loss)
        } else if !self.watch.is_attached_enough(now, self.window_ns) {
            Covered::No(NotCovered::AttachedSince)
        } else {
            Covered::Yes
        }
    }
}

/// One sentence for a state.
pub(super) fn reason(decision: Decision) -> Cow<'static, str> {
    let text = match decision.state {
        State::Egress => "the server is not on this host",
        State::Ignored => "ignored by an operator",
        State::Probing => "no answer proved that it exists",
        State::ZombieRemoved => match decision.row.0 {
            5 => {
                "removed from the current document, and refused where other paths are answered 404"
            }
            _ => "removed from the current document, and still answered",
        },
        State::Gone => "no longer part of the API, and no longer answered, but still called",
        State::Retired => "no longer part of the API, and not called in the window",
        State::ZombieSunset => "its sunset has passed, and it is still answered",
        State::Missing => "declared and called, but answered as not there",
        State::ZombieDeprecated => "deprecated without a sunset ahead, and still called",
        State::Deprecated => "deprecated, its sunset is ahead, and still called",
        State::Declared => "declared and called",
        State::Pending => "declared and not called yet; observed for less than the window",
        State::Dormant => "declared and not called in the window, all of which was watched",
        State::Observed => "called; no API document is loaded",
        State::ShadowHost => "called; no API document names this service",
        State::ShadowPath => "called; no API document of this service has this path",
        State::ShadowMethod => "called; the path is declared, this method is not",
        State::NotCovered => {
            return match decision.reason {
                Some(NotCovered::Encrypted) => {
                    "not seen, but less than 99 % of the connections could be read"
                }
                Some(NotCovered::Sampled) => "not seen, but some flows were sampled out",
                Some(NotCovered::Loss) => {
                    "not seen, but heads were lost on this host (whose they were is not known)"
                }
                Some(NotCovered::AttachedSince) => {
                    "not seen, but the sensor did not watch for the whole window"
                }
                Some(NotCovered::NoInstanceHere) | None => {
                    "not seen, and no instance of the service is on this host"
                }
            }
            .into();
        }
    };
    text.into()
}
