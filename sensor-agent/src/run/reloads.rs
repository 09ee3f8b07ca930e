//! The reload thread: looks at the catalogue folder and the policy file every second, and at once on SIGHUP.

use std::{
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use sensor_core::event::{PolicyChange, RuleHit};
use sensor_core::time::UnixNs;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    health::Health,
    live::{lock, wall_clock},
    status::Shared,
};
use crate::{
    audit::Action,
    commands::Prerequisite,
    config::{CatalogueFolder, FolderError, Loaded, PinsFile},
    control::CatalogueStatus,
    kernel,
    telemetry::events::{self, Emit as _},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Facts of the host and hits are looked at in every so many rounds.
const HOST_EVERY: u32 = 5;
/// Rounds between two recounts of open connections: 30 s.
const RECOUNT_EVERY: u32 = 30;

/// The thread; dropping it stops it.
#[derive(Debug)]
pub(super) struct Reloads {
    now: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reloads {
    /// Puts the first catalogue and policy in force, then keeps looking.
    pub(super) fn start(
        catalogue: Option<CatalogueFolder>,
        loaded: Option<Loaded>,
        templates: Option<PinsFile>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let (now, asked) = sync_channel(1);
        let health = Health::new(shared.facts.health.clone());
        let mut watch = Watch { catalogue, templates, shared, hits_told: Vec::new(), health };
        if let Some(loaded) = loaded {
            watch.use_catalogue(loaded);
        }
        watch.shared.mark_trusted();
        watch.policy(When::First);
        let thread = std::thread::Builder::new()
            .name("sensor-reload".into())
            .spawn(move || watch.run(&asked))?;
        Ok(Self { now: Some(now), thread: Some(thread) })
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP reloads at once.
    pub(super) async fn until_stopped(&self) -> Result<()> {
        let mut term = signal(SignalKind::terminate()).context("handle SIGTERM")?;
        let mut int = signal(SignalKind::interrupt()).context("handle SIGINT")?;
        let mut hup = signal(SignalKind::hangup()).context("handle SIGHUP")?;
        loop {
            tokio::select! {
                _ = term.recv() => return Ok(()),
                _ = int.recv() => return Ok(()),
                _ = hup.recv() => {
                    if let Some(now) = &self.now {
                        let _asked_already = now.try_send(()).is_err();
                    }
                }
            }
        }
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        self.now = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The first read of the catalogue: a folder that is not there is a mistake of the command line.
pub(super) fn first_catalogue(folder: &mut CatalogueFolder) -> Result<Loaded> {
    folder.load().map_err(|error: FolderError| Prerequisite::new(error.to_string()).into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    First,
    Asked,
    Changed,
    Host,
}

struct Watch {
    catalogue: Option<CatalogueFolder>,
    templates: Option<PinsFile>,
    shared: Arc<Shared>,
    hits_told: Vec<(String, u64)>,
    health: Health,
}

impl Watch {
    fn run(mut self, asked: &Receiver<()>) {
        let mut rounds: u32 = 0;
        loop {
            let when = match asked.recv_timeout(LOOK_EVERY) {
                Ok(()) => When::Asked,
                Err(RecvTimeoutError::Timeout) => When::Changed,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            rounds = rounds.wrapping_add(1);
            self.look_at_catalogue(when);
            self.shared.look_at_overlay();
            self.look_at_templates(when);
            self.ends();
            self.shared.look_at_drops();
            self.shared.mark_shared();
            self.policy(when);
            if rounds.is_multiple_of(RECOUNT_EVERY) {
                let _next_time = self.shared.facts.kernel.recount_clients(kernel::now()).is_err();
            }
            if rounds.is_multiple_of(HOST_EVERY) {
                self.shared.mark_trusted();
                let _next_time = self.shared.facts.kernel.sweep_verdicts(kernel::now()).is_err();
                self.policy(When::Host);
                self.tell_hits();
            }
        }
    }

    fn look_at_catalogue(&mut self, when: When) {
        let Some(folder) =
            self.catalogue.as_mut().filter(|folder| when == When::Asked || folder.changed())
        else {
            return;
        };
        match folder.load() {
            Ok(loaded) => self.use_catalogue(loaded),
            Err(error) => {
                let error = format!("{error}; the catalogue read before stays");
                events::DocumentRefused { error: &error }.emit();
                let mut reloaded =
                    self.shared.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(status) = &mut reloaded.catalogue {
                    status.errors = vec![error];
                }
            }
        }
    }

    fn look_at_templates(&mut self, when: When) {
        let Some(file) =
            self.templates.as_mut().filter(|file| when == When::Asked || file.changed())
        else {
            return;
        };
        match file.load() {
            Ok(pins) => {
                events::TemplatesLoaded { file: file.path(), templates: pins.len() }.emit();
                lock(&self.shared.facts.live).pipeline.inventory_mut().set_pins(Arc::new(pins));
            }
            Err(error) => events::TemplatesRefused { error: &error }.emit(),
        }
    }

    fn use_catalogue(&mut self, loaded: Loaded) {
        let Some(folder) = &self.catalogue else { return };
        let errors: Vec<String> =
            loaded.errors.iter().map(ToString::to_string).chain(loaded.notes).collect();
        for error in &errors {
            events::DocumentRefused { error }.emit();
        }
        for binding in loaded.catalogue.bindings() {
            events::DocumentBound { binding }.emit();
        }
        let (documents, operations) =
            (loaded.catalogue.documents().len(), loaded.catalogue.operations().len());
        events::CatalogueLoaded { folder: folder.path(), documents, operations }.emit();
        let status = CatalogueStatus {
            folder: folder.path().display().to_string(),
            documents: documents as u64,
            operations: operations as u64,
            loaded_unix_ns: wall_clock().0,
            errors,
        };
        lock(&self.shared.facts.live).pipeline.set_catalogue(Arc::new(loaded.catalogue));
        self.shared.reloaded.lock().unwrap_or_else(PoisonError::into_inner).catalogue =
            Some(status);
    }

    fn policy(&mut self, when: When) {
        let shared = &self.shared;
        let mut policy = shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let host = shared.host();
        if when == When::First {
            // With no policy of its own as well: an earlier run's trial must not go on.
            if policy.take_lost_provisional(&host) {
                shared.note_lost_provisional(&policy);
            }
            if shared.has_rules_left() && shared.take_out_left(&mut policy, &host) {
                return;
            }
        }
        match when {
            When::First | When::Asked | When::Changed => {
                // While a policy is on trial its successor waits: a changed file is looked at when the trial is over.
                let wanted = match when {
                    When::Changed => policy.changed(),
                    _ => policy.is_wanted() && policy.trial().is_none(),
                };
                if !wanted {
                    return;
                }
                let before = policy.version();
                let again = policy.is_only_tried_again();
                let mut outcome = policy.reload(&host);
                if let Err(error) = &mut outcome
                    && policy.status().generation == 0
                    && shared.has_rules_left()
                {
                    *error = policy.left_in_force(error);
                }
                // Tried again by itself and refused as before: told already.
                if !again || outcome.is_ok() {
                    shared.note_file(&policy, before, &outcome);
                }
            }
            When::Host => {
                let Some(facts) = policy.look_at(&host) else { return };
                if !policy.host_changed(&facts) {
                    return;
                }
                let told = policy.status().error.clone();
                if let Err(error) = policy.recompile(facts, &shared.facts.kernel)
                    && told.is_none()
                {
                    shared.tell_policy(PolicyChange::Refused { error }, policy.status());
                }
            }
        }
        shared.show(&policy);
    }

    /// Ends what is provisional and was not confirmed, and takes out added rules whose time is over.
    fn ends(&mut self) {
        let shared = Arc::clone(&self.shared);
        let trial = shared.policy.lock().unwrap_or_else(PoisonError::into_inner).trial();
        let interfaces = shared.facts.kernel.interfaces();
        // The check asks over the network: nobody waits for it.
        let why = match trial {
            None => {
                self.health.rest(&interfaces);
                None
            }
            Some(until) if kernel::now() >= until => Some("not confirmed in time".to_owned()),
            Some(until) => self.health.failed(until, &interfaces),
        };
        let mut policy = shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let host = shared.host();
        // Confirmed or taken back meanwhile, it is not the trial that the check was asked for.
        if let Some(why) = why.filter(|_| policy.trial() == trial) {
            let before = policy.version();
            let outcome = policy.revert(&host);
            shared.note_agent(Action::Revert, &why, &policy, before, &outcome);
            shared.show(&policy);
        }
        let before = policy.version();
        if let Some(outcome) = policy.sweep(wall_clock(), &host) {
            shared.note_agent(Action::Expire, "their time is over", &policy, before, &outcome);
            shared.show(&policy);
        }
    }

    /// Tells the rules that were hit since they were told last.
    fn tell_hits(&mut self) {
        let (rules, lists, status) = {
            let policy = self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(rules) = self.shared.rules_now(&policy) else { return };
            let lists = policy.lists(&rules);
            (rules, lists, policy.status().clone())
        };
        let total =
            |rule: &crate::control::RuleStatus| rule.packets.saturating_add(rule.would_packets);
        let before = |id: &str| {
            self.hits_told.iter().find(|(told, _)| told == id).map_or(0, |(_, count)| *count)
        };
        let hits: Vec<_> = rules
            .iter()
            .filter(|rule| total(rule) != before(&rule.id))
            .map(|rule| RuleHit {
                rule: rule.id.clone(),
                packets: total(rule),
                bytes: rule.bytes.saturating_add(rule.would_bytes),
                last: UnixNs(rule.last_unix_ns),
            })
            .collect();
        self.hits_told = rules.iter().map(|rule| (rule.id.clone(), total(rule))).collect();
        if !hits.is_empty() {
            self.shared.tell_policy(PolicyChange::Hits(hits), &status);
        }
        let mut reloaded = self.shared.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        (reloaded.rules, reloaded.lists) = (rules, lists);
    }
}
