//! How many endpoints there are by state and by exposure, and how many nobody owns: for metrics, so as of the last look at all of them.
//!
//! Endpoints that were called; what is only declared is not in it. Bounded by the closed sets of states and classes.

use std::collections::HashMap;

use super::{
    endpoint::{Endpoint, Standing},
    facet::Exposure,
    row::Kind,
    service::ServiceId,
    table::Inventory,
};
use crate::{state::State, time::UnixNs};

/// Endpoints that were called, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    states: [u64; State::ALL.len()],
    exposures: [u64; Exposure::ALL.len()],
    /// Of kind `api`, without a declared owner.
    pub unowned: u64,
    /// Names at places of paths beside those that learned templates tell apart: estimated, however often they were asked.
    pub names_together: u64,
}

impl Summary {
    /// Endpoints by state; states without any are left out.
    pub fn states(&self) -> impl Iterator<Item = (State, u64)> {
        let all = State::ALL.iter().copied().zip(self.states);
        all.filter(|(_, count)| *count > 0)
    }

    /// Endpoints by the widest class that reached them.
    pub fn exposures(&self) -> impl Iterator<Item = (Exposure, u64)> {
        let all = Exposure::ALL.into_iter().zip(self.exposures);
        all.filter(|(_, count)| *count > 0)
    }
}

/// A summary in the making.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) summary: Summary,
    /// Whether the configuration names an owner of a service: asked once for all its endpoints.
    owned: HashMap<ServiceId, bool>,
}

impl Inventory {
    /// As of the last look at all endpoints.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Counts one endpoint of a look at all of them.
    pub(super) fn sum_up(&self, sum: &mut Sum, endpoint: &Endpoint, state: State, now: UnixNs) {
        if endpoint.standing == Standing::Candidate || matches!(state, State::Probing) {
            return;
        }
        let summary = &mut sum.summary;
        if let Some(slot) = summary.states.get_mut(state as usize) {
            *slot += 1;
        }
        let widest = endpoint.spread().widest();
        if let Some(slot) = widest.and_then(|it| summary.exposures.get_mut(it as usize)) {
            *slot += 1;
        }
        let shown = self.shown_as(endpoint.service);
        let mut by_configuration = || {
            let owner = || self.owner_by_globs(self.service(shown)?);
            *sum.owned.entry(shown).or_insert_with(|| owner().is_some())
        };
        let owned = Kind::of_endpoint(endpoint) != Kind::Api
            || endpoint.declared.owner.is_some()
            || by_configuration()
            || self.holds(endpoint, now).names_owner();
        sum.summary.unowned += u64::from(!owned);
    }
}
