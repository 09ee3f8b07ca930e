//! Room in memory: how much is left, what leaves no more, and the refusal of what does not fit.

/// Memory that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// What allows no more, in words.
    pub by: &'static str,
}

/// There is too little of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {} KiB of memory{to}, and {by} leaves {} KiB; raise the limit, or list less",
    .needed.div_ceil(1024), .left / 1024
)]
pub struct NoRoom {
    what: &'static str,
    to: &'static str,
    needed: u64,
    left: u64,
    by: String,
}

impl NoRoom {
    /// To read a list file; what its lines come to is not known before.
    #[must_use]
    pub fn to_read(needed: u64, room: Room) -> Self {
        let (what, to) = ("may take", " to read");
        Self { what, to, needed, left: room.bytes, by: room.by.into() }
    }

    /// For a policy, with `left` bytes left by something.
    #[must_use]
    pub fn to_build(needed: u64, left: u64, by: &str) -> Self {
        let (what, to) = ("needs", " in the kernel and to build it");
        Self { what, to, needed, left, by: by.into() }
    }
}
