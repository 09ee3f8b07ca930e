//! The look at what the kernel dropped: for `drops --follow`, for the guard, and for the sources that rules by address skip.
//!
//! Once a second, and only while the ledger moves or rows are still waiting to go idle.

use std::sync::PoisonError;

use sensor_core::{
    inventory::{Mark, SHARED_NS},
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::counter::Counter;

use super::{
    live::lock,
    status::{Shared, to_unix},
};
use crate::{
    audit::Action,
    control::{DROPS_SCHEMA, DropsView, SharedSource},
    drops::{Drops, Guard, Names, Trip},
    kernel,
    telemetry::events::{self, Emit as _},
};

/// Looks are this far apart at least.
const LOOK_NS: u64 = 900_000_000;
/// A prefix of trusted proxies with more addresses is not marked as a whole: its proxies are marked as they are seen.
const MARKED_PREFIX_MAX: usize = 256;

/// What the last look left.
#[derive(Debug, Default)]
pub(super) struct Look {
    drops: Drops,
    guard: Guard,
    /// What the guard found and nobody acted on yet.
    trips: Vec<Trip>,
    at: MonoNs,
    /// When trusted proxies were marked last.
    trusted_at: Option<MonoNs>,
    ledger: u64,
    rows: usize,
    /// Drops before the first look that no row knows: an earlier agent told them, or took them and ended.
    before: Option<u64>,
}

impl Look {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, ..Self::default() }
    }
}

