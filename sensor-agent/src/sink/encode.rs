//! Core events to sensor.v1: field by field, nothing decided here.

use sensor_core::{
    event::{
        AuditEvent, AuditVersion, EndpointChange, EndpointEvent, Event, EventBody, ExchangeEvent,
        LedgerCount, Peer, PolicyChange, PolicyEvent,
    },
    inventory::CoverageRow,
    time::UnixNs,
};
use sensor_proto::v1::{self, event::Body};

/// Encodes one event.
#[must_use]
pub fn encode(event: Event) -> v1::Event {
    let body = match event.body {
        EventBody::Exchange(exchange) => Body::Exchange(self::exchange(*exchange)),
        EventBody::Endpoint(endpoint) => Body::Endpoint(self::endpoint(*endpoint)),
        EventBody::Ledger(counts) => Body::Ledger(ledger(&counts)),
        EventBody::Coverage(row) => Body::Coverage(coverage(*row)),
        EventBody::Policy(policy) => Body::Policy(self::policy(*policy)),
        EventBody::Audit(entry) => Body::Audit(audit(*entry)),
    };
    v1::Event { time_unix_nano: event.time.0, body: Some(body) }
}

fn peer(peer: Peer) -> v1::Peer {
    let owner = peer.owner.map(|owner| owner.to_string()).unwrap_or_default();
    v1::Peer { address: peer.address, port: peer.port.into(), owner }
}

fn exchange(event: ExchangeEvent) -> v1::Exchange {
    let text = |text: Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    v1::Exchange {
        method: event.method.to_string(),
        host: event.host.to_string(),
        service: event.service.to_string(),
        path_template: event.path_template.to_string(),
        status: event.status.map(u32::from),
        client: Some(peer(event.client)),
        server: Some(peer(event.server)),
        latency_ns: event.latency_ns,
        request_body_bytes: event.request_body_bytes,
        response_body_bytes: event.response_body_bytes,
        request_content_type: text(event.request_content_type),
        response_content_type: text(event.response_content_type),
        auth: event.auth.into(),
        user_agent: text(event.user_agent),
        weight: event.weight,
        role: event.role.to_string(),
    }
}

fn endpoint(event: EndpointEvent) -> v1::Endpoint {
    let (change, previous) = match event.change {
        EndpointChange::Discovered => ("discovered", String::new()),
        EndpointChange::State { previous } => ("state", previous.to_string()),
        EndpointChange::Updated => ("updated", String::new()),
    };
    let row = event.row;
    let time = |time: Option<UnixNs>| time.unwrap_or_default().0;
    v1::Endpoint {
        change: change.into(),
        id: row.id,
        service: row.service,
        hosts: row.hosts,
        method: row.method,
        path_template: row.path_template,
        kind: row.kind.as_str().into(),
        state: row.state.to_string(),
        previous_state: previous,
        declaration: row.declaration.to_string(),
        lifecycle: row.lifecycle.to_string(),
        activity: row.activity.to_string(),
        first_seen_unix_nano: time(row.first_seen_unix_ns),
        last_seen_unix_nano: time(row.last_seen_unix_ns),
        requests: row.status.into_iter().collect(),
        auth_schemes: row.auth,
        clients: row.clients,
        reason: row.reason,
        owner: row.owner.unwrap_or_default(),
    }
}

fn ledger(counts: &[LedgerCount]) -> v1::Ledger {
    let counts = counts.iter().map(|count| v1::ledger::Count {
        stage: count.stage.into(),
        name: count.name.into(),
        value: count.value,
    });
    v1::Ledger { counts: counts.collect() }
}

fn coverage(row: CoverageRow) -> v1::Coverage {
    let (address, port) = row.listener.rsplit_once(':').unwrap_or((&row.listener, ""));
    let listener = v1::Peer {
        address: address.trim_matches(['[', ']']).into(),
        port: port.parse().unwrap_or(0),
        owner: row.owner.unwrap_or_default(),
    };
    v1::Coverage {
        listener: Some(listener),
        opened: row.opened,
        http: row.http,
        h2c: row.h2c,
        tls: row.tls,
        other: row.other,
        silent: row.silent,
        closed: row.closed,
    }
}

fn policy(event: PolicyEvent) -> v1::Policy {
    let (change, error, hits) = match event.change {
        PolicyChange::Applied => ("applied", String::new(), Vec::new()),
        PolicyChange::Refused { error } => ("refused", error, Vec::new()),
        PolicyChange::Hits(hits) => ("hits", String::new(), hits),
    };
    let hits = hits.into_iter().map(|hit| v1::policy::RuleHits {
        rule: hit.rule,
        packets: hit.packets,
        bytes: hit.bytes,
        last_unix_nano: hit.last.0,
    });
    v1::Policy {
        change: change.into(),
        generation: event.generation,
        hash: event.hash,
        origin: event.origin,
        error,
        hits: hits.collect(),
        mode: event.mode.into(),
    }
}

fn audit(event: AuditEvent) -> v1::Audit {
    let version = |version: AuditVersion| {
        Some(v1::audit::Version {
            generation: version.generation,
            hash: version.hash,
            sha256: version.sha256,
        })
    };
    v1::Audit {
        number: event.number,
        action: event.action,
        who: event.who,
        reason: event.reason,
        result: event.result,
        before: version(event.before),
        after: version(event.after),
        diff: event.diff,
        previous: event.previous,
        head: event.head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_both_families_are_taken_apart() {
        let of = |listener: &str| {
            let row = CoverageRow { listener: listener.into(), ..CoverageRow::default() };
            coverage(row).listener.map(|peer| (peer.address, peer.port))
        };
        assert_eq!(of("192.0.2.1:80"), Some(("192.0.2.1".into(), 80)));
        assert_eq!(of("[2001:db8::1]:443"), Some(("2001:db8::1".into(), 443)));
    }
}
