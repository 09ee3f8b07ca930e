//! What was dropped, told one by one: from the kernel's table of drops to records that `drops --follow` prints, and to the guard.
//!
//! The kernel counts each (client, rule, reason); a look at the table once a second makes at most one record of each, with how many there were
//! since the last one. So the first drop of a client and rule is always told, and the counts of all records and of what could not
//! be told apart sum to what the ledger says. Idle rows are taken out of the table.

mod guard;
mod recent;
#[cfg(test)]
mod tests;

pub use guard::{Guard, GuardTerms, Trip};
pub use recent::{Drops, Names, RECENT_MAX};
