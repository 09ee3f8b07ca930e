//! What is in force: layers to a policy, a policy to the kernel's maps.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use sensor_core::{
    policy::{
        self, Demands, FailsafeRule, HostChange, HostFacts, Lists, Policy, ReasonPattern,
        RequestRules, hazards,
        image::{Compiled, Numbers, PolicyImage},
    },
    time::{MonoNs, UnixNs},
};

use super::{
    again::Again,
    changes::{Changed, Provisional},
    fingerprint,
    host::Host,
    kept::{Keep, Kept, KeptApplied, KeptRule},
    layers::{self, Added, Base, Layers, Origin},
    pace::{Pace, Urgency},
    spared::Spared,
    troubles::Troubles,
    waiting,
};
use crate::{
    audit::Hash,
    config::{Connected, ListFiles, NoRoom, PolicyFileError, Watched, read_watched_policy},
    control::PolicyStatus,
    kernel::{self, Install, Kernel},
    telemetry::events::{self, Emit as _},
};

/// The policy of a running agent: its file, what commands changed, and what of both is in force.
#[derive(Debug)]
pub struct PolicyFile {
    pub(super) path: Option<PathBuf>,
    seen: u64,
    /// What the configuration demands of every reason.
    pub(super) reason: Option<ReasonPattern>,
    pub(super) keep: Keep,
    pub(super) kept: Kept,
    pub(super) layers: Layers,
    pub(super) in_force: Option<InForce>,
    pub(super) provisional: Option<Provisional>,
    /// Numbers of hits and limit states: a rule keeps its own from policy to policy, and from agent to agent. `None` before the first.
    numbers: Option<Numbers>,
    /// What commands changed in earlier runs and cannot be read now, in words.
    unread: Option<String>,
    /// Those in force are watched, and those of a file that was refused: mended, it is read again.
    pub(super) lists: ListFiles,
    refused_lists: Watched,
    again: Again,
    pace: Pace,
    troubles: Troubles,
    /// The ssh peer of who makes a change.
    pub(super) caller: Option<IpAddr>,
    /// What was tried last failed for a reason of the moment.
    for_the_moment: bool,
    /// Entries of what was tried last.
    tried: u64,
    pub(super) status: PolicyStatus,
    /// When the policy in force became another one.
    pub(super) installed: MonoNs,
}

#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) policy: Arc<Policy>,
    pub(super) compiled: Compiled,
    facts: HostFacts,
    pub(super) requests: Arc<RequestRules>,
    pub(super) spared: Arc<Spared>,
    pub(super) lists: Lists,
}

/// Whether somebody insists on rules that are more likely a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insists {
    /// `--force`.
    Yes,
    /// A command without it.
    No,
    /// A file, in which each rule says it for itself.
    InTheFile,
}

impl Insists {
    /// What a command says.
    pub(super) const fn of(force: bool) -> Self {
        if force { Self::Yes } else { Self::No }
    }
}

impl PolicyFile {
    /// Names the file and takes what commands changed in earlier runs; nothing is in force yet.
    #[must_use]
    pub fn new(path: Option<&Path>, store: &Path, reason: Option<ReasonPattern>) -> Self {
        let keep = Keep::of(store);
        let (kept, problem) = keep.load();
        let mut layers = Layers { stopped: kept.stopped.clone(), ..Layers::default() };
        let mut problems: Vec<String> = problem.into_iter().collect();
        for rule in &kept.added {
            let KeptRule { text, unix_ns, by, reason, forced } = rule.clone();
            // Its reason was right when it was added: another pattern since then does not end a rule in force.
            let added = Added::read(text, unix_ns, by, reason).and_then(|mut added| {
                added.rule.force |= forced;
                layers.with(added)
            });
            match added {
                Ok(with) => layers = with,
                Err(error) => {
                    problems.push(format!("a rule added earlier is not in force: {error}"));
                }
            }
        }
        for problem in &problems {
            events::PolicyWarning { origin: "store", line: 0, warning: problem }.emit();
        }
        let origin = path.map(|path| path.display().to_string()).unwrap_or_default();
        let status = PolicyStatus { origin, ..PolicyStatus::default() };
        Self {
            path: path.map(Into::into),
            seen: 0,
            reason,
            keep,
            kept,
            layers,
            in_force: None,
            provisional: None,
            numbers: None,
            unread: (!problems.is_empty()).then(|| problems.join("; ")),
            lists: ListFiles::within(kernel::memory_room),
            refused_lists: Watched::default(),
            again: Again::default(),
            pace: Pace::default(),
            troubles: Troubles::default(),
            caller: None,
            for_the_moment: false,
            tried: 0,
            status,
            installed: MonoNs(0),
        }
    }

