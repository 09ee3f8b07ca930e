//! What is attached where, as the agent shows it, and the state that the watches share.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwap;
use aya::maps::MapError;
use sensor_core::locality::LocalAddresses;
use sensor_ebpf::abi::settings::Settings;
use serde::Serialize;

use super::{
    attach::{Chain, HookKind},
    netlink::record::Link,
    select::Namespace,
    settings::SettingsMap,
    sys::TcHook,
    view::{self, NamespaceView},
};

/// One interface.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceStatus {
    /// `own`, or the file of the namespace.
    pub namespace: String,
    /// Number; 0 when an interface of this name does not exist.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// How it is observed; `None` when it is not.
    pub hook: Option<HookKind>,
    /// Neighbours at ingress, where they can be told.
    pub ingress: Option<Chain>,
    /// Neighbours at egress.
    pub egress: Option<Chain>,
    /// Whether that is as it should be.
    pub state: InterfaceState,
    /// Why it is not observed.
    pub error: Option<String>,
}

/// How a wanted interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceState {
    /// Observed.
    Attached,
    /// Of a device type that the programs do not read.
    Unsupported,
    /// The kernel refused, or somebody detached us.
    Failed,
    /// Named, and not there.
    Missing,
}

impl InterfaceStatus {
    pub(crate) fn new(namespace: &Namespace, link: &Link) -> Self {
        Self {
            namespace: namespace.to_string(),
            ifindex: link.ifindex,
            name: link.name.to_string(),
            hook: None,
            ingress: None,
            egress: None,
            state: InterfaceState::Failed,
            error: None,
        }
    }

    pub(crate) fn missing(namespace: &Namespace, name: &str) -> Self {
        Self {
            namespace: namespace.to_string(),
            ifindex: 0,
            name: name.to_owned(),
            hook: None,
            ingress: None,
            egress: None,
            state: InterfaceState::Missing,
            error: Some("there is no interface of this name".to_owned()),
        }
    }

    /// Sets the state after the chains were looked at.
    pub(crate) fn judge(&mut self) {
        let there = |chain: &Option<Chain>| chain.as_ref().is_none_or(|chain| chain.attached);
        let attached = self.hook.is_some() && there(&self.ingress) && there(&self.egress);
        self.state = if attached { InterfaceState::Attached } else { InterfaceState::Failed };
        self.error = (!attached).then(|| "our program was detached by somebody else".to_owned());
    }

    /// Attached, or nothing that could be.
    #[must_use]
    pub const fn is_in_order(&self) -> bool {
        matches!(self.state, InterfaceState::Attached | InterfaceState::Unsupported)
    }

    /// The chain of a hook, where it can be told.
    #[must_use]
    pub const fn chain(&self, hook: TcHook) -> Option<&Chain> {
        match hook {
            TcHook::Ingress => self.ingress.as_ref(),
            TcHook::Egress => self.egress.as_ref(),
        }
    }

    /// Nobody runs before our programs.
    #[must_use]
    pub fn is_first(&self) -> bool {
        let first =
            |chain: &Option<Chain>| chain.as_ref().is_none_or(|chain| chain.ahead.is_empty());
        first(&self.ingress) && first(&self.egress)
    }
}

/// State of one namespace's watch.
#[derive(Debug, Default)]
struct NamespaceState {
    view: NamespaceView,
    interfaces: Vec<InterfaceStatus>,
    counts: WatchCounts,
}

/// What the watches count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchCounts {
    /// Interface events were lost and everything was read again.
    pub resyncs: u64,
    /// Our program was put in front of another one again.
    pub fronted: u64,
    /// Pins of vanished devices and filters of earlier agents that were removed.
    pub swept: u64,
    /// Links that could not be pinned.
    pub unpinned: u64,
}

/// What the watches publish and the rest of the agent reads.
pub(crate) struct Shared {
    namespaces: Mutex<Vec<NamespaceState>>,
    local: ArcSwap<LocalAddresses>,
    hooks: AtomicU32,
    /// Hooks that an earlier agent had: they stay attached until ours have all taken their place.
    hooks_before: AtomicU32,
    settings: Arc<SettingsMap>,
}

impl Shared {
    pub(crate) fn new(namespaces: usize, settings: Arc<SettingsMap>) -> Self {
        let hooks_before = AtomicU32::new(settings.current().hooks);
        Self {
            namespaces: Mutex::new((0..namespaces).map(|_| NamespaceState::default()).collect()),
            local: ArcSwap::default(),
            hooks: AtomicU32::new(0),
            hooks_before,
            settings,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.current()
    }

    pub(crate) fn set_enforcement(&self, on: bool) -> Result<(), MapError> {
        self.settings
            .update(|settings| settings.enforcement_off = u32::from(!on))
            .map_err(MapError::IoError)
    }

    pub(crate) fn local(&self) -> Arc<LocalAddresses> {
        self.local.load_full()
    }

    pub(crate) fn interfaces(&self) -> Vec<InterfaceStatus> {
        let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.iter().flat_map(|state| state.interfaces.iter().cloned()).collect()
    }

    /// What the watches count, together.
    pub(crate) fn counts(&self) -> WatchCounts {
        let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.iter().map(|state| state.counts).fold(WatchCounts::default(), |sum, one| {
            WatchCounts {
                resyncs: sum.resyncs + one.resyncs,
                fronted: sum.fronted + one.fronted,
                swept: sum.swept + one.swept,
                unpinned: sum.unpinned + one.unpinned,
            }
        })
    }

    pub(crate) fn publish(
        &self,
        index: usize,
        view: NamespaceView,
        interfaces: Vec<InterfaceStatus>,
        counts: WatchCounts,
    ) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = namespaces.get_mut(index) {
            *state = NamespaceState { view, interfaces, counts };
        }
        // The same content keeps the same Arc, so that readers can tell a change by its address.
        let local = view::merge(namespaces.iter().map(|state| &state.view));
        if local != **self.local.load() {
            self.local.store(Arc::new(local));
        }
    }

    pub(crate) fn hooks_add(&self, count: u32) {
        self.hooks_write(self.hooks.fetch_add(count, Ordering::SeqCst).saturating_add(count));
    }

    pub(crate) fn hooks_sub(&self, count: u32) {
        self.hooks_write(self.hooks.fetch_sub(count, Ordering::SeqCst).saturating_sub(count));
    }

    /// All namespaces are attached: what an earlier agent had counts no more.
    pub(crate) fn hooks_taken_over(&self) {
        self.hooks_before.store(0, Ordering::SeqCst);
        self.hooks_write(self.hooks.load(Ordering::SeqCst));
    }

    /// Nobody will read the ring: nothing more is to be written to it.
    pub(crate) fn rest(&self) {
        if let Err(error) = self.settings.update(|settings| settings.sample_threshold = 0) {
            tracing::warn!(%error, "sampling could not be stopped");
        }
    }

    fn hooks_write(&self, hooks: u32) {
        let hooks = hooks.max(self.hooks_before.load(Ordering::SeqCst));
        if let Err(error) = self.settings.update(|settings| settings.hooks = hooks) {
            tracing::warn!(%error, "the number of hooks could not be written");
        }
    }
}
