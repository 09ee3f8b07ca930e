//! Stage 9, event: what leaves the pipeline, masked and owned.
//!
//! No query value, header value, credential or raw path is in an event; client addresses are masked as set
//! ([`Mask`]). Sinks only encode.

mod mask;
mod types;

pub use mask::{AddressMask, Mask};
pub use types::{
    AuditEvent, AuditVersion, EndpointChange, EndpointEvent, Event, EventBody, ExchangeEvent,
    LedgerCount, Peer, PolicyChange, PolicyEvent, RuleHit,
};
