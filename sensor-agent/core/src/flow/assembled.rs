//! What the flow stage gives to the next one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::http::{ClientHello, Exchange};
use crate::time::UnixNs;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FlowClass {
    /// HTTP/1.
    Http,
    /// HTTP/2 with prior knowledge.
    H2c,
    /// TLS.
    Tls,
    /// Something else.
    Other,
    /// It ended without payload.
    Silent,
}

/// One result of the flow stage.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are exchanges: a box would cost each of them an allocation"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Assembled {
    /// A request with its response, or without one that will come.
    Exchange(Exchange),
    /// A TLS connection began.
    Hello {
        /// When.
        time: UnixNs,
        /// Who connected.
        client: SocketAddr,
        /// To whom.
        server: SocketAddr,
        /// What the client offered.
        hello: ClientHello,
    },
    /// A connection of a capture was classified; once per connection (live, the kernel counts per listener).
    Connection {
        /// When.
        time: UnixNs,
        /// Who connected.
        client: SocketAddr,
        /// To whom.
        server: SocketAddr,
        /// What it carries.
        class: FlowClass,
    },
}

/// A v4-mapped address of the ABI as a socket address.
#[must_use]
pub(super) fn socket_addr(address: [u8; 16], port: u16) -> SocketAddr {
    let v6 = Ipv6Addr::from(address);
    SocketAddr::new(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4), port)
}
