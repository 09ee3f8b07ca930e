//! What is kept of an endpoint that is on its way out (deprecated, with a sunset, or removed): who still calls, and which instances still serve it.
//!
//! Kept from when it is known to leave; others have none of this. Bounds: [`RECENT_MAX`] callers by name, the longest silent one
//! makes room, those that came past the proxies last; all of them in three sketches of half a window each; [`INSTANCES_MAX`] instances.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    clients::ClientSketch,
    egress::Caller,
    endpoint::{Context, Endpoint},
    evidence::Outcome,
    exposure::Way,
};
use crate::{event::Mask, http::Exchange, state::DeclarationKind, time::UnixNs};

/// Callers that are kept by name.
const RECENT_MAX: usize = 16;
/// Instances whose last answer is kept.
const INSTANCES_MAX: usize = 64;
/// Sketches of half a window each that cover a window wherever it begins.
const EPOCHS: usize = 3;

/// Evidence of an endpoint that leaves.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    /// Kept from then on.
    since: UnixNs,
    recent: Vec<Recent>,
    /// It is known of some how they came.
    ways_known: bool,
    /// The last caller by name that made room was heard then.
    forgotten: UnixNs,
    /// Callers by half windows; the latest first.
    epochs: [ClientSketch; EPOCHS],
    latest: u64,
    epoch_ns: u64,
    pub(super) instances: Vec<Instance>,
}

#[derive(Clone, Debug)]
struct Recent {
    hash: u64,
    caller: Caller,
    last: UnixNs,
    /// Last request past the trusted proxies; zero: never.
    past: UnixNs,
}

/// What an instance answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Instance {
    pub(super) address: SocketAddr,
    last: UnixNs,
    /// 404, 410 or 501.
    pub(super) gone: bool,
}

/// As stored: addresses as they are shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LeavingRecord {
    since: UnixNs,
    /// Hash, text, last request, last one past the proxies.
    recent: Vec<(u64, String, UnixNs, UnixNs)>,
    ways_known: bool,
    forgotten: UnixNs,
    epochs: [ClientSketch; EPOCHS],
    latest: u64,
    epoch_ns: u64,
    instances: Vec<Instance>,
}

impl Leaving {
    fn new(now: UnixNs, window_ns: u64) -> Self {
        let epoch_ns = (window_ns / 2).max(1);
        Self {
            since: now,
            recent: Vec::new(),
            ways_known: false,
            forgotten: UnixNs(0),
            epochs: std::array::from_fn(|_| ClientSketch::default()),
            latest: now.0 / epoch_ns,
            epoch_ns,
            instances: Vec::new(),
        }
    }

    fn note_caller(&mut self, now: UnixNs, context: &Context<'_>) {
        let epoch = now.0 / self.epoch_ns;
        if epoch > self.latest {
            let steps = usize::try_from(epoch - self.latest).unwrap_or(EPOCHS).min(EPOCHS);
            self.epochs.rotate_right(steps);
            self.epochs.iter_mut().take(steps).for_each(|it| *it = ClientSketch::default());
            self.latest = epoch;
        }
        let back = usize::try_from(self.latest - epoch).unwrap_or(EPOCHS);
        let may_grow = *context.sketch_bytes < context.limits.sketch_bytes;
        if let Some(sketch) = self.epochs.get_mut(back) {
            sketch.add(context.client_hash, may_grow);
        }
        self.ways_known |= context.origin.way != Way::Unknown;
        let past = if context.origin.way == Way::Past { now } else { UnixNs(0) };
        if let Some(known) = self.recent.iter_mut().find(|it| it.hash == context.client_hash) {
            (known.last, known.past) = (known.last.max(now), known.past.max(past));
            return;
        }
        let caller = Caller::Address(context.origin.address.to_canonical());
        self.add(Recent { hash: context.client_hash, caller, last: now, past });
    }

    fn add(&mut self, caller: Recent) {
        if self.recent.len() < RECENT_MAX {
            self.recent.push(caller);
        } else if let Some(oldest) =
            // Whoever came past the proxies is what a proof must not forget.
            self.recent.iter_mut().min_by_key(|it| (it.past > UnixNs(0), it.last))
        {
            self.forgotten = self.forgotten.max(oldest.last.min(caller.last));
            if (oldest.past > UnixNs(0), oldest.last) < (caller.past > UnixNs(0), caller.last) {
                *oldest = caller;
            }
        }
    }

    fn note_instance(&mut self, instance: Instance) {
        let known = self.instances.iter_mut().find(|it| it.address == instance.address);
        if let Some(known) = known {
            if known.last <= instance.last {
                *known = instance;
            }
        } else if self.instances.len() < INSTANCES_MAX {
            self.instances.push(instance);
        }
    }

    /// Distinct callers since a time.
    fn callers_since(&self, since: UnixNs) -> u64 {
        if self.forgotten < since {
            return self.recent.iter().filter(|it| it.last >= since).count() as u64;
        }
        let mut all = ClientSketch::default();
        for (back, sketch) in (0_u64..).zip(&self.epochs) {
            let end = self.latest.saturating_sub(back).saturating_add(1);
            if end.saturating_mul(self.epoch_ns) > since.0 {
                all.merge(sketch);
            }
        }
        all.estimate()
    }

