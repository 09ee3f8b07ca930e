//! The agent's half of the loss ledger: a closed enum of what the flow stage did with every segment and head.
//!
//! Two sums hold at any time: request heads = answered + unanswered + tunnelled + waiting, and response heads =
//! answered + interim + orphans.

use crate::counts::counters;

counters! {
    /// A counter of the flow stage.
    enum FlowCounter, struct FlowCounts;
    /// TCP segments of a capture.
    Segments = "segments",
    /// Segments whose bytes were all seen before (retransmissions, the same packet captured twice).
    SegmentsDuplicate = "segments_duplicate",
    /// Segments that waited for an earlier one.
    SegmentsHeld = "segments_held",
    /// Segments far outside of any window: ignored.
    SegmentsOutside = "segments_outside",
    /// Holes in a stream given up.
    Gaps = "gaps",
    /// Bytes in them.
    GapBytes = "gap_bytes",
    /// Connections seen.
    FlowsOpened = "flows_opened",
    /// Of those, joined in the middle.
    FlowsJoined = "flows_joined",
    /// Connections given up because the table was full.
    FlowsEvicted = "flows_evicted",
    /// Connections given up because too many bytes were held.
    FlowsOverBudget = "flows_over_budget",
    /// Connections ended by idle time.
    FlowsIdle = "flows_idle",
    /// Records of the kernel.
    Samples = "samples",
    /// Records of a head whose other records are missing: discarded.
    HeadsPartial = "heads_partial",
    /// Heads that turned out not to be HTTP/1.
    HeadsMalformed = "heads_malformed",
    /// Heads cut by a gap, by the snap length or by the bound, used as far as seen.
    HeadsTruncated = "heads_truncated",
    /// Positions where a head was due and something else came.
    PositionsLost = "positions_lost",
    /// Request heads read.
    RequestHeads = "request_heads",
    /// Request heads that became an exchange with a response.
    RequestsAnswered = "requests_answered",
    /// Request heads that became an exchange without one.
    RequestsUnanswered = "requests_unanswered",
    /// Request heads inside a tunnel (after CONNECT or Upgrade): none of ours.
    RequestsTunnelled = "requests_tunnelled",
    /// Request heads given up because too many waited on one connection; also in `requests_unanswered`.
    RequestsOverflow = "requests_overflow",
    /// Response heads read.
    ResponseHeads = "response_heads",
    /// Response heads that completed an exchange.
    ResponsesAnswered = "responses_answered",
    /// Interim responses (1xx).
    ResponsesInterim = "responses_interim",
    /// Response heads whose request was not seen.
    ResponsesOrphan = "responses_orphan",
    /// Observations of a connection under other addresses (before or after address translation).
    Aliases = "aliases",
}

impl FlowCounts {
    pub(super) fn add(&mut self, counter: FlowCounter, n: u64) {
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value = value.saturating_add(n);
        }
    }

    pub(super) fn one(&mut self, counter: FlowCounter) {
        self.add(counter, 1);
    }
}