impl Shared {
    /// Looks at the table of drops when it is time; stops rules that hit too many.
    pub(super) fn look_at_drops(&self) {
        self.look();
        let trips = {
            let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut look.trips)
        };
        for trip in &trips {
            self.stop(trip);
        }
    }

    /// Drops after a number.
    pub(super) fn drops_view(&self, after: u64) -> DropsView {
        self.look();
        let (ledger, unattributed) = self.dropped();
        let look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let unattributed = unattributed.saturating_add(look.before.unwrap_or(0));
        DropsView { schema: DROPS_SCHEMA.into(), unattributed, ledger, ..look.drops.after(after) }
    }

    fn look(&self) {
        let now = kernel::now();
        let (ledger, unattributed) = self.dropped();
        // While the policy is being changed the next look will do: whoever follows the drops sees those of the last one at once.
        let Some(policy) = self.policy_at_once() else { return };
        let (names, shares, installed) =
            (policy.hit_names(), policy.max_shares(), policy.installed());
        drop(policy);
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let due = now.since(look.at) >= LOOK_NS && (ledger != look.ledger || look.rows > 0);
        if !due {
            return;
        }
        let kernel = &self.facts.kernel;
        let rows = kernel.drops();
        (look.at, look.ledger, look.rows) = (now, ledger, rows.len());
        look.before.get_or_insert_with(|| {
            // A row counts a drop before the ledger does, so of the drops since then none is missing.
            let told =
                rows.iter().fold(unattributed, |sum, (_, row)| sum.saturating_add(row.count));
            ledger.saturating_sub(told)
        });
        let interfaces = kernel.interfaces();
        let names = Names {
            rule: &|hits| names.get(&hits).cloned(),
            interface: &|index| {
                let found = interfaces.iter().find(|one| one.ifindex == index);
                found.map_or_else(|| format!("#{index}"), |one| one.name.clone())
            },
            unix: &to_unix,
        };
        for key in look.drops.look(now, &rows, &names) {
            // What cannot be taken out stays until the next look.
            if let Ok(last) = kernel.take_drop(key) {
                look.drops.gone(&key, last.as_ref(), &names);
            }
        }
        let own = |hits| shares.get(&hits).map(|percent| f64::from(*percent) / 100.0);
        // The live lock is taken under this one, never the other way round.
        let known =
            |service, client| lock(&self.facts.live).pipeline.sources_mut().knows(service, client);
        let found = look.guard.trips(now, &rows, installed, own, known, |service| {
            let mut live = lock(&self.facts.live);
            let now = live.pipeline.unix(now);
            live.pipeline.sources_mut().clients_of(service, now)
        });
        look.trips.extend(found);
    }

    fn stop(&self, trip: &Trip) {
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = policy.hit_names().remove(&trip.hits) else { return };
        if policy.only_monitors(&id) {
            return;
        }
        let why = format!(
            "hit {} of {} clients of {} ({:.0} %) within 60 s",
            trip.clients_hit,
            trip.clients,
            trip.service,
            trip.share() * 100.0
        );
        let before = policy.version();
        let outcome = policy.stop_rule(&id, &why, &self.host());
        if outcome.is_ok() {
            events::GuardStopped { rule: &id, why: &why }.emit();
        }
        self.look.lock().unwrap_or_else(PoisonError::into_inner).guard.acted(trip, kernel::now());
        self.note_agent(Action::Guard, &format!("{id} {why}"), &policy, before, &outcome);
        self.show(&policy);
    }

    /// Blocked and limited sightings by the ledger, and those of them that found no row.
    fn dropped(&self) -> (u64, u64) {
        let Ok(ledger) = self.facts.kernel.ledger() else { return (0, 0) };
        let value = |wanted: Counter| {
            ledger.iter().find(|(counter, _)| *counter == wanted).map_or(0, |(_, value)| value)
        };
        (
            value(Counter::Blocked).saturating_add(value(Counter::Limited)),
            value(Counter::DropsUnattributed)
                .saturating_add(self.facts.kernel.drops_unattributed()),
        )
    }

    /// Marks trusted proxies that are named one by one: they are shared before anybody was seen behind them.
    pub(super) fn mark_trusted(&self) {
        let now = kernel::now();
        {
            // Well before their time is over.
            let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
            if look.trusted_at.is_some_and(|at| now.since(at) < SHARED_NS) {
                return;
            }
            look.trusted_at = Some(now);
        }
        let until = now.0.saturating_add(2 * SHARED_NS);
        let small = |net: &&ipnet::IpNet| {
            net.hosts().take(MARKED_PREFIX_MAX + 1).count() <= MARKED_PREFIX_MAX
        };
        for net in self.facts.trusted_proxies.iter().filter(small) {
            for address in net.hosts() {
                if let Err(error) = self.facts.kernel.shared_source(bytes(address), until) {
                    events::SharedSourceRefused { source: address, error: &error }.emit();
                }
            }
        }
    }

    /// Marks sources that many clients share.
    pub(super) fn mark_shared(&self) {
        let (marks, now) = {
            let mut live = lock(&self.facts.live);
            let now = live.pipeline.unix(kernel::now());
            (live.pipeline.sources_mut().take_marks(), now)
        };
        for Mark { source, until } in marks {
            let left = until.0.saturating_sub(now.0);
            let until = kernel::now().0.saturating_add(left);
            match self.facts.kernel.shared_source(bytes(source), until) {
                Ok(()) => events::SharedSource { source }.emit(),
                Err(error) => events::SharedSourceRefused { source, error: &error }.emit(),
            }
        }
    }

    /// Sources that are marked now.
    pub(super) fn shared_sources(&self) -> Vec<SharedSource> {
        let now = kernel::now();
        let sources = self.facts.kernel.shared_sources().into_iter();
        let mut sources: Vec<SharedSource> = sources
            .filter(|(_, until)| *until > now.0)
            .map(|(source, until)| SharedSource {
                address: std::net::Ipv6Addr::from(source).to_canonical().to_string(),
                until_unix_ns: unix_of(until, now).0,
            })
            .collect();
        sources.sort_by(|one, other| one.address.cmp(&other.address));
        sources
    }
}

/// Wall-clock time of a kernel time to come.
fn unix_of(at: u64, now: MonoNs) -> UnixNs {
    UnixNs(super::live::wall_clock().0.saturating_add(at.saturating_sub(now.0)))
}

fn bytes(address: std::net::IpAddr) -> [u8; 16] {
    match address {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}
