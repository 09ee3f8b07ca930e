//! The status and the inventory for who asks: the control socket and the metrics.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, atomic::Ordering},
};

use ipnet::IpNet;
use sensor_core::{
    inventory::{CatalogueCoverageView, HistoryView, InventoryView, RowFilter, Summary},
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::counter::Counter;

use super::{
    denied::Denied,
    drops::Look,
    live::{Live, lock, wall_clock},
    ready::Ready,
};
use crate::{
    audit::AuditLog,
    config::{HealthCheck, Hook, Mode},
    control::{
        Answer, AuditStatus, CatalogueStatus, ChainStatus, Change, EndpointsStatus,
        EnforcementStatus, InterfaceView, ListStatus, POLICY_SCHEMA, Peer, PolicyStatus,
        PolicyText, PolicyView, ProgramMissing, Question, Responder, RingStatus, RuleStatus,
        STATUS_SCHEMA, StatusView,
    },
    drops::Guard,
    kernel::{self, Chain, HookKind, InterfaceState, InterfaceStatus, Kernel},
    overlay::Book,
    reload::{PolicyFile, Switched},
    sink::{Gauge, Identity},
    source::ring_buffer::RingCounts,
    telemetry::{Own, http::Source},
};

fn endpoints(summary: Summary) -> EndpointsStatus {
    EndpointsStatus {
        by_state: summary.states().map(|(state, count)| (state.to_string(), count)).collect(),
        by_exposure: summary
            .exposures()
            .map(|(class, count)| (class.as_str().to_owned(), count))
            .collect(),
        unowned: summary.unowned,
        names_together: summary.names_together,
    }
}

/// What a status is made from.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) live: Arc<Mutex<Live>>,
    pub(super) kernel: Arc<Kernel>,
    pub(super) ring: Arc<RingCounts>,
    pub(super) sinks: Gauge,
    pub(super) identity: Identity,
    pub(super) mode: Mode,
    pub(super) hook: Hook,
    pub(super) ring_bytes: u32,
    pub(super) started: UnixNs,
    pub(super) upstreams: Vec<SocketAddr>,
    /// What no policy can drop.
    pub(super) protected: Vec<ipnet::IpNet>,
    pub(super) health: Option<HealthCheck>,
    /// Why links and maps are not pinned where they should be.
    pub(super) not_pinned: Option<String>,
    pub(super) trusted_proxies: Vec<IpNet>,
    /// The switch of enforcement, as the store has it.
    pub(super) switched: Switched,
}

/// What the reload thread tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Reloaded {
    pub(super) policy: Option<PolicyStatus>,
    pub(super) rules: Vec<RuleStatus>,
    pub(super) lists: Vec<ListStatus>,
    pub(super) catalogue: Option<CatalogueStatus>,
}

/// Shared by socket, metrics and reloads. Where two locks are held, the order is `policy`, `look`, `audit`, then the others. The first
/// three may be held for long (a list of a million entries, a slow disk): the status and the switch of enforcement take none of them.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) facts: Facts,
    pub(super) reloaded: Mutex<Reloaded>,
    /// What is in force; changed by the reload thread and by commands.
    pub(super) policy: Mutex<PolicyFile>,
    pub(super) audit: Mutex<AuditLog>,
    pub(super) look: Mutex<Look>,
    /// The audit log as of the last entry: who asks does not wait for the disk.
    pub(super) audited: Mutex<AuditStatus>,
    pub(super) denied: Mutex<Denied>,
    /// What operators say of endpoints; nothing else is locked before it, and only the pipeline inside.
    pub(super) overlay: Mutex<Book>,
    ready: Mutex<Ready>,
}

