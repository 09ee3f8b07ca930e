//! What commands change: a document in place of the file (for good, or until it is confirmed), rules added and removed.
//!
//! A provisional policy is the only one that may be changed by nothing but its end: confirmed, taken back, or run out. Bound:
//! [`CONFIRM_MAX`].

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use sensor_core::{
    policy::{self, FailsafeRule, Protocol, Side},
    time::{MonoNs, UnixNs},
};

use super::{
    author::Author,
    host::Host,
    kept::{KeptApplied, KeptRule},
    layers::{Added, Base, Layers, Origin},
    policy::{InForce, Insists, PolicyFile},
};
use crate::{
    audit::{Hash, Version},
    config::Watched,
    control::{PolicyStatus, ProvisionalStatus, Terms},
    kernel::{self, Install},
};

/// Longest time that a policy may be provisional.
pub const CONFIRM_MAX: Duration = Duration::from_hours(1);

/// What a change came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// In force before.
    pub before: Version,
    /// In force now.
    pub after: Version,
    /// One line for each rule that is new, gone or another.
    pub diff: Vec<String>,
    /// What is worth knowing beside it.
    pub notes: Vec<String>,
}

/// A document to put in force.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where it was read.
    pub file: String,
    /// As it was read.
    pub text: Vec<u8>,
    /// By whom.
    pub by: Author,
    /// Now.
    pub now: UnixNs,
}

/// What ends by itself.
#[derive(Debug)]
pub(super) struct Provisional {
    /// What is in force again when it ends: the kernel still has it.
    back: (Layers, Option<InForce>, PolicyStatus),
    /// Its lists, as they looked when they were read: what changes meanwhile is read afterwards.
    watched: Watched,
    applied: KeptApplied,
    text: Vec<u8>,
    until: MonoNs,
}

impl PolicyFile {
    /// Puts a document in force in place of the file.
    pub fn apply_document(
        &mut self,
        wanted: &Wanted,
        force: bool,
        host: &Host<'_>,
    ) -> Result<Changed, String> {
        self.settled()?;
        let (layers, mut applied) = self.layers_of(wanted)?;
        let mut changed = self.asking(|all| {
            let (layers, lists, forced) = all.not_hazardous(layers, host, Insists::of(force))?;
            applied.forced = forced;
            all.put(layers, lists, host)
        })?;
        self.keep_applied(applied, &wanted.text, &mut changed);
        Ok(changed)
    }

    /// Puts a document in force until `now + time`, unless it is confirmed before.
    pub fn apply_provisional(
        &mut self,
        wanted: Wanted,
        time: Duration,
        terms: &Terms,
        host: &Host<'_>,
    ) -> Result<Changed, String> {
        self.settled()?;
        if time.is_zero() || time > CONFIRM_MAX {
            return Err(format!(
                "a policy is provisional for at least 1 ms and at most {} s",
                CONFIRM_MAX.as_secs()
            ));
        }
        let (layers, mut applied) = self.layers_of(&wanted)?;
        let back = (self.layers.clone(), self.in_force.clone(), self.status.clone());
        let watched = self.lists.watched().clone();
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until = MonoNs(kernel::now().0.saturating_add(time_ns));
        let install = Install::Provisional { until_ns: until.0 };
        let kept_safe = terms.ssh.as_deref().and_then(ssh_peer);
        let operator = kept_safe.as_ref().map(|rule| rule.networks.clone());
        let mut changed = self.asking(|all| {
            let (layers, lists, forced) =
                all.not_hazardous(layers, host, Insists::of(terms.force))?;
            applied.forced = forced;
            all.install(layers, lists, host, install, kept_safe)
        })?;
        self.status.provisional = Some(ProvisionalStatus {
            until_unix_ns: wanted.now.0.saturating_add(time_ns),
            back_to_generation: changed.before.generation,
        });
        changed.notes.push(match operator {
            Some(networks) => format!(
                "your ssh connection is protected while the policy is on trial: {}",
                networks.iter().map(|net| net.addr().to_string()).collect::<Vec<_>>().join(", ")
            ),
            None => "no ssh connection of yours was found (SSH_CONNECTION): only what failsafe keeps is protected while the policy is on trial".into(),
        });
        self.provisional = Some(Provisional { back, watched, applied, text: wanted.text, until });
        self.kept.provisional = true;
        self.write_kept(&mut changed);
        Ok(changed)
    }

    /// Says who makes the next changes, by the `SSH_CONNECTION` of the one who asks: that peer has its place among those that stay
    /// protected before all others.
    pub fn called_by(&mut self, connection: Option<&str>) {
        let peer = connection.and_then(ssh_peer);
        self.caller = peer.and_then(|rule| rule.networks.first().map(IpNet::addr));
    }

