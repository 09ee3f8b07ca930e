//! A policy with its lists to an image for this host.
//!
//! Several rules of one prefix become a chain in the order of the file; a prefix whose rules are those of the prefix around it is
//! left out (`merged`): overlapping entries are joined only where rule, action and expiry are the same. What the kernel could not get
//! through in `STEPS_MAX` steps is refused. No rule is lost: each is in force, expired, or waits for its interface, and `states` says which.

use sensor_ebpf::abi::policy::RuleHits;

use super::{
    super::{
        error::{PolicyError, PolicyErrors},
        facts::{HostFacts, RuleState},
        failsafe::Kept,
        list::Lists,
        model::Policy,
    },
    buckets::NoRoom,
    built::PolicyImage,
    chains::{Chains, Source},
    numbers::Numbers,
    plan::{LISTS, Plan},
    terms::Terms,
    walk::{Entries, entries},
};
use crate::digest::Digest;

/// Prefixes that the kernel holds at most, both families and all lists together.
pub const PREFIXES_MAX: usize = 4_000_000;

/// A compiled policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What goes into the kernel.
    pub image: PolicyImage,
    /// Rule of the policy by number of its hits; none for numbers of other rules.
    pub owners: Vec<Option<u32>>,
    /// Numbers of hits that begin at zero.
    pub fresh: Vec<u32>,
    /// For each rule of the policy whether it is in force.
    pub states: Vec<RuleState>,
    /// How much there is.
    pub counts: Counts,
    /// Bytes in the kernel, bitmaps included; [`Policy::size`] tells them before anything is built.
    pub bytes: u64,
    /// Changes with the policy's file and with its lists; the same on every host.
    pub digest: u64,
}

/// What an image holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Block prefixes.
    pub block: usize,
    /// Allow prefixes.
    pub allow: usize,
    /// Limit prefixes.
    pub limit: usize,
    /// Prefixes left out because the prefix around them says the same.
    pub merged: usize,
    /// Kernel rules.
    pub rules: usize,
    /// Kernel limits.
    pub limits: usize,
    /// Failsafe entries.
    pub failsafe: usize,
    /// Connected peers that found no room among them.
    pub failsafe_left_out: usize,
}

/// What a policy comes to, before it is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How much there is.
    pub counts: Counts,
    /// Bytes in the kernel, bitmaps included (a table whose buckets fill unevenly may take twice its own).
    pub bytes: u64,
}

impl Size {
    /// Bytes that are taken while the policy is put in force: in the kernel, and as much in the agent, which builds the image; of allow
    /// rules the agent keeps one more.
    pub fn bytes_at_most(&self) -> u64 {
        self.bytes * if self.counts.allow > 0 { 3 } else { 2 }
    }
}

impl Compiled {
    /// Hits by rule of the policy, from those by number.
    pub fn hits_by_rule(&self, hits: &[RuleHits]) -> Vec<RuleHits> {
        let mut by_rule = vec![RuleHits::default(); self.states.len()];
        for (owner, hit) in self.owners.iter().zip(hits) {
            let rule = owner.and_then(|owner| usize::try_from(owner).ok());
            if let Some(place) = rule.and_then(|rule| by_rule.get_mut(rule)) {
                *place = *hit;
            }
        }
        by_rule
    }

    /// Number of the hits of a rule.
    pub fn slot(&self, rule: u32) -> Option<u32> {
        let at = self.owners.iter().position(|owner| *owner == Some(rule))?;
        u32::try_from(at).ok()
    }
}

impl Policy {
    /// Compiles the policy for this host. `numbers` are changed only where it succeeds.
    pub fn compile(
        &self,
        facts: &HostFacts,
        lists: &Lists,
        numbers: &mut Numbers,
    ) -> Result<Compiled, PolicyErrors> {
        self.compile_where(facts, lists, numbers, |_| Ok(()))
    }

    /// The same where there is room for it: `fits` is asked once the size is known and before anything of that size is made.
    pub fn compile_where(
        &self,
        facts: &HostFacts,
        lists: &Lists,
        numbers: &mut Numbers,
        fits: impl FnOnce(&Size) -> Result<(), String>,
    ) -> Result<Compiled, PolicyErrors> {
        let mut next = numbers.clone();
        let (slots, fresh) = next.assign(self.rules.iter().map(|rule| &*rule.about.id));
        let terms = Terms::new(self, facts, lists);
        let (plan, left_out) = self.plan(facts, lists, &terms, &slots, &mut next)?;
        let counts = Counts { failsafe_left_out: left_out, ..plan.counts() };
        let mut owners = vec![None; slots.iter().max().map_or(0, |most| wide(*most) + 1)];
        for (slot, rule) in slots.iter().zip(0..) {
            if let Some(place) = owners.get_mut(wide(*slot)).filter(|_| *slot > 0) {
                *place = Some(rule);
            }
        }
        fits(&Size { counts, bytes: plan.bytes() }).map_err(|message| {
            let error = PolicyError { line: None, field: String::new(), message };
            PolicyErrors::new(&self.file, vec![error])
        })?;
        let image = plan.build().map_err(|NoRoom| self.collides())?;
        *numbers = next;
        Ok(Compiled {
            owners,
            fresh,
            states: terms
                .states()
                .map(|state| state.map_or_else(RuleState::Inactive, |()| RuleState::Active))
                .collect(),
            counts,
            bytes: image.bytes(),
            digest: plan.digest,
            image,
        })
    }