impl Shared {
    pub(super) fn new(
        facts: Facts,
        policy: PolicyFile,
        audit: AuditLog,
        guard: Guard,
        overlay: Book,
    ) -> Self {
        Self {
            facts,
            look: Mutex::new(Look::new(guard)),
            reloaded: Mutex::default(),
            policy: Mutex::new(policy),
            audited: Mutex::new(AuditStatus::of(&audit)),
            audit: Mutex::new(audit),
            denied: Mutex::default(),
            overlay: Mutex::new(overlay),
            ready: Mutex::default(),
        }
    }

    fn view(&self) -> InventoryView {
        let mut live = lock(&self.facts.live);
        let now = kernel::now();
        live.refresh(now);
        let now = live.pipeline.unix(now);
        live.pipeline.view(now, &RowFilter::default())
    }

    fn history(&self, id: Option<&str>) -> HistoryView {
        let mut live = lock(&self.facts.live);
        let now = kernel::now();
        live.refresh(now);
        live.look(now);
        let now = live.pipeline.unix(now);
        live.history.view(now, id)
    }

    fn catalogue_coverage(&self) -> CatalogueCoverageView {
        let mut live = lock(&self.facts.live);
        let now = kernel::now();
        live.refresh(now);
        let now = live.pipeline.unix(now);
        live.pipeline.catalogue_coverage(now)
    }

