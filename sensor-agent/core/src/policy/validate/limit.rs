//! A rule of `limits`: what is counted, for whom, and how much of it is allowed.

use super::{
    super::{
        duration::{parse_ns, shown},
        model::{LimitKey, LimitTerms, Rate, Rule, What},
        placed::Placed,
        prefix,
        raw::{Common, CountText, RawClients, RawLimit, RawRate},
    },
    Check,
};

/// Largest `rate` of packets, connections and requests.
const RATE_MAX: u64 = 100_000_000;
/// Largest `rate` of bytes: 400 Gbit/s; the kernel's unit of time is exact to 0.6 % there.
const RATE_BYTES_MAX: u64 = 50_000_000_000;
/// Slowest `rate` of bytes: a byte earned in 1 ms.
const BYTE_NS_MAX: u64 = 1_000_000;
/// Most connections at a time.
const CONNECTIONS_MAX: u64 = 1_000_000;
/// Longest time in which a burst is earned back.
const BURST_NS_MAX: u128 = 24 * 3600 * 1_000_000_000;

impl Check {
    pub(super) fn limit(
        &mut self,
        common: &Common<'_>,
        raw: &RawLimit,
        owner: Option<&str>,
    ) -> Option<Rule> {
        let everyone = RawClients {
            nets: prefix::parse("any").unwrap_or_default(),
            count: 1,
            ..RawClients::default()
        };
        let clients = match common.clients {
            None if common.lists.is_empty() => Some(&everyone),
            clients => clients,
        };
        if clients.is_some_and(|clients| clients.count == 0) && common.lists.is_empty() {
            let message = "no clients; remove the line for every client";
            self.fail(common.line, format!("{}.clients", common.field), message);
        }
        let terms = self.terms(common, raw);
        if let Some(direction) = common.direction
            && direction.value == "egress"
        {
            let message =
                "limits count packets that come from clients; remove the line, or write ingress";
            self.fail(direction.line(), format!("{}.direction", common.field), message);
        }
        let rule = self.rule(common, clients, What::Limit(terms), owner)?;
        if rule.when.ports.len() > 1 {
            let message = "a limit has one port or one range, so that its allowance is one; write a limit for each";
            self.fail(common.line, format!("{}.ports", common.field), message);
        }
        Some(rule)
    }

    fn terms(&mut self, common: &Common<'_>, raw: &RawLimit) -> LimitTerms {
        let packets = self.rate(common, "packets", raw.packets.as_ref());
        let bytes = self.rate(common, "bytes", raw.bytes.as_ref());
        let new_connections = self.rate(common, "new_connections", raw.new_connections.as_ref());
        let requests = self.rate(common, "requests", raw.requests.as_ref());
        let connections = self.connections(common, raw.connections.as_ref());
        let rates = [&raw.packets, &raw.bytes, &raw.new_connections, &raw.requests];
        if rates.iter().all(|rate| rate.is_none()) && raw.connections.is_none() {
            let message = "nothing is limited; write `packets: {rate: 1000}`, `bytes: {rate: 10MB}`, `new_connections: {rate: 20}`, `connections: 100` or `requests: {rate: 50}`";
            self.fail(common.line, common.field.clone(), message);
        }
        if let Some(protocol) = common.protocol.filter(|protocol| protocol.value == "udp")
            && (raw.new_connections.is_some()
                || raw.requests.is_some()
                || raw.connections.is_some())
        {
            let message = "connections and requests are counted in TCP only; write tcp, or limit packets or bytes";
            self.fail(protocol.line(), format!("{}.protocol", common.field), message);
        }
        let keys = [
            ("address", LimitKey::Address),
            ("forwarded", LimitKey::Forwarded),
            ("credential", LimitKey::Credential),
        ];
        let key = self.word(common, "key", raw.key.as_ref(), &keys, LimitKey::Address);
        let shared = raw.shared.as_ref().is_some_and(|shared| shared.value);
        if let Some(at) = raw.key.as_ref().filter(|_| key != LimitKey::Address) {
            let (line, field) = (at.line(), format!("{}.key", common.field));
            let others = [&raw.packets, &raw.bytes, &raw.new_connections];
            if others.iter().any(|rate| rate.is_some()) || raw.connections.is_some() {
                let message = "who a proxy forwards for, or who shows a credential, is known of requests only; limit `requests`, and write other limits of their own";
                self.fail(line, field, message);
            } else if shared {
                self.fail(line, field, "one allowance for all has no key; remove the line");
            }
        }
        let prefix = &raw.client_prefix;
        let mut prefix_v4 = self.client_prefix(common, "ipv4", prefix.ipv4.as_ref(), 32, 32);
        let mut prefix_v6 = self.client_prefix(common, "ipv6", prefix.ipv6.as_ref(), 128, 64);
        if shared {
            if prefix.ipv4.is_some() || prefix.ipv6.is_some() {
                let message = "shared and client_prefix exclude each other; keep one";
                self.fail(common.line, format!("{}.shared", common.field), message);
            }
            (prefix_v4, prefix_v6) = (0, 0);
        }
        LimitTerms {
            packets,
            bytes,
            new_connections,
            requests,
            connections,
            key,
            prefix_v4,
            prefix_v6,
            shared,
        }
    }

