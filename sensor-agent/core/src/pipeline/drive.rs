//! The pipeline as the shell drives it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use sensor_ebpf::abi::{counter::Counter, settings::ListenerCounts};

use super::{
    counts::{PipelineCounter, PipelineCounts},
    stages::{Settings, Stages},
};
use crate::{
    catalogue::Catalogue,
    event::{Event, EventBody, LedgerCount},
    finding::{Detector, FlowVerdict, RequestLimits},
    flow::{Assembled, Assembler, FlowCounter, FlowCounts, Segment},
    http::Exchange,
    inventory::{
        Attached, CatalogueCoverageView, CoverageRow, EndpointRow, Inventory, InventoryView,
        ListenerTotals, Owners, RowFilter, Sources,
    },
    limits::DETECTORS_MAX,
    locality::Locality,
    sample::{DecodeError, Sample, decode},
    time::{MonoNs, UnixNs},
};

/// All stages from samples to events.
#[derive(Debug)]
pub struct Pipeline {
    assembler: Assembler,
    stages: Stages,
    attached: Attached,
    wall_offset_ns: u64,
    /// The kernel's counters as they were given last; zero before.
    kernel: [u64; Counter::COUNT],
    /// What the kernel lost is a loss only from the first time it is seen.
    kernel_seen: bool,
    next_tell: UnixNs,
    next_snapshot: UnixNs,
    next_alive: UnixNs,
    flow_lost: u64,
    told_coverage: Vec<CoverageRow>,
    /// Requests from which documents without a host are looked at again.
    place_from: u64,
}

/// When documents are bound by evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// At once.
    Now,
    /// When there is enough new evidence.
    Later,
}

