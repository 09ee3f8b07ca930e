//! The policy file as written; every value with its line. Unknown fields are errors. The published JSON Schema is made from these types:
//! their comments are its descriptions.

use std::{borrow::Cow, fmt};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::{error::PolicyErrors, placed::Placed, prefix, validate::CLIENTS_MAX};

/// A policy: rules of `allow` beat those of `block`, and what none of both decides is charged to `limits`; failsafe beats all.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "sensor-agent policy")]
pub(super) struct RawPolicy {
    /// Version of this format: 1
    #[schemars(extend("const" = 1))]
    pub(super) version: Option<Placed<u64>>,
    /// Owner of rules that name none.
    pub(super) owner: Option<Placed<String>>,
    /// Pattern that the reason of every rule must match, beside the agent's own.
    pub(super) require_reason: Option<Placed<String>>,
    /// Never dropped.
    pub(super) allow: Vec<Placed<RawRule>>,
    /// Dropped, unless allowed.
    pub(super) block: Vec<Placed<RawRule>>,
    /// Dropped beyond a rate, unless allowed.
    pub(super) limits: Vec<Placed<RawLimit>>,
    /// What keeps the host manageable.
    pub(super) failsafe: RawFailsafe,
}

/// A rule: the fields that every kind has, and those of its own list.
macro_rules! rule {
    ($(#[$doc:meta])* struct $name:ident { $($(#[$about:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            /// Unique in the policy: 1 to 64 letters, digits, dots, dashes or underscores
            #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
            pub(super) id: Placed<String>,
            /// A title
            #[serde(default)]
            pub(super) name: Option<Placed<String>>,
            /// Addresses or prefixes of the clients, or `any`
            #[serde(default)]
            pub(super) clients: Option<RawClients>,
            /// Files with further clients, watched and read again
            #[serde(default)]
            pub(super) lists: Vec<Placed<RawList>>,
            /// Ports of the service, such as 443 or 8000-8099 [default: every port]
            #[serde(default)]
            pub(super) ports: Vec<Placed<PortText>>,
            /// tcp, udp or any [default: any]
            #[serde(default)]
            #[schemars(extend("enum" = ["tcp", "udp", "any", null]))]
            pub(super) protocol: Option<Placed<String>>,
            /// Into the host (ingress), out of it (egress), or both [default: both]
            #[serde(default)]
            #[schemars(extend("enum" = ["ingress", "egress", "both", null]))]
            pub(super) direction: Option<Placed<String>>,
            /// Only on this interface
            #[serde(default)]
            pub(super) interface: Option<Placed<String>>,
            /// drop (silent), reset (TCP is told at both ends) or monitor (count only) [default: drop]; an allow rule has none
            #[serde(default)]
            #[schemars(extend("enum" = ["drop", "reset", "monitor", null]))]
            pub(super) action: Option<Placed<String>>,
            /// Share of the clients, 0 to 100, by a hash of rule id and address: the same ones on every host [default: 100]
            #[serde(default)]
            #[schemars(range(max = 100))]
            pub(super) percent: Option<Placed<u64>>,
            /// Also for sources that many clients share (a load balancer, NAT) [default: false]
            #[serde(default)]
            pub(super) include_shared: Option<Placed<bool>>,
            /// The guard lets the rule only monitor once it hits more than this share of a service's clients, 0 to 100, within 60 s; 100: never
            /// [default: guard_max_share of the configuration]
            #[serde(default)]
            #[schemars(range(max = 100))]
            pub(super) max_share: Option<Placed<u64>>,
            /// Meant as it is, though it would hit everybody, the host itself or what keeps it manageable [default: false]
            #[serde(default)]
            pub(super) force: Option<Placed<bool>>,
            /// Not in force before: a date, or a time as RFC 3339
            #[serde(default)]
            pub(super) starts: Option<Placed<String>>,
            /// Not in force from then on; excludes `ttl`
            #[serde(default)]
            pub(super) expires: Option<Placed<String>>,
            /// In force for this time, such as 90s, 24h or 7d, from the last change of the file (or from `starts`)
            #[serde(default)]
            pub(super) ttl: Option<Placed<String>>,
            /// Why it is there; a pattern can be required
            #[serde(default)]
            pub(super) reason: Option<Placed<String>>,
            /// Where it comes from
            #[serde(default)]
            pub(super) origin: Option<Placed<String>>,
            /// Who answers for it
            #[serde(default)]
            pub(super) owner: Option<Placed<String>>,
            $($(#[$about])* #[serde(default)] pub(super) $field: $kind,)*
        }

        impl $name {
            /// What it has in common with rules of other lists; `field` is its place in the file.
            pub(super) fn common(&self, field: String, line: u64) -> Common<'_> {
                Common {
                    field,
                    line,
                    id: &self.id,
                    name: self.name.as_ref(),
                    clients: self.clients.as_ref(),
                    lists: &self.lists,
                    ports: &self.ports,
                    protocol: self.protocol.as_ref(),
                    direction: self.direction.as_ref(),
                    interface: self.interface.as_ref(),
                    action: self.action.as_ref(),
                    percent: self.percent.as_ref(),
                    include_shared: self.include_shared.as_ref(),
                    max_share: self.max_share.as_ref(),
                    force: self.force.as_ref(),
                    starts: self.starts.as_ref(),
                    expires: self.expires.as_ref(),
                    ttl: self.ttl.as_ref(),
                    reason: self.reason.as_ref(),
                    origin: self.origin.as_ref(),
                    owner: self.owner.as_ref(),
                }
            }
        }
    };
}

rule! {
    /// A rule of `allow` or `block`
    struct RawRule {}
}

rule! {
    /// A rule of `limits`; one of packets, bytes, new_connections, requests and connections at least
    struct RawLimit {
        /// Wire packets from the client
        packets: Option<Placed<RawRate>>,
        /// IP bytes from the client
        bytes: Option<Placed<RawRate>>,
        /// New TCP connections by the client
        new_connections: Option<Placed<RawRate>>,
        /// HTTP requests by the client
        requests: Option<Placed<RawRate>>,
        /// TCP connections open at a time
        connections: Option<Placed<u64>>,
        /// Who a client is: address, forwarded (by a trusted proxy) or credential [default: address]
        #[schemars(extend("enum" = ["address", "forwarded", "credential", null]))]
        key: Option<Placed<String>>,
        /// All clients share one allowance [default: false]
        shared: Option<Placed<bool>>,
        /// Clients within such a prefix share an allowance
        client_prefix: RawClientPrefix,
    }
}

/// The fields that every kind of rule has.
pub(super) struct Common<'r> {
    /// Place in the file, as `block[2]`.
    pub(super) field: String,
    pub(super) line: u64,
    pub(super) id: &'r Placed<String>,
    pub(super) name: Option<&'r Placed<String>>,
    pub(super) clients: Option<&'r RawClients>,
    pub(super) lists: &'r [Placed<RawList>],
    pub(super) ports: &'r [Placed<PortText>],
    pub(super) protocol: Option<&'r Placed<String>>,
    pub(super) direction: Option<&'r Placed<String>>,
    pub(super) interface: Option<&'r Placed<String>>,
    pub(super) action: Option<&'r Placed<String>>,
    pub(super) percent: Option<&'r Placed<u64>>,
    pub(super) include_shared: Option<&'r Placed<bool>>,
    pub(super) max_share: Option<&'r Placed<u64>>,
    pub(super) force: Option<&'r Placed<bool>>,
    pub(super) starts: Option<&'r Placed<String>>,
    pub(super) expires: Option<&'r Placed<String>>,
    pub(super) ttl: Option<&'r Placed<String>>,
    pub(super) reason: Option<&'r Placed<String>>,
    pub(super) origin: Option<&'r Placed<String>>,
    pub(super) owner: Option<&'r Placed<String>>,
}

