//! What runs on the ring thread: records to the pipeline, time to the pipeline, events to sinks, changes to the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use sensor_core::{
    catalogue::Catalogue,
    event::{AddressMask, Event, EventBody, LedgerCount, Mask},
    finding::{Consequence, FlowVerdict, Subject},
    flow,
    inventory::{Attached, Changes, History, RecordTable},
    locality::{LocalAddresses, Locality},
    pipeline::{ExchangeEvents, Pipeline, Settings},
    policy::RequestRules,
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::{counter::Counter, settings::Settings as KernelSettings};

use crate::{
    config::{ClientAddress, Config, Hook, Mode, Pin, SamplingBudget, TcAttach},
    drops::{Guard, GuardTerms},
    kernel::{
        self, HookKind, InterfaceState, Kernel, KernelConfig, Namespace, Owners, PinConfig,
        PinError, PinMode, Pins, Selection, caps::Needs,
    },
    reload::Spared,
    sink::{Feed, SinkStatus, encode},
    source::{
        budget::Sampling,
        ring_buffer::{POLL_DECIDING_MS, POLL_IDLE_MS, Polling, Round},
    },
    store::{Attachment, Batch, InstallationIdentity, Keeper, LedgerTotals, Row, Table},
    telemetry::{
        Own,
        events::{self, Emit as _},
    },
};

/// Hits of verdicts whose detector has no rule in the policy.
const NO_RULE: u32 = 0;
/// Time is given to the pipeline this often.
const TICK_NS: u64 = 500_000_000;
/// Changes are given to the store this often.
const STORE_NS: u64 = 2_000_000_000;
/// The first look at states: by then the catalogue is read.
const FIRST_LOOK_NS: u64 = 2_000_000_000;
/// Idle listeners of other hosts are removed this often.
const SWEEP_NS: u64 = 30_000_000_000;

/// The pipeline and what it gives to; behind one lock.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) pipeline: Pipeline,
    kernel: Arc<Kernel>,
    local: Arc<LocalAddresses>,
    owners: Owners,
    feed: Feed,
    keeper: Option<Keeper>,
    /// What the store did not take yet.
    unsaved: Batch,
    /// Verdicts of detectors that are not in the kernel yet.
    verdicts: VecDeque<FlowVerdict>,
    /// Numbers of hits of the rules in force.
    slots: HashMap<String, u32>,
    /// Whom no verdict touches.
    spared: Arc<Spared>,
    ticked: MonoNs,
    saved: MonoNs,
    swept: MonoNs,
    /// States that endpoints had.
    pub(super) history: History,
    /// When they are looked at next.
    pub(super) look_due: MonoNs,
    /// Last round: a stale one says that the ring thread hangs.
    pub(super) beat: MonoNs,
}

