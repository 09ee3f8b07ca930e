//! The audit log: every change of what is enforced, one JSON line each, hash-chained, never changed afterwards.
//!
//! An entry says who, what, why, before and after, and ends in the SHA-256 of its own bytes; it holds the hash of the entry before. So a change,
//! a removal or a new order inside the log breaks the chain, and a cut tail or a log that was written anew shows against a head hash
//! that was sent upstream. Bounds: [`FILE_BYTES_MAX`] a file, [`FILES_MAX`] files, [`LINE_BYTES_MAX`] an entry; the chain goes
//! on over files, and what rotation dropped is itself an entry.

mod chain;
mod entry;
mod log;
#[cfg(test)]
mod tests;
mod verify;

pub use chain::Hash;
pub use entry::{Action, Change, Dropped, Entry, LINE_BYTES_MAX, Version, Who};
pub(crate) use entry::{BEGUN, DONE};
pub use log::{AuditError, AuditLog, FILE_BYTES_MAX, FILES_MAX, folder_of};
pub use verify::{PROBLEMS_MAX, Verified, entries, verify};