    fn merge(&mut self, other: Self) {
        self.since = self.since.min(other.since);
        self.ways_known |= other.ways_known;
        self.forgotten = self.forgotten.max(other.forgotten);
        for caller in other.recent {
            match self.recent.iter_mut().find(|it| it.hash == caller.hash) {
                Some(known) => {
                    (known.last, known.past) =
                        (known.last.max(caller.last), known.past.max(caller.past));
                }
                None => self.add(caller),
            }
        }
        // Another length of the window: the sketches of the newer one count.
        if other.epoch_ns == self.epoch_ns {
            let (newer, older) = (self.latest.max(other.latest), self.latest.min(other.latest));
            let steps = usize::try_from(newer - older).unwrap_or(EPOCHS).min(EPOCHS);
            let (mut ours, mut theirs) = (std::mem::take(&mut self.epochs), other.epochs);
            let behind = if self.latest < newer { &mut ours } else { &mut theirs };
            behind.rotate_right(steps);
            behind.iter_mut().take(steps).for_each(|it| *it = ClientSketch::default());
            ours.iter_mut().zip(&theirs).for_each(|(to, from)| to.merge(from));
            (self.epochs, self.latest) = (ours, newer);
        }
        other.instances.into_iter().for_each(|it| self.note_instance(it));
    }

    fn heap_bytes(&self) -> usize {
        self.epochs.iter().map(ClientSketch::heap_bytes).sum()
    }

    /// As stored.
    pub(super) fn record(&self, mask: &Mask) -> LeavingRecord {
        let text = |caller: &Caller| match caller {
            Caller::Address(address) => mask.address(*address),
            Caller::Shown(text) => text.to_string(),
            Caller::Owner(_) => String::new(),
        };
        LeavingRecord {
            since: self.since,
            recent: self
                .recent
                .iter()
                .map(|it| (it.hash, text(&it.caller), it.last, it.past))
                .collect(),
            ways_known: self.ways_known,
            forgotten: self.forgotten,
            epochs: self.epochs.clone(),
            latest: self.latest,
            epoch_ns: self.epoch_ns,
            instances: self.instances.clone(),
        }
    }

    /// From the store; none where it is not what this version writes.
    pub(super) fn restored(record: LeavingRecord) -> Option<Self> {
        if record.epoch_ns == 0 || !record.epochs.iter().all(ClientSketch::is_valid) {
            return None;
        }
        let recent = record.recent.into_iter().take(RECENT_MAX);
        let mut instances = record.instances;
        instances.truncate(INSTANCES_MAX);
        Some(Self {
            since: record.since,
            recent: recent
                .map(|(hash, text, last, past)| Recent {
                    hash,
                    caller: Caller::restored(&text),
                    last,
                    past,
                })
                .collect(),
            ways_known: record.ways_known,
            forgotten: record.forgotten,
            epochs: record.epochs,
            latest: record.latest,
            epoch_ns: record.epoch_ns,
            instances,
        })
    }
}

impl Endpoint {
    /// Whether anything says that it is on its way out.
    pub(super) fn is_leaving(&self) -> bool {
        self.declared.deprecated
            || self.declared.sunset > UnixNs(0)
            || self.declared.kind == DeclarationKind::OlderOnly
            || self
                .announced
                .as_deref()
                .is_some_and(|it| it.deprecation.is_some() || it.sunset.is_some())
    }

    /// Notes who called and what answered, of what leaves.
    pub(super) fn note_leaving(
        &mut self,
        exchange: &Exchange,
        outcome: Outcome,
        context: &mut Context<'_>,
    ) {
        if !self.is_leaving() {
            return;
        }
        let leaving = self
            .more
            .get_or_insert_default()
            .leaving
            .get_or_insert_with(|| Box::new(Leaving::new(exchange.time, context.window_ns)));
        let before = leaving.heap_bytes();
        leaving.note_caller(exchange.time, context);
        *context.sketch_bytes =
            (*context.sketch_bytes + leaving.heap_bytes()).saturating_sub(before);
        let gone = match outcome {
            Outcome::Absent => true,
            // Nothing answered from behind: it says nothing of the instance.
            Outcome::Unreached => return,
            _ => false,
        };
        let address = SocketAddr::new(exchange.server.ip().to_canonical(), exchange.server.port());
        leaving.note_instance(Instance { address, last: exchange.time, gone });
    }

    /// Distinct callers since a time; at most so many where it was not known then that it leaves.
    pub(super) fn remaining_callers(&self, since: UnixNs) -> u64 {
        match self.more.as_deref().and_then(|more| more.leaving.as_deref()) {
            _ if self.observed == 0 || self.last < since => 0,
            Some(leaving) if leaving.since <= since.max(self.first) => leaving.callers_since(since),
            _ => self.clients.estimate(),
        }
    }

    /// Callers since a time that came past the trusted proxies; none where it is not known how any came.
    pub(super) fn bypass_callers(&self, since: UnixNs) -> Option<Vec<Caller>> {
        let leaving = self.more.as_deref()?.leaving.as_deref()?;
        let past = leaving.recent.iter().filter(|it| it.past > UnixNs(0) && it.past >= since);
        leaving.ways_known.then(|| past.map(|it| it.caller.clone()).collect())
    }

    /// Adds another's evidence.
    pub(super) fn merge_leaving(&mut self, other: Option<Box<Leaving>>) {
        let Some(other) = other else { return };
        match &mut self.more.get_or_insert_default().leaving {
            Some(ours) => ours.merge(*other),
            none => *none = Some(other),
        }
    }

    /// Heap bytes of its sketches.
    pub(super) fn leaving_bytes(&self) -> usize {
        let leaving = self.more.as_deref().and_then(|more| more.leaving.as_deref());
        leaving.map_or(0, Leaving::heap_bytes)
    }
}