/// A lock that a panic of the other side leaves usable: a view of the inventory is better than none.
pub(super) fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Starts watching.
    pub(super) fn new(
        mut pipeline: Pipeline,
        kernel: Arc<Kernel>,
        feed: Feed,
        keeper: Keeper,
        history: History,
    ) -> Self {
        let now = kernel::now();
        let local = kernel.view();
        pipeline.set_clock(now, wall_clock());
        pipeline.set_locality(Locality::Host(LocalAddresses::clone(&local)));
        pipeline.start(now);
        Self {
            pipeline,
            kernel,
            local,
            owners: Owners::open(),
            feed,
            keeper: Some(keeper),
            unsaved: Batch::default(),
            verdicts: VecDeque::new(),
            slots: HashMap::new(),
            spared: Arc::default(),
            ticked: now,
            saved: now,
            swept: now,
            history,
            look_due: MonoNs(now.0.saturating_add(FIRST_LOOK_NS)),
            beat: now,
        }
    }

    /// Reads the kernel's counters and listeners: before time passes, and before somebody looks.
    pub(super) fn refresh(&mut self, now: MonoNs) {
        if let Ok(ledger) = self.kernel.ledger() {
            let mut values = [0; Counter::COUNT];
            for (slot, (_, value)) in values.iter_mut().zip(ledger.iter()) {
                *slot = value;
            }
            self.pipeline.on_kernel_counters(now, &values);
        }
        for (address, counts) in self.kernel.listeners() {
            self.pipeline.on_listener(address, &counts);
        }
    }

    /// One record of the ring; the owner of its sender gets a name before the pipeline counts by it.
    fn record(&mut self, now: MonoNs, record: &[u8]) {
        let owners = &mut self.owners;
        let taken = self.pipeline.on_record_with(record, |names, cgroup_id| {
            if !names.knows(cgroup_id, now) {
                let (name, until) = owners.look_up(cgroup_id, now);
                names.set(cgroup_id, name.as_deref(), until);
            }
        });
        // What cannot be read is counted by the pipeline.
        let _counted = taken.is_err();
        if self.pipeline.has_verdicts() || !self.verdicts.is_empty() {
            self.carry_out(now);
        }
    }

    /// Puts verdicts of detectors in force. What finds a policy being written waits for the next round.
    fn carry_out(&mut self, now: MonoNs) {
        if self.verdicts.is_empty() {
            self.verdicts.extend(self.pipeline.take_verdicts());
        }
        while let Some(verdict) = self.verdicts.front() {
            let hits = self.slots.get(&*verdict.rule).copied().unwrap_or(NO_RULE);
            match self.kernel.carry_out(verdict, hits, now) {
                Ok(true) => self.end(verdict, now),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, rule = &*verdict.rule, "a verdict is not in force");
                }
            }
            self.verdicts.pop_front();
        }
    }

    /// Ends the socket of a flow that a verdict ended, unless the policy keeps it.
    fn end(&self, verdict: &FlowVerdict, now: MonoNs) {
        let sentence = &verdict.sentence;
        if sentence.subject == Subject::Flow
            && sentence.consequence == Consequence::End
            && !self.spared.spares(verdict, now)
        {
            let _its_next_packet_is_answered = self.kernel.end_flow(verdict);
        }
    }

    /// Another policy is in force: where hits of its rules are counted, and the limits that are counted here.
    pub(super) fn set_policy(
        &mut self,
        slots: HashMap<String, u32>,
        requests: Arc<RequestRules>,
        spared: Arc<Spared>,
    ) {
        self.slots = slots;
        self.spared = spared;
        self.pipeline.request_limits_mut().set_rules(requests);
    }

    fn tick(&mut self, now: MonoNs) {
        self.ticked = now;
        let local = self.kernel.view();
        if !Arc::ptr_eq(&local, &self.local) {
            self.pipeline.set_locality(Locality::Host(LocalAddresses::clone(&local)));
            self.local = local;
        }
        self.refresh(now);
        let before = Arc::clone(self.pipeline.catalogue());
        self.pipeline.on_tick(now);
        self.say_bindings(&before);
        if now.since(self.swept) >= SWEEP_NS {
            self.swept = now;
            let pipeline = &self.pipeline;
            self.kernel.sweep_listeners(now, |address| pipeline.is_local(address));
        }
        if now >= self.look_due {
            self.look(now);
        }
        if now.since(self.saved) >= STORE_NS {
            self.saved = now;
            self.save(now);
        }
    }

    /// Says which documents were bound to other services since, by what was asked.
    fn say_bindings(&self, before: &Arc<Catalogue>) {
        let catalogue = self.pipeline.catalogue();
        if Arc::ptr_eq(before, catalogue) {
            return;
        }
        for (was, binding) in before.bindings().iter().zip(catalogue.bindings()) {
            if (was.reason, &was.scopes) != (binding.reason, &binding.scopes) {
                events::DocumentBound { binding }.emit();
            }
        }
    }

    /// Offers what changed to the store; what it does not take waits here.
    fn save(&mut self, now: MonoNs) {
        let now = self.pipeline.unix(now);
        let newer = self.batch(now);
        self.unsaved.merge(newer);
        if let Some(keeper) = &self.keeper {
            let batch = std::mem::take(&mut self.unsaved);
            self.unsaved = keeper.offer(batch, now.0).unwrap_or_default();
        }
    }

    fn batch(&mut self, now: UnixNs) -> Batch {
        let Changes { records, removed } = self.pipeline.take_changes();
        let put = records.into_iter().map(|record| Row {
            table: table(record.table),
            key: record.key,
            last_seen: record.last_seen.0,
            body: record.body,
        });
        let span = self.pipeline.inventory().spans().last().copied();
        let ledger = self
            .pipeline
            .ledger()
            .into_iter()
            .map(|count| (count.stage.to_owned(), count.name.to_owned(), count.value));
        let (states, forgotten) = self.take_history();
        let removed = removed.into_iter().map(|key| (Table::Endpoints, key));
        Batch {
            put: put.chain(states).collect(),
            remove: removed.chain(forgotten).collect(),
            attachment: span.map(|span| Attachment {
                from: span.from.0,
                to: span.to.0,
                ..Attachment::default()
            }),
            ledger: span.map(|span| LedgerTotals {
                from: span.from.0,
                to: now.0,
                counts: ledger.collect(),
            }),
        }
    }

    /// Hands what the pipeline made to the sinks.
    fn deliver(&mut self) {
        for mut event in self.pipeline.take_events() {
            if self.feed.is_empty() {
                continue;
            }
            if let EventBody::Ledger(counts) = &mut event.body {
                counts.extend(own_counts());
            }
            self.feed.offer(encode(event));
        }
    }

    /// Adds an event of the shell.
    pub(super) fn tell(&mut self, body: EventBody) {
        let time = self.pipeline.unix(kernel::now());
        self.pipeline.push_event(Event { time, body });
    }

    /// The store, while the agent runs.
    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_ref()
    }
}