    /// Makes what is provisional permanent.
    pub fn confirm(&mut self, host: &Host<'_>) -> Result<Changed, String> {
        let Some(provisional) = &self.provisional else {
            return Err("nothing is provisional: there is nothing to confirm".into());
        };
        if kernel::now() >= provisional.until {
            return Err("its time is over: the policy before is in force again".into());
        }
        host.kernel.confirm_policy().map_err(|error| error.to_string())?;
        let Some(provisional) = self.provisional.take() else {
            return Err("nothing is provisional".into());
        };
        self.status.provisional = None;
        self.kept.provisional = false;
        let version = self.version();
        let mut changed = Changed { before: version.clone(), after: version, ..Changed::default() };
        self.keep_applied(provisional.applied, &provisional.text, &mut changed);
        // Once more without what was kept safe for the time of the trial.
        if let Err(error) = self.put_known(self.layers.clone(), host) {
            changed.notes.push(format!("the operator's ssh peer stays protected: {error}"));
        }
        Ok(changed)
    }

    /// Takes what is provisional back.
    pub fn revert(&mut self, host: &Host<'_>) -> Result<Changed, String> {
        if self.provisional.is_none() {
            return Err("nothing is provisional: there is nothing to revert".into());
        }
        let before = self.version();
        host.kernel.revert_policy().map_err(|error| error.to_string())?;
        let Some(Provisional { back: (layers, in_force, status), watched, .. }) =
            self.provisional.take()
        else {
            return Err("nothing is provisional".into());
        };
        self.lists.watch(watched);
        let mut changed = Changed::default();
        if let (Some(trial), Some(back)) = (&self.in_force, &in_force) {
            let differences = policy::diff(&trial.policy, &back.policy);
            changed.diff = differences.iter().map(ToString::to_string).collect();
        }
        (self.layers, self.in_force) = (layers, in_force);
        self.status = PolicyStatus { provisional: None, ..status };
        self.kept.hash.clone_from(&self.status.hash);
        self.kept.provisional = false;
        changed.before = before;
        changed.after = self.version();
        self.write_kept(&mut changed);
        Ok(changed)
    }

    /// When what is provisional ends by itself, if anything is; tells one trial from the next.
    #[must_use]
    pub fn trial(&self) -> Option<MonoNs> {
        self.provisional.as_ref().map(|provisional| provisional.until)
    }

    /// Whether an earlier run ended while its policy was provisional; asked once, before anything is put in force.
    pub fn take_lost_provisional(&mut self, host: &Host<'_>) -> bool {
        let lost = self.provisional.is_none() && std::mem::take(&mut self.kept.provisional);
        // Nobody confirms it any more, whether its time is over or not.
        let _nothing_was_taken_over = host.kernel.revert_policy().is_err();
        lost
    }

