//! What is asked: a client, and as much of its connection as the asker knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A question about one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// The client.
    pub address: IpAddr,
    /// Port of the service; none = one that no rule names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The client's own port: names one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// Address of the service; none = the one that this host would answer from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Transport,
    /// Interface where packets are seen; none = rules of one interface do not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What carries the packets.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
}

impl Transport {
    /// Number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl ExplainQuery {
    /// Client and server of the connection; a port of 0 is not known.
    pub fn ends(&self) -> Result<(SocketAddr, SocketAddr), String> {
        let client = self.address.to_canonical();
        let server = self.to.map_or_else(|| own_address(client), |to| to.to_canonical());
        if client.is_ipv4() != server.is_ipv4() {
            return Err(format!("{client} and {server} are not of one family"));
        }
        let end = |address, port: Option<u16>| SocketAddr::new(address, port.unwrap_or(0));
        Ok((end(client, self.client_port), end(server, self.port)))
    }
}

/// The address that this host would send from, by its routes; nothing is sent. Unspecified where there is no route.
fn own_address(client: IpAddr) -> IpAddr {
    let none: IpAddr = match client {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let found = UdpSocket::bind((none, 0)).and_then(|socket| {
        socket.connect((client, 9))?;
        socket.local_addr()
    });
    found.map_or(none, |own| own.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_of_one_family_and_unknown_ports_are_zero() {
        let query = |address: &str, to: &str| ExplainQuery {
            address: address.parse().unwrap(),
            port: Some(443),
            client_port: None,
            to: Some(to.parse().unwrap()),
            protocol: Transport::Tcp,
            interface: None,
        };
        let (client, server) = query("::ffff:192.0.2.7", "10.0.0.1").ends().unwrap();
        assert_eq!(
            (client.to_string(), server.to_string()),
            ("192.0.2.7:0".into(), "10.0.0.1:443".into())
        );
        assert!(query("192.0.2.7", "::1").ends().is_err());
        assert_eq!(own_address("127.0.0.9".parse().unwrap()), Ipv4Addr::LOCALHOST);
    }
}
