//! The control socket: JSON lines over a unix socket, one question and one answer a line.
//!
//! Peers are checked by their credentials: root, the agent's own user, and one configurable group may read. Nothing
//! can be changed by it.

mod client;
mod protocol;
mod server;
mod status;
#[cfg(test)]
mod tests;

pub use client::{AskError, ask};
pub use protocol::{Answer, Question, REQUEST_BYTES_MAX};
pub use server::{Access, BindError, Listener, Responder};
pub use status::{
    CatalogueStatus, ChainStatus, InterfaceView, PolicyStatus, ProgramMissing, RingStatus,
    RuleStatus, STATUS_SCHEMA, StatusView,
};
