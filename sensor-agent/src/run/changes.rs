//! Changes of the policy: who asks, under which terms, what it comes to; each one goes to the audit log and upstream.
//!
//! The audit log comes first: while it cannot be written no command may change anything. What the agent does by itself (a file that
//! changed, an end of time) goes on all the same, and the failure is counted.

use std::{sync::PoisonError, time::Duration};

use sensor_core::event::{AuditEvent, AuditVersion, EventBody, PolicyChange, PolicyEvent};

use super::{
    live::{lock, wall_clock},
    status::Shared,
};
use crate::{
    audit::{Action, Change as AuditChange, DONE, Entry, Version, Who},
    control::{AuditStatus, Change, ChangeView, Peer, PolicyStatus, Terms},
    reload::{Changed, Host, PolicyFile, Wanted},
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
        // Whatever is wrong with the log: what is enforced can be switched off.
        if !matches!(change, Change::Enforcement { .. })
            && let Some(error) = self.audit_status().error
        {
            return Err(format!("the audit log cannot be written, so nothing is changed: {error}"));
        }
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let (terms, who) = (change.terms(), who(peer, change.terms()));
        let before = policy.version();
        let outcome = right_generation(terms, &before)
            .and_then(|()| self.make(&mut policy, change, body, &who));
        self.note(&policy, action_of(change), who, terms.reason.clone(), before, &outcome);
        self.show(&policy);
        let changed = outcome?;
        let status = policy.status();
        Ok(ChangeView {
            generation: status.generation,
            hash: status.hash.clone(),
            diff: changed.diff,
            notes: changed.notes,
            provisional: status.provisional,
            audit: self.audit_status(),
        })
    }

    fn make(
        &self,
        policy: &mut PolicyFile,
        change: &Change,
        body: Vec<u8>,
        who: &Who,
    ) -> Result<Changed, String> {
        let host = self.host();
        let (now, by) = (wall_clock(), who.to_string());
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
            Change::PolicyAdd { terms, .. } => policy.add(&body, by, terms, now, &host),
            Change::PolicyRemove { id, .. } => policy.remove(id, &host),
            Change::Enforcement { on, .. } => self.switch(*on, policy),
            Change::PolicyRearm { id, .. } => policy.rearm(id, &host),
        }
    }

    /// Switches all rules between what they say and monitoring only.
    fn switch(&self, on: bool, policy: &PolicyFile) -> Result<Changed, String> {
        let kernel = &self.facts.kernel;
        let was = kernel.settings().enforcement_off == 0;
        kernel.set_enforcement(on).map_err(|error| format!("write the settings: {error}"))?;
        let word = |on| if on { "on" } else { "off" };
        let version = policy.version();
        Ok(Changed {
            before: version.clone(),
            after: version,
            diff: vec![format!("~ enforcement {} (was {})", word(on), word(was))],
            notes: Vec::new(),
        })
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
        self.note(policy, action, who, None, before, outcome);
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
        self.note(policy, action, Who::Agent, Some(reason.into()), before, outcome);
        self.tell_policy(PolicyChange::Applied, policy.status());
    }

    /// The run before this one ended while a policy was provisional.
    pub(super) fn note_lost_provisional(&self, policy: &PolicyFile) {
        let reason = "the agent ended before it was confirmed";
        let version = policy.version();
        let outcome = Ok(Changed { after: version.clone(), ..Changed::default() });
        self.note(policy, Action::Revert, Who::Agent, Some(reason.into()), version, &outcome);
    }

    fn note(
        &self,
        policy: &PolicyFile,
        action: Action,
        who: Who,
        reason: Option<String>,
        before: Version,
        outcome: &Result<Changed, String>,
    ) {
        let (diff, result) = match outcome {
            Ok(changed) => (changed.diff.clone(), DONE.to_owned()),
            Err(error) => (Vec::new(), error.clone()),
        };
        let after = policy.version();
        let change =
            AuditChange { action, who, reason, before, after, diff, result, dropped: None };
        let appended = {
            let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
            audit.append(change, wall_clock().0)
        };
        match appended {
            Ok(entry) => {
                let who = entry.who.to_string();
                let (action, result) = (entry.action.as_str(), entry.result.as_str());
                events::PolicyChanged { action, who: &who, result, entry: entry.number }.emit();
                lock(&self.facts.live).tell(EventBody::Audit(Box::new(event(entry, who))));
            }
            Err(error) => events::AuditFailed { error: &error }.emit(),
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
        let status = policy.is_wanted().then(|| policy.status().clone());
        self.reloaded.lock().unwrap_or_else(PoisonError::into_inner).policy = status;
    }

    /// The audit log as `status` shows it.
    pub(super) fn audit_status(&self) -> AuditStatus {
        let audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        AuditStatus {
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

const fn action_of(change: &Change) -> Action {
    match change {
        Change::PolicyApply { confirm_ms: None, .. } => Action::Apply,
        Change::PolicyApply { .. } => Action::ApplyProvisional,
        Change::PolicyConfirm { .. } => Action::Confirm,
        Change::PolicyRevert { .. } => Action::Revert,
        Change::PolicyAdd { .. } => Action::Add,
        Change::PolicyRemove { .. } => Action::Remove,
        Change::PolicyRearm { .. } => Action::Rearm,
        Change::Enforcement { .. } => Action::Enforcement,
    }
}

/// The peer, with what the host knows of it.
fn who(peer: Peer, terms: &Terms) -> Who {
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
