//! Files that are reloaded while running: the catalogue folder and the policy file.
//!
//! What cannot be used is refused whole and said; what was in force before stays.

mod catalogue;
mod fingerprint;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod policy;

pub use catalogue::{CatalogueFolder, Loaded};
#[cfg(target_os = "linux")]
pub use host::host_facts;
#[cfg(target_os = "linux")]
pub use policy::PolicyFile;