    fn make_status(&self) -> StatusView {
        let facts = &self.facts;
        let now = kernel::now();
        let (beat, counts, store, endpoints) = {
            let mut live = lock(&facts.live);
            live.refresh(now);
            let store = live.keeper().map(crate::store::Keeper::status).unwrap_or_default();
            let endpoints = endpoints(live.pipeline.inventory().summary());
            (live.beat, live.pipeline.ledger(), store, endpoints)
        };
        let mut ledger: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for count in counts {
            ledger.entry(count.stage.into()).or_default().insert(count.name.into(), count.value);
        }
        let agent = ledger.entry("agent".into()).or_default();
        agent.extend(Own::ALL.iter().map(|own| (own.name().to_owned(), own.value())));
        let packets = ledger
            .get("kernel")
            .and_then(|kernel| kernel.get(Counter::Sightings.name()))
            .copied()
            .unwrap_or(0);
        let interfaces = facts.kernel.interfaces();
        let mut not_ready = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.reasons(now, beat, packets, &interfaces)
        };
        let reloaded = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(policy) = reloaded.policy.as_ref().filter(|policy| policy.generation == 0) {
            not_ready.push(format!(
                "no policy of this run is in force: {}",
                policy.error.as_deref().unwrap_or("not read yet")
            ));
        }
        let (rules, lists) = self.rule_status(reloaded.rules, reloaded.lists);
        StatusView {
            schema: STATUS_SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_unix_ns: facts.started.0,
            time_unix_ns: wall_clock().0,
            sensor_id: facts.identity.sensor_id.clone(),
            boot_id: facts.identity.boot_id.clone(),
            ready: not_ready.is_empty(),
            not_ready,
            mode: facts.mode.as_str().into(),
            hook: match facts.hook {
                Hook::Tc => "tc".into(),
                Hook::Socket => "socket".into(),
            },
            interfaces: interfaces.iter().map(interface).collect(),
            enforcement: self.enforcement(),
            programs_missing: facts
                .kernel
                .degraded()
                .iter()
                .map(|one| ProgramMissing {
                    program: one.program.into(),
                    reason: one.reason.clone(),
                })
                .collect(),
            packets,
            sample_weight: facts.ring.sample_weight.load(Ordering::Relaxed),
            ledger,
            ring: self.ring(),
            sinks: facts.sinks.status(),
            store,
            rules,
            lists,
            clients: facts.kernel.client_counts(),
            policy: reloaded.policy,
            catalogue: reloaded.catalogue,
            audit: self.audit_status(),
            endpoints,
        }
    }

    fn enforcement(&self) -> EnforcementStatus {
        let kernel = &self.facts.kernel;
        let (takeover, settings, counts) = (kernel.takeover(), kernel.settings(), kernel.counts());
        let room = kernel::memory_room();
        EnforcementStatus {
            switched_off: settings.enforcement_off != 0,
            pinned: takeover.folder.is_some(),
            not_pinned: self.facts.not_pinned.clone(),
            folder: takeover.folder.map(|folder| folder.display().to_string()),
            layout: takeover.layout,
            taken_over: takeover.adopted,
            other_layouts: takeover.others,
            stale_open_after_ms: settings.stale_open_after_ns / 1_000_000,
            memory_left_bytes: room.map(|room| room.bytes),
            memory_left_by: room.map(|room| room.by.into()),
            links_not_pinned: counts.unpinned,
            put_in_front: counts.fronted,
            swept: counts.swept,
        }
    }

    fn policy_view(&self) -> PolicyView {
        let reloaded = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (rules, lists) = self.rule_status(reloaded.rules, reloaded.lists);
        PolicyView {
            schema: POLICY_SCHEMA.into(),
            time_unix_ns: wall_clock().0,
            mode: self.facts.mode.as_str().into(),
            policy: reloaded.policy,
            rules,
            lists,
            shared_sources: self.shared_sources(),
        }
    }

    fn policy_text(&self) -> Option<PolicyText> {
        let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        policy.export()
    }

    fn ring(&self) -> RingStatus {
        let counts = &self.facts.ring;
        RingStatus {
            bytes: self.facts.ring_bytes.into(),
            fill_bytes_max: counts.fill_bytes_max.load(Ordering::Relaxed),
            records: counts.records.load(Ordering::Relaxed),
            rounds: counts.rounds.load(Ordering::Relaxed),
            sampling_down: counts.sampling_down.load(Ordering::Relaxed),
            sampling_up: counts.sampling_up.load(Ordering::Relaxed),
        }
    }

    /// Hits as of now; as they were told last when the kernel does not give them, or while the policy is being changed: whoever asks for
    /// the status must not wait for a long list.
    fn rule_status(
        &self,
        told: Vec<RuleStatus>,
        told_lists: Vec<ListStatus>,
    ) -> (Vec<RuleStatus>, Vec<ListStatus>) {
        let Some(policy) = self.policy_at_once() else { return (told, told_lists) };
        let rules = self.rules_now(&policy).unwrap_or(told);
        let lists = policy.lists(&rules);
        (rules, lists)
    }

    /// The policy, unless it is being changed just now.
    pub(super) fn policy_at_once(&self) -> Option<MutexGuard<'_, PolicyFile>> {
        match self.policy.try_lock() {
            Ok(policy) => Some(policy),
            Err(TryLockError::Poisoned(policy)) => Some(policy.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Rules in force with what the kernel counted of them, and the agent.
    pub(super) fn rules_now(&self, policy: &PolicyFile) -> Option<Vec<RuleStatus>> {
        let hits = self.facts.kernel.rule_hits().ok()?;
        let mut rules = policy.rules(&hits, to_unix);
        let mut live = lock(&self.facts.live);
        let limits = live.pipeline.request_limits_mut();
        for rule in &mut rules {
            let Some(hits) = limits.hits(&rule.id) else { continue };
            rule.requests_over = hits.over;
            rule.requests_would = hits.would;
            // A request is a packet at least.
            rule.would_packets = rule.would_packets.saturating_add(hits.would);
            rule.last_unix_ns = rule.last_unix_ns.max(hits.last.0);
        }
        Some(rules)
    }

    /// Whether rules of an earlier agent are in force that this one knows nothing of.
    pub(super) fn has_rules_left(&self) -> bool {
        let kernel = &self.facts.kernel;
        let left = kernel.takeover();
        let adopted = left.adopted && kernel.settings().policy != 0;
        self.facts.mode == Mode::Enforce && (adopted || !left.others.is_empty())
    }
}

/// Wall-clock time of a kernel time.
pub(super) fn to_unix(at: MonoNs) -> UnixNs {
    UnixNs(wall_clock().0.saturating_sub(kernel::now().since(at)))
}

/// Views walk maps and tables: not on a worker of the runtime.
async fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    make: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(move || make(&shared)).await.ok()
}