fn own_counts() -> impl Iterator<Item = LedgerCount> {
    Own::ALL.iter().map(|own| LedgerCount { stage: "agent", name: own.name(), value: own.value() })
}

/// One round of the ring thread.
pub(super) fn round(live: &Mutex<Live>, round: &mut Round<'_>) {
    let mut live = lock(live);
    let now = round.now;
    live.beat = now;
    while round.next_record(|record| live.record(now, record)).is_some() {}
    live.carry_out(now);
    round.idle_ms = if live.pipeline.has_detectors() { POLL_DECIDING_MS } else { POLL_IDLE_MS };
    if now.since(live.ticked) >= TICK_NS {
        live.tick(now);
    }
    live.deliver();
}

/// Ends the input and gives the last events to the sinks; returns the last time.
pub(super) fn finish(live: &Mutex<Live>) -> UnixNs {
    let mut live = lock(live);
    let now = kernel::now();
    live.refresh(now);
    live.pipeline.on_tick(now);
    live.pipeline.finish(&mut |_| ());
    live.look(now);
    live.deliver();
    live.pipeline.unix(now)
}

/// Commits everything.
pub(super) fn close_store(live: &Mutex<Live>, now: UnixNs) {
    let mut live = lock(live);
    let newer = live.batch(now);
    live.unsaved.merge(newer);
    let batch = std::mem::take(&mut live.unsaved);
    if let Some(keeper) = live.keeper.take() {
        let status = keeper.close(batch, now.0);
        if let Some(error) = status.error {
            tracing::error!(error, "the last changes are not in the store");
        }
    }
}

const fn table(table: RecordTable) -> Table {
    match table {
        RecordTable::Endpoints => Table::Endpoints,
        RecordTable::Egress => Table::Egress,
    }
}

