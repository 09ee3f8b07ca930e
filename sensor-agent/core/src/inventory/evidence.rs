//! What an answer says about an operation, and the times of each kind of answer.
//!
//! Only the last time of each kind is kept: "was there a success in the window" is "is the last success in it".

use serde::{Deserialize, Serialize};

use crate::{http::Exchange, state::Activity, time::UnixNs};

/// What one answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 2xx, 101; gRPC: a status other than UNIMPLEMENTED.
    Success,
    /// 304: a success when there was one before.
    NotModified,
    /// A redirect to another path that is not permanent: a success unless many paths get the same.
    Redirect,
    /// 301 or 308 to another path: what was here is elsewhere.
    Moved,
    /// A redirect to the same path on another scheme or host.
    Upgrade,
    /// 405: the path exists, this method does not.
    MethodRefused,
    /// Another 4xx: refused, or not understood, which proves existence only where 404 is given to other paths.
    Refused,
    /// 5xx but those below.
    Failing,
    /// 502, 503, 504, or no answer seen: nothing answered from behind.
    Unreached,
    /// 404, 410, 501; gRPC UNIMPLEMENTED.
    Absent,
}

/// gRPC status UNIMPLEMENTED (code 12).
const GRPC_UNIMPLEMENTED: u16 = 12;

impl Outcome {
    /// Reads an exchange; `path` is the path of its target.
    pub(super) fn of(exchange: &Exchange, path: &[u8]) -> Self {
        match exchange.status {
            Some(200..=299) if exchange.response.grpc_status == Some(GRPC_UNIMPLEMENTED) => {
                Self::Absent
            }
            Some(101 | 200..=299) => Self::Success,
            Some(304) => Self::NotModified,
            Some(status @ 300..=399) => {
                redirect(status, exchange.response.location.as_deref(), path)
            }
            Some(404 | 410 | 501) => Self::Absent,
            Some(405) => Self::MethodRefused,
            Some(400..=499) => Self::Refused,
            Some(502..=504) => Self::Unreached,
            Some(500..=599) => Self::Failing,
            Some(_) | None => Self::Unreached,
        }
    }
}

fn redirect(status: u16, location: Option<&str>, path: &[u8]) -> Outcome {
    let elsewhere = location.and_then(|location| location.split_once("://")).map(|(_, rest)| {
        let at = rest.find('/').unwrap_or(rest.len());
        rest.get(at..).unwrap_or_default()
    });
    let same = elsewhere.is_some_and(|target| {
        let end = target.find(['?', '#']).unwrap_or(target.len());
        let target = target.get(..end).unwrap_or_default().as_bytes();
        target == path || (target.is_empty() && path == b"/")
    });
    match status {
        _ if same => Outcome::Upgrade,
        301 | 308 => Outcome::Moved,
        _ => Outcome::Redirect,
    }
}

/// Last time of each kind of answer; zero is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Times {
    pub(super) success: UnixNs,
    pub(super) redirect: UnixNs,
    pub(super) refused: UnixNs,
    pub(super) failing: UnixNs,
    pub(super) unreached: UnixNs,
    pub(super) absent: UnixNs,
}

/// Whether redirects of this endpoint are generic on its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirects {
    Generic,
    Particular,
}

/// How "nothing answered" is read: an older version that only its gateway answers for is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreached {
    IsFailing,
    IsAbsent,
}

impl Times {
    /// Notes an answer at `now`.
    pub(super) fn note(&mut self, outcome: Outcome, now: UnixNs) {
        let slot = match outcome {
            Outcome::Success => &mut self.success,
            Outcome::NotModified if self.success > UnixNs(0) => &mut self.success,
            Outcome::NotModified => return,
            Outcome::Redirect => &mut self.redirect,
            Outcome::Refused | Outcome::MethodRefused => &mut self.refused,
            Outcome::Failing => &mut self.failing,
            Outcome::Unreached => &mut self.unreached,
            Outcome::Absent | Outcome::Moved | Outcome::Upgrade => &mut self.absent,
        };
        *slot = (*slot).max(now);
    }

    /// As they are stored: where its redirects lead is not, so generic ones are kept as what they are, not there.
    pub(super) fn stored(mut self, redirects: Redirects) -> Self {
        if redirects == Redirects::Generic {
            self.absent = self.absent.max(self.redirect);
            self.redirect = UnixNs(0);
        }
        self
    }

    /// The activity since `since`; mixtures take the first that applies.
    pub(super) fn activity(
        &self,
        since: UnixNs,
        redirects: Redirects,
        unreached: Unreached,
    ) -> Activity {
        let within = |time: UnixNs| time > UnixNs(0) && time >= since;
        let redirected = within(self.redirect);
        if within(self.success) || (redirected && redirects == Redirects::Particular) {
            Activity::Served
        } else if within(self.refused) {
            Activity::Refused
        } else if within(self.failing)
            || (within(self.unreached) && unreached == Unreached::IsFailing)
        {
            Activity::Failing
        } else if within(self.absent) || redirected || within(self.unreached) {
            Activity::Absent
        } else {
            Activity::Silent
        }
    }

    /// Takes the later of each.
    pub(super) fn merge(&mut self, other: &Self) {
        self.success = self.success.max(other.success);
        self.redirect = self.redirect.max(other.redirect);
        self.refused = self.refused.max(other.refused);
        self.failing = self.failing.max(other.failing);
        self.unreached = self.unreached.max(other.unreached);
        self.absent = self.absent.max(other.absent);
    }
}

/// Requests by status class: 1xx to 5xx, and none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ByClass([u64; 6]);

impl ByClass {
    /// Names of the classes, in order.
    pub(super) const NAMES: [&'static str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

    /// Adds `count` requests with this status.
    pub(super) fn add(&mut self, status: Option<u16>, count: u64) {
        let class = match status {
            Some(status @ 100..=599) => usize::from(status / 100 - 1),
            _ => 5,
        };
        if let Some(slot) = self.0.get_mut(class) {
            *slot = slot.saturating_add(count);
        }
    }

    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds another's counts.
    pub(super) fn merge(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(other.0) {
            *to = to.saturating_add(from);
        }
    }

    /// Classes that have requests.
    pub(super) fn non_zero(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        Self::NAMES.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}
