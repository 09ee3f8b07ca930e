//! What is true of a scenario: services, operations, calls, clock and coverage. Nothing here knows of states.
//!
//! Times are seconds since 1970.

use std::net::SocketAddr;

/// A day in seconds.
pub(super) const DAY: u64 = 86_400;
/// The window W.
pub(super) const WINDOW: u64 = 30 * DAY;

/// One scenario.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Whether documents are loaded at all.
    pub(super) catalogue: bool,
    /// From when the documents are as [`Operation::declared`] says; before, as [`Operation::declared_before`] does.
    pub(super) reload: Option<u64>,
    pub(super) services: Vec<Service>,
    pub(super) operations: Vec<Operation>,
    /// In order of time.
    pub(super) calls: Vec<Call>,
    pub(super) watch: Watch,
    /// When states are asked for, in order.
    pub(super) asked: Vec<u64>,
}

/// One service, at listeners of its own.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) host: String,
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether a document names it, where any is loaded.
    pub(super) documented: bool,
    pub(super) habit: Habit,
    /// Of 1 000 connections, those under TLS; from the time given.
    pub(super) unreadable: (u64, u64),
}

/// What a service says to a path that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    NotFound,
    /// 401.
    Refusal,
    /// 200 with the same page.
    Page,
}

/// Where an operation is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Current,
    /// Only in the older version.
    Older,
    Both,
    Nowhere,
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) service: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) declared: Declared,
    pub(super) declared_before: Declared,
    /// In the document.
    pub(super) deprecated: bool,
    /// In the document.
    pub(super) x_sunset: Option<u64>,
    /// In each response.
    pub(super) deprecation: Option<u64>,
    /// In each response.
    pub(super) sunset: Option<u64>,
}

impl Operation {
    pub(super) fn has_parameter(&self) -> bool {
        self.path.contains('{')
    }
}

/// One request with its response.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) time: u64,
    pub(super) service: usize,
    /// None: noise, which no operation is behind.
    pub(super) operation: Option<usize>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) server: SocketAddr,
    pub(super) client: SocketAddr,
    pub(super) host: String,
    pub(super) credentials: bool,
    pub(super) preflight: bool,
    pub(super) answer: Answer,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status(u16),
    /// 200 with the page that anything gets.
    Page,
    /// 302 to a location.
    Found(String),
    /// 301 to the same path under https.
    Upgrade,
    /// 308 to another path.
    Moved(String),
}

/// When the sensor was there, and what it missed.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) since: u64,
    /// From, to.
    pub(super) away: Option<(u64, u64)>,
    pub(super) lost: Option<u64>,
    pub(super) sampled: Option<u64>,
}

impl Watch {
    pub(super) fn sees(&self, time: u64) -> bool {
        time >= self.since && self.away.is_none_or(|(from, to)| time <= from || time >= to)
    }
}
