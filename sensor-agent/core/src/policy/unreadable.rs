//! Limits of HTTP requests where no request can be counted: at listeners that only speak TLS, or HTTP/2.
//!
//! What is known of the listeners comes from the coverage, exact counts of connections. Where it has nothing about a port, the port's usual protocol
//! only makes a warning.

use super::{
    hazards::Hazard,
    model::{Policy, What},
};

/// Connections of a listener by what they carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its port.
    pub port: u16,
    /// HTTP/1 in clear text.
    pub http: u64,
    /// HTTP/2 with prior knowledge.
    pub h2c: u64,
    /// TLS.
    pub tls: u64,
}

/// What stands in the way of limits of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Rules that would limit nothing.
    pub hazards: Vec<Hazard>,
    /// Rules that may limit nothing, with their lines.
    pub warnings: Vec<(u64, String)>,
}

/// Ports that are TLS wherever they are used as they are meant.
const TLS_PORTS: [u16; 2] = [443, 8443];

/// Asks each limit of requests whether a listener that it is for has ever spoken HTTP/1 in clear text.
pub fn unreadable(policy: &Policy, listeners: &[Listener]) -> Unreadable {
    let mut found = Unreadable::default();
    for (number, rule) in policy.rules.iter().enumerate() {
        let What::Limit(terms) = &rule.what else { continue };
        if terms.requests.is_none() || rule.force {
            continue;
        }
        let ports = &rule.when.ports;
        let within = |port: u16| {
            ports.is_empty() || ports.iter().any(|(low, high)| (*low..=*high).contains(&port))
        };
        let known = listeners.iter().filter(|own| within(own.port));
        let sum = known.fold(Listener::default(), |sum, own| Listener {
            port: own.port,
            http: sum.http + own.http,
            h2c: sum.h2c + own.h2c,
            tls: sum.tls + own.tls,
        });
        let spoken = match sum {
            Listener { http: 1.., .. } => continue,
            Listener { tls: 1.., h2c: 0, .. } => format!("TLS ({} connections)", sum.tls),
            Listener { tls: 0, h2c: 1.., .. } => format!("HTTP/2 ({} connections)", sum.h2c),
            Listener { tls: 1.., h2c: 1.., .. } => {
                format!("TLS and HTTP/2 ({} and {} connections)", sum.tls, sum.h2c)
            }
            Listener { tls: 0, h2c: 0, .. } => {
                let only_tls = !ports.is_empty()
                    && ports.iter().all(|(low, high)| low == high && TLS_PORTS.contains(low));
                if only_tls {
                    let warning = format!(
                        "rule `{}`: requests are counted in clear HTTP/1 only, and its port usually speaks TLS; nothing is known of its listener yet",
                        rule.about.id
                    );
                    found.warnings.push((rule.about.line, warning));
                }
                continue;
            }
        };
        found.hazards.push(Hazard {
            rule: number,
            line: rule.about.line,
            id: rule.about.id.clone(),
            message: format!(
                "its listeners only speak {spoken}; requests are counted in clear HTTP/1 only, so nothing would be limited: limit `new_connections`, `connections` or `packets` there"
            ),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::parse, time::UnixNs};

    fn asked(rule: &str, listeners: &[Listener]) -> Unreadable {
        let text = format!("version: 1\nlimits:\n  - {{id: a, requests: {{rate: 5}}{rule}}}\n");
        let policy = parse("p.yaml", text.as_bytes(), UnixNs(1)).unwrap();
        unreadable(&policy, listeners)
    }

    fn listener(port: u16, http: u64, tls: u64) -> Listener {
        Listener { port, http, tls, h2c: 0 }
    }

    #[test]
    fn a_listener_that_only_speaks_tls_is_a_hazard() {
        let found = asked(", ports: [443]", &[listener(443, 0, 9), listener(80, 7, 0)]);
        assert!(found.hazards[0].message.contains("TLS (9 connections)"), "{found:?}");
        assert!(found.warnings.is_empty());
    }

    #[test]
    fn one_that_was_read_or_that_is_meant_is_none() {
        assert_eq!(asked(", ports: [443]", &[listener(443, 1, 9)]), Unreadable::default());
        assert_eq!(asked("", &[listener(443, 0, 9), listener(80, 7, 0)]), Unreadable::default());
        let forced = asked(", ports: [443], force: true", &[listener(443, 0, 9)]);
        assert_eq!(forced, Unreadable::default());
    }

    #[test]
    fn an_unknown_listener_of_a_port_for_tls_is_a_warning() {
        assert_eq!(asked(", ports: [443]", &[]).warnings.len(), 1);
        assert_eq!(asked(", ports: [80]", &[]), Unreadable::default());
    }
}
