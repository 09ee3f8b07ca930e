//! Finds the rule of a list that applies to a packet: longest prefix first, then `next` rules and shorter prefixes.
//!
//! Bound: `LOOKUPS_MAX` steps for each end of the packet. No entry hides a shorter one: when the one found does not apply
//! (or only monitors), the look-up is repeated with one bit less.

use core::ops::ControlFlow;

use crate::{
    abi::policy::{Action, LOOKUPS_MAX, PolicyEntry, Rule},
    tables::{List, Step, Tables},
    work::Work,
};

/// The end of a packet whose address is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The packet comes from the listed client.
    Source,
    /// The packet goes to the listed client.
    Destination,
}

/// Prepares the look-up of one end and asks the trie once.
#[inline(always)]
pub(super) fn first_lookup<T: Tables>(list: List, end: End, tables: &T, work: &mut Work) -> bool {
    let tuple = &work.headers.tuple;
    let (address, service_port) = match end {
        End::Source => (&tuple.src, tuple.dst_port),
        End::Destination => (&tuple.dst, tuple.src_port),
    };
    work.search.service_port = u32::from(service_port);
    let entry = if work.headers.family == 4 {
        let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d] = *address;
        work.lpm4.addr = [a, b, c, d];
        work.lpm4.prefix_len = 32;
        tables.lookup4(list, &work.lpm4)
    } else {
        work.lpm6.addr = *address;
        work.lpm6.prefix_len = 128;
        tables.lookup6(list, &work.lpm6)
    };
    let Some(entry) = entry else { return false };
    accept(entry, work);
    true
}

/// Goes through the rules that the first look-up led to; the one that applies is `work.search.found`.
#[inline(never)]
pub(super) fn resolve<T: Tables>(list: List, tables: &T, work: &mut Work) -> bool {
    work.search.found = 0;
    work.search.monitored = 0;
    tables.repeat(LOOKUPS_MAX, &mut Resolve { list, tables, work });
    work.search.found != 0
}

struct Resolve<'a, T> {
    list: List,
    tables: &'a T,
    work: &'a mut Work,
}

impl<T: Tables> Step for Resolve<'_, T> {
    #[inline(always)]
    fn step(&mut self) -> ControlFlow<()> {
        if self.work.search.pending != 0 {
            return self.ask_rule();
        }
        let work = &mut *self.work;
        if work.search.prefix_len == 0 {
            return ControlFlow::Break(());
        }
        let shorter = work.search.prefix_len - 1;
        let entry = if work.headers.family == 4 {
            work.lpm4.prefix_len = shorter;
            self.tables.lookup4(self.list, &work.lpm4)
        } else {
            work.lpm6.prefix_len = shorter;
            self.tables.lookup6(self.list, &work.lpm6)
        };
        let Some(entry) = entry else { return ControlFlow::Break(()) };
        accept(entry, work);
        ControlFlow::Continue(())
    }
}

impl<T: Tables> Resolve<'_, T> {
    #[inline(always)]
    fn ask_rule(&mut self) -> ControlFlow<()> {
        let index = self.work.search.pending;
        self.work.search.pending = 0;
        if matches!(self.list, List::Allow) && index == UNCONDITIONAL {
            self.work.search.found = index;
            return ControlFlow::Break(());
        }
        let Some(rule) = self.tables.rule(index) else { return ControlFlow::Continue(()) };
        self.work.search.pending = rule.next;
        if !applies(rule, self.tables, self.work) {
            return ControlFlow::Continue(());
        }
        if matches!(self.list, List::Block) && rule.action == Action::Monitor as u8 {
            if self.work.search.monitored == 0 {
                self.work.search.monitored = index;
            }
            return ControlFlow::Continue(());
        }
        self.work.search.found = index;
        ControlFlow::Break(())
    }
}

/// Stands for "allowed without condition" (an allow entry with rule 0).
pub(super) const UNCONDITIONAL: u32 = u32::MAX;

#[inline(always)]
fn accept(entry: PolicyEntry, work: &mut Work) {
    work.search.pending = if entry.rule == 0 { UNCONDITIONAL } else { entry.rule };
    work.search.prefix_len = u32::from(entry.prefix_len);
}

/// Whether all conditions of a rule hold for the packet. The clock is read only for a rule that expires.
#[inline(always)]
pub(super) fn applies<T: Tables>(rule: &Rule, tables: &T, work: &mut Work) -> bool {
    let search = &work.search;
    let any_port = rule.port_min == 0 && rule.port_max == u16::MAX;
    let port = search.service_port;
    if !any_port
        && (search.no_ports != 0
            || port < u32::from(rule.port_min)
            || port > u32::from(rule.port_max))
    {
        return false;
    }
    if rule.protocol != 0 && rule.protocol != work.headers.tuple.protocol {
        return false;
    }
    if rule.direction != 0 && u32::from(rule.direction) != search.direction {
        return false;
    }
    if rule.ifindex != 0 && rule.ifindex != search.ifindex {
        return false;
    }
    rule.expires_ns == 0 || now(tables, work) < rule.expires_ns
}

/// Time of the sighting, read once.
#[inline(always)]
pub(crate) fn now<T: Tables>(tables: &T, work: &mut Work) -> u64 {
    if work.cursor.now_ns == 0 {
        work.cursor.now_ns = tables.now_ns();
    }
    work.cursor.now_ns
}