/// Settings of the pipeline of a live run.
pub(super) fn settings(config: &Config, identity: &InstallationIdentity) -> Settings {
    let key = identity.hash_key_words();
    let window_ns = u64::try_from(config.window.as_nanos()).unwrap_or(u64::MAX);
    let flows_max = usize::try_from(config.flows_max).unwrap_or(usize::MAX);
    Settings {
        attached: Attached::Now,
        flow: flow::Limits { flows_max, ..flow::Limits::default() },
        window_ns,
        exchange_events: if config.exchange_events {
            ExchangeEvents::On
        } else {
            ExchangeEvents::Off
        },
        mask: mask(config, key),
        key,
        trusted_proxies: config.trusted_proxies.clone(),
        forwarded_header: config.forwarded_header.into(),
        exposure: config.exposure.clone(),
        owners: config.owners.clone(),
        ..Settings::default()
    }
}

fn mask(config: &Config, key: [u64; 2]) -> Mask {
    let mode = match config.client_address {
        ClientAddress::Full => AddressMask::Full,
        ClientAddress::Truncate => AddressMask::Truncated,
        ClientAddress::Hash => AddressMask::Hashed,
    };
    Mask::new(mode, key)
}

fn first_settings(config: &Config) -> KernelSettings {
    let stale_ns = config.stale_open_after.map_or(0, |time| time.as_nanos());
    KernelSettings {
        stale_open_after_ns: u64::try_from(stale_ns).unwrap_or(u64::MAX),
        ..kernel::first_settings(
            config.sampling.as_f64(),
            config.head_bytes_max,
            config.ring_bytes / 2,
        )
    }
}

/// When a rule hits too many.
pub(super) fn guard(config: &Config) -> Guard {
    let max_share = config.guard_max_share.as_f64();
    Guard::new(GuardTerms { max_share, ..GuardTerms::default() })
}

/// What to load and where to attach.
pub(super) fn kernel_config(config: &Config) -> Result<KernelConfig> {
    let in_namespace = |glob: &String| match &config.netns {
        Some(path) if !glob.contains('@') => format!("{glob}@{}", path.display()),
        _ => glob.clone(),
    };
    let specs = |globs: &[String]| {
        let parsed = globs.iter().map(|glob| {
            let spec = in_namespace(glob);
            spec.parse().with_context(|| format!("interface `{glob}`"))
        });
        parsed.collect::<Result<Vec<_>>>()
    };
    let hook = match (config.hook, config.tc_attach) {
        (Hook::Socket, _) => HookKind::Socket,
        (Hook::Tc, TcAttach::Auto) => HookKind::Auto,
        (Hook::Tc, TcAttach::Tcx) => HookKind::Tcx,
        (Hook::Tc, TcAttach::Clsact) => HookKind::Clsact,
    };
    Ok(KernelConfig {
        load: kernel::LoadConfig {
            mode: match config.mode {
                Mode::Observe => kernel::Mode::Observe,
                Mode::Enforce => kernel::Mode::Enforce,
            },
            ring_bytes: config.ring_bytes,
            flows: Some(config.flows_max),
            test_clock: false,
            resets_unbounded: false,
            settings: first_settings(config),
        },
        selection: Selection {
            include: specs(&config.interfaces.include)?,
            exclude: specs(&config.interfaces.exclude)?,
        },
        hook,
        instance: config.instance.clone(),
        pin: match config.pin {
            Pin::Auto => PinMode::Auto,
            Pin::Always => PinMode::Always,
            Pin::Never => PinMode::Never,
        },
        pins: None,
    })
}

