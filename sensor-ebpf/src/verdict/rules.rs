//! Whether a rule applies to a packet, and the time of the packet.

use crate::{
    abi::{
        counter::Counter,
        image::{ListId, RULE_INCLUDE_SHARED, Rule, canary},
    },
    tables::{Hit, Tables},
    work::{PORTS_UNKNOWN, WALKED_AGAIN, Work},
};

/// Whether all conditions of a rule hold for the end that is looked up. The clock is read only for a rule with a time.
#[inline(always)]
pub(super) fn applies<T: Tables>(list: ListId, rule: &Rule, tables: &T, work: &mut Work) -> bool {
    let search = &work.search;
    // Else a chain of extension headers would be a way past every rule with a port. It makes nobody allowed.
    let unknown = search.no_ports == PORTS_UNKNOWN && !matches!(list, ListId::Allow);
    let any_port = unknown || (rule.port_min == 0 && rule.port_max == u16::MAX);
    let port = search.service_port;
    if !any_port
        && (search.no_ports != 0
            || port < u32::from(rule.port_min)
            || port > u32::from(rule.port_max))
    {
        return false;
    }
    if !unknown && rule.protocol != 0 && rule.protocol != work.headers.tuple.protocol {
        return false;
    }
    if rule.direction != 0 && u32::from(rule.direction) != search.direction {
        return false;
    }
    if rule.ifindex != 0 && rule.ifindex != search.ifindex {
        return false;
    }
    if rule.share != u32::MAX && !in_share(rule, work) {
        return false;
    }
    if rule.starts_ns != 0 && now(tables, work) < rule.starts_ns {
        work.search.until_ns = work.search.until_ns.min(rule.starts_ns);
        return false;
    }
    if rule.expires_ns != 0 {
        if now(tables, work) >= rule.expires_ns {
            return false;
        }
        work.search.until_ns = work.search.until_ns.min(rule.expires_ns);
    }
    matches!(list, ListId::Allow) || !skips_shared(rule, tables, work)
}

#[inline(always)]
fn in_share(rule: &Rule, work: &Work) -> bool {
    let low = if work.headers.family == 4 { work.search.low } else { 0 };
    canary(rule.salt, work.search.high, low) < rule.share
}

/// Whether many clients share the address and the rule is not for those; counted.
#[inline(always)]
fn skips_shared<T: Tables>(rule: &Rule, tables: &T, work: &mut Work) -> bool {
    if rule.flags & RULE_INCLUDE_SHARED != 0 || tables.settings().shared_sources == 0 {
        return false;
    }
    let tuple = &work.headers.tuple;
    let until = tables.shared_until(if work.search.end == 0 { &tuple.src } else { &tuple.dst });
    if until == 0 || now(tables, work) >= until {
        return false;
    }
    if work.search.exempt == WALKED_AGAIN {
        return true;
    }
    tables.count(Counter::SharedSkipped);
    let now = now(tables, work);
    tables.hit(rule.hits, Hit::Shared, work.search.packets.into(), work.search.bytes.into(), now);
    true
}

/// Time of the sighting, read once.
#[inline(always)]
pub(crate) fn now<T: Tables>(tables: &T, work: &mut Work) -> u64 {
    if work.cursor.now_ns == 0 {
        work.cursor.now_ns = tables.now_ns();
    }
    work.cursor.now_ns
}
