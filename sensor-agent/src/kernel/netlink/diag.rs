//! TCP sockets of a network namespace: which there are, and ending one (`SOCK_DESTROY`).
//!
//! Needs CONFIG_INET_DIAG (a module on many distributions, loaded by the first request) and for ending CONFIG_INET_DIAG_DESTROY and
//! CAP_NET_ADMIN in the namespace. Source: include/uapi/linux/{sock_diag,inet_diag}.h, net/ipv4/tcp_diag.c. Bound: [`SOCKETS_MAX`].

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use nix::libc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{message::Request, socket::Socket};

/// Sockets that are looked at in one namespace and address family.
pub(crate) const SOCKETS_MAX: usize = 1_048_576;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const IPPROTO_TCP: u8 = 6;
/// `INET_DIAG_NOCOOKIE`: whichever socket has these addresses.
const NO_COOKIE: u32 = u32::MAX;
/// States that hold a peer: all but TIME_WAIT (6), CLOSE (7) and LISTEN (10), as bits (net/tcp_states.h).
const STATES: u32 = 0xfff & !(1 << 0 | 1 << 6 | 1 << 7 | 1 << 10);

/// `struct inet_diag_sockid`: ports and addresses in network order.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
struct Id {
    src_port: [u8; 2],
    dst_port: [u8; 2],
    src: [u8; 16],
    dst: [u8; 16],
    ifindex: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct DiagRequest {
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: Id,
}

/// `struct inet_diag_msg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct DiagMessage {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: Id,
    expires: u32,
    read_queue: u32,
    write_queue: u32,
    uid: u32,
    inode: u32,
}

const _: () = assert!(size_of::<DiagRequest>() == 56 && size_of::<DiagMessage>() == 72);

/// A TCP socket with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpSocket {
    family: u8,
    id: Id,
}

impl TcpSocket {
    /// Its own address; a v4-mapped one as IPv4.
    pub(crate) fn local(&self) -> SocketAddr {
        address(self.family, self.id.src, self.id.src_port)
    }

    /// Its peer's.
    pub(crate) fn remote(&self) -> SocketAddr {
        address(self.family, self.id.dst, self.id.dst_port)
    }

    /// Names the socket between these two addresses, for a look-up only: it has no cookie.
    fn between(local: SocketAddr, remote: SocketAddr) -> Self {
        let (own, src) = bytes(local.ip());
        let (_, dst) = bytes(remote.ip());
        let id = Id {
            src_port: local.port().to_be_bytes(),
            dst_port: remote.port().to_be_bytes(),
            src,
            dst,
            ifindex: 0,
            cookie: [NO_COOKIE; 2],
        };
        Self { family: own, id }
    }

    fn request(&self) -> DiagRequest {
        DiagRequest {
            family: self.family,
            protocol: IPPROTO_TCP,
            states: STATES,
            id: self.id,
            ..DiagRequest::default()
        }
    }
}

/// Reads all TCP sockets with a peer in the namespace of `socket`.
pub(crate) fn sockets(socket: &mut Socket) -> io::Result<Vec<TcpSocket>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).unwrap_or_default();
        let request =
            DiagRequest { family, protocol: IPPROTO_TCP, states: STATES, ..DiagRequest::default() };
        // One that comes or goes meanwhile is told of by its next packet: an inconsistent dump will do.
        let found = socket.dump(
            || Request::new(SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP).push(request.as_bytes()),
            Vec::new,
            |found, kind, payload| {
                if kind == SOCK_DIAG_BY_FAMILY && found.len() < SOCKETS_MAX {
                    found.extend(read(payload));
                }
            },
        )?;
        all.extend(found);
    }
    Ok(all)
}

