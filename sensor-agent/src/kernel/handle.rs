//! The loaded and attached sensor: what the rest of the agent asks the kernel side for.
//!
//! [`Kernel::start`] loads, attaches and keeps attaching; [`Kernel::prepare`] leaves the attaching for later, when a policy is in the maps.
//! Dropping it detaches, except for what is pinned. All methods take `&self` and may be called from any thread; none blocks for
//! longer than a map walk.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use aya::maps::MapError;
use sensor_core::{
    finding::FlowVerdict, locality::LocalAddresses, policy::image::PolicyImage, time::MonoNs,
};
use sensor_ebpf::abi::{
    dynamic::{DropKey, DropValue, Verdict},
    flow_key::FlowKey,
    policy::RuleHits,
    settings::{ListenerCounts, Settings},
};

use super::{
    attach::HookKind,
    clients::{ClientCounts, ClientMaps},
    counters::{Counters, KernelLedger},
    listeners::Listeners,
    live::{self, LiveEnds, LivePolicy},
    load::{self, Copies, Degraded, LoadConfig, LoadError, Mode, Wanted},
    meta::KEPT_BYTES,
    netlink::filter::Handle,
    pin::{self, PinMode, Pins},
    policy_maps::{ApplyError, Install, Installed, PolicyMaps},
    ring::Ring,
    select::{Namespace, Selection},
    settings::{First, SettingsMap},
    sockets::{EndedSockets, SocketEnder},
    status::{InterfaceStatus, Shared, WatchCounts},
    verdicts,
    watch::{Watch, WatchConfig},
};

/// What to load and where to attach.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// Mode, sizes and first settings.
    pub load: LoadConfig,
    /// Interfaces.
    pub selection: Selection,
    /// Hook; `Auto` unless asked for.
    pub hook: HookKind,
    /// Which of the host's sensors this is: tells its filters from others'.
    pub instance: String,
    /// Whether what is in the kernel outlives the agent.
    pub pin: PinMode,
    /// The instance's folder in bpffs, if there is one.
    pub pins: Option<Arc<Pins>>,
}

/// What this run found when it started, and whether it outlives the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Links and maps are pinned in this folder.
    pub folder: Option<std::path::PathBuf>,
    /// Name of the layout.
    pub layout: Option<String>,
    /// Maps of an earlier agent are in use.
    pub adopted: bool,
    /// Layouts of earlier agents that are still attached, because no policy of this one is in force yet.
    pub others: Vec<String>,
}

/// Why the sensor could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing was loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A namespace could not be watched.
    #[error("observe network namespace {namespace}: {source}")]
    Namespace {
        /// Which.
        namespace: Namespace,
        /// Why.
        source: io::Error,
    },
}

impl KernelConfig {
    /// Pins nothing.
    #[must_use]
    pub fn new(load: LoadConfig, selection: Selection, hook: HookKind) -> Self {
        let (instance, pin, pins) = ("default".into(), PinMode::Never, None);
        Self { load, selection, hook, instance, pin, pins }
    }

    /// Whether links and maps are pinned: in mode observe there is nothing that must go on without the agent.
    #[must_use]
    pub fn pinned(&self) -> bool {
        self.load.mode == Mode::Enforce
            && self.hook != HookKind::Socket
            && self.pin != PinMode::Never
    }
}

/// The sensor in the kernel.
pub struct Kernel {
    // Dropped first: what is attached goes before the maps that it uses.
    watches: Mutex<Vec<Watch>>,
    shared: Arc<Shared>,
    degraded: Vec<Degraded>,
    counters: Counters,
    listeners: Mutex<Listeners>,
    policy: Mutex<PolicyMaps>,
    clients: Mutex<ClientMaps>,
    sockets: Option<SocketEnder>,
    settings: Arc<SettingsMap>,
    config: KernelConfig,
    layout: Option<String>,
    adopted: bool,
    state: Mutex<State>,
    _copies: Arc<Copies>,
}

/// What has happened since the start.
#[derive(Debug, Default)]
struct State {
    attached: bool,
    /// A policy of this agent is in force for good: one on trial may end, and what was before it must be there then.
    published: bool,
    /// Nothing of earlier agents is left.
    retired: bool,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Kernel").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads the programs and attaches them to every wanted interface that is there; later ones follow by themselves.
    pub fn start(object: &[u8], config: KernelConfig) -> Result<(Self, Ring), StartError> {
        let (kernel, ring) = Self::prepare(object, config)?;
        kernel.attach();
        Ok((kernel, ring))
    }

