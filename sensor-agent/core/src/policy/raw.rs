//! The policy file as written; every value with its line. Unknown fields are errors.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use serde_saphyr::Spanned;

/// The whole file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPolicy {
    /// Version of this format: 1.
    pub(super) version: Option<Spanned<u64>>,
    /// Owner of rules that name none.
    pub(super) owner: Option<Spanned<String>>,
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
    pub(super) clients: Vec<Spanned<String>>,
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
    pub(super) clients: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) packets: Option<Spanned<RawRate>>,
    #[serde(default)]
    pub(super) new_connections: Option<Spanned<RawRate>>,
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
    pub(super) rate: Spanned<u64>,
    #[serde(default)]
    pub(super) burst: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) per: Option<Spanned<String>>,
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

impl<'de> Deserialize<'de> for PortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;
        impl Visitor<'_> for PortVisitor {
            type Value = PortText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as 443 or a range such as 8000-8099")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<PortText, E> {
                Ok(PortText(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<PortText, E> {
                Ok(PortText(value.to_string()))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<PortText, E> {
                Ok(PortText(value.to_owned()))
            }
        }
        deserializer.deserialize_any(PortVisitor)
    }
}