impl Pipeline {
    /// Makes a pipeline.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            assembler: Assembler::new(settings.flow, settings.key[0] ^ settings.key[1]),
            attached: settings.attached,
            stages: Stages::new(settings),
            wall_offset_ns: 0,
            kernel: [0; Counter::COUNT],
            kernel_seen: false,
            next_tell: UnixNs(0),
            next_snapshot: UnixNs(0),
            next_alive: UnixNs(0),
            flow_lost: 0,
            told_coverage: Vec::new(),
            place_from: 0,
        }
    }

    /// Says which wall-clock time a monotonic time is. Live, call it once, before the first sample.
    pub fn set_clock(&mut self, mono: MonoNs, unix: UnixNs) {
        self.wall_offset_ns = unix.0.wrapping_sub(mono.0);
        self.assembler.set_wall_offset(self.wall_offset_ns);
    }

    /// Says that the sensor is attached and watching from now on.
    pub fn start(&mut self, now: MonoNs) {
        let now = self.unix(now);
        self.stages.inventory.attached(now, self.attached);
        self.stages.last = self.stages.last.max(now);
    }

    /// Wall-clock time of a monotonic one.
    #[must_use]
    pub fn unix(&self, mono: MonoNs) -> UnixNs {
        UnixNs(mono.0.wrapping_add(self.wall_offset_ns))
    }

    /// Puts a catalogue in force; states follow at once.
    pub fn set_catalogue(&mut self, catalogue: Arc<Catalogue>) {
        let catalogue = if catalogue.asks_evidence() {
            Arc::new(catalogue.following(&self.stages.catalogue))
        } else {
            catalogue
        };
        let placed = self.stages.inventory.place_documents(&catalogue).map(Arc::new);
        self.stages.catalogue = placed.unwrap_or(catalogue);
        self.stages.inventory.set_catalogue(&self.stages.catalogue);
        self.next_tell = UnixNs(0);
    }

    /// Binds documents that name no host by what was asked, once that is much more than at the last look; says whether
    /// anything changed.
    pub fn place_documents(&mut self, when: Placing) -> bool {
        let asked = self.stages.inventory.totals().endpoints;
        if when == Placing::Later && asked < self.place_from {
            return false;
        }
        self.place_from = asked + (asked / PLACE_SHARE).max(PLACE_REQUESTS);
        let placed = self.stages.inventory.place_documents(&self.stages.catalogue);
        let Some(placed) = placed else { return false };
        let told = placed.digest() != self.stages.catalogue.digest();
        self.stages.catalogue = Arc::new(placed);
        self.stages.inventory.set_catalogue(&self.stages.catalogue);
        told
    }

    /// What of each document is used, at a time.
    #[must_use]
    pub fn catalogue_coverage(&self, now: UnixNs) -> CatalogueCoverageView {
        self.stages.inventory.catalogue_coverage(now, &self.stages.catalogue)
    }

    /// The catalogue in force.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.stages.catalogue
    }

    /// Puts another set of local addresses in force.
    pub fn set_locality(&mut self, locality: Locality) {
        self.stages.set_locality(locality);
    }

    /// Who is behind source addresses, and who talks to services.
    pub fn sources_mut(&mut self) -> &mut Sources {
        &mut self.stages.sources
    }

    /// Whether a listener at this address is on this host, as far as is known now.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.stages.locality.is_local(address)
    }

    /// Sets the window W.
    pub fn set_window(&mut self, window_ns: u64) {
        self.stages.inventory.set_window(window_ns);
    }

    /// Takes one record of the ring.
    pub fn on_record(&mut self, _now: MonoNs, record: &[u8]) -> Result<(), DecodeError> {
        self.on_record_with(record, |_, _| ())
    }

    /// Takes one record of the ring; `resolve` may name the owner of its sender's cgroup before it counts.
    pub fn on_record_with(
        &mut self,
        record: &[u8],
        resolve: impl FnOnce(&mut Owners, u64),
    ) -> Result<(), DecodeError> {
        self.stages.counts.one(PipelineCounter::Records);
        match decode(record) {
            Ok(sample) => {
                resolve(self.stages.inventory.owners_mut(), sample.header.cgroup_id);
                self.on_sample(MonoNs(sample.header.time_ns), &sample);
                Ok(())
            }
            Err(error) => {
                self.stages.counts.one(PipelineCounter::RecordsMalformed);
                Err(error)
            }
        }
    }

    /// Takes one decoded record.
    pub fn on_sample(&mut self, _now: MonoNs, sample: &Sample<'_>) {
        self.stages.counts.one(PipelineCounter::Samples);
        let stages = &mut self.stages;
        self.assembler.on_sample(sample, &mut |mut assembled| stages.on_assembled(&mut assembled));
    }

    /// Takes one segment of a capture; `tap` sees each result before the inventory does.
    pub fn on_segment(&mut self, segment: &Segment<'_>, tap: &mut dyn FnMut(&Assembled)) {
        let stages = &mut self.stages;
        stages.last = stages.last.max(segment.time);
        if segment.time >= self.next_alive {
            stages.inventory.alive(segment.time);
            self.next_alive = UnixNs(segment.time.0.saturating_add(ALIVE_EVERY_NS));
        }
        stages.inventory.alive_to(segment.time);
        self.assembler.on_segment(segment, &mut |mut assembled| {
            tap(&assembled);
            stages.on_assembled(&mut assembled);
        });
    }

    /// Takes one exchange of a recording that has no packets (HAR, JSON lines).
    pub fn on_exchange(&mut self, mut exchange: Exchange) {
        self.stages.inventory.alive_to(exchange.time);
        self.stages.on_exchange(&mut exchange);
    }

    /// Takes the kernel's totals of a listener; those of other hosts are left out.
    pub fn on_listener(&mut self, address: SocketAddr, counts: &ListenerCounts) {
        if !self.stages.locality.is_local(address.ip()) {
            return;
        }
        let totals = ListenerTotals {
            opened: counts.opened,
            http: counts.http,
            h2c: counts.h2c,
            tls: counts.tls,
            other: counts.other,
            closed: counts.closed,
            silent: counts.silent,
        };
        self.stages.inventory.listener_totals(address, totals);
    }

    /// Takes the kernel's counters, summed over CPUs: for the ledger, and for what silence proves.
    pub fn on_kernel_counters(&mut self, now: MonoNs, counters: &[u64; Counter::COUNT]) {
        let now = self.unix(now);
        let moved = |counter: Counter| {
            let value =
                |all: &[u64; Counter::COUNT]| all.get(counter as usize).copied().unwrap_or(0);
            self.kernel_seen && value(counters) > value(&self.kernel)
        };
        if LOSSES.into_iter().any(moved) {
            self.stages.inventory.heads_lost(now);
        }
        if moved(Counter::ListenerTableFull) {
            self.stages.inventory.connections_uncounted(now);
        }
        if moved(Counter::SampledOut) {
            self.stages.inventory.sampled(now);
        }
        self.kernel = *counters;
        self.kernel_seen = true;
    }

    /// Heads were lost outside of the kernel's counters (a queue of the agent was full).
    pub fn on_loss(&mut self, now: MonoNs) {
        let now = self.unix(now);
        self.stages.inventory.heads_lost(now);
    }

    /// Lets time pass: idle flows end, endpoints are told, now and then coverage and the ledger.
    pub fn on_tick(&mut self, now: MonoNs) {
        let stages = &mut self.stages;
        self.assembler.on_tick(now, &mut |mut assembled| stages.on_assembled(&mut assembled));
        let now = UnixNs(now.0.wrapping_add(self.wall_offset_ns));
        if self.attached == Attached::Now {
            stages.inventory.alive(now);
        }
        // Restored endpoints are declared by the catalogue in force; nothing to do at other ticks.
        stages.inventory.set_catalogue(&stages.catalogue);
        self.place_documents(Placing::Later);
        self.note_lost_heads(now);
        let stages = &mut self.stages;
        stages.last = stages.last.max(now);
        self.tell(now);
    }

    /// Ends the input: everything that waits is given up, counted and told.
    pub fn finish(&mut self, tap: &mut dyn FnMut(&Assembled)) {
        let stages = &mut self.stages;
        self.assembler.finish(&mut |mut assembled| {
            tap(&assembled);
            stages.on_assembled(&mut assembled);
        });
        let stages = &mut self.stages;
        stages.inventory.fold(&stages.catalogue);
        self.place_documents(Placing::Now);
        self.stages.inventory.learn_all();
        self.next_tell = UnixNs(0);
        self.next_snapshot = UnixNs(0);
        let now = self.stages.last;
        self.note_lost_heads(now);
        self.tell(now);
    }

    /// Tells what found no room among the waiting events, once these were taken; false when there is no more.
    pub fn tell_rest(&mut self) -> bool {
        let now = self.stages.last;
        self.stages.has_reader(self.attached) && self.stages.tell_changes(now) > 0
    }

    /// The latest time seen: the time of a capture's end.
    #[must_use]
    pub fn last(&self) -> UnixNs {
        self.stages.last
    }

    /// Events that wait, oldest first.
    pub fn take_events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.stages.events.drain(..)
    }

    /// Adds a detector; false when there are too many already.
    pub fn add_detector(&mut self, detector: Box<dyn Detector>) -> bool {
        let room = self.stages.detectors.len() < DETECTORS_MAX;
        if room {
            self.stages.detectors.push(detector);
        }
        room
    }

    /// Whether anything may decide about flows: then what is seen has to be looked at soon.
    #[must_use]
    pub fn has_detectors(&self) -> bool {
        !self.stages.detectors.is_empty() || !self.stages.requests.is_empty()
    }

    /// Limits on requests that are counted here.
    pub fn request_limits_mut(&mut self) -> &mut RequestLimits {
        &mut self.stages.requests
    }

    /// Whether verdicts of detectors wait.
    #[must_use]
    pub fn has_verdicts(&self) -> bool {
        !self.stages.verdicts.is_empty()
    }

    /// Verdicts of detectors that wait, oldest first.
    pub fn take_verdicts(&mut self) -> impl Iterator<Item = FlowVerdict> + '_ {
        self.stages.verdicts.drain(..)
    }

    /// Adds an event of the shell (policy), so that all events have one order.
    pub fn push_event(&mut self, event: Event) {
        self.stages.push(event);
    }

    /// The inventory as published, at a time.
    #[must_use]
    pub fn view(&self, now: UnixNs, filter: &RowFilter) -> InventoryView {
        let stages = &self.stages;
        stages.inventory.view(now, &stages.catalogue, &stages.mask, filter)
    }

    /// The endpoints as published, one by one: for output that does not hold them all.
    pub fn each_row(&self, now: UnixNs, filter: &RowFilter, give: impl FnMut(EndpointRow)) {
        let stages = &self.stages;
        stages.inventory.each_row(now, &stages.catalogue, &stages.mask, filter, give);
    }

    /// The template of a request, by what is known now.
    pub fn template_of(&mut self, exchange: &Exchange) -> String {
        let stages = &mut self.stages;
        stages.inventory.template_of(exchange, &stages.catalogue)
    }

    /// The inventory, for the store and for owners.
    pub fn inventory_mut(&mut self) -> &mut Inventory {
        &mut self.stages.inventory
    }

    /// The inventory.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.stages.inventory
    }

    /// What the store has to write.
    pub fn take_changes(&mut self) -> crate::inventory::Changes {
        let mask = self.stages.mask.clone();
        self.stages.inventory.take_changes(&mask)
    }

    /// Counters of the flow stage.
    #[must_use]
    pub fn flow_counts(&self) -> &FlowCounts {
        self.assembler.counts()
    }

    /// Counters of the pipeline.
    #[must_use]
    pub fn counts(&self) -> PipelineCounts {
        use PipelineCounter as C;
        let (totals, losses) = (self.stages.inventory.totals(), self.stages.inventory.losses());
        let mut counts = self.stages.counts.clone();
        for (counter, value) in [
            (C::Exchanges, totals.exchanges),
            (C::AtEndpoints, totals.endpoints),
            (C::Probing, totals.probing),
            (C::Overflow, totals.overflow),
            (C::Preflight, totals.preflight),
            (C::NoOperation, totals.no_operation),
            (C::Egress, totals.egress),
            (C::Transit, totals.transit),
            (C::CandidatesEvicted, losses.candidates_evicted),
            (C::ListenersFull, losses.listeners_full),
            (C::HostsFull, losses.hosts_full),
            (C::SketchesRefused, losses.sketches_refused),
            (C::NamesFull, losses.names_full),
            (C::LearnedFull, losses.learned_full),
            (C::LearnedRest, losses.learned_rest),
            (C::EndpointsRetired, losses.retired),
            (C::LookupsGivenUp, losses.lookups_given_up),
            (C::LookupsPartial, losses.lookups_partial),
            (C::RequestsNotCharged, self.stages.requests.unlimited()),
        ] {
            counts.set(counter, value);
        }
        counts
    }

    /// The loss ledger from the kernel to the events; the shell adds sinks and store.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerCount> {
        let kernel =
            Counter::ALL.iter().zip(self.kernel).filter(|_| self.kernel_seen).map(
                |(counter, value)| LedgerCount { stage: "kernel", name: counter.name(), value },
            );
        let flow = self.flow_counts().iter();
        let flow =
            flow.map(|(counter, value)| LedgerCount { stage: "flow", name: counter.name(), value });
        let counts = self.counts();
        let own = counts.iter().map(|(counter, value)| LedgerCount {
            stage: "pipeline",
            name: counter.name(),
            value,
        });
        kernel.chain(flow).chain(own).collect()
    }

    /// Heads that the flow stage had to give up are lost heads too.
    fn note_lost_heads(&mut self, now: UnixNs) {
        let counts = self.assembler.counts();
        let lost = FLOW_LOSSES
            .iter()
            .fold(0_u64, |sum, counter| sum.saturating_add(counts.value(*counter)));
        if lost > self.flow_lost {
            self.flow_lost = lost;
            self.stages.inventory.heads_lost(now);
        }
    }

    fn tell(&mut self, now: UnixNs) {
        if !self.stages.has_reader(self.attached) {
            return;
        }
        self.stages.tell_discovered(now);
        if now >= self.next_tell {
            self.stages.tell_changes(now);
            self.next_tell =
                UnixNs(now.0.saturating_add(tell_every_ns(self.stages.inventory.len())));
        }
        if now >= self.next_snapshot {
            self.next_snapshot = UnixNs(now.0.saturating_add(SNAPSHOT_EVERY_NS));
            self.snapshot(now);
        }
    }

    fn snapshot(&mut self, now: UnixNs) {
        let rows = self.stages.inventory.coverage();
        for row in rows.iter().filter(|row| !self.told_coverage.contains(row)) {
            self.stages.push(Event { time: now, body: EventBody::Coverage(Box::new(row.clone())) });
        }
        self.told_coverage = rows;
        let ledger = self.ledger();
        self.stages.push(Event { time: now, body: EventBody::Ledger(ledger) });
    }
}

