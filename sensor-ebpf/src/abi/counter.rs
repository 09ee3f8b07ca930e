//! The closed enum of kernel counters: the kernel's half of the loss ledger.
//!
//! Every sighting (one skb at one hook) moves exactly one of the `Seen*` buckets; the counters of heads and
//! records below them are counted beside. Per-CPU u64 array, indexed by [`Counter`].

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kernel counter; the discriminant is the index in the per-CPU array.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All counters in index order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The counter's name in the ledger, in metrics and on the wire (snake case).
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether this is one of the buckets of which each sighting moves exactly one.
            #[must_use]
            pub const fn is_bucket(self) -> bool {
                (self as u32) >= (Self::NotIp as u32) && (self as u32) <= (Self::Emitted as u32)
            }
        }
    };
}

counters! {
    /// Packets judged (one skb at one hook).
    Sightings = "sightings",
    // Buckets: the sum of these equals `Sightings`.
    /// Neither IPv4 nor IPv6.
    NotIp = "not_ip",
    /// IP, but neither TCP nor UDP.
    NotTransport = "not_transport",
    /// Headers truncated or malformed.
    Malformed = "malformed",
    /// The same segment at another hook of this host, or a retransmission.
    Duplicate = "duplicate",
    /// Dropped by a blocklist rule.
    Blocked = "blocked",
    /// Dropped by a rate limit.
    Limited = "limited",
    /// A RST that this sensor made, at a further hook.
    OwnReset = "own_reset",
    /// TCP without payload, or UDP: nothing to observe.
    NoPayload = "no_payload",
    /// UDP that passed (nothing is parsed in it).
    Udp = "udp",
    /// A later fragment that passed.
    Fragment = "fragment",
    /// Flow known to carry no HTTP/1.
    NegativeFlow = "negative_flow",
    /// Flow not chosen by sampling.
    SampledOut = "sampled_out",
    /// Payload with no head in it (body, or undecided yet).
    NoHead = "no_head",
    /// At least one head or part of one was in it (records and their losses are counted below).
    Emitted = "emitted",
    // Beside the buckets: decisions that let a packet pass.
    /// Would have been dropped, but failsafe.
    Failsafe = "failsafe",
    /// Would have been dropped, but allowed.
    Allowed = "allowed",
    /// A block rule matched in observe mode or with action monitor.
    WouldBlock = "would_block",
    /// Over a limit in observe mode or with action monitor.
    WouldLimit = "would_limit",
    /// Packets that a `reset` rule hit and that were answered (each by a RST to both ends).
    ResetsSent = "resets_sent",
    /// Packets that a `reset` rule hit and that were dropped in silence: over the bound of resets a second.
    ResetsSuppressed = "resets_suppressed",
    /// Packets that a `reset` rule hit and that the kernel did not let be rewritten (dropped), or whose sender it did not let be told.
    ResetsFailed = "resets_failed",
    /// Compare-and-swap gave up: the packet was admitted uncharged.
    LimitContended = "limit_contended",
    /// No room for a client's limit state: admitted uncharged.
    LimitTableFull = "limit_table_full",
    /// No room for one more client over its limit: it is charged to its network as well.
    PenaltiesFull = "penalties_full",
    /// No room for one more open connection: it is not counted.
    ConnectionsFull = "connections_full",
    /// A rule skipped a source that many clients share.
    SharedSkipped = "shared_skipped",
    /// Drops that are in no row of the table of drops: it was full.
    DropsUnattributed = "drops_unattributed",
    /// Would have been dropped, but enforcement is off or the agent has been silent for too long.
    NotEnforced = "not_enforced",
    /// A look-up ended at its bound of steps: what it found so far counts.
    LookupLimit = "lookup_limit",
    /// Port rules could not be asked: a fragment whose first was not seen.
    FragmentUnknown = "fragment_unknown",
    /// IPv6 extension headers beyond the bound: address rules only.
    ExtensionLimit = "extension_limit",
    // Heads.
    /// Request heads recognised on sampled flows.
    RequestHeads = "request_heads",
    /// Response heads recognised on sampled flows.
    ResponseHeads = "response_heads",
    /// Request heads of which at least one record was lost (ring full).
    RequestHeadsLost = "request_heads_lost",
    /// Response heads of which at least one record was lost (ring full).
    ResponseHeadsLost = "response_heads_lost",
    /// Something that looks like a request head refused: inside a body, or the answer before has not begun.
    HeadsRefused = "heads_refused",
    /// Heads taken on doubt.
    HeadsOnDoubt = "heads_on_doubt",
    /// Heads cut at `head_bytes_max` or by a gap.
    HeadsTruncated = "heads_truncated",
    /// An skb held more heads, windows or chunks than the loop limit: the rest was not looked at.
    LoopLimit = "loop_limit",
    /// A gap in a flow's sequence numbers lost the position in the stream.
    GapsInFlow = "gaps_in_flow",
    // Records.
    /// Records written to the ring.
    Records = "records",
    /// Bytes written to the ring (headers and data).
    RecordBytes = "record_bytes",
    /// Records lost because the ring was full.
    RecordsLost = "records_lost",
    // Flows and listeners.
    /// Flow entries made.
    FlowsOpened = "flows_opened",
    /// Flow entries removed at their end.
    FlowsClosed = "flows_closed",
    /// No room in the flow table.
    FlowTableFull = "flow_table_full",
    /// No room in the listener table: its connections are not in the coverage.
    ListenerTableFull = "listener_table_full",
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn names_are_unique() {
        for (index, left) in Counter::ALL.iter().enumerate() {
            assert_eq!(*left as usize, index);
            for right in Counter::ALL.iter().skip(index + 1) {
                assert_ne!(left.name(), right.name());
            }
        }
    }
}
