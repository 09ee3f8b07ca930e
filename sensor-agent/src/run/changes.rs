//! Changes of the policy: who asks, under which terms, what it comes to; each one goes to the audit log and upstream.
//!
//! The audit log comes first: an entry says what is about to be changed, and without it no command may change anything but two things: what
//! is enforced can be switched off and on, and what is on trial can be taken back. A second entry says what it came to. What the agent does by
//! itself (a file that changed, an end of time) goes on all the same, and the failure is counted.
//!
//! The switch waits for nothing: neither for the policy, which may be a long list that is being read, nor for the log.

use std::{sync::PoisonError, time::Duration};

use sensor_core::event::{AuditEvent, AuditVersion, EventBody, PolicyChange, PolicyEvent};

use super::{
    live::{lock, wall_clock},
    status::Shared,
};
use crate::{
    audit::{Action, AuditLog, BEGUN, Change as AuditChange, DONE, Entry, Version, Who},
    control::{AuditStatus, Change, ChangeView, Peer, PolicyStatus, Terms},
    kernel,
    reload::{Author, Changed, Host, PolicyFile, Wanted},
    telemetry::events::{self, Emit as _},
};

impl Shared {
    /// Makes a change for a peer that may make it.
    pub(super) fn change(
        &self,
        change: &Change,
        body: Vec<u8>,
        peer: Peer,
    ) -> Result<ChangeView, String> {
        match change {
            Change::Enforcement { on, terms } => return self.switch(*on, terms, peer),
            Change::InventoryAccept { .. }
            | Change::InventoryIgnore { .. }
            | Change::InventoryUndo { .. } => return self.say(change, peer),
            _ => {}
        }
        let (terms, who) = (change.terms(), who(peer, change.terms()));
        let (action, reason) = (action_of(change), terms.reason.clone());
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let before = policy.version();
        let begin = || {
            let begun = self.begin(action, &who, reason.clone(), &before);
            begun.or_else(|error| match change {
                Change::PolicyRevert { .. } => Ok(()),
                _ => {
                    Err(format!("the audit log cannot be written, so nothing is changed: {error}"))
                }
            })
        };
        let outcome = right_generation(terms, &before).and_then(|()| begin()).and_then(|()| {
            policy.called_by(terms.ssh.as_deref());
            let outcome = self.make(&mut policy, change, body, &who);
            policy.called_by(None);
            outcome
        });
        let noted = self.note(action, who, reason, [before, policy.version()], &outcome);
        self.show(&policy);
        Ok(self.answer(outcome?, noted, policy.status()))
    }

