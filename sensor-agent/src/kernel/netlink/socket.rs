//! A NETLINK_ROUTE socket: requests with their answer, dumps, and the event feed.
//!
//! The socket belongs to the network namespace of the thread that opened it. Bounds: [`BUFFER_BYTES`] per read,
//! [`DUMP_TRIES`] for dumps that the kernel marks as inconsistent, [`ANSWER_TIMEOUT_S`] for an answer.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            send, setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use super::message::{Request, messages};

const BUFFER_BYTES: usize = 256 * 1024;
const EVENT_BUFFER_BYTES: usize = 4 << 20;
const DUMP_TRIES: usize = 4;
const ANSWER_TIMEOUT_S: i64 = 5;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Multicast groups of the event feed: links, addresses and routes of both families.
const GROUPS: i32 = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_ROUTE;

/// A request socket of the calling thread's network namespace.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

/// What a read of the event feed gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Events {
    /// Messages were handed over.
    Some,
    /// Nothing waits.
    None,
    /// The kernel dropped events: everything must be read again.
    Lost,
}

impl Socket {
    /// Opens a socket for requests.
    pub(crate) fn open() -> io::Result<Self> {
        Self::for_requests(SockProtocol::NetlinkRoute)
    }

    /// Opens a socket for requests about sockets.
    pub(crate) fn diag() -> io::Result<Self> {
        Self::for_requests(SockProtocol::NetlinkSockDiag)
    }

    fn for_requests(protocol: SockProtocol) -> io::Result<Self> {
        let socket = Self::with_groups(protocol, 0, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&socket.fd, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_S, 0))?;
        Ok(socket)
    }

    /// Opens a non-blocking socket that is told of changes.
    pub(crate) fn events() -> io::Result<Self> {
        let socket = Self::with_groups(
            SockProtocol::NetlinkRoute,
            GROUPS.unsigned_abs(),
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        // With CAP_NET_ADMIN the limit of net.core.rmem_max does not apply; without, the smaller buffer resyncs sooner.
        if setsockopt(&socket.fd, sockopt::RcvBufForce, &EVENT_BUFFER_BYTES).is_err() {
            setsockopt(&socket.fd, sockopt::RcvBuf, &EVENT_BUFFER_BYTES)?;
        }
        Ok(socket)
    }

    fn with_groups(protocol: SockProtocol, groups: u32, flags: SockFlag) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, seq: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// The descriptor, to wait on.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sends a request and waits for its acknowledgement.
    pub(crate) fn change(&mut self, request: Request) -> io::Result<()> {
        self.exchange(request, &mut |_, _| {}).map(drop)
    }

    /// Sends a dump request (made by `request`) and hands each message (type, payload) to `each`; when the
    /// kernel says that the table changed meanwhile, `restart` is called and all is read again.
    pub(crate) fn dump<S>(
        &mut self,
        request: impl Fn() -> Request,
        mut start: impl FnMut() -> S,
        mut each: impl FnMut(&mut S, u16, &[u8]),
    ) -> io::Result<S> {
        for _ in 0..DUMP_TRIES {
            let mut state = start();
            let consistent =
                self.exchange(request(), &mut |kind, payload| each(&mut state, kind, payload))?;
            if consistent {
                return Ok(state);
            }
        }
        // Still changing: take what a last read gives; the event feed corrects it.
        let mut state = start();
        self.exchange(request(), &mut |kind, payload| each(&mut state, kind, payload))?;
        Ok(state)
    }

    /// Reads what waits on an event socket without blocking.
    pub(crate) fn read_events(&mut self, each: &mut dyn FnMut(u16, &[u8])) -> io::Result<Events> {
        match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
            Ok(len) if len > self.buffer.len() => Ok(Events::Lost),
            Ok(len) => {
                for (header, payload) in messages(self.buffer.get(..len).unwrap_or_default()) {
                    each(header.kind, payload);
                }
                Ok(Events::Some)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Events::None),
            Err(Errno::ENOBUFS) => Ok(Events::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends one request and reads to its end; `true` when the answer is consistent.
    fn exchange(&mut self, request: Request, each: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
        self.seq = self.seq.wrapping_add(1);
        let bytes = request.finish(self.seq);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut consistent = true;
        loop {
            let len = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC)?;
            let Some(bytes) = self.buffer.get(..len) else {
                return Err(io::Error::other("netlink message longer than the buffer"));
            };
            for (header, payload) in messages(bytes) {
                if header.seq != self.seq {
                    continue; // answer to an earlier request that timed out
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => return error_of(payload).map(|()| consistent),
                    kind => each(kind, payload),
                }
            }
        }
    }
}

/// `struct nlmsgerr` begins with a negative errno, 0 for an acknowledgement.
fn error_of(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        None => Err(io::Error::other("netlink error message is too short")),
    }
}
