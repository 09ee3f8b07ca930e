//! A policy file to a [`Policy`]: everything is checked and every mistake told at once; one mistake refuses the file.
//!
//! Bounds: [`FILE_BYTES_MAX`], [`CLIENTS_MAX`]. `ttl` counts from the time the file was last changed, so that reading it again
//! does not prolong a rule.

use std::collections::BTreeMap;

use ipnet::IpNet;
use sensor_ebpf::abi::policy::{LIMITS_MAX, RULES_MAX};
use serde_saphyr::Spanned;

use super::{
    duration::{parse_ns, shown},
    error::{PolicyError, PolicyErrors},
    failsafe,
    model::{
        About, Conditions, Direction, LimitTerms, Policy, Protocol, Rate, Rule, RuleAction, What,
    },
    prefix,
    raw::{PortText, RawLimit, RawPolicy, RawRate, RawRule},
};
use crate::{catalogue::parse_rfc3339, digest::Digest, time::UnixNs};

/// Largest policy file, bytes.
pub const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Client prefixes in one policy.
pub const CLIENTS_MAX: usize = 1_000_000;
/// Longest text of `id`, `reason` and the like, characters.
const TEXT_MAX: usize = 256;
/// Largest `rate`.
const RATE_MAX: u64 = 100_000_000;
/// Longest time in which a burst is earned back.
const BURST_NS_MAX: u128 = 24 * 3600 * 1_000_000_000;

