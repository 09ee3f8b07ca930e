//! `clsact` qdiscs and BPF filters: what TC attachment needs on kernels without TCX.
//!
//! A filter is a sensor's when its handle begins with [`FAMILY`] and its name is one of our programs'; the handle's other half says
//! which sensor of the host. Nothing else is ever replaced or deleted, and no qdisc is ever deleted: others may use it.

use std::{
    fmt, io,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::libc;
use sensor_core::digest::Digest;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    message::{Request, attrs, value_str},
    socket::Socket,
};
use crate::kernel::sys::TcHook;

/// Upper half of the handle of a sensor's filters ("SE" in ASCII): with the program's name it tells them from others'.
const FAMILY: u32 = 0x53_45_00_00;
/// Priorities tried in turn: the first is the head of the chain; another tool may hold it for another protocol.
pub(crate) const PRIORITIES: [u16; 4] = [1, 2, 3, 4];

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const CLSACT: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const PARENT_INGRESS: u32 = 0xffff_fff2;
const PARENT_EGRESS: u32 = 0xffff_fff3;
const ETH_P_ALL: u16 = 3;

/// `struct tcmsg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct TcHeader {
    family: u8,
    pad: [u8; 3],
    ifindex: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

/// Handle of the filters of one sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(u32);

impl Handle {
    /// That of an instance.
    pub(crate) fn of(instance: &str) -> Self {
        let mut digest = Digest::default();
        digest.field(instance.as_bytes());
        let [low, high, ..] = digest.value().to_le_bytes();
        Self(FAMILY | u32::from(u16::from_le_bytes([low, high])))
    }
}

/// Where a filter of ours is, or goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) ifindex: u32,
    pub(crate) hook: TcHook,
    pub(crate) handle: Handle,
    pub(crate) priority: u16,
}

/// Whether a filter may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Install {
    /// It must not.
    Add,
    /// It is ours, and gets the new program without a gap.
    Replace,
}

/// A BPF filter of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u16,
    pub(crate) handle: u32,
    pub(crate) name: Box<str>,
    /// Id of its program.
    pub(crate) program: Option<u32>,
}

impl Filter {
    /// Whether this filter is that of a sensor.
    pub(crate) fn is_a_sensors(&self) -> bool {
        self.handle & 0xffff_0000 == FAMILY && self.name.starts_with("sensor_tc_")
    }

    /// Whether this filter is that of the sensor with this handle.
    pub(crate) fn is_of(&self, handle: Handle) -> bool {
        self.is_a_sensors() && self.handle == handle.0
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "filter {} ({})", self.priority, self.name)
    }
}

const fn parent(hook: TcHook) -> u32 {
    match hook {
        TcHook::Ingress => PARENT_INGRESS,
        TcHook::Egress => PARENT_EGRESS,
    }
}

fn info(priority: u16) -> u32 {
    (u32::from(priority) << 16) | u32::from(ETH_P_ALL.to_be())
}

fn header(place: &Place) -> TcHeader {
    TcHeader {
        ifindex: place.ifindex,
        handle: place.handle.0,
        parent: parent(place.hook),
        info: info(place.priority),
        ..TcHeader::default()
    }
}

/// Makes sure that an interface has a `clsact` qdisc; one that is there stays as it is.
pub(crate) fn ensure_clsact(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    let header = TcHeader { ifindex, handle: CLSACT, parent: CLSACT_PARENT, ..TcHeader::default() };
    let request =
        Request::new(libc::RTM_NEWQDISC, libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL)
            .push(header.as_bytes())
            .attr(TCA_KIND, b"clsact\0");
    match socket.change(request) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Adds our filter, or gives one that is there the new program.
pub(crate) fn install(
    socket: &mut Socket,
    place: &Place,
    name: &str,
    program: BorrowedFd<'_>,
    install: Install,
) -> io::Result<()> {
    let flags = match install {
        Install::Replace => libc::NLM_F_ACK,
        Install::Add => libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL,
    };
    let mut name = name.as_bytes().to_vec();
    name.push(0);
    let request = Request::new(libc::RTM_NEWTFILTER, flags)
        .push(header(place).as_bytes())
        .attr(TCA_KIND, b"bpf\0")
        .nested(TCA_OPTIONS, |request| {
            request
                .attr(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes())
                .attr(TCA_BPF_NAME, &name)
                .attr(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())
        });
    socket.change(request)
}

/// Removes a sensor's filter; the caller has verified by [`filters`] that it is one.
pub(crate) fn remove(socket: &mut Socket, place: &Place) -> io::Result<()> {
    socket.change(
        Request::new(libc::RTM_DELTFILTER, libc::NLM_F_ACK)
            .push(header(place).as_bytes())
            .attr(TCA_KIND, b"bpf\0"),
    )
}

/// Removes a sensor's filter as it was found, whichever sensor's it is.
pub(crate) fn remove_any(
    socket: &mut Socket,
    ifindex: u32,
    hook: TcHook,
    filter: &Filter,
) -> io::Result<()> {
    let (handle, priority) = (Handle(filter.handle), filter.priority);
    remove(socket, &Place { ifindex, hook, handle, priority })
}

/// BPF filters of one hook of an interface, in the order in which they run. None when there is no `clsact`.
pub(crate) fn filters(socket: &mut Socket, ifindex: u32, hook: TcHook) -> io::Result<Vec<Filter>> {
    let header = TcHeader { ifindex, parent: parent(hook), ..TcHeader::default() };
    let dumped = socket.dump(
        || Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP).push(header.as_bytes()),
        Vec::new,
        |found, kind, payload| {
            if kind == libc::RTM_NEWTFILTER {
                found.extend(filter(payload));
            }
        },
    );
    match dumped {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
            Ok(Vec::new())
        }
        other => other,
    }
}

fn filter(payload: &[u8]) -> Option<Filter> {
    let (header, rest) = TcHeader::read_from_prefix(payload).ok()?;
    let options = attrs(rest).find(|(kind, _)| *kind == TCA_OPTIONS)?.1;
    let name = attrs(options)
        .find(|(kind, _)| *kind == TCA_BPF_NAME)
        .and_then(|(_, value)| value_str(value));
    let program = attrs(options)
        .find(|(kind, _)| *kind == TCA_BPF_ID)
        .and_then(|(_, value)| value.first_chunk().map(|id| u32::from_ne_bytes(*id)));
    let priority = u16::try_from(header.info >> 16).ok()?;
    let name = name.unwrap_or_default().into();
    Some(Filter { priority, handle: header.handle, name, program })
}
