//! The loaded and attached sensor: what the rest of the agent asks the kernel side for.
//!
//! [`Kernel::start`] loads, attaches and keeps attaching; dropping it detaches. All methods take `&self` and may be
//! called from any thread; none blocks for longer than a map walk.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::MapError;
use sensor_core::{locality::LocalAddresses, policy::PolicyTables, time::MonoNs};
use sensor_ebpf::abi::{policy::RuleHits, settings::ListenerCounts};

use super::{
    attach::HookKind,
    counters::{Counters, KernelLedger},
    listeners::Listeners,
    load::{self, Degraded, LoadConfig, LoadError, Wanted},
    policy_maps::{Applied, ApplyError, PolicyMaps},
    ring::Ring,
    select::{Namespace, Selection},
    status::{InterfaceStatus, Shared},
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

/// The sensor in the kernel.
pub struct Kernel {
    // Dropped first: what is attached goes before the maps that it uses.
    watches: Mutex<Vec<Watch>>,
    shared: Arc<Shared>,
    degraded: Vec<Degraded>,
    counters: Counters,
    listeners: Mutex<Listeners>,
    policy: Mutex<PolicyMaps>,
    config: KernelConfig,
    _ebpf: aya::Ebpf,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Kernel").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads the programs and attaches them to every wanted interface that is there; later ones follow by themselves.
    pub fn start(object: &[u8], config: KernelConfig) -> Result<(Self, Ring), StartError> {
        let wanted = if config.hook == HookKind::Socket { Wanted::Socket } else { Wanted::Tc };
        let loaded = load::load(object, &config.load, wanted)?;
        let namespaces = config.selection.namespaces();
        let shared = Arc::new(Shared::new(namespaces.len(), Arc::clone(&loaded.settings)));
        let selection = Arc::new(config.selection.clone());
        let mut watches = Vec::with_capacity(namespaces.len());
        for (index, namespace) in namespaces.into_iter().enumerate() {
            let watch = Watch::start(WatchConfig {
                namespace: namespace.clone(),
                index,
                selection: Arc::clone(&selection),
                hook: config.hook,
                programs: Arc::clone(&loaded.programs),
                shared: Arc::clone(&shared),
            });
            watches.push(watch.map_err(|source| StartError::Namespace { namespace, source })?);
        }
        let ring = Ring::new(loaded.ring, loaded.settings, config.load.ring_bytes);
        let kernel = Self {
            watches: Mutex::new(watches),
            shared,
            degraded: loaded.degraded,
            counters: loaded.counters,
            listeners: Mutex::new(loaded.listeners),
            policy: Mutex::new(loaded.policy),
            config,
            _ebpf: loaded.ebpf,
        };
        Ok((kernel, ring))
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

    /// How often interface events were lost and all interfaces were read again.
    #[must_use]
    pub fn resyncs(&self) -> u64 {
        self.shared.resyncs()
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

    /// Writes a policy; entries that stay are never unlisted meanwhile.
    pub fn apply_policy(&self, tables: &PolicyTables) -> Result<Applied, ApplyError> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).apply(tables)
    }

    /// Hits by rule number.
    pub fn rule_hits(&self) -> Result<Vec<RuleHits>, MapError> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).hits()
    }

    /// Detaches from everything; the maps stay readable.
    pub fn detach(&self) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
