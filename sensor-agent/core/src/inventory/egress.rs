//! What this host calls elsewhere: (host, method) with counts and callers. Bounded; the rest is one overflow row.

use std::{net::IpAddr, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{names::NameId, row::EgressRow};
use crate::{event::Mask, http::Method, time::UnixNs};

/// One host and method.
#[derive(Clone, Debug)]
pub(super) struct Egress {
    pub(super) requests: u64,
    pub(super) observed: u64,
    pub(super) first: UnixNs,
    pub(super) last: UnixNs,
    pub(super) callers: Vec<Caller>,
    pub(super) dirty: bool,
}

/// Who calls: an owner where one is known, else an address; or, from the store, the text as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Owner(NameId),
    Address(IpAddr),
    Shown(Box<str>),
}

impl Caller {
    /// Reads a caller as it was shown.
    pub(super) fn restored(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Shown(text.into()), Self::Address)
    }
}

/// Key of a row; the host is normalised, or `address:port` where none was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EgressKey {
    pub(super) host: Arc<str>,
    pub(super) method: Box<str>,
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct EgressTable {
    rows: HashMap<EgressKey, Egress, RandomState>,
}

/// Host of the overflow row; no host name has braces.
pub(super) const OVERFLOW_HOST: &str = "{overflow}";

impl EgressTable {
    /// Counts one exchange.
    pub(super) fn observe(
        &mut self,
        host: &str,
        method: &Method,
        caller: Caller,
        weight: u64,
        now: UnixNs,
        (rows_max, callers_max): (usize, usize),
    ) {
        let mut key = EgressRef { host, method: method.as_str() };
        if !self.rows.contains_key(&key) && self.rows.len() >= rows_max {
            key = EgressRef { host: OVERFLOW_HOST, method: "*" };
        }
        let row = self.rows.entry_ref(&key).or_insert_with(|| Egress {
            requests: 0,
            observed: 0,
            first: now,
            last: now,
            callers: Vec::new(),
            dirty: true,
        });
        row.requests = row.requests.saturating_add(weight);
        row.observed += 1;
        row.first = row.first.min(now);
        row.last = row.last.max(now);
        row.dirty = true;
        if row.callers.len() < callers_max && !row.callers.contains(&caller) {
            row.callers.push(caller);
        }
    }

    /// The rows, most requests first.
    pub(super) fn view(
        &self,
        owner: impl Fn(NameId) -> Option<Arc<str>>,
        mask: &Mask,
    ) -> Vec<EgressRow> {
        let mut rows: Vec<EgressRow> = self
            .rows
            .iter()
            .map(|(key, row)| EgressRow {
                host: key.host.to_string(),
                method: key.method.to_string(),
                requests: row.requests,
                requests_observed: row.observed,
                first_seen_unix_ns: row.first,
                last_seen_unix_ns: row.last,
                callers: shown(&row.callers, &owner, mask),
            })
            .collect();
        rows.sort_by(|a, b| {
            (b.requests, &a.host, &a.method).cmp(&(a.requests, &b.host, &b.method))
        });
        rows
    }

    /// Rows that changed since the last call, through `take`.
    pub(super) fn take_dirty(&mut self, mut take: impl FnMut(&EgressKey, &Egress)) {
        for (key, row) in self.rows.iter_mut().filter(|(_, row)| row.dirty) {
            row.dirty = false;
            take(key, row);
        }
    }

    /// Puts a stored row back.
    pub(super) fn restore(&mut self, key: EgressKey, row: Egress, rows_max: usize) {
        if self.rows.len() < rows_max {
            self.rows.insert(key, row);
        }
    }
}

/// Callers as shown: sorted, each once.
pub(super) fn shown(
    callers: &[Caller],
    owner: impl Fn(NameId) -> Option<Arc<str>>,
    mask: &Mask,
) -> Vec<String> {
    let mut texts: Vec<String> = callers
        .iter()
        .filter_map(|caller| match caller {
            Caller::Owner(id) => owner(*id).map(|name| name.to_string()),
            Caller::Address(address) => Some(mask.address(*address)),
            Caller::Shown(text) => Some(text.to_string()),
        })
        .collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

#[derive(Hash)]
struct EgressRef<'a> {
    host: &'a str,
    method: &'a str,
}

impl hashbrown::Equivalent<EgressKey> for EgressRef<'_> {
    fn equivalent(&self, key: &EgressKey) -> bool {
        *self.host == *key.host && *self.method == *key.method
    }
}

impl From<&EgressRef<'_>> for EgressKey {
    fn from(key: &EgressRef<'_>) -> Self {
        Self { host: key.host.into(), method: key.method.into() }
    }
}
