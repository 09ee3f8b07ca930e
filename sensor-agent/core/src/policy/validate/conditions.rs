//! When a rule applies: ports, protocol, direction, interface.

use super::{
    super::{
        duration::shown,
        model::{Conditions, Direction, Protocol},
        raw::Common,
    },
    Check,
};

impl Check {
    pub(super) fn conditions(&mut self, common: &Common<'_>) -> Conditions {
        let mut ports = Vec::new();
        for (number, port) in common.ports.iter().enumerate() {
            match parse_ports(&port.value.0) {
                Ok(range) => ports.push(range),
                Err(message) => {
                    self.fail(port.line(), format!("{}.ports[{number}]", common.field), message);
                }
            }
        }
        let protocol = common.protocol.and_then(|text| {
            let parsed = parse_protocol(&text.value);
            parsed.unwrap_or_else(|message| {
                self.fail(text.line(), format!("{}.protocol", common.field), message);
                None
            })
        });
        let directions = [
            ("ingress", Direction::Ingress),
            ("egress", Direction::Egress),
            ("both", Direction::Both),
        ];
        let direction =
            self.word(common, "direction", common.direction, &directions, Direction::Both);
        let interface = common.interface.and_then(|text| {
            let name = text.value.as_str();
            // IFNAMSIZ is 16 with the final zero; `/` and white space are not allowed in a name.
            let fits = (1..16).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
            if !fits {
                let message = format!(
                    "`{}` is not the name of an interface; write one such as eth0",
                    shown(name)
                );
                self.fail(text.line(), format!("{}.interface", common.field), message);
            }
            fits.then(|| name.into())
        });
        Conditions { ports: merge(ports), protocol, direction, interface }
    }
}

/// Reads `443` or `8000-8099`.
pub(in super::super) fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let port = |digits: &str| {
        let digits = digits.trim();
        digits
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match (port(low), port(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        _ => Err(format!(
            "`{}` is not a port; write a number from 1 to 65535 or a range such as 8000-8099",
            shown(text)
        )),
    }
}

/// Reads `tcp`, `udp`, or `any`.
pub(in super::super) fn parse_protocol(text: &str) -> Result<Option<Protocol>, String> {
    match text {
        "tcp" => Ok(Some(Protocol::Tcp)),
        "udp" => Ok(Some(Protocol::Udp)),
        "any" => Ok(None),
        other => Err(format!("`{}` is not a protocol; write tcp, udp or any", shown(other))),
    }
}

/// Sorts ranges and joins those that overlap or touch.
pub(in super::super) fn merge(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (low, high) in ranges {
        match merged.last_mut() {
            Some((_, end)) if low <= end.saturating_add(1) => *end = (*end).max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}
