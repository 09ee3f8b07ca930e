//! What a row says of an endpoint's end: days left, who still calls, whether calls grow or fall, and what shows that it is off.

use super::{
    egress::{Caller, shown},
    endpoint::Endpoint,
    evaluate::Evaluated,
    facet::{DecommissionRow, TrendRow},
    row::EndpointRow,
    table::Inventory,
};
use crate::{
    event::Mask,
    state::{DeclarationKind, Lifecycle, Observed},
    time::UnixNs,
};

const DAY_NS: u64 = 86_400_000_000_000;

impl Inventory {
    /// Fills in what is to be said of an endpoint that is on its way out.
    pub(super) fn tell_end(
        &self,
        row: &mut EndpointRow,
        endpoint: &Endpoint,
        evaluated: &Evaluated,
        now: UnixNs,
        mask: &Mask,
    ) {
        row.sunset_days_left = evaluated.life.sunset.map(|sunset| days_left(sunset, now));
        let removed = evaluated.declaration == DeclarationKind::OlderOnly;
        let past = evaluated.life.lifecycle == Lifecycle::SunsetPassed;
        if !removed && !endpoint.is_leaving() {
            return;
        }
        let since = UnixNs(now.0.saturating_sub(self.window_ns));
        row.remaining_callers = Some(endpoint.remaining_callers(since));
        row.trend = Some(self.trend(endpoint, now));
        if removed || past {
            row.decommission = Some(self.decommission(endpoint, now, mask));
        }
    }

    /// Weighted requests in the window before `now`.
    pub(super) fn window_calls(&self, endpoint: &Endpoint, now: UnixNs) -> u64 {
        let since = UnixNs(now.0.saturating_sub(self.window_ns));
        endpoint.calls_between(since, UnixNs(now.0.saturating_add(1)))
    }

    fn trend(&self, endpoint: &Endpoint, now: UnixNs) -> TrendRow {
        let since = UnixNs(now.0.saturating_sub(self.window_ns));
        let earlier = UnixNs(since.0.saturating_sub(self.window_ns));
        let both = self.window_ns.saturating_mul(2);
        let both_watched = self.watch.observed(now, both) == Observed::WholeWindow
            && self.watch.is_attached_enough(now, both)
            && endpoint.pace_known_from() <= earlier;
        TrendRow {
            window: self.window_calls(endpoint, now),
            before: endpoint.calls_between(earlier, since),
            both_watched,
        }
    }

    fn decommission(&self, endpoint: &Endpoint, now: UnixNs, mask: &Mask) -> DecommissionRow {
        let since = UnixNs(now.0.saturating_sub(self.window_ns));
        let seen = endpoint.more.as_deref().and_then(|more| more.leaving.as_deref());
        let seen = seen.map(|leaving| &*leaving.instances).unwrap_or_default();
        let listed = |gone: bool| {
            let those = seen.iter().filter(|it| it.gone == gone);
            let mut texts: Vec<String> = those.map(|it| it.address.to_string()).collect();
            texts.sort_unstable();
            texts
        };
        let listeners = self.service(self.shown_as(endpoint.service)).map(|it| &*it.listeners);
        let unasked = listeners
            .unwrap_or_default()
            .iter()
            .filter_map(|listener| self.listeners.get(*listener as usize))
            .filter(|listener| seen.iter().all(|it| it.address != listener.address))
            .count();
        let owner = |id| self.owners.names.name(id).cloned();
        let bypass: Option<Vec<Caller>> = endpoint.bypass_callers(since);
        DecommissionRow {
            calls: self.window_calls(endpoint, now),
            covered_days: hundredths(self.watch.attached_ns(now, self.window_ns)),
            instances_gone: listed(true),
            instances_serving: listed(false),
            instances_unasked: unasked as u64,
            bypass_callers: bypass.map(|callers| shown(&callers, owner, mask)),
        }
    }
}

/// Days, cut to hundredths.
#[expect(clippy::cast_precision_loss, reason = "days, shown")]
fn hundredths(ns: u128) -> f64 {
    (ns * 100 / u128::from(DAY_NS)) as f64 / 100.0
}

/// Days until a sunset, rounded away from it: one second before it is one day, at its time none, a second after it one day ago.
fn days_left(sunset: UnixNs, now: UnixNs) -> i64 {
    let days = |ns: u64| i64::try_from(ns.div_ceil(DAY_NS)).unwrap_or(i64::MAX);
    if sunset > now { days(sunset.0 - now.0) } else { -days(now.0 - sunset.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_left_are_rounded_away_from_the_sunset() {
        let sunset = UnixNs(100 * DAY_NS);
        for (now, expected) in [
            (sunset.0 - 1, 1),
            (sunset.0 - DAY_NS, 1),
            (sunset.0 - DAY_NS - 1, 2),
            (sunset.0, 0),
            (sunset.0 + 1, -1),
            (sunset.0 + 3 * DAY_NS, -3),
        ] {
            assert_eq!(days_left(sunset, UnixNs(now)), expected, "{now}");
        }
    }
}
