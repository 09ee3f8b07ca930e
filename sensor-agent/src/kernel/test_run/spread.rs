//! Many packets in one test run: before each, a few instructions put the next address of a table into the packet's source, then
//! tail-call the program that is measured. A packet that is repeated as it is would find every line of every table in the cache.
//!
//! The lead-in costs the same whatever it calls, so costs are differences of two of these. Bound: 2^24 addresses.
//! Instructions: Documentation/bpf/standardization/instruction-set.rst.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    super::{
        object::{self, BPF_F_MMAPABLE},
        sys::{address, bpf, owned, raw},
    },
    Ran,
};
use crate::kernel::memory::Mapped;

const BPF_PROG_LOAD: nix::libc::c_long = 5;
const BPF_PROG_TEST_RUN: nix::libc::c_long = 10;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const ADDRESSES_MAX: usize = 1 << 24;
/// Bytes of the table before the first address: the counter.
const FIRST: i16 = 16;

/// A program with addresses to run it over.
#[derive(Debug)]
pub struct Spread {
    lead_in: OwnedFd,
    table: Mapped,
    /// Held for as long as the lead-in may call.
    _targets: OwnedFd,
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default, FromBytes, IntoBytes, Immutable)]
struct RunAttr {
    program: u32,
    returned: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
}

impl Spread {
    /// Prepares runs of `program` over `addresses` (IPv4 v4-mapped), whose number is a power of two.
    pub(super) fn new(program: BorrowedFd<'_>, addresses: &[[u8; 16]]) -> io::Result<Self> {
        let count = addresses.len();
        if !count.is_power_of_two() || count > ADDRESSES_MAX {
            return Err(io::Error::other("not a power of two of addresses"));
        }
        let bytes = usize::from(FIRST.unsigned_abs()) + size_of_val(addresses);
        let size = u32::try_from(bytes).map_err(io::Error::other)?;
        let table = object::array_of("spread", size, 1, BPF_F_MMAPABLE)?;
        let memory = Mapped::new(table.as_fd(), bytes)?;
        let words: Vec<u64> = addresses
            .iter()
            .flat_map(|address| {
                let (halves, _) = address.as_chunks::<8>();
                halves.iter().map(|half| u64::from_ne_bytes(*half))
            })
            .collect();
        memory.fill([0, 0].iter().chain(&words));
        let targets = object::create(BPF_MAP_TYPE_PROG_ARRAY, "spread_target", [4, 4], 1, 0)?;
        object::slot_set(targets.as_fd(), 0, program)?;
        let mask = i32::try_from(count - 1).map_err(io::Error::other)?;
        let family_4 = addresses.iter().all(is_four);
        let code = lead_in(raw(table.as_fd()), raw(targets.as_fd()), mask, family_4);
        Ok(Self { lead_in: load(&code)?, table: memory, _targets: targets })
    }

    /// Runs `repeat` packets like `packet`, each from the next address of the table; goes on where the run before ended.
    pub fn run(&self, packet: &[u8], repeat: u32) -> io::Result<Ran> {
        let mut attr = RunAttr {
            program: raw(self.lead_in.as_fd()),
            data_size_in: u32::try_from(packet.len()).map_err(io::Error::other)?,
            data_in: packet.as_ptr().expose_provenance() as u64,
            repeat,
            ..RunAttr::default()
        };
        bpf(BPF_PROG_TEST_RUN, &mut attr)?;
        let duration = Duration::from_nanos(attr.duration_ns.into());
        Ok(Ran { action: attr.returned.cast_signed(), duration })
    }