    /// Loads the programs and looks at the interfaces; nothing is attached before [`Kernel::attach`]. Other threads may be made
    /// in between: everything that needs capabilities beyond the usual is done here.
    pub fn prepare(object: &[u8], config: KernelConfig) -> Result<(Self, Ring), StartError> {
        let wanted = if config.hook == HookKind::Socket { Wanted::Socket } else { Wanted::Tc };
        let pins = config.pins.as_deref().filter(|_| config.pinned());
        let earlier = config.pins.as_deref().map(Pins::others).unwrap_or_default();
        let loaded = load::load(object, &config.load, wanted, pins, &earlier)?;
        let namespaces = config.selection.namespaces();
        let shared = Arc::new(Shared::new(namespaces.len(), Arc::clone(&loaded.settings)));
        let selection = Arc::new(config.selection.clone());
        let copies = Arc::new(Copies::new(loaded.ebpf));
        let mut watches = Vec::with_capacity(namespaces.len());
        for (index, namespace) in namespaces.into_iter().enumerate() {
            let watch = Watch::start(WatchConfig {
                namespace: namespace.clone(),
                index,
                selection: Arc::clone(&selection),
                hook: config.hook,
                mode: config.load.mode,
                handle: Handle::of(&config.instance),
                links: pins.and_then(Pins::links),
                programs: Arc::clone(&loaded.programs),
                copies: Arc::clone(&copies),
                shared: Arc::clone(&shared),
            });
            watches.push(watch.map_err(|source| StartError::Namespace { namespace, source })?);
        }
        let settings = Arc::clone(&loaded.settings);
        let sockets = ender(&watches);
        let ring = Ring::new(loaded.ring, loaded.settings, config.load.ring_bytes);
        let kernel = Self {
            watches: Mutex::new(watches),
            shared,
            degraded: loaded.degraded,
            counters: loaded.counters,
            listeners: Mutex::new(loaded.listeners),
            policy: Mutex::new(loaded.policy),
            clients: Mutex::new(loaded.clients),
            layout: loaded.layout,
            adopted: loaded.first == First::Adopted,
            state: Mutex::default(),
            sockets,
            settings,
            config,
            _copies: copies,
        };
        Ok((kernel, ring))
    }

    /// Attaches to every wanted interface that is there, in the place of what an earlier agent left. As long as no policy of this agent
    /// is in the maps, an earlier agent of another layout stays attached behind, and goes on enforcing its own.
    pub fn attach(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let beside = !self.others().is_empty() && !self.supersedes(&state);
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.iter().for_each(|watch| watch.attach(beside));
        watches.iter().for_each(Watch::attached);
        if let Some(links) = self.pins().and_then(Pins::links) {
            let spaces: Vec<_> = watches.iter().filter_map(|watch| watch.space).collect();
            pin::sweep_spaces(&links, &spaces);
        }
        drop(watches);
        self.shared.hooks_taken_over();
        state.attached = true;
        self.retire(&mut state);
    }

    /// Removes what agents of other layouts left, once nothing of it is needed.
    fn retire(&self, state: &mut State) {
        if !state.attached || state.retired || !self.supersedes(state) {
            return;
        }
        let Some(pins) = self.config.pins.as_deref().filter(|pins| !pins.others().is_empty())
        else {
            state.retired = true;
            return;
        };
        match pins.retire() {
            Ok(()) => {
                state.retired = true;
                tracing::info!("what an agent of another layout left is removed");
            }
            // Tried again with the next policy.
            Err(error) => {
                tracing::warn!(%error, "what an agent of another layout left could not be removed: its rules stay in force beside");
            }
        }
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.iter().for_each(Watch::retire);
    }

    /// Whether an earlier agent's policy is not needed any more. In mode observe the operator wants nothing to be dropped.
    fn supersedes(&self, state: &State) -> bool {
        state.published || self.config.load.mode == Mode::Observe
    }

    /// A policy of this agent is in force.
    fn published(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.published = true;
        self.retire(&mut state);
    }

    fn pins(&self) -> Option<&Pins> {
        self.config.pins.as_deref().filter(|_| self.config.pinned())
    }

    fn others(&self) -> Vec<std::path::PathBuf> {
        self.config.pins.as_deref().map(Pins::others).unwrap_or_default()
    }

    /// What it took over and what will outlive it.
    #[must_use]
    pub fn takeover(&self) -> Takeover {
        let name = |path: &std::path::PathBuf| {
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        Takeover {
            folder: self.pins().map(|pins| pins.folder().to_owned()),
            layout: self.layout.clone(),
            adopted: self.adopted,
            others: self.others().iter().map(name).collect(),
        }
    }

    /// Bytes that [`Kernel::keep`] takes at most.
    pub const KEPT_BYTES_MAX: usize = KEPT_BYTES as usize - 8;

    /// Bytes that an earlier agent kept beside its maps by [`Kernel::keep`].
    #[must_use]
    pub fn kept(&self) -> Option<Vec<u8>> {
        self.pins()?.kept()
    }

    /// Keeps bytes for the next agent; without pins there is nothing to keep them for.
    pub fn keep(&self, bytes: &[u8]) -> io::Result<()> {
        self.pins().map_or(Ok(()), |pins| pins.keep(bytes))
    }

    /// What it was started with.
    #[must_use]
    pub const fn config(&self) -> &KernelConfig {
        &self.config
    }

    /// Programs that could not be loaded.
    #[must_use]
    pub fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }

