//! The policy file as written; every value with its line. Unknown fields are errors.

use std::fmt;

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::{error::PolicyErrors, prefix, validate::CLIENTS_MAX};

/// The whole file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPolicy {
    /// Version of this format: 1.
    pub(super) version: Option<Spanned<u64>>,
    /// Owner of rules that name none.
    pub(super) owner: Option<Spanned<String>>,
    /// Pattern that the reason of every rule must match, beside the agent's own.
    pub(super) require_reason: Option<Spanned<String>>,
    /// Never dropped.
    pub(super) allow: Vec<Spanned<RawRule>>,
    /// Dropped, unless allowed.
    pub(super) block: Vec<Spanned<RawRule>>,
    /// Dropped beyond a rate, unless allowed.
    pub(super) limits: Vec<Spanned<RawLimit>>,
    /// What keeps the host manageable.
    pub(super) failsafe: RawFailsafe,
}

/// A rule of `allow` or `block`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) id: Spanned<String>,
    #[serde(default)]
    pub(super) clients: Option<RawClients>,
    #[serde(default)]
    pub(super) name: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ports: Vec<Spanned<PortText>>,
    #[serde(default)]
    pub(super) protocol: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) direction: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) interface: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) action: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) lists: Vec<Spanned<RawList>>,
    #[serde(default)]
    pub(super) percent: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) include_shared: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) max_share: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) force: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) starts: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) expires: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ttl: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) reason: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) origin: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) owner: Option<Spanned<String>>,
}

/// A rule of `limits`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimit {
    pub(super) id: Spanned<String>,
    #[serde(default)]
    pub(super) clients: Option<RawClients>,
    #[serde(default)]
    pub(super) packets: Option<Spanned<RawRate>>,
    #[serde(default)]
    pub(super) bytes: Option<Spanned<RawRate>>,
    #[serde(default)]
    pub(super) new_connections: Option<Spanned<RawRate>>,
    #[serde(default)]
    pub(super) requests: Option<Spanned<RawRate>>,
    #[serde(default)]
    pub(super) connections: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) key: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) shared: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) client_prefix: RawClientPrefix,
    #[serde(default)]
    pub(super) name: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ports: Vec<Spanned<PortText>>,
    #[serde(default)]
    pub(super) protocol: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) direction: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) interface: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) action: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) lists: Vec<Spanned<RawList>>,
    #[serde(default)]
    pub(super) percent: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) include_shared: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) max_share: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) force: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) starts: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) expires: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ttl: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) reason: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) origin: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) owner: Option<Spanned<String>>,
}

/// `rate` things per `per` (default 1s), `burst` at once (default: `rate`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    pub(super) rate: Spanned<CountText>,
    #[serde(default)]
    pub(super) burst: Option<Spanned<CountText>>,
    #[serde(default)]
    pub(super) per: Option<Spanned<String>>,
}

/// A file of clients.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawList {
    pub(super) file: Spanned<String>,
    #[serde(default)]
    pub(super) format: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) on_error: Option<Spanned<String>>,
}

/// Clients within one prefix of these lengths share an allowance.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClientPrefix {
    pub(super) ipv4: Option<Spanned<u64>>,
    pub(super) ipv6: Option<Spanned<u64>>,
}

/// The failsafe section; every part has a default.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFailsafe {
    pub(super) ssh: RawSsh,
    pub(super) dns: Option<bool>,
    pub(super) dhcp: Option<bool>,
    pub(super) loopback: Option<bool>,
    pub(super) kubernetes: Option<bool>,
    pub(super) upstream: Option<bool>,
    pub(super) also: Vec<Spanned<RawFailsafeRule>>,
}

/// Who may always reach sshd.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSsh {
    pub(super) ports: Option<Vec<Spanned<PortText>>>,
    pub(super) management: Vec<Spanned<String>>,
    pub(super) established: Option<bool>,
}

/// One more failsafe entry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFailsafeRule {
    pub(super) name: Spanned<String>,
    pub(super) networks: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) ports: Vec<Spanned<PortText>>,
    #[serde(default)]
    pub(super) protocol: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) side: Option<Spanned<String>>,
}

/// `443` or `8000-8099`, as text.
#[derive(Clone, Debug)]
pub(super) struct PortText(pub(super) String);

/// `5000`, or with a unit (`10MB`), as text.
#[derive(Clone, Debug)]
pub(super) struct CountText(pub(super) String);

macro_rules! number_or_text {
    ($name:ident, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;
                impl Visitor<'_> for TextVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_u64<E: de::Error>(self, value: u64) -> Result<$name, E> {
                        Ok($name(value.to_string()))
                    }
                    fn visit_i64<E: de::Error>(self, value: i64) -> Result<$name, E> {
                        Ok($name(value.to_string()))
                    }
                    fn visit_str<E: de::Error>(self, value: &str) -> Result<$name, E> {
                        Ok($name(value.to_owned()))
                    }
                }
                deserializer.deserialize_any(TextVisitor)
            }
        }
    };
}

number_or_text!(PortText, "a port such as 443 or a range such as 8000-8099");
number_or_text!(
    CountText,
    "a whole number such as 5000, or for bytes one with a unit such as 10MB"
);

/// A list of clients, each read as it comes: a million of them cost what a million prefixes cost, not a million texts with places.
#[derive(Default)]
pub(super) struct RawClients {
    /// What could be read.
    pub(super) nets: Vec<IpNet>,
    /// Items of the list.
    pub(super) count: usize,
    /// Line, index and text of the message, of the first few mistakes.
    pub(super) mistakes: Vec<(u64, usize, String)>,
}

impl<'de> Deserialize<'de> for RawClients {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClientsVisitor;
        impl<'de> Visitor<'de> for ClientsVisitor {
            type Value = RawClients;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses such as [203.0.113.0/24]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawClients, A::Error> {
                let mut clients = RawClients::default();
                while let Some(item) = items.next_element::<Spanned<String>>()? {
                    clients.add(&item);
                }
                Ok(clients)
            }
        }
        deserializer.deserialize_seq(ClientsVisitor)
    }
}

impl RawClients {
    fn add(&mut self, item: &Spanned<String>) {
        let number = self.count;
        self.count += 1;
        // What is over the limit is counted, so that the refusal has the figure, and not kept.
        if number >= CLIENTS_MAX {
            return;
        }
        match prefix::parse(&item.value) {
            Ok(nets) => self.nets.extend(nets),
            Err(message) if self.mistakes.len() <= PolicyErrors::SHOWN_MAX => {
                self.mistakes.push((item.referenced.line(), number, message));
            }
            Err(_) => {}
        }
    }
}
