//! Who may pass: failsafe beats allow beats block beats limit.
//!
//! Membership of the blocklist (and of the limits) is asked first, so that a clean packet pays for nothing else.

mod failsafe;
mod fragment;
mod limit;
mod order;
pub mod reset;
mod rules;
#[cfg(test)]
mod tests;

pub(crate) use failsafe::{high, low};
pub use limit::{CAS_TRIES_MAX, Charge, TatCell, charge};
pub use order::{Decision, decide};
pub(crate) use rules::now;
