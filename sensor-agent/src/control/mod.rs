//! The control socket: JSON lines over a unix socket, one question or change and one answer a line.
//!
//! Peers are checked by their credentials: root, the agent's own user and the group `socket_group` may ask; root and the
//! group `write_group` may change the policy, and what is said of endpoints.

mod client;
mod protocol;
mod server;
mod status;
#[cfg(test)]
mod tests;

pub use client::{AskError, ask, tell, tell_switch};
pub use protocol::{
    Answer, BODY_BYTES_MAX, Change, OverlayWord, Peer, Question, REQUEST_BYTES_MAX, Request, Terms,
};
pub use server::{Access, BindError, Listener, Responder};
pub use status::{
    AuditStatus, CatalogueStatus, ChainStatus, ChangeView, DROPS_SCHEMA, DropRecord, DropsView,
    EndpointsStatus, EnforcementStatus, InterfaceView, ListStatus, POLICY_SCHEMA, PolicyStatus,
    PolicyText, PolicyView, ProgramMissing, ProvisionalStatus, RingStatus, RuleStatus,
    STATUS_SCHEMA, SharedSource, StatusView,
};
