//! The few system calls that neither aya nor nix offers: TCX links by interface number, the TCX chain, and
//! BPF objects by id.
//!
//! aya attaches by interface *name* in the calling thread's network namespace and through `&mut` programs; the
//! sensor attaches by number (a rename must not race) from one thread per namespace with a program's descriptor.
//! Layouts: `union bpf_attr` of include/uapi/linux/bpf.h. This file holds the agent's `unsafe`, one operation a block.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::libc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Longer than any grace period that is not an incident of its own.
const GRACE_PERIOD_MAX: std::time::Duration = std::time::Duration::from_millis(200);
/// Longest TCX chain that is read (the kernel's own limit is 64).
const CHAIN_MAX: usize = 64;

const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_BEFORE: u32 = 1 << 3;
pub(super) const BPF_LINK_TYPE_TCX: u32 = 11;

/// Which of the two TC hooks of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcHook {
    /// Packets from the device.
    Ingress,
    /// Packets to the device.
    Egress,
}

impl TcHook {
    /// Both, in the order in which they are attached.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn tcx_attach_type(self) -> u32 {
        match self {
            Self::Ingress => BPF_TCX_INGRESS,
            Self::Egress => BPF_TCX_EGRESS,
        }
    }
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct LinkCreateAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct ProgQueryAttr {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Head of `struct bpf_link_info` as far as a TCX link fills it.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
pub(super) struct LinkInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) prog_id: u32,
    pad: u32,
    pub(super) ifindex: u32,
    attach_type: u32,
}

/// Head of `struct bpf_prog_info` down to the name.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

pub(super) fn bpf<T: FromBytes + IntoBytes>(
    command: libc::c_long,
    attr: &mut T,
) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is an exclusive borrow of `size_of::<T>()` initialised bytes for which every bit pattern
    // is valid, so the kernel may read and write them; pointers inside are of buffers that outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(super) fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just returned this descriptor to us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

pub(super) fn address<T>(buffer: &mut T) -> u64 {
    std::ptr::from_mut(buffer).expose_provenance() as u64
}

/// Waits until every packet that is being judged now is done (an RCU grace period).
pub(crate) fn grace_period() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 {
        // Not with nohz_full. No packet takes that long.
        std::thread::sleep(GRACE_PERIOD_MAX);
    }
}

/// Attaches a program as the first of an interface's TCX chain; closing the descriptor detaches it.
///
/// The interface number is of the calling thread's network namespace. `EINVAL` on kernels without TCX.
pub(crate) fn tcx_attach_first(
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: TcHook,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        prog_fd: raw(program),
        target_ifindex: ifindex,
        attach_type: hook.tcx_attach_type(),
        flags: BPF_F_BEFORE,
        ..LinkCreateAttr::default()
    };
    owned(bpf(BPF_LINK_CREATE, &mut attr)?)
}

/// One program of a TCX chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainEntry {
    /// Id of the program.
    pub program: u32,
    /// Id of its link; 0 when it was attached without one.
    pub link: u32,
}

impl std::fmt::Display for ChainEntry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "program {}", self.program)
    }
}

/// An interface's TCX chain, first to last. Needs CAP_NET_ADMIN; names would need CAP_SYS_ADMIN.
pub fn tcx_chain(ifindex: u32, hook: TcHook) -> io::Result<Vec<ChainEntry>> {
    let (mut programs, mut links) = ([0_u32; CHAIN_MAX], [0_u32; CHAIN_MAX]);
    let mut attr = ProgQueryAttr {
        target_ifindex: ifindex,
        attach_type: hook.tcx_attach_type(),
        prog_ids: address(&mut programs),
        link_ids: address(&mut links),
        count: u32::try_from(CHAIN_MAX).unwrap_or(0),
        ..ProgQueryAttr::default()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.count).unwrap_or(0).min(CHAIN_MAX);
    let entries = programs.into_iter().zip(links).take(count);
    Ok(entries.map(|(program, link)| ChainEntry { program, link }).collect())
}

/// A TCX link of any process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcxLink {
    pub(crate) id: u32,
    pub(crate) ifindex: u32,
    pub(crate) program: String,
}

/// All TCX links of the host whose program could be named. Needs CAP_SYS_ADMIN.
pub(crate) fn tcx_links() -> io::Result<Vec<TcxLink>> {
    let mut links = Vec::new();
    let mut id = 0;
    while let Some(next) = next_link_id(id)? {
        id = next;
        let Ok(fd) = object_by_id(BPF_LINK_GET_FD_BY_ID, id) else { continue };
        let mut info = LinkInfo::default();
        object_info(fd.as_fd(), &mut info)?;
        if info.kind != BPF_LINK_TYPE_TCX {
            continue;
        }
        let Ok(program) = object_by_id(BPF_PROG_GET_FD_BY_ID, info.prog_id) else { continue };
        links.push(TcxLink { id, ifindex: info.ifindex, program: program_name(program.as_fd())? });
    }
    Ok(links)
}

/// Detaches a TCX link whoever holds it.
pub(crate) fn link_detach(id: u32) -> io::Result<()> {
    let fd = object_by_id(BPF_LINK_GET_FD_BY_ID, id)?;
    let mut link_fd = raw(fd.as_fd());
    bpf(BPF_LINK_DETACH, &mut link_fd).map(drop)
}

/// Id of a program of our own.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = ProgInfo::default();
    object_info(program, &mut info)?;
    Ok(info.id)
}

fn program_name(program: BorrowedFd<'_>) -> io::Result<String> {
    let mut info = ProgInfo::default();
    object_info(program, &mut info)?;
    let end = info.name.iter().position(|byte| *byte == 0).unwrap_or(info.name.len());
    Ok(String::from_utf8_lossy(info.name.get(..end).unwrap_or_default()).into_owned())
}

fn next_link_id(id: u32) -> io::Result<Option<u32>> {
    let mut attr = IdAttr { id, ..IdAttr::default() };
    match bpf(BPF_LINK_GET_NEXT_ID, &mut attr) {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn object_by_id(command: libc::c_long, id: u32) -> io::Result<OwnedFd> {
    owned(bpf(command, &mut IdAttr { id, ..IdAttr::default() })?)
}

pub(super) fn object_info<T: FromBytes + IntoBytes>(
    object: BorrowedFd<'_>,
    info: &mut T,
) -> io::Result<()> {
    let info_len = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let mut attr = InfoAttr { bpf_fd: raw(object), info_len, info: address(info) };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// Makes a BPF program the filter of a socket (`SO_ATTACH_BPF`).
pub(crate) fn socket_attach(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let program = program.as_raw_fd();
    let len = libc::socklen_t::try_from(size_of::<RawFd>()).map_err(io::Error::other)?;
    // SAFETY: the option value is a live c_int of the length given; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            std::ptr::from_ref(&program).cast(),
            len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An AF_PACKET socket that receives nothing until [`packet_bind`]; needs CAP_NET_RAW, binding does not.
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if fd < 0 { Err(io::Error::last_os_error()) } else { owned(fd.into()) }
}

/// Makes a packet socket receive every packet of an interface of its network namespace.
pub(crate) fn packet_bind(socket: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    let protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    let mut address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: `address` is a live sockaddr_ll of the length given; the kernel only reads it.
    let result =
        unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_mut(&mut address).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