    /// Wanted interfaces, attached or not, with their neighbours.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        self.shared.interfaces()
    }

    /// Whether every wanted interface is attached.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        let interfaces = self.shared.interfaces();
        !interfaces.is_empty() && interfaces.iter().all(InterfaceStatus::is_in_order)
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.shared.settings()
    }

    /// Switches enforcement: off, every rule only monitors, until it is on again.
    pub fn set_enforcement(&self, on: bool) -> Result<(), MapError> {
        self.take_back();
        self.shared.set_enforcement(on)
    }

    /// What the interface watches count.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        self.shared.counts()
    }

    /// What is local to this host, as of now. The same `Arc` as long as nothing changes: give it to the pipeline
    /// (`set_locality`) when `Arc::ptr_eq` says that it did.
    #[must_use]
    pub fn view(&self) -> Arc<LocalAddresses> {
        self.shared.local()
    }

    /// The kernel's counters.
    pub fn ledger(&self) -> Result<KernelLedger, MapError> {
        self.counters.read()
    }

    /// Connections by listener.
    #[must_use]
    pub fn listeners(&self) -> Vec<(SocketAddr, ListenerCounts)> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).read()
    }

    /// Removes listeners that are idle and not `local`; returns how many. Call it about every 30 s.
    pub fn sweep_listeners(&self, now: MonoNs, local: impl Fn(IpAddr) -> bool) -> usize {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).sweep(now, local)
    }

    /// The policy maps, for one use after the other.
    fn policy_maps(&self) -> MutexGuard<'_, PolicyMaps> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_maps(&self) -> MutexGuard<'_, ClientMaps> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Recounts open connections, and lets clients go whose allowance is whole again. Call it about every 30 s.
    pub fn recount_clients(&self, now: MonoNs) -> Result<ClientCounts, MapError> {
        self.client_maps().recount(now.0)
    }

    /// What the last recount found.
    #[must_use]
    pub fn client_counts(&self) -> ClientCounts {
        self.client_maps().counts()
    }

    /// Puts a policy in force: all of it at once, or none. Takes tens of milliseconds.
    pub fn publish(&self, image: &PolicyImage, install: Install) -> Result<Installed, ApplyError> {
        let until_ns = self.settings().provisional_until_ns;
        if until_ns != 0 && super::clock::now().0 >= until_ns {
            self.revert_policy()?;
        }
        let installed = self.policy_maps().publish(image, install)?;
        self.take_back();
        if let Err(error) = self.client_maps().published(image, install) {
            say_still_counted(&error);
        }
        if install == Install::Confirmed {
            self.published();
        }
        Ok(installed)
    }

    /// Makes the provisional policy the confirmed one.
    pub fn confirm_policy(&self) -> Result<(), ApplyError> {
        self.policy_maps().confirm()?;
        self.client_maps().confirmed();
        self.published();
        Ok(())
    }

    /// Ends the provisional policy; the confirmed one is in force again. Without one does nothing.
    pub fn revert_policy(&self) -> Result<(), ApplyError> {
        self.take_back();
        if self.policy_maps().revert()?
            && let Err(error) = self.client_maps().reverted()
        {
            say_still_counted(&error);
        }
        Ok(())
    }

    /// Says that numbers of limits up to this one may be in the kernel from an agent before this one. Before the first policy is published.
    pub fn limits_given_before(&self, given: u32) {
        self.client_maps().given_before(given);
    }

    /// The policy that packets are judged by now, as the kernel has it.
    pub fn live_policy(&self) -> io::Result<LivePolicy> {
        // Copied without the lock: an image may be large, and verdicts must not wait for it.
        let image = self.policy_maps().live_map()?;
        let lines = image.map_or(Ok(Vec::new()), |image| live::lines(image.as_fd()))?;
        Ok(LivePolicy { settings: self.settings(), lines })
    }

    /// What the tables of verdicts and shared sources hold for a connection; a client's port of 0 is not known.
    pub fn live_ends(
        &self,
        protocol: u8,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Result<LiveEnds, MapError> {
        self.policy_maps().ends(protocol, client, server)
    }

    /// Hits by their number.
    pub fn rule_hits(&self) -> Result<Vec<RuleHits>, MapError> {
        self.policy_maps().hits()
    }

    /// Begins hits at zero: of numbers that a new rule took over. Before it is published.
    pub fn reset_hits(&self, numbers: &[u32]) -> Result<(), MapError> {
        self.policy_maps().reset_hits(numbers)
    }

    /// Sets or (with `None`) ends the agent's verdict on a flow.
    pub fn verdict_flow(&self, key: FlowKey, verdict: Option<Verdict>) -> Result<(), MapError> {
        self.policy_maps().verdict_flow(key, verdict)
    }

    /// Sets or ends the agent's verdict on a client: IPv4 v4-mapped, IPv6 the /64.
    pub fn verdict_client(
        &self,
        client: [u8; 16],
        verdict: Option<Verdict>,
    ) -> Result<(), MapError> {
        self.policy_maps().verdict_client(client, verdict)
    }

    /// Marks a source as shared by many clients until then, or (with 0) no more.
    pub fn shared_source(&self, source: [u8; 16], until_ns: u64) -> Result<(), MapError> {
        self.policy_maps().shared_source(source, until_ns)
    }

    /// Shared sources with the time until when they are.
    #[must_use]
    pub fn shared_sources(&self) -> Vec<([u8; 16], u64)> {
        self.policy_maps().shared_sources()
    }

    /// Removes verdicts and shared sources whose time is over; returns how many. Call it about every 10 s.
    pub fn sweep_verdicts(&self, now: MonoNs) -> Result<usize, MapError> {
        self.policy_maps().sweep(now.0)
    }

    /// What was dropped so far, by client, rule and reason.
    #[must_use]
    pub fn drops(&self) -> Vec<(DropKey, DropValue)> {
        self.policy_maps().drops()
    }

    /// Drops that could not be told whose they are, beside those that the ledger counts as unattributed.
    #[must_use]
    pub fn drops_unattributed(&self) -> u64 {
        self.policy_maps().drops_unattributed()
    }

    /// Takes a row of the drops away, one that is idle, with what it counted in the end.
    pub fn take_drop(&self, key: DropKey) -> Result<Option<DropValue>, MapError> {
        self.policy_maps().take_drop(key)
    }

    /// Ends TCP sockets of the observed namespaces whose own and peer's address `named` says, where enforcement is on: their owners get
    /// ECONNABORTED, their peers a RST.
    pub fn end_sockets(&self, named: impl Fn(SocketAddr, SocketAddr) -> bool) -> EndedSockets {
        match &self.sockets {
            Some(sockets) if self.enforces() => sockets.end(named),
            _ => EndedSockets::default(),
        }
    }

    /// Puts a detector's verdict in force, its packets counted by `hits`; false when a policy is being written just now: come again.
    pub fn carry_out(
        &self,
        verdict: &FlowVerdict,
        hits: u32,
        now: MonoNs,
    ) -> Result<bool, MapError> {
        let mut maps = match self.policy.try_lock() {
            Ok(maps) => maps,
            Err(TryLockError::Poisoned(maps)) => maps.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        verdicts::write(&mut maps, verdict, hits, now).map(|()| true)
    }

    /// Ends the socket of a local server whose flow a verdict ended: a client that only waits sends nothing that could be answered. The
    /// caller knows that no failsafe entry or allow rule keeps the flow. Does not wait; false when too many wait already.
    pub fn end_flow(&self, verdict: &FlowVerdict) -> bool {
        match &self.sockets {
            Some(sockets) if self.enforces() => {
                let canonical = |address: SocketAddr| {
                    SocketAddr::new(address.ip().to_canonical(), address.port())
                };
                sockets.end_flow(canonical(verdict.local_server), canonical(verdict.client))
            }
            _ => false,
        }
    }

    /// What waits to be ended by a decision that is no longer in force stays.
    fn take_back(&self) {
        if let Some(sockets) = &self.sockets {
            sockets.take_back();
        }
    }

    fn enforces(&self) -> bool {
        self.config.load.mode == Mode::Enforce && self.settings.current().enforcement_off == 0
    }

    /// Detaches from everything that is not pinned; the maps stay readable.
    pub fn detach(&self) {
        if self.pins().is_some() {
            self.shared.rest();
        }
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn say_still_counted(error: &MapError) {
    tracing::warn!(%error, "open connections of the policy before are still counted");
}

/// Without it a waiting client learns of a rule with the next packet.
fn ender(watches: &[Watch]) -> Option<SocketEnder> {
    SocketEnder::start(watches.iter().filter_map(Watch::sockets).collect())
        .map_err(|error| tracing::warn!(%error, "sockets of waiting clients cannot be ended"))
        .ok()
}