    /// Adds a rule.
    pub fn add(
        &mut self,
        text: &[u8],
        by: &Author,
        terms: &Terms,
        now: UnixNs,
        host: &Host<'_>,
    ) -> Result<Changed, String> {
        self.settled()?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| "not UTF-8 text")?;
        let added = Added::read(text, now.0, by.name.clone(), terms.reason.clone())?;
        if added.expired(now) {
            return Err("the rule has expired already".into());
        }
        let demanded: Vec<_> = self.reason.iter().cloned().chain(self.layers.reason()).collect();
        added.with_reason(&demanded)?;
        let layers = self.layers.with(added)?;
        self.names_lists(by, &layers)?;
        let mut changed = self.asking(|all| {
            let (layers, lists, _) = all.not_hazardous(layers, host, Insists::of(terms.force))?;
            all.put(layers, lists, host)
        })?;
        self.save(&mut changed);
        Ok(changed)
    }

    /// Removes a rule that was added.
    pub fn remove(&mut self, id: &str, host: &Host<'_>) -> Result<Changed, String> {
        self.settled()?;
        let mut changed = self.put_known(self.layers.without(id)?, host)?;
        self.save(&mut changed);
        Ok(changed)
    }

    /// Takes out added rules whose time is over (the kernel ended them by itself); `None` when there are none.
    pub fn sweep(&mut self, now: UnixNs, host: &Host<'_>) -> Option<Result<Changed, String>> {
        if self.provisional.is_some() {
            return None;
        }
        let (layers, gone) = self.layers.unexpired(now);
        if gone.is_empty() {
            return None;
        }
        Some(self.put_known(layers, host).map(|mut changed| {
            self.save(&mut changed);
            changed
        }))
    }

    /// Lets a rule only monitor from now on. What is provisional is taken back instead: the trial showed what it was for.
    pub fn stop_rule(&mut self, id: &str, why: &str, host: &Host<'_>) -> Result<Changed, String> {
        if self.provisional.is_some() {
            let mut changed = self.revert(host)?;
            changed.notes.push(format!("rule `{id}` {why}"));
            return Ok(changed);
        }
        let in_force = self.in_force.as_ref().ok_or("no policy is in force")?;
        let rule = in_force.policy.rules.iter().find(|rule| &*rule.about.id == id);
        let rule = rule.ok_or_else(|| format!("there is no rule `{id}`"))?;
        if rule.action == policy::RuleAction::Monitor {
            // Stopped already: what is kept of it is the rule as it was, which this one is not.
            return Err(format!("rule `{id}` only monitors already"));
        }
        let layers = self.layers.stopping(rule, why.to_owned());
        let mut changed = self.put_known(layers, host)?;
        self.save(&mut changed);
        Ok(changed)
    }

    /// Whether a rule in force drops nobody.
    #[must_use]
    pub fn only_monitors(&self, id: &str) -> bool {
        let in_force = self.in_force.as_ref();
        let rule =
            in_force.and_then(|now| now.policy.rules.iter().find(|rule| &*rule.about.id == id));
        rule.is_some_and(|rule| rule.action == policy::RuleAction::Monitor)
    }

    /// Lets a rule that the guard stopped do again what it says.
    pub fn rearm(&mut self, id: &str, host: &Host<'_>) -> Result<Changed, String> {
        self.settled()?;
        let mut changed = self.put_known(self.layers.rearmed(id)?, host)?;
        self.save(&mut changed);
        Ok(changed)
    }

    fn settled(&self) -> Result<(), String> {
        match &self.status.provisional {
            Some(provisional) => Err(format!(
                "generation {} is provisional until {}: confirm it or take it back first (policy confirm, policy revert)",
                self.status.generation,
                sensor_proto::json::rfc3339(
                    provisional.until_unix_ns / 1_000_000_000 * 1_000_000_000
                )
            )),
            None => Ok(()),
        }
    }

    /// Refuses list files that this author may not name.
    fn names_lists(&self, by: &Author, layers: &Layers) -> Result<(), String> {
        let in_force = self.in_force.as_ref().map(|in_force| &*in_force.policy);
        by.may_name_lists(&*layers.merged()?, in_force, self.path.as_deref())
    }

    fn layers_of(&self, wanted: &Wanted) -> Result<(Layers, KeptApplied), String> {
        let policy = policy::parse_with(&wanted.file, &wanted.text, &self.demands(wanted.now))
            .map_err(|errors| errors.to_string())?;
        let sha256 = Hash::of(&wanted.text);
        let origin = Origin::Applied { unix_ns: wanted.now.0, by: wanted.by.name.clone() };
        let (layers, _) = self.layers.on(Base { policy: Arc::new(policy), sha256, origin });
        self.names_lists(&wanted.by, &layers)?;
        let over = match &self.path {
            Some(path) => crate::config::read_watched_policy(path)
                .map(|(text, _)| Hash::of(&text).to_string())
                .unwrap_or_default(),
            None => String::new(),
        };
        let applied = KeptApplied {
            file: wanted.file.clone(),
            unix_ns: wanted.now.0,
            by: wanted.by.name.clone(),
            sha256: sha256.to_string(),
            forced: Vec::new(),
            over,
        };
        Ok((layers, applied))
    }

    fn keep_applied(&mut self, applied: KeptApplied, text: &[u8], changed: &mut Changed) {
        match self.keep.save_applied(text) {
            Ok(()) => {
                self.kept.applied = Some(applied);
                self.save(changed);
            }
            Err(error) => changed.notes.push(not_kept(&error)),
        }
    }

    /// Keeps the layers over a restart; what fails is said, the change is in force all the same.
    pub(super) fn save(&mut self, changed: &mut Changed) {
        self.kept.added = self
            .layers
            .added
            .iter()
            .map(|added| KeptRule {
                text: added.text.clone(),
                unix_ns: added.unix_ns,
                by: added.by.clone(),
                reason: added.reason.clone(),
                forced: added.rule.force,
            })
            .collect();
        self.kept.stopped = self.layers.stopped.clone();
        self.write_kept(changed);
    }

    fn write_kept(&self, changed: &mut Changed) {
        if let Err(error) = self.keep.save(&self.kept) {
            changed.notes.push(not_kept(&error));
        }
    }
}

/// The peer of an `SSH_CONNECTION` (`client port server port`), which keeps its way in while a policy is on trial.
fn ssh_peer(connection: &str) -> Option<FailsafeRule> {
    let mut words = connection.split_ascii_whitespace();
    let client: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
    let (_, _) = (words.next()?, words.next()?);
    let port: u16 = words.next()?.parse().ok()?;
    Some(FailsafeRule {
        name: "the operator's ssh".into(),
        networks: vec![IpNet::from(client.to_canonical())],
        ports: vec![(port, port)],
        protocol: Some(Protocol::Tcp),
        side: Side::Ours,
    })
}

fn not_kept(error: &std::io::Error) -> String {
    format!("in force, but the store cannot keep it over a restart: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_s_peer_is_read_from_the_connection() {
        let peer = ssh_peer("203.0.113.9 51234 192.0.2.1 2222").unwrap();
        let found = (peer.networks[0].to_string(), peer.ports);
        assert_eq!(found, ("203.0.113.9/32".into(), vec![(2222, 2222)]));
        assert!(ssh_peer("fe80::1%eth0 1 fe80::2 22").is_some());
        for bad in
            ["", "x", "203.0.113.9", "203.0.113.9 1 2", "any 1 y 22", "203.0.113.9 1 y 99999"]
        {
            assert_eq!(ssh_peer(bad), None, "{bad}");
        }
    }
}
