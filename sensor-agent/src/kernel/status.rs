//! What is attached where, as the agent shows it, and the state that the watches share.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwap;
use sensor_core::locality::LocalAddresses;
use serde::Serialize;

use super::{
    attach::{Chain, HookKind},
    netlink::record::Link,
    select::Namespace,
    settings::SettingsMap,
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
    resyncs: u64,
}

/// What the watches publish and the rest of the agent reads.
pub(crate) struct Shared {
    namespaces: Mutex<Vec<NamespaceState>>,
    local: ArcSwap<LocalAddresses>,
    hooks: AtomicU32,
    settings: Arc<SettingsMap>,
}

impl Shared {
    pub(crate) fn new(namespaces: usize, settings: Arc<SettingsMap>) -> Self {
        Self {
            namespaces: Mutex::new((0..namespaces).map(|_| NamespaceState::default()).collect()),
            local: ArcSwap::default(),
            hooks: AtomicU32::new(0),
            settings,
        }
    }

    pub(crate) fn local(&self) -> Arc<LocalAddresses> {
        self.local.load_full()
    }

    pub(crate) fn interfaces(&self) -> Vec<InterfaceStatus> {
        let namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.iter().flat_map(|state| state.interfaces.iter().cloned()).collect()
    }

    /// How often events were lost and everything was read again.
    pub(crate) fn resyncs(&self) -> u64 {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|state| state.resyncs)
            .sum()
    }

    pub(crate) fn publish(
        &self,
        index: usize,
        view: NamespaceView,
        interfaces: Vec<InterfaceStatus>,
        resyncs: u64,
    ) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = namespaces.get_mut(index) {
            *state = NamespaceState { view, interfaces, resyncs };
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

    fn hooks_write(&self, hooks: u32) {
        if let Err(error) = self.settings.update(|settings| settings.hooks = hooks) {
            tracing::warn!(%error, "the number of hooks could not be written");
        }
    }
}