    /// Switches all rules between what they say and monitoring only: first of all, then it is noted.
    fn switch(&self, on: bool, terms: &Terms, peer: Peer) -> Result<ChangeView, String> {
        let shown = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner).policy.clone();
        let status = shown.unwrap_or_default();
        let version = Version {
            generation: status.generation,
            hash: status.hash.clone(),
            sha256: status.sha256.clone(),
        };
        let outcome = right_generation(terms, &version).and_then(|()| {
            let kernel = &self.facts.kernel;
            let was = kernel.settings().enforcement_off == 0;
            kernel.set_enforcement(on).map_err(|error| format!("write the settings: {error}"))?;
            let mut notes = Vec::new();
            if let Err(error) = self.facts.switched.keep(kernel) {
                notes.push(format!(
                    "the store cannot keep it: after a reboot it is as it was before: {error}"
                ));
            }
            let word = |on| if on { "on" } else { "off" };
            let diff = vec![format!("~ enforcement {} (was {})", word(on), word(was))];
            let (before, after) = (version.clone(), version.clone());
            Ok(Changed { before, after, diff, notes })
        });
        let (who, reason) = (who(peer, terms), terms.reason.clone());
        let versions = [version.clone(), version];
        let noted = self.note(Action::Enforcement, who, reason, versions, &outcome);
        Ok(self.answer(outcome?, noted, &status))
    }

    pub(super) fn answer(
        &self,
        mut changed: Changed,
        noted: Result<(), String>,
        status: &PolicyStatus,
    ) -> ChangeView {
        if let Err(error) = noted {
            changed
                .notes
                .push(format!("it is in force, but the audit log does not say so: {error}"));
        }
        ChangeView {
            generation: status.generation,
            hash: status.hash.clone(),
            diff: changed.diff,
            notes: changed.notes,
            provisional: status.provisional,
            audit: self.audit_status(),
        }
    }

    /// Notes that a peer wanted to change something and may not.
    pub(super) fn note_denied(&self, change: &Change, peer: Peer) {
        let counted = {
            let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            denied.count(peer.uid, kernel::now())
        };
        let Some(left_out) = counted else { return };
        let shown = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner).policy.clone();
        let version = shown.map(|status| Version {
            generation: status.generation,
            hash: status.hash,
            sha256: status.sha256,
        });
        let version = version.unwrap_or_default();
        let more = match left_out {
            0 => String::new(),
            more => format!("; {more} more like it before this one are not listed"),
        };
        let outcome = Err(format!("permission denied{more}"));
        let (who, reason) = (who(peer, change.terms()), change.terms().reason.clone());
        let versions = [version.clone(), version];
        // A failure is counted.
        let _told = self.note(action_of(change), who, reason, versions, &outcome).is_err();
    }

    fn make(
        &self,
        policy: &mut PolicyFile,
        change: &Change,
        body: Vec<u8>,
        who: &Who,
    ) -> Result<Changed, String> {
        let host = self.host();
        let is_root = matches!(who, Who::Peer { uid: 0, .. });
        let (now, by) = (wall_clock(), Author { name: who.to_string(), is_root });
        match change {
            Change::PolicyApply { file, confirm_ms, terms, .. } => {
                let wanted = Wanted { file: file.clone(), text: body, by, now };
                match confirm_ms {
                    None => policy.apply_document(&wanted, terms.force, &host),
                    Some(ms) => {
                        let time = Duration::from_millis(*ms);
                        policy.apply_provisional(wanted, time, terms, &host)
                    }
                }
            }
            Change::PolicyConfirm { .. } => policy.confirm(&host),
            Change::PolicyRevert { .. } => policy.revert(&host),
            Change::PolicyAdd { terms, .. } => policy.add(&body, &by, terms, now, &host),
            Change::PolicyRemove { id, .. } => policy.remove(id, &host),
            Change::Enforcement { .. }
            | Change::InventoryAccept { .. }
            | Change::InventoryIgnore { .. }
            | Change::InventoryUndo { .. } => Err("is no change of the policy".into()),
            Change::PolicyRearm { id, .. } => policy.rearm(id, &host),
        }
    }

    /// The host that policies are for.
    pub(super) fn host(&self) -> Host<'_> {
        Host {
            kernel: &self.facts.kernel,
            upstreams: &self.facts.upstreams,
            protected: &self.facts.protected,
        }
    }

    /// A change of the policy file; what reads the same as before is none.
    pub(super) fn note_file(
        &self,
        policy: &PolicyFile,
        before: Version,
        outcome: &Result<Changed, String>,
    ) {
        let first = before.generation == 0;
        if outcome.as_ref().is_ok_and(|changed| changed.after == before && !first) {
            return;
        }
        let action = if first { Action::Start } else { Action::File };
        let who = Who::File { path: policy.status().origin.clone() };
        let _counted = self.note(action, who, None, [before, policy.version()], outcome).is_err();
        let change = match outcome {
            Ok(_) => PolicyChange::Applied,
            Err(error) => PolicyChange::Refused { error: error.clone() },
        };
        self.tell_policy(change, policy.status());
    }

    /// Something that the agent did by itself.
    pub(super) fn note_agent(
        &self,
        action: Action,
        reason: &str,
        policy: &PolicyFile,
        before: Version,
        outcome: &Result<Changed, String>,
    ) {
        let versions = [before, policy.version()];
        let _counted =
            self.note(action, Who::Agent, Some(reason.into()), versions, outcome).is_err();
        let change = match outcome {
            Ok(_) => PolicyChange::Applied,
            Err(error) => PolicyChange::Refused { error: error.clone() },
        };
        self.tell_policy(change, policy.status());
    }

    /// With rules of an earlier run in force: takes them out when no policy is wanted any more, leaves them when it is not known what is.
    /// False when a policy is there to take their place.
    pub(super) fn take_out_left(&self, policy: &mut PolicyFile, host: &Host<'_>) -> bool {
        let before = policy.version();
        let (why, outcome) = match policy.not_known() {
            Some(error) => ("what commands changed cannot be read", Err(error)),
            None if policy.is_wanted() => return false,
            None => (
                "no policy is configured: the rules that an earlier run left in force are taken out",
                policy.reload(host),
            ),
        };
        self.note_agent(Action::Start, why, policy, before, &outcome);
        self.show(policy);
        true
    }

    /// The run before this one ended while a policy was provisional.
    pub(super) fn note_lost_provisional(&self, policy: &PolicyFile) {
        let reason = "the agent ended before it was confirmed";
        let version = policy.version();
        let outcome = Ok(Changed { after: version.clone(), ..Changed::default() });
        let versions = [version.clone(), version];
        let reason = Some(reason.into());
        let _counted = self.note(Action::Revert, Who::Agent, reason, versions, &outcome).is_err();
    }

    /// Says in the log what is about to be changed.
    pub(super) fn begin(
        &self,
        action: Action,
        who: &Who,
        reason: Option<String>,
        before: &Version,
    ) -> Result<(), String> {
        self.append(AuditChange {
            action,
            who: who.clone(),
            reason,
            before: before.clone(),
            after: before.clone(),
            diff: Vec::new(),
            result: BEGUN.into(),
            dropped: None,
        })
    }

    /// Says in the log what a change came to: with the versions in force before and after it.
    pub(super) fn note(
        &self,
        action: Action,
        who: Who,
        reason: Option<String>,
        [before, after]: [Version; 2],
        outcome: &Result<Changed, String>,
    ) -> Result<(), String> {
        let (diff, result) = match outcome {
            Ok(changed) => (changed.diff.clone(), DONE.to_owned()),
            Err(error) => (Vec::new(), error.clone()),
        };
        self.append(AuditChange { action, who, reason, before, after, diff, result, dropped: None })
    }

    fn append(&self, change: AuditChange) -> Result<(), String> {
        let appended = {
            let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
            let appended = audit.append(change, wall_clock().0);
            *self.audited.lock().unwrap_or_else(PoisonError::into_inner) = AuditStatus::of(&audit);
            appended
        };
        match appended {
            Ok(entry) => {
                let who = entry.who.to_string();
                let (action, result) = (entry.action.as_str(), entry.result.as_str());
                events::PolicyChanged { action, who: &who, result, entry: entry.number }.emit();
                lock(&self.facts.live).tell(EventBody::Audit(Box::new(event(entry, who))));
                Ok(())
            }
            Err(error) => {
                events::AuditFailed { error: &error }.emit();
                Err(error.to_string())
            }
        }
    }

    /// Tells upstream what happened to the policy.
    pub(super) fn tell_policy(&self, change: PolicyChange, status: &PolicyStatus) {
        let event = PolicyEvent {
            change,
            generation: status.generation,
            hash: status.hash.clone(),
            origin: status.origin.clone(),
            mode: self.facts.mode.as_str(),
        };
        lock(&self.facts.live).tell(EventBody::Policy(Box::new(event)));
    }

    /// Shows the policy as it is now in the status.
    pub(super) fn show(&self, policy: &PolicyFile) {
        lock(&self.facts.live).set_policy(
            policy.hit_slots(),
            policy.request_rules(),
            policy.spared(),
        );
        let shown = policy.is_wanted() || policy.status().error.is_some();
        let status = shown.then(|| policy.status().clone());
        let rules = self.rules_now(policy);
        let mut reloaded = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
        reloaded.policy = status;
        if let Some(rules) = rules {
            reloaded.rules = rules;
        }
    }

    /// The audit log as `status` shows it.
    pub(super) fn audit_status(&self) -> AuditStatus {
        self.audited.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AuditStatus {
    /// Of the log as it is now.
    pub(super) fn of(audit: &AuditLog) -> Self {
        Self {
            entries: audit.number(),
            head: audit.head().to_string(),
            error: audit.failed().map(ToOwned::to_owned),
        }
    }
}

fn right_generation(terms: &Terms, before: &Version) -> Result<(), String> {
    match terms.if_generation {
        Some(wanted) if wanted != before.generation => Err(format!(
            "generation {} is in force, not {wanted}: somebody else changed the policy; look at it (policy diff, audit list) and try again",
            before.generation
        )),
        _ => Ok(()),
    }
}

pub(super) const fn action_of(change: &Change) -> Action {
    match change {
        Change::PolicyApply { confirm_ms: None, .. } => Action::Apply,
        Change::PolicyApply { .. } => Action::ApplyProvisional,
        Change::PolicyConfirm { .. } => Action::Confirm,
        Change::PolicyRevert { .. } => Action::Revert,
        Change::PolicyAdd { .. } => Action::Add,
        Change::PolicyRemove { .. } => Action::Remove,
        Change::PolicyRearm { .. } => Action::Rearm,
        Change::Enforcement { .. } => Action::Enforcement,
        Change::InventoryAccept { .. } => Action::InventoryAccept,
        Change::InventoryIgnore { .. } => Action::InventoryIgnore,
        Change::InventoryUndo { .. } => Action::InventoryUndo,
    }
}

/// The peer, with what the host knows of it.
pub(super) fn who(peer: Peer, terms: &Terms) -> Who {
    let user = nix::unistd::User::from_uid(peer.uid.into()).ok().flatten();
    // The kernel keeps who logged in, through sudo; 2^32 - 1 is nobody.
    let login = peer.pid.and_then(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?.trim().parse().ok()
    });
    Who::Peer {
        uid: peer.uid,
        gid: peer.gid,
        pid: peer.pid,
        name: user.map(|user| user.name),
        login_uid: login.filter(|login| *login != u32::MAX),
        ssh: terms.ssh.clone(),
    }
}

fn event(entry: Entry, who: String) -> AuditEvent {
    let version = |version: Version| AuditVersion {
        generation: version.generation,
        hash: version.hash,
        sha256: version.sha256,
    };
    AuditEvent {
        number: entry.number,
        action: entry.action.as_str().into(),
        who,
        reason: entry.reason.unwrap_or_default(),
        result: entry.result,
        before: version(entry.before),
        after: version(entry.after),
        diff: entry.diff,
        previous: entry.previous,
        head: entry.hash,
    }
}
