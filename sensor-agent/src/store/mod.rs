//! The embedded store (redb): the inventory, the ledger and the times of attachment, over restarts.
//!
//! One file, one process: the running agent owns it. A store that cannot be read is set aside under a name with its
//! time, said, and replaced by an empty one; a disk that is full costs the writes, never the agent.

mod database;
mod identity;
mod keeper;
#[cfg(test)]
mod tests;

pub use database::{
    Attachment, Batch, Contents, LedgerTotals, OpenError, Row, Store, StoreError, Table,
};
pub use identity::{InstallationIdentity, random_id};
pub use keeper::{Keeper, Opened, StoreStatus};
