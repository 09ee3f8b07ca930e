//! The policy: what operators write (YAML) to the image that the kernel reads.
//!
//! `bytes -> RawPolicy -> Policy (validated, whole or not at all) -> Compiled (abi::image)`. Pure: the caller
//! reads the file and gives what it knows of the host. Precedence, the same in kernel and here: failsafe beats allow beats block
//! beats limit; within a list the longest prefix, then the order in the file. An annotated example is
//! `deploy/policy.example.yaml`.

mod diff;
mod duration;
mod error;
mod export;
mod facts;
mod failsafe;
mod hazards;
pub mod image;
mod list;
mod model;
mod placed;
mod prefix;
mod raw;
mod reason;
mod requests;
mod schema;
mod unreadable;
mod validate;

#[cfg(test)]
mod tests;

pub use diff::{Difference, RuleChange, diff};
pub use error::{PolicyError, PolicyErrors};
pub use export::export;
pub use facts::{HostChange, HostFacts, Inactive, RuleState};
pub use failsafe::{Builtin, Failsafe, FailsafeRule, Side};
pub use hazards::{Hazard, hazards};
pub use list::{
    LIST_BYTES_MAX, LIST_ENTRIES_MAX, LIST_LINES_MAX, LIST_MEMORY_MAX, List, ListFacts, ListReader,
    Lists,
};
pub use model::{
    About, Conditions, Direction, LimitKey, LimitTerms, ListFormat, ListRef, OnError, Policy,
    Protocol, Rate, Rule, RuleAction, What,
};
pub use prefix::parse as parse_clients;
pub use reason::ReasonPattern;
pub use requests::{Asked, Meant, RequestRule, RequestRules, mapped, masked};
pub use schema::schema;
pub use unreadable::{Listener, Unreadable, unreadable};
pub use validate::{CLIENTS_MAX, Demands, FILE_BYTES_MAX, LISTS_MAX, RULES_MAX, parse, parse_with};
