//! The policy while running: the file, read again when it changes, and what commands change; what cannot be used is refused whole, the
//! one before stays.

mod again;
mod author;
mod changes;
mod fingerprint;
mod host;
mod kept;
mod layers;
mod pace;
mod policy;
mod shown;
mod spared;
mod switched;
mod troubles;
mod waiting;

pub use author::Author;
pub use changes::{CONFIRM_MAX, Changed, Wanted};
pub use host::Host;
pub use layers::{ADDED_BYTES_MAX, ADDED_RULES_MAX};
pub use policy::PolicyFile;
pub use spared::Spared;
pub use switched::{AtStart, Settled, Switched};
