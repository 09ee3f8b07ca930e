//! What only some endpoints have: kept apart, so that the others stay small.

use super::reach::Spread;

/// Evidence beyond what every endpoint has.
#[derive(Clone, Debug, Default)]
pub(super) struct More {
    /// Requests by class of caller, once there was more than one class.
    pub(super) spread: Spread,
}