/// Reads and checks a policy file. `changed` is when the file was last written.
pub fn parse(file: &str, bytes: &[u8], changed: UnixNs) -> Result<Policy, PolicyErrors> {
    let refuse = |line: u64, message: String| {
        let line = Some(line).filter(|line| *line > 0);
        PolicyErrors::new(file, vec![PolicyError { line, field: String::new(), message }])
    };
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!(
            "{} bytes are over the limit of {FILE_BYTES_MAX} for a policy file",
            bytes.len()
        );
        return Err(refuse(0, message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count() as u64 + 1;
        refuse(line, "not UTF-8 text; save the file as UTF-8".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: RawPolicy = crate::yaml::from_str(text)
        .map_err(|error| refuse(error.line.unwrap_or(0), error.message))?;
    let mut check = Check {
        errors: Vec::new(),
        warnings: Vec::new(),
        ids: BTreeMap::new(),
        clients: 0,
        changed,
    };
    let rules = check.rules(&raw);
    let failsafe = failsafe::validate(&raw.failsafe, &mut |line, field, message| {
        check.errors.push(PolicyError { line: Some(line), field, message });
    });
    if !check.errors.is_empty() {
        return Err(PolicyErrors::new(file, check.errors));
    }
    let mut digest = Digest::default();
    digest.field(bytes);
    Ok(Policy {
        file: file.to_owned(),
        rules,
        failsafe,
        warnings: check.warnings,
        digest: digest.value(),
    })
}

struct Check {
    errors: Vec<PolicyError>,
    warnings: Vec<(u64, String)>,
    ids: BTreeMap<String, u64>,
    clients: usize,
    changed: UnixNs,
}

/// The fields that every kind of rule has.
struct Common<'r> {
    field: String,
    line: u64,
    id: &'r Spanned<String>,
    name: Option<&'r Spanned<String>>,
    ports: &'r [Spanned<PortText>],
    protocol: Option<&'r Spanned<String>>,
    direction: Option<&'r Spanned<String>>,
    interface: Option<&'r Spanned<String>>,
    action: Option<&'r Spanned<String>>,
    expires: Option<&'r Spanned<String>>,
    ttl: Option<&'r Spanned<String>>,
    reason: Option<&'r Spanned<String>>,
    origin: Option<&'r Spanned<String>>,
    owner: Option<&'r Spanned<String>>,
}

macro_rules! common {
    ($field:expr, $raw:expr) => {
        Common {
            field: $field,
            line: $raw.referenced.line(),
            id: &$raw.value.id,
            name: $raw.value.name.as_ref(),
            ports: &$raw.value.ports,
            protocol: $raw.value.protocol.as_ref(),
            direction: $raw.value.direction.as_ref(),
            interface: $raw.value.interface.as_ref(),
            action: $raw.value.action.as_ref(),
            expires: $raw.value.expires.as_ref(),
            ttl: $raw.value.ttl.as_ref(),
            reason: $raw.value.reason.as_ref(),
            origin: $raw.value.origin.as_ref(),
            owner: $raw.value.owner.as_ref(),
        }
    };
}

impl Check {
    fn fail(&mut self, line: u64, field: String, message: impl Into<String>) {
        // One more than is shown, so that a million mistakes cost no memory.
        if self.errors.len() <= PolicyErrors::SHOWN_MAX {
            self.errors.push(PolicyError {
                line: Some(line).filter(|line| *line > 0),
                field,
                message: message.into(),
            });
        }
    }

    fn rules(&mut self, raw: &RawPolicy) -> Vec<Rule> {
        if let Some(version) = &raw.version
            && version.value != 1
        {
            self.fail(
                version.referenced.line(),
                "version".into(),
                format!("version {} is not known; write 1", version.value),
            );
        }
        let owner = raw.owner.as_ref().and_then(|owner| self.text(owner, "owner"));
        let mut rules = Vec::new();
        for (number, rule) in raw.allow.iter().enumerate() {
            rules.extend(self.plain(
                &common!(format!("allow[{number}]"), rule),
                &rule.value,
                What::Allow,
                owner.as_deref(),
            ));
        }
        for (number, rule) in raw.block.iter().enumerate() {
            rules.extend(self.plain(
                &common!(format!("block[{number}]"), rule),
                &rule.value,
                What::Block,
                owner.as_deref(),
            ));
        }
        for (number, rule) in raw.limits.iter().enumerate() {
            rules.extend(self.limit(
                &common!(format!("limits[{number}]"), rule),
                &rule.value,
                owner.as_deref(),
            ));
        }
        if rules.len() >= RULES_MAX as usize {
            self.fail(
                0,
                String::new(),
                format!("{} rules are over the limit of {}", rules.len(), RULES_MAX - 1),
            );
        }
        if raw.limits.len() >= LIMITS_MAX as usize {
            self.fail(
                0,
                "limits".into(),
                format!("{} limits are over the limit of {}", raw.limits.len(), LIMITS_MAX - 1),
            );
        }
        rules
    }

    fn plain(
        &mut self,
        common: &Common<'_>,
        raw: &RawRule,
        what: What,
        owner: Option<&str>,
    ) -> Option<Rule> {
        let clients = self.clients(common, &raw.clients);
        if what == What::Allow
            && let Some(action) = common.action
        {
            let field = format!("{}.action", common.field);
            self.fail(
                action.referenced.line(),
                field,
                "an allow rule has no action; remove the line",
            );
        }
        let rule = self.rule(common, what, clients, owner);
        if let Some(rule) = &rule
            && rule.what == What::Block
            && rule.action == RuleAction::Drop
            && let Some(all) = rule.clients.iter().find(|net| net.prefix_len() == 0)
        {
            self.warnings.push((
                common.line,
                format!("rule `{}` drops every client ({all})", rule.about.id),
            ));
        }
        rule
    }

    fn limit(&mut self, common: &Common<'_>, raw: &RawLimit, owner: Option<&str>) -> Option<Rule> {
        let clients = match &raw.clients {
            Some(list) => self.clients(common, list),
            None => prefix::parse("any").unwrap_or_default(),
        };
        let packets = self.rate(common, "packets", raw.packets.as_ref());
        let connections = self.rate(common, "new_connections", raw.new_connections.as_ref());
        if raw.packets.is_none() && raw.new_connections.is_none() {
            let message = "nothing is limited; write `packets: {rate: 1000}` or `new_connections: {rate: 20}`";
            self.fail(common.line, common.field.clone(), message);
        }
        let prefix_v4 = self.client_prefix(common, "ipv4", raw.client_prefix.ipv4.as_ref(), 32, 32);
        let prefix_v6 =
            self.client_prefix(common, "ipv6", raw.client_prefix.ipv6.as_ref(), 128, 64);
        if let Some(direction) = common.direction
            && direction.value == "egress"
        {
            let message =
                "limits count packets that come from clients; remove the line, or write ingress";
            self.fail(direction.referenced.line(), format!("{}.direction", common.field), message);
        }
        let terms = LimitTerms { packets, connections, prefix_v4, prefix_v6 };
        let rule = self.rule(common, What::Limit(terms), clients, owner)?;
        if rule.when.ports.len() > 1 {
            let message = "a limit has one port or one range, so that its allowance is one; write a limit for each";
            self.fail(common.line, format!("{}.ports", common.field), message);
        }
        Some(rule)
    }

    fn rule(
        &mut self,
        common: &Common<'_>,
        what: What,
        clients: Vec<IpNet>,
        owner: Option<&str>,
    ) -> Option<Rule> {
        let before = self.errors.len();
        let about = self.about(common, owner);
        let when = self.conditions(common);
        let action = self.action(common);
        let expires = self.expires(common);
        (self.errors.len() == before).then_some(Rule {
            about,
            what,
            clients,
            when,
            action,
            expires,
        })
    }

    fn about(&mut self, common: &Common<'_>, owner: Option<&str>) -> About {
        let id = &common.id.value;
        let line = common.id.referenced.line();
        let fits = (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !fits {
            let message = format!(
                "`{}` is not an id; write 1 to 64 letters, digits, dots, dashes or underscores",
                shown(id)
            );
            self.fail(line, format!("{}.id", common.field), message);
        } else if let Some(first) = self.ids.insert(id.clone(), line) {
            let message =
                format!("`{id}` is the id of the rule in line {first} too; ids must differ");
            self.fail(line, format!("{}.id", common.field), message);
        }
        let mut text = |value: Option<&Spanned<String>>, name: &str| {
            value.and_then(|value| self.text(value, &format!("{}.{name}", common.field)))
        };
        About {
            id: id.as_str().into(),
            name: text(common.name, "name"),
            reason: text(common.reason, "reason"),
            origin: text(common.origin, "origin"),
            owner: text(common.owner, "owner").or_else(|| owner.map(Into::into)),
            line: common.line,
        }
    }

    fn text(&mut self, value: &Spanned<String>, field: &str) -> Option<Box<str>> {
        let text = value.value.trim();
        if text.chars().count() > TEXT_MAX || text.chars().any(char::is_control) {
            let message = format!("write one line of at most {TEXT_MAX} characters");
            self.fail(value.referenced.line(), field.to_owned(), message);
            return None;
        }
        Some(text.into())
    }

    fn clients(&mut self, common: &Common<'_>, list: &[Spanned<String>]) -> Vec<IpNet> {
        if list.is_empty() {
            let message = "no clients; write addresses such as 203.0.113.0/24, or any";
            self.fail(common.line, format!("{}.clients", common.field), message);
        }
        self.clients += list.len();
        if self.clients > CLIENTS_MAX {
            self.fail(
                common.line,
                format!("{}.clients", common.field),
                format!("over the limit of {CLIENTS_MAX} clients"),
            );
            return Vec::new();
        }
        let mut clients = Vec::with_capacity(list.len());
        for (number, text) in list.iter().enumerate() {
            match prefix::parse(&text.value) {
                Ok(nets) => clients.extend(nets),
                Err(message) => self.fail(
                    text.referenced.line(),
                    format!("{}.clients[{number}]", common.field),
                    message,
                ),
            }
        }
        clients.sort();
        clients.dedup();
        clients
    }

    fn conditions(&mut self, common: &Common<'_>) -> Conditions {
        let mut ports = Vec::new();
        for (number, port) in common.ports.iter().enumerate() {
            match parse_ports(&port.value.0) {
                Ok(range) => ports.push(range),
                Err(message) => self.fail(
                    port.referenced.line(),
                    format!("{}.ports[{number}]", common.field),
                    message,
                ),
            }
        }
        let protocol = common.protocol.and_then(|text| {
            let parsed = parse_protocol(&text.value);
            parsed.unwrap_or_else(|message| {
                self.fail(text.referenced.line(), format!("{}.protocol", common.field), message);
                None
            })
        });
        let direction =
            common.direction.map_or(Direction::Both, |text| match text.value.as_str() {
                "both" => Direction::Both,
                "ingress" => Direction::Ingress,
                "egress" => Direction::Egress,
                other => {
                    let message = format!(
                        "`{}` is not a direction; write ingress, egress or both",
                        shown(other)
                    );
                    self.fail(
                        text.referenced.line(),
                        format!("{}.direction", common.field),
                        message,
                    );
                    Direction::Both
                }
            });
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
                self.fail(text.referenced.line(), format!("{}.interface", common.field), message);
            }
            fits.then(|| name.into())
        });
        Conditions { ports: merge(ports), protocol, direction, interface }
    }

    fn action(&mut self, common: &Common<'_>) -> RuleAction {
        let Some(text) = common.action else { return RuleAction::Drop };
        let message = match text.value.as_str() {
            "drop" => return RuleAction::Drop,
            "monitor" => return RuleAction::Monitor,
            "reset" => {
                "reset is not supported by this version yet; write drop or monitor".to_owned()
            }
            other => format!("`{}` is not an action; write drop or monitor", shown(other)),
        };
        self.fail(text.referenced.line(), format!("{}.action", common.field), message);
        RuleAction::Drop
    }

    fn expires(&mut self, common: &Common<'_>) -> Option<UnixNs> {
        if let (Some(_), Some(ttl)) = (common.expires, common.ttl) {
            let message = "expires and ttl exclude each other; keep one";
            self.fail(ttl.referenced.line(), format!("{}.ttl", common.field), message);
        }
        if let Some(text) = common.expires {
            let date = parse_rfc3339(&text.value);
            if date.is_none() {
                let message = format!(
                    "`{}` is not a date; write 2026-12-31 or 2026-12-31T18:00:00Z",
                    shown(&text.value)
                );
                self.fail(text.referenced.line(), format!("{}.expires", common.field), message);
            }
            return date;
        }
        let text = common.ttl?;
        match parse_ns(&text.value) {
            Ok(ttl) => Some(UnixNs(self.changed.0.saturating_add(ttl))),
            Err(message) => {
                self.fail(text.referenced.line(), format!("{}.ttl", common.field), message);
                None
            }
        }
    }

    fn rate(
        &mut self,
        common: &Common<'_>,
        name: &str,
        raw: Option<&Spanned<RawRate>>,
    ) -> Option<Rate> {
        let raw = &raw?.value;
        let field = |part: &str| format!("{}.{name}.{part}", common.field);
        let line = raw.rate.referenced.line();
        if !(1..=RATE_MAX).contains(&raw.rate.value) {
            self.fail(
                line,
                field("rate"),
                format!("write a number from 1 to {RATE_MAX}; for less than one, lengthen `per`"),
            );
            return None;
        }
        let period_ns = match raw.per.as_ref().map(|per| (per, parse_ns(&per.value))) {
            None => 1_000_000_000,
            Some((_, Ok(period))) => period,
            Some((per, Err(message))) => {
                self.fail(per.referenced.line(), field("per"), message);
                return None;
            }
        };
        let burst = raw.burst.as_ref().map_or(raw.rate.value, |burst| burst.value);
        let earned_ns = u128::from(burst) * u128::from(period_ns) / u128::from(raw.rate.value);
        if !(1..=RATE_MAX).contains(&burst) || earned_ns > BURST_NS_MAX {
            let at = raw.burst.as_ref().map_or(line, |burst| burst.referenced.line());
            self.fail(
                at,
                field("burst"),
                format!(
                    "write a number from 1 to {RATE_MAX} that the rate earns back within a day"
                ),
            );
            return None;
        }
        let (count, burst) = (u32::try_from(raw.rate.value).ok()?, u32::try_from(burst).ok()?);
        Some(Rate { count, period_ns, burst })
    }

    fn client_prefix(
        &mut self,
        common: &Common<'_>,
        name: &str,
        raw: Option<&Spanned<u64>>,
        max: u8,
        default: u8,
    ) -> u8 {
        let Some(raw) = raw else { return default };
        match u8::try_from(raw.value) {
            Ok(len) if (1..=max).contains(&len) => len,
            _ => {
                let field = format!("{}.client_prefix.{name}", common.field);
                self.fail(
                    raw.referenced.line(),
                    field,
                    format!("write a prefix length from 1 to {max}"),
                );
                default
            }
        }
    }
}

/// Reads `443` or `8000-8099`.
pub(super) fn parse_ports(text: &str) -> Result<(u16, u16), String> {
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
pub(super) fn parse_protocol(text: &str) -> Result<Option<Protocol>, String> {
    match text {
        "tcp" => Ok(Some(Protocol::Tcp)),
        "udp" => Ok(Some(Protocol::Udp)),
        "any" => Ok(None),
        other => Err(format!("`{}` is not a protocol; write tcp, udp or any", shown(other))),
    }
}

/// Sorts ranges and joins those that overlap or touch.
pub(super) fn merge(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
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