/// Finds the socket between two addresses. The kernel gives the listener where there is none (and would end it, asked by address): what
/// is not connected to that peer is no answer.
pub(crate) fn find(
    socket: &mut Socket,
    local: SocketAddr,
    remote: SocketAddr,
) -> io::Result<Option<TcpSocket>> {
    let request = TcpSocket::between(local, remote).request();
    let found = socket.dump(
        || Request::new(SOCK_DIAG_BY_FAMILY, libc::NLM_F_ACK).push(request.as_bytes()),
        || None,
        |found, kind, payload| {
            if kind == SOCK_DIAG_BY_FAMILY {
                *found = connected(payload);
            }
        },
    );
    match found {
        Ok(found) => Ok(found.filter(|found| found.local() == local && found.remote() == remote)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends a socket: its owner gets ECONNABORTED, its peer a RST. False when it is gone already.
pub(crate) fn destroy(socket: &mut Socket, tcp: &TcpSocket) -> io::Result<bool> {
    let request = Request::new(SOCK_DESTROY, libc::NLM_F_ACK).push(tcp.request().as_bytes());
    match socket.change(request) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn read(payload: &[u8]) -> Option<TcpSocket> {
    let (message, _) = DiagMessage::read_from_prefix(payload).ok()?;
    Some(TcpSocket { family: message.family, id: message.id })
}

/// A socket with a peer.
fn connected(payload: &[u8]) -> Option<TcpSocket> {
    let (message, _) = DiagMessage::read_from_prefix(payload).ok()?;
    let has_peer = 1_u32.checked_shl(message.state.into()).is_some_and(|bit| STATES & bit != 0);
    read(payload).filter(|_| has_peer)
}

fn address(family: u8, bytes: [u8; 16], port: [u8; 2]) -> SocketAddr {
    let [a, b, c, d, ..] = bytes;
    let ip = if i32::from(family) == libc::AF_INET {
        IpAddr::from([a, b, c, d])
    } else {
        Ipv6Addr::from(bytes).to_canonical()
    };
    (ip, u16::from_be_bytes(port)).into()
}

/// Family and bytes of an address; a v4-mapped one is IPv4.
fn bytes(address: IpAddr) -> (u8, [u8; 16]) {
    let (family, bytes) = match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            (libc::AF_INET, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V6(address) => (libc::AF_INET6, address.octets()),
    };
    (u8::try_from(family).unwrap_or_default(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_by_its_ends() {
        let local = "[::ffff:10.0.0.1]:80".parse().expect("an address");
        let remote = "192.0.2.7:4000".parse().expect("an address");
        let named = TcpSocket::between(local, remote);
        assert_eq!(
            (named.local(), named.remote()),
            ("10.0.0.1:80".parse().expect("an address"), remote)
        );
        let local = "[2001:db8::1]:80".parse().expect("an address");
        assert_eq!(TcpSocket::between(local, local).local(), local);
    }

    #[test]
    fn a_socket_is_read_with_both_ends() {
        let mut id = Id { src_port: [0, 80], dst_port: [0x0f, 0xa0], ..Id::default() };
        id.src[..4].copy_from_slice(&[10, 0, 0, 1]);
        id.dst[..4].copy_from_slice(&[192, 0, 2, 7]);
        let message = DiagMessage { family: 2, id, ..DiagMessage::default() };
        let read = read(message.as_bytes()).expect("a message");
        assert_eq!(read.local(), "10.0.0.1:80".parse().expect("an address"));
        assert_eq!(read.remote(), "192.0.2.7:4000".parse().expect("an address"));
        assert_eq!(read.request().id, id);
    }

    #[test]
    fn a_listener_is_no_connection() {
        for (state, is_one) in [(1, true), (8, true), (6, false), (7, false), (10, false)] {
            let message = DiagMessage { family: 2, state, ..DiagMessage::default() };
            assert_eq!(connected(message.as_bytes()).is_some(), is_one, "{state}");
        }
    }

    #[test]
    fn a_v4_mapped_peer_is_an_ipv4_client() {
        let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().expect("an address");
        let found = address(10, mapped.octets(), [0, 80]);
        assert_eq!(found, "192.0.2.7:80".parse().expect("an address"));
    }

    #[test]
    fn a_short_message_is_none() {
        assert_eq!(read(&[0; 71]), None);
    }
}
