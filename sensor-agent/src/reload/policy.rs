//! The policy file to the kernel's maps: read, checked, compiled, written; a bad one is refused whole.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use sensor_core::{
    policy::{self, Compiled, HostFacts, Inactive, Policy, RuleState, What},
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::policy::RuleHits;

use super::fingerprint;
use crate::{
    config::{PolicyFileError, read_policy},
    control::{PolicyStatus, RuleStatus},
    kernel::{Applied, Kernel},
    telemetry::events::{self, Emit as _},
};

/// A policy file and what of it is in force.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    seen: u64,
    in_force: Option<InForce>,
    /// Hits by rule id from before the kernel's counts began again.
    earlier: HashMap<String, RuleHits>,
    status: PolicyStatus,
}

#[derive(Debug)]
struct InForce {
    policy: Policy,
    compiled: Compiled,
    facts: HostFacts,
}

impl PolicyFile {
    /// Names the file; nothing is read yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let origin = path.display().to_string();
        let status = PolicyStatus { origin, ..PolicyStatus::default() };
        Self { path: path.into(), seen: 0, in_force: None, earlier: HashMap::new(), status }
    }

    /// Whether the file changed since the last read.
    #[must_use]
    pub fn changed(&self) -> bool {
        fingerprint::of_file(&self.path) != self.seen
    }

    /// Whether the host changed so that the same file compiles to something else (an interface came, a rule expired).
    #[must_use]
    pub fn host_changed(&self, facts: &HostFacts) -> bool {
        self.in_force.as_ref().is_some_and(|in_force| {
            let before = &in_force.facts;
            let expired = |rule: &policy::Rule| {
                rule.expires.is_some_and(|at| at > before.now && at <= facts.now)
            };
            before.interfaces != facts.interfaces
                || before.resolvers != facts.resolvers
                || before.gateways != facts.gateways
                || before.ssh_peers != facts.ssh_peers
                || before.upstreams != facts.upstreams
                || in_force.policy.rules.iter().any(expired)
        })
    }

    /// Where ssh listens by the failsafe of the policy in force.
    #[must_use]
    pub fn ssh_ports(&self) -> Vec<(u16, u16)> {
        let failsafe = self.in_force.as_ref().map(|in_force| in_force.policy.failsafe.clone());
        failsafe.unwrap_or_default().ssh_ports
    }

    /// Reads the file and puts it in force; on any mistake the one before stays. The error is told and kept. `facts` is asked
    /// with the ssh ports of the new file: its peers must be known before its rules are in force.
    pub fn reload(
        &mut self,
        facts: impl FnOnce(&[(u16, u16)]) -> HostFacts,
        kernel: &Kernel,
    ) -> Result<(), String> {
        self.seen = fingerprint::of_file(&self.path);
        let outcome = self.read().and_then(|policy| {
            let facts = facts(&policy.failsafe.ssh_ports);
            self.apply(policy, facts, kernel)
        });
        if let Err(error) = &outcome {
            events::PolicyRefused { origin: &self.status.origin, error }.emit();
            self.status.error = Some(error.clone());
        }
        outcome
    }

    /// Compiles the policy in force for a host that changed.
    pub fn recompile(&mut self, facts: HostFacts, kernel: &Kernel) -> Result<(), String> {
        let Some(in_force) = &self.in_force else { return Ok(()) };
        let policy = in_force.policy.clone();
        let refused = self.status.error.clone();
        let outcome = self.apply(policy, facts, kernel);
        // The file as it is now may still be the one that was refused.
        self.status.error = refused.or_else(|| outcome.clone().err());
        outcome
    }

    fn read(&self) -> Result<Policy, String> {
        read_policy(&self.path).map_err(|error| match &error {
            PolicyFileError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("{error} (the agent gave up the capability to read other users' files: make it readable for root or everyone)")
            }
            _ => error.to_string(),
        })
    }

    fn apply(&mut self, policy: Policy, facts: HostFacts, kernel: &Kernel) -> Result<(), String> {
        let compiled = policy.compile(&facts).map_err(|errors| errors.to_string())?;
        let before = kernel.rule_hits().unwrap_or_default();
        let applied = kernel.apply_policy(&compiled.tables).map_err(|error| error.to_string())?;
        if applied.hits_reset {
            self.carry(&before);
        }
        for (line, warning) in &policy.warnings {
            events::PolicyWarning { origin: &self.status.origin, line: *line, warning }.emit();
        }
        self.told(&compiled, applied, &facts);
        self.in_force = Some(InForce { policy, compiled, facts });
        Ok(())
    }

    /// Keeps the hits of rules of the policy so far; a rule of the next one with the same id goes on counting.
    fn carry(&mut self, hits: &[RuleHits]) {
        let Some(InForce { policy, compiled, .. }) = &self.in_force else { return };
        let mut earlier = HashMap::new();
        for (rule, sum) in policy.rules.iter().zip(compiled.sum_hits(hits)) {
            let id = rule.about.id.to_string();
            let sum = self.earlier.get(&id).map_or(sum, |before| plus(*before, sum));
            earlier.insert(id, sum);
        }
        self.earlier = earlier;
    }

    fn told(&mut self, compiled: &Compiled, applied: Applied, facts: &HostFacts) {
        let hash = format!("{:016x}", compiled.digest);
        let status = &mut self.status;
        if status.hash != hash {
            status.generation += 1;
            status.applied_unix_ns = facts.now.0;
        }
        status.hash = hash;
        status.installed = applied.installed as u64;
        status.wanted = applied.wanted as u64;
        status.error = (applied.installed < applied.wanted).then(|| {
            format!(
                "only {} of {} entries are in the kernel, it has no memory for more",
                applied.installed, applied.wanted
            )
        });
        let event = events::PolicyApplied {
            origin: &status.origin,
            generation: status.generation,
            hash: &status.hash,
            entries: applied.wanted,
        };
        event.emit();
    }

    /// As `status` shows it.
    #[must_use]
    pub const fn status(&self) -> &PolicyStatus {
        &self.status
    }

    /// Hits by rule of the file. `offset_ns` turns the kernel's clock into wall-clock time.
    #[must_use]
    pub fn rules(&self, hits: &[RuleHits], to_unix: impl Fn(MonoNs) -> UnixNs) -> Vec<RuleStatus> {
        let Some(InForce { policy, compiled, .. }) = &self.in_force else { return Vec::new() };
        let sums = compiled.sum_hits(hits);
        let sums = policy.rules.iter().zip(sums).map(|(rule, sum)| {
            self.earlier.get(&*rule.about.id.to_string()).map_or(sum, |before| plus(*before, sum))
        });
        let rows =
            policy.rules.iter().zip(&compiled.states).zip(sums).map(|((rule, state), hits)| {
                RuleStatus {
                    id: rule.about.id.to_string(),
                    kind: kind(&rule.what).into(),
                    state: match state {
                        RuleState::Active => "in force".into(),
                        RuleState::Inactive(Inactive::Expired) => "expired".into(),
                        RuleState::Inactive(Inactive::NoInterface(name)) => {
                            format!("no interface {name}")
                        }
                    },
                    packets: hits.packets,
                    bytes: hits.bytes,
                    would_packets: hits.would_packets,
                    would_bytes: hits.would_bytes,
                    last_unix_ns: if hits.last_ns == 0 {
                        0
                    } else {
                        to_unix(MonoNs(hits.last_ns)).0
                    },
                }
            });
        rows.collect()
    }
}

fn plus(one: RuleHits, other: RuleHits) -> RuleHits {
    RuleHits {
        packets: one.packets.saturating_add(other.packets),
        bytes: one.bytes.saturating_add(other.bytes),
        last_ns: one.last_ns.max(other.last_ns),
        would_packets: one.would_packets.saturating_add(other.would_packets),
        would_bytes: one.would_bytes.saturating_add(other.would_bytes),
    }
}

const fn kind(what: &What) -> &'static str {
    match what {
        What::Allow => "allow",
        What::Block => "block",
        What::Limit(_) => "limit",
    }
}