/// Looking at all endpoints costs about a microsecond each: at most 1 % of one CPU.
const fn tell_every_ns(endpoints: usize) -> u64 {
    let least = endpoints as u64 * 100_000;
    if least < 1_000_000_000 { 1_000_000_000 } else { least }
}

/// Coverage and ledger are told this often.
const SNAPSHOT_EVERY_NS: u64 = 10_000_000_000;

/// Counters of the kernel whose movement means that heads were not seen, of any listener: a lost record says nothing
/// about whose it was. Records without a head (`RecordsLost` counts those too) hide no call.
const LOSSES: [Counter; 4] = [
    Counter::RequestHeadsLost,
    Counter::ResponseHeadsLost,
    Counter::LoopLimit,
    Counter::FlowTableFull,
];

/// Counters of the flow stage that mean the same.
const FLOW_LOSSES: [FlowCounter; 4] = [
    FlowCounter::HeadsPartial,
    FlowCounter::Gaps,
    FlowCounter::PositionsLost,
    FlowCounter::FlowsOverBudget,
];

/// Connections of a capture are looked at this often, in packet time.
const ALIVE_EVERY_NS: u64 = 1_000_000_000;

/// New evidence is worth a look at all endpoints when there is a tenth more of it, and this many requests.
const PLACE_SHARE: u64 = 10;
const PLACE_REQUESTS: u64 = 20;
