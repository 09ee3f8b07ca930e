//! What only some endpoints have: kept apart, so that the others stay small.

use super::{endpoint::Endpoint, leaving::Leaving, pace::Pace, reach::Spread};

/// Evidence beyond what every endpoint has.
#[derive(Clone, Debug, Default)]
pub(super) struct More {
    /// Requests by class of caller, once there was more than one class.
    pub(super) spread: Spread,
    /// Calls by time, once they span more than an eighth of the window.
    pub(super) pace: Option<Box<Pace>>,
    /// Of what is on its way out.
    pub(super) leaving: Option<Box<Leaving>>,
}

impl Endpoint {
    /// Puts back what was stored.
    pub(super) fn restore_more(&mut self, pace: Option<Pace>, leaving: Option<Leaving>) {
        let pace = pace.filter(Pace::is_valid).map(Box::new);
        if pace.is_none() && leaving.is_none() {
            return;
        }
        let more = self.more.get_or_insert_default();
        (more.pace, more.leaving) = (pace, leaving.map(Box::new));
    }
}