/// Opens the folder where links and maps outlive the agent; done while root's powers are there. Without one the agent runs all the
/// same, unless the configuration says otherwise: then the reason is given to show.
pub(super) fn open_pins(
    config: &Config,
    kernel: &mut KernelConfig,
) -> Result<Option<String>, PinError> {
    let place = PinConfig {
        root: config.pin_folder.clone(),
        instance: config.instance.clone(),
        socket: std::path::absolute(&config.socket).unwrap_or_else(|_| config.socket.clone()),
        store: std::path::absolute(&config.store).unwrap_or_else(|_| config.store.clone()),
    };
    match Pins::open(&place, kernel.pinned()) {
        Ok(pins) => {
            kernel.pins = pins.map(Arc::new);
            Ok(None)
        }
        Err(error @ PinError::Busy(_)) => Err(error),
        Err(error) if kernel.pin == PinMode::Always => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}

/// Capabilities beyond the usual.
pub(super) fn needs(config: &Config, kernel: &KernelConfig) -> Needs {
    Needs {
        other_namespaces: kernel
            .selection
            .namespaces()
            .iter()
            .any(|namespace| *namespace != Namespace::Own),
        packet_sockets: config.hook == Hook::Socket,
    }
}

/// How the ring is polled.
pub(super) fn polling(config: &Config, pipeline: &Pipeline) -> Polling {
    let sampling = match config.sampling_budget {
        SamplingBudget::Adaptive => Sampling::Adaptive,
        SamplingBudget::Fixed => Sampling::Fixed,
    };
    Polling {
        pause_ms: u16::try_from(config.poll_interval.as_millis()).unwrap_or(u16::MAX),
        idle_ms: if pipeline.has_detectors() { POLL_DECIDING_MS } else { POLL_IDLE_MS },
        sampling,
    }
}

/// Wall-clock time; 0 before 1970.
pub(super) fn wall_clock() -> UnixNs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNs(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The name that events carry.
pub(super) fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Tells a person at a terminal what happens and what to do next.
pub(super) fn say_started(kernel: &Kernel, config: &Config, not_pinned: Option<&str>) {
    let interfaces = kernel.interfaces();
    let (attached, others): (Vec<_>, Vec<_>) =
        interfaces.iter().partition(|one| one.state == InterfaceState::Attached);
    let names: Vec<_> = attached.iter().map(|one| one.name.as_str()).collect();
    tracing::info!(interfaces = names.join(" "), mode = config.mode.as_str(), "watching");
    for one in others.iter().filter(|one| one.state != InterfaceState::Unsupported) {
        tracing::warn!(
            interface = one.name,
            error = one.error.as_deref().unwrap_or_default(),
            "not attached"
        );
    }
    if config.hook == Hook::Socket && config.policy.is_some() {
        tracing::warn!(
            "a socket counts what block rules would drop, and does not evaluate limits: that takes `hook: tc`"
        );
    }
    say_takeover(kernel, not_pinned);
    for missing in kernel.degraded() {
        tracing::warn!(
            program = missing.program,
            reason = missing.reason,
            "the kernel refused a program: what it does is missing"
        );
    }
    tracing::info!("ask it: sensor-agent inventory, sensor-agent coverage, sensor-agent status");
}

fn say_takeover(kernel: &Kernel, not_pinned: Option<&str>) {
    if let Some(reason) = not_pinned {
        tracing::warn!(reason, "not pinned: enforcement ends with the agent");
    }
    let takeover = kernel.takeover();
    if let Some(folder) = &takeover.folder {
        tracing::info!(
            folder = %folder.display(),
            layout = takeover.layout.as_deref().unwrap_or_default(),
            taken_over = takeover.adopted,
            "pinned: enforcement goes on without the agent"
        );
    }
    if !takeover.others.is_empty() {
        tracing::warn!(
            layouts = takeover.others.join(" "),
            "an earlier agent's rules stay in force beside until a policy of this one is"
        );
    }
}

/// Tells what was left in sinks.
pub(super) fn say_stopped(sinks: &[SinkStatus]) {
    for sink in sinks.iter().filter(|sink| sink.waiting_events > 0 || sink.dropped > 0) {
        tracing::warn!(
            sink = sink.sink,
            unsent = sink.waiting_events,
            dropped = sink.dropped,
            "events did not reach their sink"
        );
    }
    tracing::info!("stopped");
}

/// Tells that rules are still in force.
pub(super) fn say_left(kernel: &Kernel) {
    if let Some(folder) = kernel.takeover().folder {
        tracing::info!(
            folder = %folder.display(),
            "rules stay in force without the agent; sensor-agent detach --all removes them"
        );
    }
}