    /// Prefixes of all rules and their lists, as they are written.
    pub fn prefixes(&self, lists: &Lists) -> usize {
        let of = |rule: &super::super::model::Rule| {
            rule.clients.len() + lists.of(rule).map(|list| list.len()).sum::<usize>()
        };
        self.rules.iter().map(of).sum()
    }

    /// Bytes of memory that it takes to find out what the policy comes to: a word or three for each prefix.
    pub fn planning_bytes(&self, lists: &Lists) -> u64 {
        (self.prefixes(lists) * size_of::<super::family::Key6>()) as u64
    }

    /// What the policy comes to on this host, nothing built yet.
    #[cfg(test)]
    pub(super) fn size(&self, facts: &HostFacts, lists: &Lists) -> Result<Size, PolicyErrors> {
        let mut numbers = Numbers::default();
        let (slots, _) = numbers.assign(self.rules.iter().map(|rule| &*rule.about.id));
        let terms = Terms::new(self, facts, lists);
        let (plan, left_out) = self.plan(facts, lists, &terms, &slots, &mut numbers)?;
        let counts = Counts { failsafe_left_out: left_out, ..plan.counts() };
        Ok(Size { counts, bytes: plan.bytes() })
    }

    fn collides(&self) -> PolicyErrors {
        let message = "prefixes collide in the kernel's hash table, which hardly any but chosen ones do: \
            look which list file came to have addresses that follow no plan, and leave it out";
        let error = PolicyError { line: None, field: String::new(), message: message.into() };
        PolicyErrors::new(&self.file, vec![error])
    }

    /// The plan, and how many peers found no room in the failsafe.
    fn plan(
        &self,
        facts: &HostFacts,
        lists: &Lists,
        terms: &Terms,
        slots: &[u32],
        numbers: &mut Numbers,
    ) -> Result<(Plan, usize), PolicyErrors> {
        let refused = |error| PolicyErrors::new(&self.file, vec![error]);
        let whole =
            |message: String| refused(PolicyError { line: None, field: String::new(), message });
        let prefixes = self.prefixes(lists);
        if prefixes > PREFIXES_MAX {
            let message =
                format!("{prefixes} prefixes of clients are over the limit of {PREFIXES_MAX}");
            return Err(whole(message));
        }
        let source = Source { policy: self, facts, terms, slots };
        let mut chains = Chains::new(terms);
        let mut errors = Vec::new();
        let four = LISTS.map(|list| {
            entries(list, &source, lists, &mut chains, numbers).unwrap_or_else(|error| {
                errors.push(error);
                Entries { keys: Vec::new(), lengths: [0; 3], merged: 0 }
            })
        });
        let six = LISTS.map(|list| {
            entries(list, &source, lists, &mut chains, numbers).unwrap_or_else(|error| {
                errors.push(error);
                Entries { keys: Vec::new(), lengths: [0; 3], merged: 0 }
            })
        });
        let kept = self.failsafe.entries(facts).unwrap_or_else(|message| {
            errors.push(PolicyError { line: None, field: "failsafe".into(), message });
            Kept::default()
        });
        errors.dedup_by(|next, kept| next.message == kept.message);
        if !errors.is_empty() {
            return Err(PolicyErrors::new(&self.file, errors));
        }
        numbers.without(&chains.limits);
        let Kept { entries, left_out, .. } = kept;
        Ok((Plan::new(four, six, chains, entries, self.digest_with(lists)), left_out))
    }

    /// Digest of the policy with its lists.
    pub fn digest_with(&self, lists: &Lists) -> u64 {
        let mut digest = Digest::default();
        digest.field(&self.digest.to_le_bytes());
        let mut any = false;
        for name in self.rules.iter().flat_map(|rule| &rule.lists) {
            any = true;
            let list = lists.find(name).map_or(0, |list| list.about.digest);
            digest.field(name.path.as_bytes());
            digest.field(&list.to_le_bytes());
        }
        if any { digest.value() } else { self.digest }
    }
}

impl Plan {
    fn counts(&self) -> Counts {
        let [block4, allow4, limit4] = &self.four;
        let [block6, allow6, limit6] = &self.six;
        Counts {
            block: block4.keys.len() + block6.keys.len(),
            allow: allow4.keys.len() + allow6.keys.len(),
            limit: limit4.keys.len() + limit6.keys.len(),
            merged: self.four.iter().map(|list| list.merged).sum::<usize>()
                + self.six.iter().map(|list| list.merged).sum::<usize>(),
            rules: self.chains.rules.len() - 1,
            limits: self.chains.limits.len() - 1,
            failsafe: self.failsafe.len(),
            failsafe_left_out: 0,
        }
    }
}

fn wide(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