/// One handle for both servers.
#[derive(Clone, Debug)]
pub(super) struct Asked(pub(super) Arc<Shared>);

impl Responder for Asked {
    async fn respond(&self, question: Question) -> Answer {
        let shared = Arc::clone(&self.0);
        let made = match question {
            Question::Status => {
                blocking(shared, |shared| serde_json::to_value(shared.make_status())).await
            }
            Question::Inventory => {
                blocking(shared, |shared| serde_json::to_value(shared.view())).await
            }
            Question::History { id } => {
                blocking(shared, move |shared| serde_json::to_value(shared.history(id.as_deref())))
                    .await
            }
            Question::CatalogueCoverage => {
                blocking(shared, |shared| serde_json::to_value(shared.catalogue_coverage())).await
            }
            Question::Policy => {
                blocking(shared, |shared| serde_json::to_value(shared.policy_view())).await
            }
            Question::PolicyExport => {
                let text = blocking(shared, Shared::policy_text).await;
                match text {
                    Some(None) => return Answer::Error("no policy is in force".into()),
                    text => text.map(serde_json::to_value),
                }
            }
            Question::Drops { after } => {
                blocking(shared, move |shared| serde_json::to_value(shared.drops_view(after))).await
            }
            Question::PolicyExplain(query) => {
                let told = blocking(shared, move |shared| shared.explain(&query)).await;
                match told {
                    Some(Err(error)) => return Answer::Error(error),
                    told => told.and_then(Result::ok).map(serde_json::to_value),
                }
            }
        };
        match made {
            Some(Ok(value)) => Answer::Ok(value),
            Some(Err(error)) => Answer::Error(error.to_string()),
            None => Answer::Error("the agent is stopping".into()),
        }
    }

    async fn denied(&self, change: Change, peer: Peer) {
        let shared = Arc::clone(&self.0);
        let _stopping = blocking(shared, move |shared| shared.note_denied(&change, peer)).await;
    }

    async fn change(&self, change: Change, body: Vec<u8>, peer: Peer) -> Answer {
        let made =
            blocking(Arc::clone(&self.0), move |shared| shared.change(&change, body, peer)).await;
        match made {
            Some(Ok(view)) => serde_json::to_value(view)
                .map_or_else(|error| Answer::Error(error.to_string()), Answer::Ok),
            Some(Err(error)) => Answer::Error(error),
            None => Answer::Error("the agent is stopping".into()),
        }
    }
}

impl Source for Asked {
    async fn status(&self) -> Option<StatusView> {
        blocking(Arc::clone(&self.0), Shared::make_status).await
    }
}

fn interface(one: &InterfaceStatus) -> InterfaceView {
    let hook = one.hook.map(|hook| match hook {
        HookKind::Auto => "tc",
        HookKind::Tcx => "tcx",
        HookKind::Clsact => "clsact",
        HookKind::Socket => "socket",
    });
    let state = match one.state {
        InterfaceState::Attached => "attached",
        InterfaceState::Unsupported => "unsupported",
        InterfaceState::Failed => "failed",
        InterfaceState::Missing => "missing",
    };
    InterfaceView {
        namespace: one.namespace.clone(),
        ifindex: one.ifindex,
        name: one.name.clone(),
        hook: hook.map(str::to_owned),
        state: state.into(),
        error: one.error.clone(),
        ingress: one.ingress.as_ref().map(chain),
        egress: one.egress.as_ref().map(chain),
    }
}

fn chain(chain: &Chain) -> ChainStatus {
    ChainStatus {
        attached: chain.attached,
        ahead: chain.ahead.clone(),
        behind: chain.behind.clone(),
    }
}