    fn connections(&mut self, common: &Common<'_>, raw: Option<&Placed<u64>>) -> Option<u32> {
        let raw = raw?;
        let count = u32::try_from(raw.value).ok();
        let count = count.filter(|_| (1..=CONNECTIONS_MAX).contains(&raw.value));
        if count.is_none() {
            let message = format!("write a number from 1 to {CONNECTIONS_MAX}");
            self.fail(raw.line(), format!("{}.connections", common.field), message);
        }
        count
    }

    fn rate(
        &mut self,
        common: &Common<'_>,
        name: &str,
        raw: Option<&Placed<RawRate>>,
    ) -> Option<Rate> {
        let raw = &raw?.value;
        let is_bytes = name == "bytes";
        let max = if is_bytes { RATE_BYTES_MAX } else { RATE_MAX };
        let field = |part: &str| format!("{}.{name}.{part}", common.field);
        let count = |text: &CountText| read_count(&text.0, is_bytes);
        let line = raw.rate.line();
        let rate = match count(&raw.rate.value) {
            Ok(rate) if (1..=max).contains(&rate) => rate,
            Ok(_) => {
                let message =
                    format!("write a number from 1 to {max}; for less than one, lengthen `per`");
                self.fail(line, field("rate"), message);
                return None;
            }
            Err(message) => {
                self.fail(line, field("rate"), message);
                return None;
            }
        };
        let period_ns = match raw.per.as_ref().map(|per| (per, parse_ns(&per.value))) {
            None => 1_000_000_000,
            Some((_, Ok(period))) => period,
            Some((per, Err(message))) => {
                self.fail(per.line(), field("per"), message);
                return None;
            }
        };
        if is_bytes && period_ns / rate > BYTE_NS_MAX {
            let message = "less than 1000 bytes a second is not even small packets; write a larger rate or a shorter `per`";
            self.fail(line, field("rate"), message);
            return None;
        }
        let burst = raw.burst.as_ref().map_or(Ok(rate), |burst| count(&burst.value));
        let earned_ns = |burst: u64| u128::from(burst) * u128::from(period_ns) / u128::from(rate);
        match burst {
            Ok(burst) if (1..=max).contains(&burst) && earned_ns(burst) <= BURST_NS_MAX => {
                Some(Rate { count: rate, period_ns, burst })
            }
            other => {
                let at = raw.burst.as_ref().map_or(line, Placed::line);
                let message = other.err().unwrap_or_else(|| {
                    format!("write a number from 1 to {max} that the rate earns back within a day")
                });
                self.fail(at, field("burst"), message);
                None
            }
        }
    }

    fn client_prefix(
        &mut self,
        common: &Common<'_>,
        name: &str,
        raw: Option<&Placed<u64>>,
        max: u8,
        default: u8,
    ) -> u8 {
        let Some(raw) = raw else { return default };
        match u8::try_from(raw.value) {
            Ok(len) if (1..=max).contains(&len) => len,
            _ => {
                let field = format!("{}.client_prefix.{name}", common.field);
                let message = format!("write a prefix length from 1 to {max}, or shared: true");
                self.fail(raw.line(), field, message);
                default
            }
        }
    }
}

/// Reads `5000`; for bytes `10MB` (a million) and `10MiB` (2^20) too.
fn read_count(text: &str, is_bytes: bool) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: Option<u64> = match unit.trim() {
        "" => Some(1),
        "kB" if is_bytes => Some(1_000),
        "MB" if is_bytes => Some(1_000_000),
        "GB" if is_bytes => Some(1_000_000_000),
        "KiB" if is_bytes => Some(1 << 10),
        "MiB" if is_bytes => Some(1 << 20),
        "GiB" if is_bytes => Some(1 << 30),
        _ => None,
    };
    let hint = if is_bytes { ", or one with kB, MB, GB, KiB, MiB or GiB" } else { "" };
    let value = number.parse::<u64>().ok().zip(factor);
    value
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| format!("`{}` is not a whole number; write a number{hint}", shown(text)))
}