    /// Whether there is anything to put in force.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.path.is_some()
            || self.kept.applied.is_some()
            || !self.layers.added.is_empty()
            || self.in_force.is_some()
    }

    /// Without a file: why what is wanted is not known, when commands changed it and that cannot be read. Then what an earlier run left in
    /// the kernel is better than nothing; the error is told and kept.
    pub fn not_known(&mut self) -> Option<String> {
        let error = self.unread.clone().filter(|_| self.path.is_none())?;
        events::PolicyRefused { origin: &self.status.origin, error: &error }.emit();
        Some(self.left_in_force(&error))
    }

    /// Says beside an error, and keeps, that what an earlier run left is in force; gives the whole.
    pub fn left_in_force(&mut self, error: &str) -> String {
        let error = format!("{error}; the rules that an earlier run left stay in force");
        self.status.error = Some(error.clone());
        error
    }

    /// Whether the file or a list changed since the last read. While a policy is provisional its successor waits.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.provisional.is_none() && (self.files_changed() || self.is_due_again())
    }

    /// What the host is now; `None` where nothing would be made of it, whatever it is. The table of connections may be long: it is read only
    /// where who is connected matters now.
    #[must_use]
    pub fn look_at(&self, host: &Host<'_>) -> Option<HostFacts> {
        let InForce { policy, facts: before, .. } =
            self.in_force.as_ref().filter(|_| self.provisional.is_none())?;
        let now = kernel::now();
        if policy.rules.is_empty() || !self.pace.allows(now, Urgency::Soon) {
            return None;
        }
        if policy.failsafe.learns() && self.pace.allows(now, Urgency::AtLeisure) {
            return Some(host.facts(&self.known_peers(), &policy.failsafe.ssh_ports));
        }
        Some(host.facts_with(Connected {
            ssh: before.ssh_peers.clone(),
            kubelet: before.kubelet_peers.clone(),
            ssh_left_out: before.ssh_left_out,
            kubelet_left_out: before.kubelet_left_out,
        }))
    }

    /// Whether the host changed so that the same policy compiles to something else (an interface came that a rule names, a rule expired, a
    /// peer of ssh connected), and whether it is time to look after that: outsiders connect as often as they like.
    #[must_use]
    pub fn host_changed(&self, facts: &HostFacts) -> bool {
        let Some(in_force) = self.in_force.as_ref().filter(|_| self.provisional.is_none()) else {
            return false;
        };
        match in_force.policy.change_between(&in_force.facts, facts) {
            // As it was when the policy was compiled, though something else was tried meanwhile.
            HostChange::None if self.troubles.of_the_host() => {
                self.pace.allows(facts.boot, Urgency::Soon)
            }
            HostChange::None => false,
            HostChange::Host => self.pace.allows(facts.boot, Urgency::Soon),
            HostChange::Peers => self.pace.allows(facts.boot, Urgency::AtLeisure),
        }
    }

    /// Refuses rules that are more likely a mistake than meant, unless somebody insists: then the layers say so, and the ids are told.
    /// What is in force already as it is was accepted before, and so was what was in force when the agent before this one ended.
    /// With the layers come their lists, read once for all that follows.
    pub(super) fn not_hazardous(
        &mut self,
        layers: Layers,
        host: &Host<'_>,
        insists: Insists,
    ) -> Result<(Layers, Lists, Vec<String>), String> {
        let policy = layers.merged()?;
        let lists = self.lists.load(&policy).map_err(|error| {
            self.for_the_moment = error.is_for_the_moment();
            error.to_string()
        })?;
        let facts = host.facts(&self.known_peers(), &policy.failsafe.ssh_ports);
        let unread = policy::unreadable(&policy, &host.listeners());
        for (line, warning) in &unread.warnings {
            events::PolicyWarning { origin: &self.status.origin, line: *line, warning }.emit();
        }
        let found: Vec<_> = policy::hazards(&policy, &lists, &facts)
            .into_iter()
            .chain(unread.hazards)
            .filter(|hazard| {
                let rule = policy.rules.get(hazard.rule);
                rule.is_some_and(|rule| !self.is_known(rule, &lists))
            })
            .collect();
        let unchanged =
            self.in_force.is_none() && hash_of(policy.digest_with(&lists)) == self.kept.hash;
        if found.is_empty() || unchanged {
            return Ok((layers, lists, Vec::new()));
        }
        let hint = match insists {
            Insists::Yes => {
                let ids: Vec<String> = found.iter().map(|hazard| hazard.id.to_string()).collect();
                return Ok((layers.forcing(&ids), lists, ids));
            }
            Insists::No => "say --force if it is meant",
            Insists::InTheFile => "write force: true in the rule if it is meant",
        };
        let told = found.iter().map(|hazard| match insists {
            Insists::InTheFile => {
                format!("{}:{}: rule `{}` {}", policy.file, hazard.line, hazard.id, hazard.message)
            }
            _ => format!("rule `{}` {}", hazard.id, hazard.message),
        });
        Err(format!("{}; {hint}", told.collect::<Vec<_>>().join("; ")))
    }

    /// Whether a rule is in force as it is, its lists included.
    fn is_known(&self, rule: &policy::Rule, lists: &Lists) -> bool {
        let Some(InForce { policy, lists: before, .. }) = &self.in_force else { return false };
        let same = |list: &policy::ListRef| {
            let digest = |lists: &Lists| lists.find(list).map(|list| list.about.digest);
            digest(before) == digest(lists)
        };
        let other = policy.rules.iter().find(|other| other.about.id == rule.about.id);
        other.is_some_and(|other| layers::fingerprint(other) == layers::fingerprint(rule))
            && rule.lists.iter().all(same)
    }

    /// What a document is checked against.
    pub(super) fn demands(&self, changed: UnixNs) -> Demands {
        Demands { changed, reasons: self.reason.clone().into_iter().collect() }
    }

    /// Peers that are protected already, whoever changes the policy just now first.
    fn known_peers(&self) -> Vec<IpAddr> {
        let facts = self.in_force.as_ref().map(|in_force| &in_force.facts);
        let protected = facts.map(|facts| [&facts.ssh_peers[..], &facts.kubelet_peers].concat());
        self.caller.into_iter().chain(protected.unwrap_or_default()).collect()
    }

    /// Reads the file and puts it in force; on any mistake the one before stays. The error is told and kept.
    pub fn reload(&mut self, host: &Host<'_>) -> Result<Changed, String> {
        if let Some(path) = &self.path {
            self.seen = fingerprint::of_file(path);
        }
        // Lists that are looked at now have been: one that is refused is told once.
        let in_force = self.lists.watched().clone().as_now();
        self.lists.watch(in_force.clone());
        self.refused_lists = Watched::default();
        (self.for_the_moment, self.tried) = (false, 0);
        let outcome = self.read_base().and_then(|(base, applied)| {
            let (layers, replaced) = match base {
                Some(base) => self.layers.on(base),
                None => (self.layers.clone(), Vec::new()),
            };
            let (layers, lists, _) = self.not_hazardous(layers, host, Insists::InTheFile)?;
            let mut changed = self.put(layers, lists, host)?;
            self.kept.applied = applied;
            changed.notes.extend(replaced.iter().map(|id| {
                format!("rule `{id}` that was added by command is a rule of the file now")
            }));
            self.save(&mut changed);
            Ok(changed)
        });
        if let Err(error) = &outcome {
            self.refused_lists = self.lists.watched().clone();
            self.lists.watch(in_force);
            if self.tried > 0 {
                self.status.wanted = self.tried;
            }
            events::PolicyRefused { origin: &self.status.origin, error }.emit();
            self.status.error = Some(error.clone());
        }
        if self.for_the_moment {
            self.again.after(crate::kernel::now());
        } else {
            self.again.rest();
        }
        outcome
    }

    fn files_changed(&self) -> bool {
        let path = self.path.as_ref();
        path.is_some_and(|path| fingerprint::of_file(path) != self.seen)
            || self.lists.changed()
            || self.refused_lists.changed()
    }

    fn is_due_again(&self) -> bool {
        self.again.is_due(crate::kernel::now())
    }

    /// Whether what was refused for a reason of the moment is tried again with nothing of it changed.
    #[must_use]
    pub fn is_only_tried_again(&self) -> bool {
        self.is_due_again() && !self.files_changed()
    }

    /// Compiles the policy in force for a host that changed.
    pub fn recompile(&mut self, facts: HostFacts, kernel: &Kernel) -> Result<(), String> {
        let Some(in_force) = &self.in_force else { return Ok(()) };
        let (policy, lists) = (Arc::clone(&in_force.policy), in_force.lists.clone());
        let of_the_file = self.troubles.of_the_file(self.status.error.clone());
        let start = facts.boot;
        let outcome = self.apply(policy, lists, facts, kernel, Install::Confirmed);
        self.pace.took(start, kernel::now(), outcome.is_ok());
        self.status.error = self.troubles.recompiled(of_the_file, &outcome);
        outcome
    }

    /// The document below the added rules: the file, or the applied document while the file is the one that it took the place of.
    /// The applied document comes along as long as it is the base.
    fn read_base(&self) -> Result<(Option<Base>, Option<KeptApplied>), String> {
        let file = self.path.as_deref().map(|path| self.read_file(path)).transpose();
        if let Some(applied) = &self.kept.applied {
            let over = match &file {
                Ok(file) => file.as_ref().map(|base| base.sha256.to_string()).unwrap_or_default(),
                Err(_) => applied.over.clone(),
            };
            if over == applied.over {
                let text = self.keep.applied().map_err(|error| {
                    format!("the applied document of {} is gone: {error}", applied.file)
                })?;
                let sha256 = Hash::of(&text);
                if sha256.to_string() != applied.sha256 {
                    return Err(
                        "the applied document in the store is not the one that was applied".into(),
                    );
                }
                // Its reasons were right when it was applied.
                let policy = policy::parse(&applied.file, &text, UnixNs(applied.unix_ns))
                    .map_err(|errors| errors.to_string())?;
                let origin = Origin::Applied { unix_ns: applied.unix_ns, by: applied.by.clone() };
                let base = Base { policy: Arc::new(policy), sha256, origin };
                let (layers, _) = Layers::default().on(base);
                return Ok((layers.forcing(&applied.forced).base, Some(applied.clone())));
            }
        }
        Ok((file?, None))
    }

    /// Puts layers in force; what was in force stays on any mistake.
    pub(super) fn put(
        &mut self,
        layers: Layers,
        lists: Lists,
        host: &Host<'_>,
    ) -> Result<Changed, String> {
        self.install(layers, lists, host, Install::Confirmed, None)
    }

    /// Puts layers in force that name no list that is not in force. No file is read: one that cannot be read any more is in nobody's way.
    pub(super) fn put_known(&mut self, layers: Layers, host: &Host<'_>) -> Result<Changed, String> {
        let policy = layers.merged()?;
        let mut lists = Lists::default();
        for name in policy.rules.iter().flat_map(|rule| &rule.lists) {
            let known = self.in_force.as_ref().and_then(|in_force| in_force.lists.find(name));
            let Some(list) = known else {
                lists =
                    self.asking(|all| all.lists.load(&policy).map_err(|error| error.to_string()))?;
                break;
            };
            lists.insert(name, Arc::clone(list));
        }
        self.put(layers, lists, host)
    }

    /// Makes a change that may fail: then the lists that are watched are those of before.
    pub(super) fn asking<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let watched = self.lists.watched().clone();
        let outcome = change(self);
        if outcome.is_err() {
            self.lists.watch(watched);
        }
        outcome
    }

    /// The same, for good or for a time, with one more thing that no rule may drop.
    pub(super) fn install(
        &mut self,
        layers: Layers,
        lists: Lists,
        host: &Host<'_>,
        install: Install,
        kept_safe: Option<FailsafeRule>,
    ) -> Result<Changed, String> {
        let before = self.version();
        let mut policy = layers.merged()?;
        let nothing = Layers::default().merged()?;
        let earlier = self.in_force.as_ref().map_or(&nothing, |in_force| &in_force.policy);
        let diff = policy::diff(earlier, &policy).iter().map(ToString::to_string).collect();
        if let Some(kept_safe) = kept_safe {
            Arc::make_mut(&mut policy).failsafe.also.push(kept_safe);
        }
        let facts = host.facts(&self.known_peers(), &policy.failsafe.ssh_ports);
        self.apply(policy, lists, facts, host.kernel, install)?;
        self.layers = layers;
        self.status.sha256 = self.layers.sha256().to_string();
        self.status.added = self.layers.added.len() as u64;
        self.status.layer = self.layer().into();
        let after = self.version();
        Ok(Changed { before, after, diff, ..Changed::default() })
    }

    fn apply(
        &mut self,
        policy: Arc<Policy>,
        lists: Lists,
        facts: HostFacts,
        kernel: &Kernel,
        install: Install,
    ) -> Result<(), String> {
        let numbers = self.numbers.get_or_insert_with(|| {
            // The kernel may go on counting under the numbers of an agent before this one.
            let kept = kernel.kept().as_deref().and_then(Numbers::from_bytes).unwrap_or_default();
            kernel.limits_given_before(kept.states_given());
            kept
        });
        // What does not fit is refused before it is made: a process that takes too much is killed.
        self.tried = policy.prefixes(&lists) as u64;
        let mut no_room = false;
        let mut fits = |needed: u64| match kernel::memory_room() {
            Some(room) if room.bytes < needed => {
                no_room = true;
                Err(NoRoom::to_build(needed, room.bytes, room.by).to_string())
            }
            _ => Ok(()),
        };
        let compiled = fits(policy.planning_bytes(&lists)).and_then(|()| {
            policy
                .compile_where(&facts, &lists, numbers, |size| fits(size.bytes_at_most()))
                .map_err(|errors| errors.to_string())
        });
        self.for_the_moment = no_room;
        let mut compiled = compiled?;
        // Before the kernel counts by them: the next agent must never take a number for another rule's.
        if let Err(error) = kernel.keep(&numbers.to_bytes(Kernel::KEPT_BYTES_MAX)) {
            let error = error.to_string();
            tracing::warn!(
                error,
                "numbers of rules are not kept: after a restart hits count from zero"
            );
        }
        kernel.reset_hits(&compiled.fresh).map_err(|error| error.to_string())?;
        compiled.image.set_generation(self.generation_of(&compiled));
        let counts = &compiled.counts;
        self.tried = (counts.block + counts.allow + counts.limit) as u64;
        kernel.publish(&compiled.image, install).map_err(|error| {
            self.for_the_moment = error.is_for_the_moment();
            error.to_string()
        })?;
        waiting::end(&compiled.image, kernel);
        // The kernel has it now; a second copy would be as large as the list.
        compiled.image = PolicyImage::default();
        for (line, warning) in &policy.warnings {
            events::PolicyWarning { origin: &self.status.origin, line: *line, warning }.emit();
        }
        for hazard in hazards(&policy, &lists, &facts) {
            let warning = format!("rule `{}` {}", hazard.id, hazard.message);
            events::PolicyWarning {
                origin: &self.status.origin,
                line: hazard.line,
                warning: &warning,
            }
            .emit();
        }
        if compiled.counts.failsafe_left_out > 0 {
            let warning = format!(
                "{} peers of ssh or kubelet that are connected now are not protected: there is no room for more failsafe entries; name their network in failsafe.ssh.management",
                compiled.counts.failsafe_left_out
            );
            let warned =
                events::PolicyWarning { origin: &self.status.origin, line: 0, warning: &warning };
            warned.emit();
        }
        self.told(&compiled, &facts);
        // What is on trial may be taken back: then the policy before is in force as it was.
        if install == Install::Confirmed {
            self.troubles.made_anew();
        }
        let requests = Arc::new(policy.request_rules(&facts, &lists));
        let spared = Arc::new(Spared::new(&policy, &facts, &lists));
        self.in_force = Some(InForce { policy, compiled, facts, requests, spared, lists });
        Ok(())
    }

    /// The generation that a policy has. A restart with the same policy keeps its own; a new one never gets a number that was in use.
    fn generation_of(&self, compiled: &Compiled) -> u64 {
        let hash = hash_of(compiled.digest);
        if self.status.hash == hash {
            self.status.generation
        } else if self.kept.hash != hash || self.status.generation > 0 {
            self.kept.generation + 1
        } else {
            self.kept.generation
        }
    }

    fn read_file(&self, path: &Path) -> Result<Base, String> {
        let read = read_watched_policy(path).and_then(|(text, changed)| {
            let file = path.display().to_string();
            let policy = policy::parse_with(&file, &text, &self.demands(changed))?;
            let sha256 = Hash::of(&text);
            Ok(Base { policy: Arc::new(policy), sha256, origin: Origin::File })
        });
        read.map_err(|error| match &error {
            PolicyFileError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("{error} (the agent gave up the capability to read other users' files: make it readable for root or everyone)")
            }
            _ => error.to_string(),
        })
    }

    fn told(&mut self, compiled: &Compiled, facts: &HostFacts) {
        let (hash, generation) = (hash_of(compiled.digest), self.generation_of(compiled));
        let counts = &compiled.counts;
        let entries = counts.block + counts.allow + counts.limit;
        let status = &mut self.status;
        if status.hash != hash {
            self.installed = facts.boot;
            self.kept.generation = generation;
            self.kept.hash.clone_from(&hash);
            status.generation = generation;
            status.applied_unix_ns = facts.now.0;
        }
        status.hash = hash;
        status.merged = counts.merged as u64;
        status.kernel_bytes = compiled.bytes;
        status.installed = entries as u64;
        status.wanted = entries as u64;
        status.error = None;
        let event = events::PolicyApplied {
            origin: &status.origin,
            generation: status.generation,
            hash: &status.hash,
            entries,
        };
        event.emit();
    }
}

/// A digest as `status` and the metrics show it.
fn hash_of(digest: u64) -> String {
    format!("{digest:016x}")
}
