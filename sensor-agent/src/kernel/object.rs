//! BPF objects by their path in bpffs, and what is done with links: pin, open, update, replace.
//!
//! All by descriptor and path, so CAP_BPF and the permissions of the folder are enough (ids would need CAP_SYS_ADMIN).
//! Layouts: `union bpf_attr` of include/uapi/linux/bpf.h; the system call itself is in `sys`.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::libc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::sys::{self, LinkInfo, address, bpf, object_info, owned, raw};

/// The values can be mapped into memory.
pub(super) const BPF_F_MMAPABLE: u32 = 1 << 10;
/// As a map in a map it may have any number of entries.
pub(super) const BPF_F_INNER_MAP: u32 = 1 << 12;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const MAP_NAME_MAX: usize = 15;

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct PathAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct MapCreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// Head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// A TCX link as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Number of the device in its namespace; 0 when the device is gone or the link was detached.
    pub(super) ifindex: u32,
    pub(super) program: u32,
    pub(super) id: u32,
}

/// Makes an object outlive its descriptors.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = PathAttr {
        path: pointer(path.as_bytes_with_nul()),
        fd: raw(object),
        ..PathAttr::default()
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Pins an object in the place of another one (which lives on if somebody holds it).
pub(super) fn pin_over(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push("-new");
    let new = Path::new(&name);
    if new.exists() {
        std::fs::remove_file(new)?;
    }
    pin(object, new)?;
    std::fs::rename(new, path)
}

/// Opens a pinned object.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = PathAttr { path: pointer(path.as_bytes_with_nul()), ..PathAttr::default() };
    owned(bpf(BPF_OBJ_GET, &mut attr)?)
}

/// What a link is attached to; an error for anything but a TCX link.
pub(super) fn link(fd: BorrowedFd<'_>) -> io::Result<Link> {
    let mut info = LinkInfo::default();
    object_info(fd, &mut info)?;
    if info.kind != sys::BPF_LINK_TYPE_TCX {
        return Err(io::Error::other("not a TCX link"));
    }
    Ok(Link { ifindex: info.ifindex, program: info.prog_id, id: info.id })
}

/// Gives a link another program, at once and in its place.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: raw(link),
        new_prog_fd: raw(program),
        ..LinkUpdateAttr::default()
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link whoever holds it.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut raw(link)).map(drop)
}

/// What a map is.
pub(super) fn map(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    object_info(fd, &mut info)?;
    Ok(info)
}

/// The value of entry 0 of an array map; its length is the map's own, so nothing is written past it.
pub(super) fn read_first(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let size = array_value(fd)?;
    let (mut key, mut value) = (0_u32, vec![0_u8; size]);
    let mut attr = ElementAttr {
        map_fd: raw(fd),
        key: address(&mut key),
        value: value.as_mut_ptr().expose_provenance() as u64,
        ..ElementAttr::default()
    };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Writes the value of entry 0; refused when it is not of the map's size.
pub(super) fn write_first(fd: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    if array_value(fd)? != value.len() {
        return Err(io::Error::other("the map's values are of another size"));
    }
    let mut key = 0_u32;
    let mut attr = ElementAttr {
        map_fd: raw(fd),
        key: address(&mut key),
        value: pointer(value),
        ..ElementAttr::default()
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Makes an array map of one entry.
pub(super) fn array(name: &str, value_size: u32) -> io::Result<OwnedFd> {
    array_of(name, value_size, 1, 0)
}

/// Makes an array map, charged to this process's cgroup; freed when its last holder lets go.
pub(super) fn array_of(
    name: &str,
    value_size: u32,
    max_entries: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    create(BPF_MAP_TYPE_ARRAY, name, [4, value_size], max_entries, flags)
}

/// Makes a map of some kind with keys and values of these sizes.
pub(super) fn create(
    kind: u32,
    name: &str,
    [key_size, value_size]: [u32; 2],
    max_entries: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = MapCreateAttr {
        kind,
        key_size,
        value_size,
        max_entries,
        flags,
        ..MapCreateAttr::default()
    };
    let kept = attr.name.iter_mut().take(MAP_NAME_MAX);
    kept.zip(name.bytes()).for_each(|(to, from)| *to = from);
    owned(bpf(BPF_MAP_CREATE, &mut attr)?)
}

/// Puts a map into a slot of an array of maps. Returns after a grace period: no program uses what was there before.
pub(super) fn slot_set(outer: BorrowedFd<'_>, slot: u32, inner: BorrowedFd<'_>) -> io::Result<()> {
    let (mut key, mut value) = (slot, raw(inner));
    let mut attr = ElementAttr {
        map_fd: raw(outer),
        key: address(&mut key),
        value: address(&mut value),
        ..ElementAttr::default()
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// The map in a slot of an array of maps, if there is one. Needs CAP_SYS_ADMIN: the kernel tells a number, not a descriptor.
pub(super) fn slot_get(outer: BorrowedFd<'_>, slot: u32) -> io::Result<Option<OwnedFd>> {
    let (mut key, mut id) = (slot, 0_u32);
    let mut attr = ElementAttr {
        map_fd: raw(outer),
        key: address(&mut key),
        value: address(&mut id),
        ..ElementAttr::default()
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(_) => sys::object_by_id(BPF_MAP_GET_FD_BY_ID, id).map(Some),
    }
}

/// Takes an entry out of a hash map with the value that it had in the end; `None` where there is none. Kernels before 5.14 refuse it.
pub(super) fn take_entry<K, V>(map: BorrowedFd<'_>, mut key: K) -> io::Result<Option<V>>
where
    K: IntoBytes + FromBytes,
    V: IntoBytes + FromBytes,
{
    let mut value = V::new_zeroed();
    let mut attr = ElementAttr {
        map_fd: raw(map),
        key: address(&mut key),
        value: address(&mut value),
        ..ElementAttr::default()
    };
    match bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok(Some(value)),
    }
}

/// Empties a slot of an array of maps; one that is empty stays so.
pub(super) fn slot_clear(outer: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
    let mut key = slot;
    let mut attr =
        ElementAttr { map_fd: raw(outer), key: address(&mut key), ..ElementAttr::default() };
    match bpf(BPF_MAP_DELETE_ELEM, &mut attr) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes of a value. Only of plain arrays: a per-CPU map gives more than its value's size.
fn array_value(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let info = map(fd)?;
    if info.kind != BPF_MAP_TYPE_ARRAY {
        return Err(io::Error::other("not an array map"));
    }
    usize::try_from(info.value_size).map_err(io::Error::other)
}

fn pointer(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
