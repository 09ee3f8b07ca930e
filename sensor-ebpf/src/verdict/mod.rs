//! Who may pass: failsafe beats allow beats the agent's verdicts beats block beats limit.
//!
//! Membership of the blocklist (and of the limits) is asked first, so that a clean packet pays for nothing else. Everything is read from
//! the policy image of `abi::image`.

mod address;
mod client;
mod connections;
mod dynamic;
#[cfg(test)]
mod dynamic_tests;
mod end;
mod failsafe;
mod fragment;
mod header;
mod limit;
mod lookup;
mod member;
mod order;
mod proof;
mod repeat;
mod requests;
pub mod reset;
mod rules;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use address::{high, low};
pub use limit::{CAS_TRIES_MAX, Charge, Cost, TatCell, charge};
pub use lookup::{End, begin, next_entry};
pub(crate) use member::concerns;
pub use member::{concerns4, concerns6};
pub use order::{Decision, decide};
pub use proof::{CONVERSATION_NS, Completion, Standing};
pub use requests::charge_requests;
pub(crate) use rules::now;
