//! What a policy's entries would cost as plain inserts into the kernel's own tables: /32s into a hash, shorter ones into an LPM trie, one
//! system call each. The baseline of loading and replacing a list.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use nix::libc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::super::{
    object,
    sys::{address, bpf, raw},
};

const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_LPM_TRIE: u32 = 11;
const BPF_F_NO_PREALLOC: u32 = 1;
const WHOLE: u8 = 32;

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Key of an LPM trie.
#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct TrieKey {
    bits: u32,
    address: [u8; 4],
}

/// Inserts IPv4 prefixes (address, length) into fresh maps; gives the time of the inserts alone.
pub(super) fn inserts(prefixes: &[([u8; 4], u8)]) -> io::Result<Duration> {
    let count = u32::try_from(prefixes.len()).map_err(io::Error::other)?.max(1);
    let map =
        |kind, name, key_size| object::create(kind, name, [key_size, 4], count, BPF_F_NO_PREALLOC);
    let hash = map(BPF_MAP_TYPE_HASH, "plain_hash", 4)?;
    let trie = map(BPF_MAP_TYPE_LPM_TRIE, "plain_trie", 8)?;
    let started = Instant::now();
    for (prefix, len) in prefixes {
        if *len == WHOLE {
            insert(hash.as_fd(), &mut prefix.clone())?;
        } else {
            insert(trie.as_fd(), &mut TrieKey { bits: (*len).into(), address: *prefix })?;
        }
    }
    Ok(started.elapsed())
}

fn insert<K>(map: BorrowedFd<'_>, key: &mut K) -> io::Result<()> {
    let mut value = 1_u32;
    let mut attr = ElementAttr {
        map_fd: raw(map),
        key: address(key),
        value: address(&mut value),
        ..ElementAttr::default()
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}