    /// Begins at the first address again.
    pub fn rewind(&self) {
        if let Some(counter) = self.table.words().first() {
            counter.store(0, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// What an IPv4 address begins with, v4-mapped.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];

/// Whether an address is a v4-mapped one.
pub(super) fn is_four(address: &[u8; 16]) -> bool {
    address.starts_with(&MAPPED)
}

/// `source = table[counter++ & mask]; tail_call(target); return NEXT`.
fn lead_in(table: u32, targets: u32, mask: i32, family_4: bool) -> Vec<u64> {
    const LOAD_32: u8 = 0x61;
    const LOAD_64: u8 = 0x79;
    const STORE_32: u8 = 0x63;
    const STORE_64: u8 = 0x7b;
    const MOVE: u8 = 0xbf;
    const MOVE_NUMBER: u8 = 0xb7;
    const ADD: u8 = 0x0f;
    const ADD_NUMBER: u8 = 0x07;
    const AND_NUMBER: u8 = 0x57;
    const SHIFT_NUMBER: u8 = 0x67;
    const JUMP_GREATER: u8 = 0x2d;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const TAIL_CALL: i32 = 12;
    // Places of `data` and `data_end` in `struct __sk_buff`.
    const DATA: i16 = 76;
    const DATA_END: i16 = 80;
    const PSEUDO_MAP_FD: u8 = 1;
    const PSEUDO_MAP_VALUE: u8 = 2;
    let (end, stores) = if family_4 {
        (14 + 20, vec![op(LOAD_32, 7, 2, FIRST + 12, 0), op(STORE_32, 1, 7, 26, 0)])
    } else {
        let words = [(0, 22), (8, 30)]
            .map(|(from, to)| [op(LOAD_64, 7, 2, FIRST + from, 0), op(STORE_64, 1, 7, to, 0)]);
        (14 + 40, words.concat())
    };
    let skipped = i16::try_from(stores.len()).unwrap_or(0) + 5;
    let mut code = vec![op(MOVE, 6, 1, 0, 0)];
    code.extend(wide(2, PSEUDO_MAP_VALUE, table));
    code.extend([
        op(LOAD_64, 3, 2, 0, 0),
        op(MOVE, 4, 3, 0, 0),
        op(ADD_NUMBER, 4, 0, 0, 1),
        op(STORE_64, 2, 4, 0, 0),
        op(AND_NUMBER, 3, 0, 0, mask),
        op(SHIFT_NUMBER, 3, 0, 0, 4),
        op(ADD, 2, 3, 0, 0),
        op(LOAD_32, 1, 6, DATA, 0),
        op(LOAD_32, 3, 6, DATA_END, 0),
        op(MOVE, 4, 1, 0, 0),
        op(ADD_NUMBER, 4, 0, 0, end),
        op(JUMP_GREATER, 4, 3, skipped, 0),
    ]);
    code.extend(stores);
    code.push(op(MOVE, 1, 6, 0, 0));
    code.extend(wide(2, PSEUDO_MAP_FD, targets));
    code.extend([
        op(MOVE_NUMBER, 3, 0, 0, 0),
        op(CALL, 0, 0, 0, TAIL_CALL),
        op(MOVE_NUMBER, 0, 0, 0, -1),
        op(EXIT, 0, 0, 0, 0),
    ]);
    code
}

/// One instruction as a word.
pub(super) fn op(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = number.to_ne_bytes();
    u64::from_ne_bytes([code, from << 4 | to, low, high, a, b, c, d])
}

/// Loads the address of a map or of its first value.
pub(super) fn wide(to: u8, what: u8, fd: u32) -> [u64; 2] {
    const LOAD_IMMEDIATE: u8 = 0x18;
    [op(LOAD_IMMEDIATE, to, what, 0, fd.cast_signed()), 0]
}

/// Loads a TC program.
pub(super) fn load(code: &[u64]) -> io::Result<OwnedFd> {
    let mut log = vec![0_u8; 1 << 16];
    let license = c"GPL";
    let mut attr = LoadAttr {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        instructions: code.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 1,
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        log: address_of(&mut log),
        ..LoadAttr::default()
    };
    match bpf(BPF_PROG_LOAD, &mut attr) {
        Ok(fd) => owned(fd),
        Err(error) => {
            let said = String::from_utf8_lossy(&log);
            Err(io::Error::other(format!("{error}: {}", said.trim_end_matches('\0'))))
        }
    }
}

fn address_of(bytes: &mut [u8]) -> u64 {
    bytes.first_mut().map_or(0, address)
}
