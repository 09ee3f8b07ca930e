//! What a detector sees and what it may decide: to end or to block a flow, or a client for a time.
//!
//! A verdict is carried out by the kernel, above the block rules and below failsafe and allow rules, until its time is over. Pure: the
//! pipeline queues at most [`VERDICTS_PENDING_MAX`](crate::limits::VERDICTS_PENDING_MAX) verdicts until the shell takes them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::http::Exchange;

/// Looks at exchanges and decides. Called for each observed exchange, once its response head (or its end) was seen; must be quick: it runs on
/// the thread that drains the ring.
pub trait Detector: fmt::Debug + Send {
    /// Name of the rule on whose behalf it decides: hits and drops are counted by it.
    fn rule(&self) -> &Arc<str>;

    /// Decides about the flow or the client of an exchange; `None` leaves both alone.
    fn on_exchange(&mut self, exchange: &Exchange) -> Option<Sentence>;
}

/// Whom a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// This connection.
    Flow,
    /// Whatever the client sends (IPv6: its /64).
    Client,
}

/// What happens to whom it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Connections are ended by a RST to both ends, anything else is dropped.
    End,
    /// Packets are dropped in silence.
    Block,
    /// Packets are counted as if.
    Monitor,
}

/// A detector's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Whom it is about.
    pub subject: Subject,
    /// What happens to them.
    pub consequence: Consequence,
    /// For so long, ns; at most [`VERDICT_NS_MAX`](crate::limits::VERDICT_NS_MAX).
    pub for_ns: u64,
}

/// A decision with the addresses and the rule that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowVerdict {
    /// What was decided.
    pub sentence: Sentence,
    /// The flow's client, as the first hook saw it: its name in the kernel's tables.
    pub client: SocketAddr,
    /// The flow's server, as the first hook saw it.
    pub server: SocketAddr,
    /// The server nearest the workload: where a local socket is.
    pub local_server: SocketAddr,
    /// On whose behalf.
    pub rule: Arc<str>,
}

impl FlowVerdict {
    /// Puts addresses to a sentence.
    pub(crate) fn new(sentence: Sentence, rule: Arc<str>, exchange: &Exchange) -> Self {
        let for_ns = sentence.for_ns.min(crate::limits::VERDICT_NS_MAX);
        Self {
            sentence: Sentence { for_ns, ..sentence },
            client: exchange.client_hint.address.unwrap_or(exchange.client),
            server: exchange.client_hint.peer.unwrap_or(exchange.server),
            local_server: exchange.server,
            rule,
        }
    }

    /// The address of the client, IPv4 as such.
    #[must_use]
    pub fn client_address(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }
}
