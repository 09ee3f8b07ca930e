//! The floor of a look-up: a program that goes on with every packet after one read of a random word in each of some arrays.
//!
//! What the processor's caches and its translation of addresses take for that no filter of these sizes can save. Not in the kernel object: its
//! arrays would be memory of every host. Bound: arrays of 2^31 bytes.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{
    super::{
        object::{self, BPF_F_MMAPABLE},
        sys::raw,
    },
    spread::{self, op, wide},
};

/// Loads `if any of (array[hash(source)] for each array) != 0 { SHOT } else { NEXT }`; the arrays are all zeros.
pub(super) fn load(arrays: &[u32], four: bool) -> io::Result<OwnedFd> {
    const LOAD_32: u8 = 0x61;
    const LOAD_64: u8 = 0x79;
    const MOVE: u8 = 0xbf;
    const MOVE_NUMBER: u8 = 0xb7;
    const ADD: u8 = 0x0f;
    const ADD_NUMBER: u8 = 0x07;
    const OR: u8 = 0x4f;
    const MULTIPLY: u8 = 0x2f;
    const SHIFT_RIGHT: u8 = 0x77;
    const SHIFT_LEFT: u8 = 0x67;
    const JUMP_GREATER: u8 = 0x2d;
    const JUMP_EQUAL: u8 = 0x15;
    const EXIT: u8 = 0x95;
    const PSEUDO_MAP_VALUE: u8 = 2;
    // Places of `data` and `data_end` in `struct __sk_buff`; of the source in the packet.
    const DATA: i16 = 76;
    const DATA_END: i16 = 80;
    let (from, end, read) = if four { (26, 34, LOAD_32) } else { (22, 54, LOAD_64) };
    let mut reads = vec![op(MOVE_NUMBER, 6, 0, 0, 0)];
    let mut maps = vec![];
    for (bytes, factor) in arrays.iter().zip(FACTORS) {
        if !bytes.is_power_of_two() || *bytes < 16 || maps.len() == FACTORS.len() {
            return Err(io::Error::other("not a power of two of bytes"));
        }
        let map = object::array_of("reads", *bytes, 1, BPF_F_MMAPABLE)?;
        let words = i32::try_from(bytes.trailing_zeros() - 3).map_err(io::Error::other)?;
        reads.extend(number(4, factor));
        reads.extend([
            op(MULTIPLY, 4, 5, 0, 0),
            op(SHIFT_RIGHT, 4, 0, 0, 64 - words),
            op(SHIFT_LEFT, 4, 0, 0, 3),
        ]);
        reads.extend(wide(3, PSEUDO_MAP_VALUE, raw(map.as_fd())));
        reads.extend([op(ADD, 3, 4, 0, 0), op(LOAD_64, 3, 3, 0, 0), op(OR, 6, 3, 0, 0)]);
        maps.push(map);
    }
    reads.extend([op(JUMP_EQUAL, 6, 0, 2, 0), op(MOVE_NUMBER, 0, 0, 0, 2), op(EXIT, 0, 0, 0, 0)]);
    let skipped = i16::try_from(reads.len()).map_err(io::Error::other)? + 1;
    let mut code = vec![
        op(LOAD_32, 2, 1, DATA, 0),
        op(LOAD_32, 3, 1, DATA_END, 0),
        op(MOVE, 4, 2, 0, 0),
        op(ADD_NUMBER, 4, 0, 0, end),
        op(JUMP_GREATER, 4, 3, skipped, 0),
        op(read, 5, 2, from, 0),
    ];
    code.extend(reads);
    code.extend([op(MOVE_NUMBER, 0, 0, 0, -1), op(EXIT, 0, 0, 0, 0)]);
    // The program holds its arrays.
    spread::load(&code)
}

/// Odd, without a pattern, and another one for each array.
const FACTORS: [u64; 4] =
    [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// Loads a number of 64 bits.
fn number(to: u8, value: u64) -> [u64; 2] {
    const LOAD_IMMEDIATE: u8 = 0x18;
    let [low, high]: [i32; 2] = zerocopy::transmute!(value);
    [op(LOAD_IMMEDIATE, to, 0, 0, low), op(0, 0, 0, 0, high)]
}