/// `rate` things per `per` (default 1s), `burst` at once (default: `rate`).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    /// How many in `per`; for bytes also with a unit, such as 10MB
    pub(super) rate: Placed<CountText>,
    /// How many at once [default: the rate]
    #[serde(default)]
    pub(super) burst: Option<Placed<CountText>>,
    /// A time such as 1s, 1m or 1h [default: 1s]
    #[serde(default)]
    pub(super) per: Option<Placed<String>>,
}

/// A file of clients.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawList {
    /// Its path; a relative one begins at the folder of the policy file
    pub(super) file: Placed<String>,
    /// plain (an address or prefix a line) or csv (address,ttl) [default: plain, or csv for *.csv]
    #[serde(default)]
    #[schemars(extend("enum" = ["plain", "csv", null]))]
    pub(super) format: Option<Placed<String>>,
    /// A line that cannot be read: refuse (the whole policy) or skip (the line, counted) [default: refuse]
    #[serde(default)]
    #[schemars(extend("enum" = ["refuse", "skip", null]))]
    pub(super) on_error: Option<Placed<String>>,
}

/// Clients within one prefix of these lengths share an allowance.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClientPrefix {
    /// Length for IPv4 [default: 32]
    #[schemars(range(min = 1, max = 32))]
    pub(super) ipv4: Option<Placed<u64>>,
    /// Length for IPv6 [default: 64]
    #[schemars(range(min = 1, max = 128))]
    pub(super) ipv6: Option<Placed<u64>>,
}

