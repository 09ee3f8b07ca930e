//! The policy file while running: read again when it changes; what cannot be used is refused whole, the one before stays.

mod fingerprint;
mod policy;

pub use policy::PolicyFile;