/// The failsafe section; every part has a default.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFailsafe {
    /// Who may always reach sshd
    pub(super) ssh: RawSsh,
    /// DNS of the host's resolvers [default: true]
    pub(super) dns: Option<bool>,
    /// DHCP of the gateways and on the link [default: true]
    pub(super) dhcp: Option<bool>,
    /// Loopback addresses [default: true]
    pub(super) loopback: Option<bool>,
    /// API server and kubelet's peers, where the host knows them [default: true]
    pub(super) kubernetes: Option<bool>,
    /// The sensor's own upstream [default: true]
    pub(super) upstream: Option<bool>,
    /// What else is never dropped
    pub(super) also: Vec<Placed<RawFailsafeRule>>,
}

/// Who may always reach sshd.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSsh {
    /// Ports of sshd [default: 22]
    pub(super) ports: Option<Vec<Placed<PortText>>>,
    /// Networks from which ssh is never dropped
    pub(super) management: Vec<Placed<String>>,
    /// Peers that are connected when the policy is applied [default: true]
    pub(super) established: Option<bool>,
}

/// One more failsafe entry.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFailsafeRule {
    /// What it is for
    pub(super) name: Placed<String>,
    /// The peers, as prefixes
    pub(super) networks: Vec<Placed<String>>,
    /// Ports on `side` [default: every port]
    #[serde(default)]
    pub(super) ports: Vec<Placed<PortText>>,
    /// tcp, udp or any [default: any]
    #[serde(default)]
    #[schemars(extend("enum" = ["tcp", "udp", "any", null]))]
    pub(super) protocol: Option<Placed<String>>,
    /// Whose port it is: ours (we serve) or peer (the peer serves) [default: ours]
    #[serde(default)]
    #[schemars(extend("enum" = ["ours", "peer", null]))]
    pub(super) side: Option<Placed<String>>,
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

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["integer", "string"], "description": $expecting })
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

impl JsonSchema for RawClients {
    fn schema_name() -> Cow<'static, str> {
        "clients".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<String>::json_schema(generator)
    }
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
                while let Some(item) = items.next_element::<Placed<String>>()? {
                    clients.add(&item);
                }
                Ok(clients)
            }
        }
        deserializer.deserialize_seq(ClientsVisitor)
    }
}

impl RawClients {
    fn add(&mut self, item: &Placed<String>) {
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
